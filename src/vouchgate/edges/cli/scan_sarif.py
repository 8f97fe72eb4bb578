"""A scan as SARIF 2.1.0 (OASIS Standard), for code scanning and CI.

Rules
1. One result for each reason; what is clean has none. `refused` is an error, all else a warning (section 3.27.10).
2. A relative path is a relative URI, percent-encoded byte by byte, so that a viewer finds the file in its checkout (section 3.4.3); an
   absolute one is a `file:` URI. Places inside a binary artifact are told in the message and as logical locations: offsets of members
   are no regions of the file.
3. `partialFingerprints` hold the artifact's digest and the rule: the same finding in the next run is the same finding (section 3.27.17).
4. A scan that did not read everything says so: `executionSuccessful` is false where an artifact is incomplete (section 3.20.14).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vouchgate import __version__
from vouchgate.scanning.verdict import SCANNER_VERSION, Reason

if TYPE_CHECKING:
    from vouchgate.flows.scan_artifacts import Scanned

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"refused": "error", "review": "warning", "incomplete": "warning"}


def sarif(scanned: Iterable[Scanned]) -> dict[str, Any]:
    """The whole log, with one run."""
    rules: dict[str, int] = {}
    results: list[dict[str, Any]] = []
    whole = True
    for one in scanned:
        verdict = one.report.verdict
        whole = whole and verdict.outcome != "incomplete"
        results += [_result(one, reason, rules.setdefault(reason.rule, len(rules))) for reason in verdict.reasons]
    driver = {
        "name": "vouchgate",
        "version": f"{__version__}+scanner.{SCANNER_VERSION}",
        "rules": [{"id": rule, "shortDescription": {"text": rule}, "defaultConfiguration": {"level": "error"}} for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": whole}],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(one: Scanned, reason: Reason, index: int) -> dict[str, Any]:
    digest = one.report.digest.text
    place = f"{reason.member}: {reason.where}" if reason.member else reason.where
    fingerprint = hashlib.sha256("\0".join((digest, reason.rule, place)).encode("utf-8", "backslashreplace")).hexdigest()
    return {
        "ruleId": reason.rule,
        "ruleIndex": index,
        "level": _LEVELS[reason.weight],
        "message": {"text": _plain(f"{place}: {reason.why}. {reason.remedy}")},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": _uri(one.path)}},
                "logicalLocations": [{"fullyQualifiedName": _plain(place), "kind": "member"}],
            }
        ],
        "partialFingerprints": {"vouchgate/v1": fingerprint},
        "properties": {"digest": digest, "format": one.report.verdict.format, "verdict": one.report.verdict.outcome},
    }


def _uri(path: str) -> str:
    """Rule 2. A first segment with a colon would be read as a scheme, so colons are encoded too (RFC 3986, section 4.2)."""
    encoded = quote(os.fsencode(path), safe="/")
    return f"file://{encoded}" if path.startswith("/") else encoded.removeprefix("./") or "."


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

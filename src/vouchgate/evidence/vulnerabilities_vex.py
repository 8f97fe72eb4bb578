"""OpenVEX documents (openvex/spec, v0.2.0): whether a known vulnerability can be exploited in a package, as its author states.

Rules
1. A statement counts only as the specification makes it: `not_affected` needs one of the five justifications or an impact statement, `affected` an
   action statement. Whatever else is told with why it does not count, and closes nothing.
2. It is about the packages that it names by package URL, without a version about all of them; or about a package inside of the model, named by the
   document's serial number or the model's hash, with the package as subcomponent. A statement about a package inside of another says nothing here.
3. A statement's time is its own, else its document's; one from the future does not count.
4. A document is as true as whoever wrote it: who asks names the folder, never the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from vouchgate.evidence.bom.python import pypi_of
from vouchgate.evidence.vulnerabilities import WORST, State, Statement
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import UnixMillis

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Bytes of one document; a distribution's own have some 10 MiB."""
CONTEXT = "https://openvex.dev/ns"
JUSTIFICATIONS = frozenset(
    {
        "component_not_present",
        "vulnerable_code_not_present",
        "vulnerable_code_not_in_execute_path",
        "vulnerable_code_cannot_be_controlled_by_adversary",
        "inline_mitigations_already_exist",
    }
)


class _Component(msgspec.Struct):
    id: str = msgspec.field(name="@id", default="")
    identifiers: dict[str, str] = {}
    hashes: dict[str, str] = {}


class _Product(_Component):
    subcomponents: list[_Component] = []


class _Vulnerability(msgspec.Struct):
    name: str
    id: str = msgspec.field(name="@id", default="")
    aliases: list[str] = []


class _Statement(msgspec.Struct):
    vulnerability: _Vulnerability
    status: str
    products: list[_Product] = []
    justification: str = ""
    impact_statement: str = ""
    action_statement: str = ""
    timestamp: str = ""
    last_updated: str = ""


class _Document(msgspec.Struct):
    context: str = msgspec.field(name="@context")
    author: str
    timestamp: str
    statements: list[_Statement]
    last_updated: str = ""


_decoder = msgspec.json.Decoder(_Document)


def read_statements(data: bytes, model: Iterable[str], now: UnixMillis) -> tuple[list[Statement], list[str]]:
    """What a document says of packages, and why some of it does not count. `model`: names under which the model itself is a product.

    Raises `InvalidInput`.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InvalidInput(f"a document has {len(data)} bytes, the bound is {MAX_DOCUMENT_BYTES}", remedy="split it")
    try:
        document = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"it is no OpenVEX document: {error}", remedy="ask its author for it again") from None
    if not document.context.startswith(CONTEXT):
        raise InvalidInput(f"it is `{document.context[:80]}`, not OpenVEX", remedy="name OpenVEX documents")
    found: list[Statement] = []
    notes: list[str] = []
    names = frozenset(name for name in model if name)
    for one in document.statements:
        why, at = _faults(one), time_of(one.last_updated or one.timestamp or document.last_updated or document.timestamp)
        why = why or ("its time cannot be read" if at is None else "it is from the future" if at * 1000 > now else "")
        if why:
            notes.append(f"a statement on {one.vulnerability.name[:100]} does not count: {why}")
            continue
        ids = tuple(dict.fromkeys(name for name in (one.vulnerability.name, one.vulnerability.id, *one.vulnerability.aliases) if name))
        because = ": ".join(text[:300] for text in (one.justification, one.impact_statement, one.action_statement) if text)
        for package, version in dict.fromkeys(_packages(one.products, names)):
            found.append(
                Statement(
                    ids=ids,
                    package=package,
                    version=version,
                    state=cast(State, one.status),
                    because=because,
                    at=cast(float, at),
                    author=document.author[:100],
                )
            )
    return found, notes


def _faults(one: _Statement) -> str:
    """Rule 1."""
    if one.status not in WORST:
        return f"its status `{one.status[:40]}` is not known"
    if one.justification and one.justification not in JUSTIFICATIONS:
        return f"its justification `{one.justification[:60]}` is not known"
    if one.status == "not_affected" and not (one.justification or one.impact_statement.strip()):
        return "it gives no justification"
    if one.status == "affected" and not one.action_statement.strip():
        return "it says not what to do"
    return "it names no product" if not one.products else ""


def _packages(products: Iterable[_Product], model: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Rule 2."""
    for product in products:
        is_model = product.id in model or bool(_hashes(product) & model)
        for one in product.subcomponents if is_model else () if product.subcomponents else (product,):
            found = _named(one)
            if found[0]:
                yield found


def _named(one: _Component) -> tuple[str, str]:
    """Name and version, where `@id` and `identifiers` do not contradict each other."""
    both = {pypi_of(text) for text in (one.id, one.identifiers.get("purl", "")) if text.startswith("pkg:")}
    return both.pop() if len(both) == 1 else ("", "")


def _hashes(one: _Component) -> set[str]:
    return {value.lower() for name, value in one.hashes.items() if name.lower() in ("sha-256", "sha256")}


def time_of(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 time; one without an offset is no such time."""
    try:
        found: Any = datetime.fromisoformat(text)
    except ValueError:
        return None
    return float(found.astimezone(UTC).timestamp()) if found.tzinfo else None

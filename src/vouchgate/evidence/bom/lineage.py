"""What a control plane holds about a model and what it was made from, as CycloneDX declarations and formulation; and read again.

Rules
1. Each vouch is a claim about its content, made by an assessor (the issuer's role and key), with evidence: who says what, by which tool, until when.
   The evidence names the vouch's id, which is the hash of what was signed. The signature itself is not in the document: whoever wrote the document says so.
2. A pass that held is attested, a fail and what was revoked is a counter-claim. What had expired, or was inconclusive, is a claim that nobody attests.
3. Content that something was made from is a component of its own, and each derivation (a vouch with inputs) a workflow of the formulation.
4. Reading believes the evidence alone, and only where claims, attestations and workflows are exactly those that it gives.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from vouchgate.evidence.statement import write_time
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import Outcome, Tier, UnixMillis
from vouchgate.vocabulary.wire import Noun, encode

MAX_VOUCHES = 20_000
"""Vouches of one document: a model of 1,000 inputs with 20 vouches each."""
MAX_TEXT = 500
"""Characters of one text of a vouch; ids and digests have 64 digits and a prefix."""
MAX_NAMED = 4_096
"""Inputs, or vouches that one vouch rests on."""
HELD, AGAINST, OPEN = "held", "against", "open"
"""What stands behind a claim when the control plane was asked."""
TYPE = "application/vnd.vouchgate.vouch+json"
_ID = re.compile(r"[0-9a-f]{64}\Z")
_REMEDY = "make the document again with `vouchgate bom make --control`"


class Vouched(Noun, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One vouch, as the control plane told of it."""

    id: str
    """SHA-256 of the signed bytes."""
    predicate: str
    about: str
    """Digest of the content."""
    standing: str
    """`held`, `against` or `open`."""
    told: str = ""
    """Why it does not hold."""
    outcome: Outcome
    tier: Tier
    role: str
    key: str
    """Id of the issuer's key."""
    tool: str = ""
    issued_at: UnixMillis
    expires_at: UnixMillis
    inputs: tuple[str, ...] = ()
    """Digests of what the content was made from."""
    run: str = ""
    rests_on: tuple[str, ...] = ()
    """Ids of other vouches."""


_decoder = msgspec.json.Decoder(Vouched)


def content_reference(digest: str) -> str:
    """Reference of content that is no part of the model."""
    return f"content:{digest}"


def contents(vouches: Iterable[Vouched], references: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rule 3: a component for each digest that is none of the model's; `references` leads from digests to the model's own components."""
    named = {digest for one in vouches for digest in (one.about, *one.inputs)}
    return [_content(digest) for digest in sorted(named) if digest not in references]


def _content(digest: str) -> dict[str, Any]:
    found = parse_digest(digest)
    component: dict[str, Any] = {"type": "data", "bom-ref": content_reference(digest), "name": digest}
    if found.kind == "file":
        component["hashes"] = [{"alg": "SHA-256", "content": found.value}]
    return component


def declared(vouches: Iterable[Vouched], references: Mapping[str, str]) -> dict[str, Any]:
    """`declarations` and `formulation` of the document (rules 1 to 3); nothing where there is no vouch. Raises `InvalidInput`."""
    ordered = sorted(vouches, key=lambda one: one.id)
    if not ordered:
        return {}
    _check(ordered)
    known = {one.id for one in ordered}
    declarations = {
        "assessors": [
            {"bom-ref": _assessor(role, key), "organization": {"name": f"{role} {key}"}}
            for role, key in sorted({(one.role, one.key) for one in ordered})
        ],
        "attestations": _attestations(ordered),
        "claims": [_claim(one, known, references) for one in ordered],
        "evidence": [_evidence(one) for one in ordered],
    }
    workflows = [_workflow(one, references) for one in ordered if one.inputs]
    formulation = [{"bom-ref": "formulation", "workflows": workflows}] if workflows else []
    return {"declarations": declarations} | ({"formulation": formulation} if formulation else {})


def read_declared(document: Mapping[str, Any], references: Mapping[str, str]) -> tuple[Vouched, ...]:
    """Rule 4, of a document that is valid by its schema and that vouchgate wrote. Raises `InvalidInput`."""
    evidence = document.get("declarations", {}).get("evidence", [])
    if len(evidence) > MAX_VOUCHES:
        raise InvalidInput(f"the document names more than {MAX_VOUCHES} vouches", remedy=_REMEDY)
    found = tuple(_read(one) for one in evidence)
    stated = {name: document[name] for name in ("declarations", "formulation") if name in document}
    if encode(stated) != encode(declared(found, references)):
        raise InvalidInput("its declarations are not those of its evidence", remedy=_REMEDY)
    return found


def _read(evidence: Mapping[str, Any]) -> Vouched:
    try:
        return _decoder.decode(base64.b64decode(evidence["data"][0]["contents"]["attachment"]["content"], validate=True))
    except (KeyError, IndexError, TypeError, ValueError, RecursionError):
        raise InvalidInput("a piece of evidence is no vouch", remedy=_REMEDY) from None


def _check(ordered: list[Vouched]) -> None:
    """What is written has one spelling and is bounded, wherever it came from."""
    if len(ordered) > MAX_VOUCHES:
        raise InvalidInput(f"there are more than {MAX_VOUCHES} vouches", remedy="describe a smaller model")
    if len({one.id for one in ordered}) != len(ordered):
        raise InvalidInput("two vouches have one id", remedy=_REMEDY)
    for one in ordered:
        texts = (one.predicate, one.about, one.told, one.role, one.key, one.tool, one.run)
        if not all(_ID.match(name) for name in (one.id, *one.rests_on)) or one.standing not in (HELD, AGAINST, OPEN):
            raise InvalidInput("a vouch has no id, or no standing", remedy=_REMEDY)
        if any(len(text) > MAX_TEXT or not text.isprintable() for text in texts) or max(len(one.inputs), len(one.rests_on)) > MAX_NAMED:
            raise InvalidInput(f"the vouch `{one.id[:16]}` says more than a document holds", remedy=_REMEDY)
        for digest in (one.about, *one.inputs):
            parse_digest(digest)


def _assessor(role: str, key: str) -> str:
    return f"assessor:{role}:{key}"


def _claim_reference(one: Vouched) -> str:
    return f"claim:{one.id}"


def _evidence_reference(identity: str) -> str:
    return f"vouch:{identity}"


def _to(digest: str, references: Mapping[str, str]) -> str:
    return references.get(digest) or content_reference(digest)


def _claim(one: Vouched, known: set[str], references: Mapping[str, str]) -> dict[str, Any]:
    """Rule 1: what it rests on is evidence beside its own."""
    behind = [_evidence_reference(name) for name in (one.id, *sorted(known & set(one.rests_on)))]
    said = f"{one.outcome}, {one.tier}, by {one.tool or one.role}, which {'held' if one.standing == HELD else one.told or 'did not hold'}"
    claim = {"bom-ref": _claim_reference(one), "target": _to(one.about, references), "predicate": one.predicate, "reasoning": said}
    return claim | {"counterEvidence" if one.standing == AGAINST else "evidence": behind}


def _evidence(one: Vouched) -> dict[str, Any]:
    content = base64.b64encode(encode(one)).decode()
    return {
        "bom-ref": _evidence_reference(one.id),
        "propertyName": "vouchgate:vouch",
        "description": f"vouch {one.id}, by the word of the control plane",
        "data": [{"name": one.predicate, "contents": {"attachment": {"contentType": TYPE, "encoding": "base64", "content": content}}}],
        "created": write_time(one.issued_at),
        "expires": write_time(one.expires_at),
    }


def _attestations(ordered: list[Vouched]) -> list[dict[str, Any]]:
    """Rule 2: what each assessor says for and against."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in ordered:
        if one.standing != OPEN:
            said = found.setdefault((one.role, one.key), {})
            said.setdefault("counterClaims" if one.standing == AGAINST else "claims", []).append(_claim_reference(one))
    return [
        {"summary": f"vouches of the {role}", "assessor": _assessor(role, key), "map": [said]}
        for (role, key), said in sorted(found.items())
    ]


def _workflow(one: Vouched, references: Mapping[str, str]) -> dict[str, Any]:
    """Rule 3."""
    return {
        "bom-ref": f"workflow:{one.id}",
        "uid": one.run or one.id,
        "name": one.predicate,
        "taskTypes": ["other"],
        "inputs": [{"resource": {"ref": _to(digest, references)}} for digest in sorted(set(one.inputs))],
        "outputs": [{"type": "artifact", "resource": {"ref": _to(one.about, references)}}],
        "properties": [{"name": "vouchgate:vouch", "value": one.id}, {"name": "vouchgate:standing", "value": one.standing}],
    }

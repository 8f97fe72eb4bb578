"""One AdmissionReview (admission.k8s.io/v1): what it asks, what the control plane says, and the answer.

Rules
1. Created and updated objects are looked at. An update that names the same models from the same places as before changes nothing here and passes: a
   pod whose model was revoked must still be able to end.
2. Every digest that the object names must be allowed to be deployed. All refusals are told at once, each with its remedy.
3. A dry run is asked as one; nothing of it is recorded.
4. Whatever goes wrong (no control plane, no answer in time, an object that cannot be read) is a refusal with its reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from vouchgate.edges.kubernetes.named import Named, named
from vouchgate.vocabulary.answers_gates import GateOutcome, GateRequest
from vouchgate.vocabulary.errors import InvalidInput, VouchgateError

VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
ANSWER_SECONDS = 8.0
"""For all of one review: the API server waits 10 s (manifests.py), and gets a reason instead of a time-out."""
MAX_MESSAGE = 2_048
"""Characters of what a person is told."""
LOOKED_AT = frozenset({"CREATE", "UPDATE"})

Ask = Callable[[GateRequest], Awaitable[GateOutcome]]


@dataclass(frozen=True)
class How:
    """What the gate was told at its start."""

    zones: Mapping[str, str] = field(default_factory=dict)
    """Namespace -> zone that its workloads belong to."""
    every_pod: bool = False
    """A pod that names no model is refused."""
    purpose: str = ""


class _Kind(msgspec.Struct, frozen=True):
    kind: str
    group: str = ""
    version: str = ""


class _Request(msgspec.Struct, frozen=True):
    """The fields that count; the API server sends more, and may send new ones."""

    uid: str
    kind: _Kind
    operation: str
    name: str = ""
    namespace: str = ""
    object: Any = None
    oldObject: Any = None
    dryRun: bool = False


class _Review(msgspec.Struct, frozen=True):
    apiVersion: str
    kind: str
    request: _Request


_decoder = msgspec.json.Decoder(_Review)


async def answer(data: bytes, how: How, ask: Ask) -> bytes:
    """The answering AdmissionReview. Raises `InvalidInput` only for what is no review at all, so that no answer could name its uid."""
    request = _read(data)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            refusals = await _refusals(request, how, ask)
    except TimeoutError:
        refusals = [f"the control plane did not answer within {ANSWER_SECONDS:.0f} s; see `vouchgate doctor`"]
    except VouchgateError as error:
        refusals = [_told(error)]
    return _written(request.uid, refusals)


def _read(data: bytes) -> _Request:
    try:
        review = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is no AdmissionReview: {str(error)[:200]}", remedy=f"send {VERSION}") from None
    if (review.apiVersion, review.kind) != (VERSION, KIND) or not review.request.uid:
        raise InvalidInput(f"`{review.apiVersion[:80]}` `{review.kind[:80]}` is not spoken here", remedy=f"send {VERSION} {KIND}")
    return review.request


async def _refusals(request: _Request, how: How, ask: Ask) -> list[str]:
    """Rules 1 and 2; empty where it passes."""
    if request.operation not in LOOKED_AT:
        return []
    if not isinstance(request.object, dict):
        raise InvalidInput("the review has no object", remedy="send the object as the API server has it")
    found = named(request.kind.group, request.kind.kind, request.object)
    if request.operation == "UPDATE" and found == _before(request):
        return []
    if not found.digests and how.every_pod and found.pod:
        return ["the pod names no model, and this gate takes none without; write `vouchgate.dev/model` into its annotations"]
    said = await asyncio.gather(*(_asked(digest, request, how, ask) for digest in found.digests))
    return [one for one in said if one]


def _before(request: _Request) -> Named | None:
    """What it named before; None where that cannot be told."""
    try:
        return named(request.kind.group, request.kind.kind, request.oldObject) if isinstance(request.oldObject, dict) else None
    except InvalidInput:
        return None


async def _asked(digest: str, request: _Request, how: How, ask: Ask) -> str:
    """Why not, or nothing."""
    name = request.name or _generated(request.object)
    subject = "".join(one if one.isprintable() else "?" for one in f"{request.kind.kind} {request.namespace}/{name}")[:512]
    target = how.zones.get(request.namespace, "")
    wanted = GateRequest(digest=digest, act="deploy", subject=subject, target=target, purpose=how.purpose, dry_run=request.dryRun)
    try:
        said = await ask(wanted)
    except VouchgateError as error:
        return f"{digest} is refused: {_told(error)}"
    if said.allowed is True and said.digest == digest:
        return ""
    missing = ", ".join(f"{one.predicate} ({one.why})" for one in said.missing)
    remedy = said.remedy or next((one.remedy for one in said.missing if one.remedy), "see `vouchgate why`")
    return f"{digest} is refused: {said.reason}{f'; missing {missing}' if missing else ''}; {remedy}"


def _generated(thing: Any) -> str:
    metadata = thing.get("metadata") if isinstance(thing, dict) else None
    return str((metadata or {}).get("generateName") or "") if isinstance(metadata, dict) else ""


def _told(error: VouchgateError) -> str:
    return f"{error.reason}; {error.remedy}" if error.remedy else error.reason


def _written(uid: str, refusals: list[str]) -> bytes:
    response: dict[str, Any] = {"uid": uid, "allowed": not refusals}
    if refusals:
        message = ("vouchgate: " + "\n".join(refusals))[:MAX_MESSAGE]
        response["status"] = {"code": 403, "reason": "Forbidden", "message": message}
    return msgspec.json.encode({"apiVersion": VERSION, "kind": KIND, "response": response})

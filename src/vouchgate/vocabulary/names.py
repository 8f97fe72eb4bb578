"""Names: `vg://<trust-domain>/<kind>/<name>` for things, `spiffe://<trust-domain>/<kind>/<zone>/<name>` for principals.

Rules
1. Segments match `[a-z0-9._-]{1,64}`, are not `.` or `..`, and there is no percent-encoding, query, fragment, port or user: two
   different strings never name one thing, so string equality is identity (SPIFFE-ID, section 2.1 and 2.2, narrowed).
2. Content is `vg://<td>/artifact/<algorithm>:<hex>`.
3. The trust domain is the tenant; every key and query in the store carries it.
4. A zone is an attribute of a placement, never part of an artifact's name.
"""

from __future__ import annotations

import functools
import re
from typing import NewType

from vouchgate.vocabulary.errors import InvalidName
from vouchgate.vocabulary.wire import Noun

TrustDomain = NewType("TrustDomain", str)
"""A DNS-like tenant name, `[a-z0-9._-]{1,255}` (SPIFFE-ID, section 2.1)."""
PrincipalId = NewType("PrincipalId", str)
"""`spiffe://td/<kind>/<zone>/<name>`, checked by `principal_id`."""
ResourceId = NewType("ResourceId", str)
"""`vg://td/<kind>/<name>` or `vg://td/artifact/sha256:<hex>`, checked by `resource_id`."""

MAX_KEPT = 8_192
"""Names whose parts are remembered, the latest ones: each decision takes the same three or four apart again. A text that is no name is not kept."""
MAX_TRUST_DOMAIN = 255
"""Characters, SPIFFE-ID section 2.1."""
PRINCIPAL_KINDS = frozenset({"person", "service", "job", "step", "server", "notebook", "agent", "system", "declared"})
"""Who can act. `system` is vouchgate's own processes, `declared` a caller that only claims who it is (observe)."""

_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[a-z0-9._-]{1,64}"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}\Z")
_PRINCIPAL = re.compile(rf"spiffe://([a-z0-9._-]{{1,255}})/({_SEGMENT})/({_SEGMENT})/({_SEGMENT})\Z")
_RESOURCE = re.compile(rf"vg://([a-z0-9._-]{{1,255}})/({_SEGMENT})/({_SEGMENT}|sha256(?:-[a-z]{{1,16}})?:[0-9a-f]{{64}})\Z")
_REMEDY_SEGMENT = "use lower-case letters, digits, `.`, `_` and `-`, at most 64 characters a segment"


class PrincipalParts(Noun, frozen=True, kw_only=True):
    """A principal's name taken apart."""

    trust_domain: TrustDomain
    kind: str
    zone: str
    name: str


class ResourceParts(Noun, frozen=True, kw_only=True):
    """A thing's name taken apart; for kind `artifact`, `name` is `<algorithm>:<hex>`."""

    trust_domain: TrustDomain
    kind: str
    name: str


def trust_domain(text: str) -> TrustDomain:
    """Check a trust domain. Raises `InvalidName`."""
    if not _TRUST_DOMAIN.match(text):
        raise InvalidName(
            f"`{text[:80]}` is not a trust domain", remedy="use lower-case letters, digits, `.`, `_` and `-`, at most 255 characters"
        )
    return TrustDomain(text)


@functools.lru_cache(maxsize=MAX_KEPT)
def principal_parts(text: str) -> PrincipalParts:
    """Take a principal's name apart. Raises `InvalidName`."""
    match = _PRINCIPAL.match(text)
    if not match:
        raise InvalidName(
            f"`{text[:160]}` is not a principal", remedy=f"write spiffe://<trust-domain>/<kind>/<zone>/<name>; {_REMEDY_SEGMENT}"
        )
    td, kind, zone, name = match.groups()
    if kind not in PRINCIPAL_KINDS:
        raise InvalidName(f"`{kind}` is not a kind of principal", remedy=f"use one of {', '.join(sorted(PRINCIPAL_KINDS))}")
    return PrincipalParts(trust_domain=TrustDomain(td), kind=kind, zone=zone, name=name)


def principal_id(text: str) -> PrincipalId:
    """Check a principal's name. Raises `InvalidName`."""
    principal_parts(text)
    return PrincipalId(text)


@functools.lru_cache(maxsize=MAX_KEPT)
def resource_parts(text: str) -> ResourceParts:
    """Take a thing's name apart. Raises `InvalidName`."""
    match = _RESOURCE.match(text)
    if not match:
        raise InvalidName(f"`{text[:160]}` is not a resource", remedy=f"write vg://<trust-domain>/<kind>/<name>; {_REMEDY_SEGMENT}")
    td, kind, name = match.groups()
    if (":" in name) != (kind == "artifact"):
        raise InvalidName(
            f"`{text[:160]}` is not a resource", remedy="content, and only content, is vg://<trust-domain>/artifact/sha256:<hex>"
        )
    return ResourceParts(trust_domain=TrustDomain(td), kind=kind, name=name)


def resource_id(text: str) -> ResourceId:
    """Check a thing's name. Raises `InvalidName`."""
    resource_parts(text)
    return ResourceId(text)


def resource(td: str, kind: str, name: str) -> ResourceId:
    """Build a thing's name from its parts. Raises `InvalidName`."""
    return resource_id(f"vg://{td}/{kind}/{name}")


def principal(td: str, kind: str, zone: str, name: str) -> PrincipalId:
    """Build a principal's name from its parts. Raises `InvalidName`."""
    return principal_id(f"spiffe://{td}/{kind}/{zone}/{name}")

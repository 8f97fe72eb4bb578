"""The claims of a token beyond the plain ones: who acts for whom, for what at most, with which key, bound to what.

    act     {"sub": <actor>, "act": {...}}      RFC 8693, section 4.1: the outermost acts now, the nested ones acted before
    scope   "infer:digits"                      RFC 8693, section 4.2; scopes.py
    cnf     {"x5t#S256": ...} or {"jkt": ...}   RFC 8705, section 3.1; RFC 9449, section 6.1
    vg      {"ask": "1", "parents": [...], "run", "zone", "stage", "inputs", "model", "lineage"}

Rules
1. Any of `act`, `scope`, `cnf` needs `vg`, and `vg` needs `ask`: the gateway knows by that one mark to have the whole token weighed.
2. A chain names at most `MAX_ACTORS`, each of this trust domain, none twice and none who is the subject: a cycle says nothing.
3. Whoever acts for somebody is narrowed: `act` needs `scope`.
4. `parents` are the ids of the credentials that the token was made from; whoever revokes one of them strikes the token.
5. One content has one spelling: what is written is what is read, member by member, and nothing unknown is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vouchgate.identity.binding import FIELDS, check_binding
from vouchgate.identity.scopes import read_scopes, write_scopes
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import PrincipalId, principal_parts
from vouchgate.vocabulary.principals import Binding

MAX_ACTORS = 4
"""Hands through which a right may go; a policy sets a lower bound."""
MAX_PARENTS = 2 * MAX_ACTORS
"""Each exchange adds the subject's and the actor's credential."""
CLAIMS = frozenset({"act", "scope", "cnf", "vg"})
NEVER_ACT = frozenset({"declared", "system"})
"""Kinds of principal that act for nobody: one has no proof, the other is vouchgate itself."""
CREDENTIAL = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")
"""An id by which a credential is revoked: a token's `jti`, a certificate's serial number."""
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\Z")
"""Base64url of 32 bytes in its one spelling (RFC 4648, section 3.5)."""
_NAMES = {"model": "model_digest", "lineage": "lineage_root", "run": "run", "zone": "zone", "stage": "stage", "inputs": "inputs"}
_REMEDY = "ask for a token of this trust domain's token service"


@dataclass(frozen=True)
class Beyond:
    """What a token says beyond who it is for."""

    actors: tuple[PrincipalId, ...] = ()
    """The one that acts now first."""
    scopes: tuple[str, ...] | None = None
    cnf_x5t: str = ""
    """Base64url SHA-256 of the certificate that it is bound to, or nothing."""
    cnf_jkt: str = ""
    """Base64url SHA-256 thumbprint (RFC 7638) of the key that it is bound to, or nothing."""
    binding: Binding | None = None
    parents: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the token is a plain one."""
        return self == Beyond()


def write_beyond(beyond: Beyond, *, subject: str, trust_domain: str) -> dict[str, Any]:
    """The claims. Raises `InvalidInput` for what `read_beyond` would refuse."""
    if beyond.empty:
        return {}
    claims: dict[str, Any] = {"vg": {"ask": "1"}}
    for actor in reversed(beyond.actors):
        claims["act"] = {"sub": actor, **({"act": claims["act"]} if "act" in claims else {})}
    if beyond.scopes is not None:
        claims["scope"] = write_scopes(beyond.scopes)
    if beyond.cnf_x5t or beyond.cnf_jkt:
        claims["cnf"] = {name: value for name, value in (("x5t#S256", beyond.cnf_x5t), ("jkt", beyond.cnf_jkt)) if value}
    if beyond.binding is not None:
        claims["vg"] |= {name: value for name, attribute in _NAMES.items() if (value := getattr(beyond.binding, attribute))}
    if beyond.parents:
        claims["vg"]["parents"] = list(beyond.parents)
    if read_beyond(claims, subject=subject, trust_domain=trust_domain) != beyond:
        raise InvalidInput("what the token is to say contradicts itself", remedy="name each actor once, at least one scope, and one key")
    return claims


def read_beyond(claims: Mapping[str, Any], *, subject: str, trust_domain: str) -> Beyond | None:
    """The claims' content, or None where a rule is broken."""
    present = CLAIMS & set(claims)
    if not present:
        return Beyond()
    mark = claims.get("vg")
    if not isinstance(mark, dict) or mark.get("ask") != "1" or set(mark) - {"ask", "parents", *_NAMES}:  # 1
        return None
    actors = _actors(claims["act"], subject, trust_domain) if "act" in claims else ()
    scopes = read_scopes(claims["scope"]) if "scope" in claims else None
    cnf = _confirmation(claims["cnf"]) if "cnf" in claims else ("", "")
    parents, binding = _parents(mark), _binding(mark)
    if actors is None or cnf is None or parents is None or binding is None or ("act" in claims and not actors):
        return None
    if ("scope" in claims) != (scopes is not None) or (actors and scopes is None):  # 3
        return None
    return Beyond(actors, scopes, *cnf, None if binding.empty else binding, parents)


def _actors(act: Any, subject: str, trust_domain: str) -> tuple[PrincipalId, ...] | None:
    """Rule 2."""
    found: list[PrincipalId] = []
    while act is not None:
        if not isinstance(act, dict) or not {"sub"} <= set(act) <= {"sub", "act"} or len(found) >= MAX_ACTORS:
            return None
        if not isinstance(act["sub"], str) or ("act" in act and act["act"] is None):
            return None
        try:
            parts = principal_parts(act["sub"])
        except InvalidInput:
            return None
        if parts.trust_domain != trust_domain or parts.kind in NEVER_ACT or act["sub"] in (subject, *found):
            return None
        found.append(PrincipalId(act["sub"]))
        act = act.get("act")
    return tuple(found)


def _confirmation(cnf: Any) -> tuple[str, str] | None:
    if not isinstance(cnf, dict) or len(cnf) != 1 or not set(cnf) <= {"x5t#S256", "jkt"}:
        return None
    found = cnf.get("x5t#S256", ""), cnf.get("jkt", "")
    return found if all(isinstance(one, str) for one in found) and _THUMBPRINT.match(found[0] or found[1]) else None


def _parents(mark: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Rule 4: in the order in which they came to be, each once."""
    listed = mark.get("parents", ())
    if "parents" in mark and (not isinstance(listed, list) or not 1 <= len(listed) <= MAX_PARENTS):
        return None
    if not all(isinstance(one, str) and CREDENTIAL.match(one) for one in listed) or len(set(listed)) != len(listed):
        return None
    return tuple(listed)


def _binding(mark: Mapping[str, Any]) -> Binding | None:
    said = {attribute: mark[name] for name, attribute in _NAMES.items() if name in mark}
    if not said:
        return Binding()
    if not all(isinstance(value, str) and value for value in said.values()):
        return None
    binding = Binding(**said)
    try:
        check_binding(binding)
    except InvalidInput:
        return None
    return binding


assert set(_NAMES.values()) == {name for name, _ in FIELDS}

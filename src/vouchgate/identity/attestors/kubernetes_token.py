"""A Kubernetes pod, by its projected service account token (TokenRequest API; the cluster's issuer keys, recorded before).

Rules
1. The token is read by foreign_tokens.py: one issuer, one audience (ours, never the API server's), bounded life.
2. It is bound to a pod: the claim `kubernetes.io` names namespace, service account and pod with their UIDs. A legacy token of a Secret, or one
   bound to nothing, is refused: it does not end with its pod.
3. `sub` says the same as that claim.
The API server is not asked whether the pod still lives; the token's life bounds that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, prefix, selectors
from vouchgate.identity.foreign_tokens import Expected, read_token
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_FIELDS = Fields(required={"token": "document"})
_CLAIM = "kubernetes.io"
_EXPECTED = Expected(claims=Fields(), nested=(_CLAIM,))
_OBJECTS = {"pod", "serviceaccount", "node"}
_KNOWN = _OBJECTS | {"namespace", "warnafter"}
_OBJECT = Fields(required={"name": "text", "uid": "text"})
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def _establish(given: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    token = read_token(given["token"], trust, now, _EXPECTED)
    if isinstance(token, Denied):
        return token
    claim = token.claims[_CLAIM]
    why = _fault(claim)
    if why:
        return _no(why)
    namespace, account = claim["namespace"], claim["serviceaccount"]["name"]
    if token.subject != f"system:serviceaccount:{namespace}:{account}":  # 3
        return _no("the token's subject is not the service account that it is bound to")
    facts = {
        "ns": namespace,
        "sa": account,
        "sa_uid": claim["serviceaccount"]["uid"],
        "pod": claim["pod"]["name"],
        "pod_uid": claim["pod"]["uid"],
    }
    if "node" in claim:
        facts |= {"node": claim["node"]["name"], "node_uid": claim["node"]["uid"]}
    found = selectors(prefix(trust, "k8s"), facts)
    return Attested(selectors=found, replay_key=token.replay_key, expires_at=token.expires_at)


def _fault(claim: Mapping[str, Any]) -> str:
    if set(claim) - _KNOWN or not {"namespace", "pod", "serviceaccount"} <= set(claim):  # 2
        return "the token is not bound to a pod, or is bound to something unknown"
    try:
        for name in _OBJECTS & set(claim):
            if not isinstance(claim[name], dict):
                return f"the token's `{name}` is not an object"
            _OBJECT.check(claim[name], what=f"token's {name}")
            if not _NAME.match(claim[name]["name"]) or not _UID.match(claim[name]["uid"]):
                return f"the token's `{name}` is malformed"
    except InvalidInput as error:
        return error.reason
    namespace, warn = claim["namespace"], claim.get("warnafter", 0)
    if not isinstance(namespace, str) or not re.match(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z", namespace):
        return "the token's namespace is malformed"
    return "" if isinstance(warn, int) and not isinstance(warn, bool) else "the token's `warnafter` is not a number"


def _no(reason: str) -> Denied:
    return Denied(code="k8s-token", reason=reason, remedy="mount a projected token with our audience into the pod (serviceAccountToken)")


ATTESTOR = Attestor(name="kubernetes-token", version=1, kind="presented", fields=_FIELDS, establish=_establish)

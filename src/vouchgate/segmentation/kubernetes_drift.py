"""What a cluster really holds beside what was exported: policies that are gone, that say something else, and others that open more.

Rules
1. Policies are compared by what they mean: the API server's own fields, defaults and the order of lists count for nothing. An empty list and none
   are the same to Kubernetes everywhere in these objects (no rule; every peer; every port), so they are here.
2. Policies add up. One that was not meant, in a namespace of ours, is drift as soon as it allows anything; one that only closes is not.
3. What is above namespaces (an AdminNetworkPolicy that allows, a policy of the mesh's root namespace) opens more as well.
4. A PeerAuthentication that takes plaintext, for a namespace, some pods or one port, is `loosened`.
What a cluster's network plug-in does with its policies, and pods on the node's own network, show in no policy.
Source: kubernetes.io, network-policy-v1; network-policy-api.sigs.k8s.io; istio.io, security reference.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vouchgate.vocabulary.answers_zones import Drift

POINT = "kubernetes"
NETWORK, AUTHORIZATION, PEER, REQUEST = "NetworkPolicy", "AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"
ADMIN = ("AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy")
MESH_ROOT = "istio-system"
"""Namespace whose policies count for the whole mesh, unless it was set up otherwise."""
READ_KINDS = (NETWORK, AUTHORIZATION, PEER, REQUEST, *ADMIN)
PLAINTEXT = frozenset({"PERMISSIVE", "DISABLE"})

Policy = dict[str, Any]


def compare(live: Iterable[Policy], meant: Sequence[Policy], *, root: str = MESH_ROOT) -> list[Drift]:
    """Rules 1 to 4. `live` may hold anything; what is no policy is left alone."""
    there = {_key(one): one for one in live if isinstance(one, dict) and one.get("kind") in READ_KINDS}
    wanted = {_key(one): one for one in meant}
    namespaces = {namespace for _, namespace, _ in wanted}
    kinds = {kind for kind, _, _ in wanted}
    found = [_one("missing", key, "the cluster does not have it") for key in wanted if key not in there]
    for key, policy in there.items():
        if key in wanted:
            if _meaning(policy) != _meaning(wanted[key]):
                found.append(_one("different", key, _what_differs(policy, wanted[key])))
        elif _concerns(key, kinds, namespaces, root):
            found += _opening(key, policy)
    return sorted(found, key=lambda one: (one.what, one.kind))


def _key(policy: Policy) -> tuple[str, str, str]:
    metadata = policy.get("metadata") if isinstance(policy.get("metadata"), dict) else {}
    return str(policy.get("kind")), str(metadata.get("namespace", "")), str(metadata.get("name", ""))  # type: ignore[union-attr]


def _one(kind: str, key: tuple[str, str, str], detail: str) -> Drift:
    return Drift(point=POINT, kind=kind, what=f"{key[0]} {key[1]}/{key[2]}"[:300], detail=detail)  # type: ignore[arg-type]


def _concerns(key: tuple[str, str, str], kinds: set[str], namespaces: set[str], root: str) -> bool:
    """Whether a policy that was not meant reaches what is ours."""
    kind, namespace, _ = key
    if kind in ADMIN:
        return NETWORK in kinds
    if kind == NETWORK:
        return NETWORK in kinds and namespace in namespaces
    return AUTHORIZATION in kinds and namespace in {*namespaces, root}


def _opening(key: tuple[str, str, str], policy: Policy) -> Iterator[Drift]:
    """Rules 2 to 4."""
    spec = _spec(policy)
    kind = key[0]
    if kind == NETWORK and (spec.get("ingress") or spec.get("egress")):
        sides = " and ".join(side for side in ("ingress", "egress") if spec.get(side))
        yield _one("extra", key, f"nobody meant it, and it allows {sides}")
    elif kind in ADMIN and any(
        str(rule.get("action", "")).lower() in ("allow", "accept") for side in ("ingress", "egress") for rule in _list(spec, side)
    ):
        yield _one("extra", key, "it allows past every NetworkPolicy")
    elif kind == AUTHORIZATION and spec.get("action", "ALLOW") == "ALLOW" and spec.get("rules"):
        yield _one("extra", key, "nobody meant it, and it allows")
    elif kind == PEER and key[1] != MESH_ROOT:
        ports = spec.get("portLevelMtls")
        modes = [spec.get("mtls"), *(ports.values() if isinstance(ports, dict) else ())]
        if any(isinstance(mode, dict) and mode.get("mode") in PLAINTEXT for mode in modes):
            yield _one("loosened", key, "it takes plaintext")


def _spec(policy: Policy) -> Policy:
    found = policy.get("spec")
    return found if isinstance(found, dict) else {}


def _list(spec: Policy, field: str) -> list[Policy]:
    found = spec.get(field)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


# --- what a policy means ----------------------------------------------------------------------------------------------------------


def _meaning(policy: Policy) -> str:
    """Rule 1, as text that is equal where the meaning is."""
    spec = dict(_spec(policy))
    if policy.get("kind") == NETWORK:
        spec["policyTypes"] = sorted(spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]))
        spec.setdefault("podSelector", {})
    if policy.get("kind") == AUTHORIZATION:
        spec["action"] = spec.get("action") or "ALLOW"
    return json.dumps(_plain(spec), sort_keys=True)


def _plain(value: Any, field: str = "") -> Any:
    if isinstance(value, dict):
        made = {name: _plain(part, name) for name, part in value.items() if part is not None}
        if "port" in made and field == "ports":
            made.setdefault("protocol", "TCP")
        empty = {name for name, part in made.items() if part == [] or (part == {} and name in ("matchLabels", "matchExpressions"))}
        return {name: part for name, part in made.items() if name not in empty}
    if isinstance(value, list):
        return sorted((_plain(part, field) for part in value), key=lambda part: json.dumps(part, sort_keys=True))
    return value


def _what_differs(policy: Policy, meant: Policy) -> str:
    """The parts of the spec that differ, by name."""
    left, right = json.loads(_meaning(policy)), json.loads(_meaning(meant))
    names = sorted(name for name in {*left, *right} if left.get(name) != right.get(name))
    return f"its {', '.join(names) or 'spec'} say something else than was exported"

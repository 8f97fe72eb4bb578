"""Allow-maps, revocations and the lease as RBAC filters.

Rules
1. A map's key is `ENDPOINT|ACTION|MODEL|SAN|SUB|AUD|VG|CNF|ACT|SCOPE`, `-` for what is absent, always ten fields. Endpoint and action come
   from the route, so a map under the wrong route, or a slot that changed hands, matches nothing. No entry has anything but `-` in its last
   four: a token with any claim beyond the plain ones is asked, be it marked (`vg`) or not.
2. A hit is ALLOW under the name `grant:<grant id>`. A miss without any identity is DENY `anonymous`; any other miss is ALLOW `ask`, which
   ext_authz must confirm; in an observe zone every miss is ALLOW `observe:<endpoint>`, but for actions that observe never lets through.
3. A grant of one credential alone (`thumbprint`), one `per_request`, or with an obligation, is never in a map: it is asked.
4. Revocations are read before maps: SAN, subject, token id, serial number of the certificate (it is signed; a fingerprint covers the
   signature too, which its holder can respell), each in an exact map; a hit is DENY `revoked:<revocation id>`.
   A certificate that names anything but exactly one id of our trust domain is DENY `bad-name`, by the newer ones' filter alone: both
   stand in every chain, and neither allows before its first push. On the partners' listener it is one id of a partner's trust domain,
   which stands in a key behind `federated `; a partner's caller is known by our name for it (an alias), and struck by it.
5. The lease allows a zone's routes until a wall-clock time. Each filter's default, without a control plane or after its TTL, denies all.

Whether a grant holds is the control plane's word; nothing here decides.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as rbac_filter_pb2
from envoy.extensions.matching.common_inputs.network.v3 import network_inputs_pb2
from envoy.type.matcher.v3 import metadata_pb2, value_pb2
from xds.core.v3 import extension_pb2 as xds_extension_pb2
from xds.type.matcher.v3 import matcher_pb2

from vouchgate.edges.envoy.expressions import before, both, state_is_absent_or_later
from vouchgate.edges.envoy.messages import TYPE_PREFIX, Message, packed
from vouchgate.edges.envoy.settings import FEDERATED, PARTNER_STATE
from vouchgate.vocabulary.decisions import Grant, never_observed
from vouchgate.vocabulary.mcp import CALL_TOOL, MCP
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.vouches import Revocation, UnixMillis

MAX_ENTRIES_PER_MAP = 2_000
"""Entries of one map; 2,000 are enforced 12-20 ms after the push, 10,000 take 60-90. Callers beyond it are asked."""
MAX_REVOCATIONS = 10_000
"""Entries of one revocation map; beyond it the control plane must let credentials expire (they live an hour at most)."""

BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
"""Methods whose content has no meaning (RFC 9110, section 9.3)."""
VISIBLE_KINDS = frozenset({"principal", "registration", "credential"})
"""What a gateway can see of a request by itself; the other kinds change grants instead."""
LEASE, REVOCATIONS, OLDER = "lease", "revocations", "revocations/older"
MAP_PREFIX = "map/"
ABSENT = "-"
NO_ALIASES: Mapping[str, Collection[str]] = MappingProxyType({})
_PLAIN = "|-|-|-|-"
"""What a token without claims beyond the plain ones has at the end of its key; as many as filters.py's `BEYOND`."""
_ACTION_TYPE = TYPE_PREFIX + rbac_pb2.Action.DESCRIPTOR.full_name


def map_name(slot: int) -> str:
    """Filter and resource name of a slot."""
    return f"{MAP_PREFIX}{slot}"


def deny_all(prefix: str) -> Message:
    """What a filter does before its first push and after its last lease."""
    return rbac_filter_pb2.RBAC(rules=rbac_pb2.RBAC(action=rbac_pb2.RBAC.ALLOW), rules_stat_prefix=prefix)


def allow_map(
    endpoint: Endpoint, grants: Iterable[Grant], *, observe: bool, aliases: Mapping[str, Collection[str]] = NO_ALIASES
) -> tuple[Message, int]:
    """The map of one endpoint, and how many entries did not fit and are asked instead; `aliases`: our name -> foreign ids behind it."""
    keyed = _keyed(endpoint, grants, aliases)
    kept = dict(list(keyed.items())[:MAX_ENTRIES_PER_MAP])
    miss = matcher_pb2.Matcher.OnMatch()
    if observe:
        _observed(miss, endpoint)
    else:
        _asked_of_the_pdp(miss)
    made = rbac_filter_pb2.RBAC(rules_stat_prefix="map_")
    if kept:
        _input(made.matcher.matcher_tree, "vg.caller")
        entries = made.matcher.matcher_tree.exact_match_map.map
        for key, grant_id in kept.items():
            _verdict(entries[key], f"grant:{grant_id}", allow=True)
        made.matcher.on_no_match.CopyFrom(miss)
    elif observe:
        made.matcher.on_no_match.CopyFrom(miss)
    else:
        made.matcher.CopyFrom(miss.matcher)
    return made, len(keyed) - len(kept)


def _observed(miss: Message, endpoint: Endpoint) -> None:
    passing, never = miss, {route.action for route in endpoint.routes if never_observed(route.action)}
    if any(never_observed(action) for action in endpoint.methods.values()):
        never.add(MCP)
    if never:
        _input(miss.matcher.matcher_tree, "vg.action")
        for action in sorted(never):
            _asked_of_the_pdp(miss.matcher.matcher_tree.exact_match_map.map[action])
        passing = miss.matcher.on_no_match
    _verdict(passing, f"observe:{endpoint.id}", allow=True)


def _asked_of_the_pdp(miss: Message) -> None:
    _input(miss.matcher.matcher_tree, "vg.san")
    no_certificate = miss.matcher.matcher_tree.exact_match_map.map[ABSENT].matcher
    _input(no_certificate.matcher_tree, "vg.sub")
    _verdict(no_certificate.matcher_tree.exact_match_map.map[ABSENT], "anonymous", allow=False)
    _verdict(no_certificate.on_no_match, "ask", allow=True)
    _verdict(miss.matcher.on_no_match, "ask", allow=True)


def _keyed(endpoint: Endpoint, grants: Iterable[Grant], aliases: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Key -> grant id."""
    keyed: dict[str, str] = {}
    for grant in grants:
        if grant.condition != "none" or grant.obligations or grant.thumbprint or grant.credential_kind == "declared":
            continue
        for asked in _asked(endpoint, grant):
            for caller in _callers(endpoint, grant, aliases):
                keyed[f"{endpoint.id}|{asked}|{caller}"] = grant.id
    return keyed


def _asked(endpoint: Endpoint, grant: Grant) -> list[str]:
    """`ACTION|MODEL` of every request that the grant is good for. An MCP message's action and tool both stand in MODEL, as the tokenizer
    puts them; its route's action is `mcp`."""
    if endpoint.mcp:
        if grant.action == CALL_TOOL:
            return [f"{MCP}|{CALL_TOOL}/{tool}" for tool, resource in endpoint.tools.items() if resource == grant.resource]
        return [f"{MCP}|{grant.action}/{ABSENT}", f"{grant.action}|{ABSENT}"] if grant.resource == endpoint.id else []
    if endpoint.model_in_body and grant.action not in bodiless_actions(endpoint):
        return [f"{grant.action}|{name}" for name, resource in endpoint.models.items() if resource == grant.resource]
    return [f"{grant.action}|{ABSENT}"] if grant.resource == (endpoint.asset or endpoint.id) else []


def bodiless_actions(endpoint: Endpoint) -> set[str]:
    """Actions of which no route has a body that could name a model, for example a list of models."""
    reading = {route.action for route in endpoint.routes if route.method in BODILESS}
    return reading - {route.action for route in endpoint.routes if route.method not in BODILESS}


def _callers(endpoint: Endpoint, grant: Grant, aliases: Mapping[str, Collection[str]]) -> list[str]:
    who = grant.principal
    if grant.credential_kind == "x509":
        return [f"{name}|-|-{_PLAIN}" for name in (who, *(FEDERATED + foreign for foreign in aliases.get(who, ())))]
    if grant.credential_kind == "jwt":
        return [f"-|{who}|{endpoint.id}{_PLAIN}"] if endpoint.bearer else []
    return [f"{who}|{who}|{endpoint.id}{_PLAIN}"]


def revocation_map(
    revocations: Collection[Revocation],
    *,
    trust_domain: str,
    names: bool = True,
    partners: Collection[str] = (),
    aliases: Mapping[str, Collection[str]] = NO_ALIASES,
) -> Message:
    """These revocations of principals, registrations and credentials, which a gateway can see by itself; `names`: refuse bad names too, which
    are all but ours and, where partners call, those of `partners`' trust domains."""
    principals: dict[str, str] = {}
    credentials: dict[str, str] = {}
    for revocation in revocations:
        if revocation.withdrawn_by:
            continue
        if revocation.target_kind in {"principal", "registration"}:
            known = (revocation.target, *(FEDERATED + foreign for foreign in aliases.get(revocation.target, ())))
            principals |= dict.fromkeys(known, revocation.id)
        elif revocation.target_kind == "credential":
            credentials[revocation.target] = revocation.id
    made = rbac_filter_pb2.RBAC(rules_stat_prefix="revoked_")
    if names:
        _refuse_bad_names(made, trust_domain, partners)
    elif not principals and not credentials:
        made.rules.policies["standing"].permissions.add(any=True)
        made.rules.policies["standing"].principals.add(any=True)
        return made
    current = made.matcher
    for key, targets in (("vg.san", principals), ("vg.sub", principals), ("vg.jti", credentials), ("vg.serial", credentials)):
        if targets:
            current = current.on_no_match.matcher if current.WhichOneof("matcher_type") else current
            _input(current.matcher_tree, key)
            for target, revocation_id in targets.items():
                _verdict(current.matcher_tree.exact_match_map.map[target], f"revoked:{revocation_id}", allow=False)
    _verdict(current.on_no_match, "standing", allow=True)
    return made


def _refuse_bad_names(made: Message, trust_domain: str, partners: Collection[str]) -> None:
    bad = made.matcher.matcher_list.matchers.add()
    good = bad.predicate.not_matcher
    ours = f"-|spiffe://{re.escape(trust_domain)}(/[a-z0-9._-]+)+"
    if partners:
        either = good.or_matcher.predicate
        _matches(either.add(), "vg.san", ours)
        foreign = either.add().and_matcher.predicate
        _matches(foreign.add(), PARTNER_STATE, FEDERATED)
        _matches(foreign.add(), "vg.san", f"{FEDERATED}spiffe://({'|'.join(map(re.escape, sorted(partners)))})(/[A-Za-z0-9._-]+)+")
    else:
        _matches(good, "vg.san", ours)
    _verdict(bad.on_match, "bad-name", allow=False)


def _matches(predicate: Message, key: str, pattern: str) -> None:
    one = predicate.single_predicate
    one.input.CopyFrom(_state(key))
    one.value_match.safe_regex.google_re2.SetInParent()
    one.value_match.safe_regex.regex = pattern


def lease(until: Mapping[str, UnixMillis]) -> Message:
    """Zone -> the time from which its routes are denied, control plane or not; so is a certificate that expired on a live connection.

    A path without a zone leads nowhere and passes.
    """
    made = rbac_filter_pb2.RBAC(rules_stat_prefix="lease_")
    made.rules.action = rbac_pb2.RBAC.ALLOW
    for zone, time in until.items():
        policy = made.rules.policies[f"lease:{zone}"]
        policy.permissions.append(_zone_is(value_pb2.ValueMatcher(string_match={"exact": zone})))
        policy.principals.add(any=True)
        policy.condition.CopyFrom(both(before(time), state_is_absent_or_later("vg.end")))
        policy.cel_config.enable_string_conversion = True
    nowhere = made.rules.policies["no-route"]
    nowhere.permissions.append(rbac_pb2.Permission(not_rule=_zone_is(value_pb2.ValueMatcher(present_match=True))))
    nowhere.principals.add(any=True)
    return made


def _zone_is(value: Message) -> Message:
    matcher = metadata_pb2.MetadataMatcher(filter="vg", path=[{"key": "zone"}], value=value)
    return rbac_pb2.Permission(sourced_metadata=rbac_pb2.SourcedMetadata(metadata_matcher=matcher, metadata_source=rbac_pb2.ROUTE))


def _state(key: str) -> Message:
    return xds_extension_pb2.TypedExtensionConfig(name=key, typed_config=packed(network_inputs_pb2.FilterStateInput(key=key)))


def _input(tree: Message, key: str) -> None:
    tree.input.CopyFrom(_state(key))


def _verdict(on_match: Message, name: str, *, allow: bool) -> None:
    on_match.action.name = "rbac"
    on_match.action.typed_config.type_url = _ACTION_TYPE
    verdict = rbac_pb2.RBAC.ALLOW if allow else rbac_pb2.RBAC.DENY
    on_match.action.typed_config.value = rbac_pb2.Action(name=name, action=verdict).SerializeToString()

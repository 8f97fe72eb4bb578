"""The control plane's start: replay what was recorded, then bring in what the settings say.

1. Records are replayed in the order of `ORDER`, so that roots come before what is verified against them; vouches in log order.
2. The TrustRoot that the supervisor brings is adopted if it is newer. The signer's public keys are published if they changed.
3. Zones, crossings, assets, endpoints, identities and administrators of vouchgate.toml are put where they differ from what is recorded. A
   zone's mode is the recorded one once it exists: `vouchgate adopt` changes it, not a restart; where an asset lies likewise.
4. The policy files make a new signed version if their text changed. Author and approver are the installation's owner; a policy that two
   persons agreed on by `vouchgate policy` stands until the files change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.assets import wanted_zones
from vouchgate.flows.changes import (
    ORDER,
    Change,
    EndpointPut,
    KeysPublished,
    PolicyActivated,
    RegistrationPut,
    SettingPut,
    TrustRootAdopted,
    VouchAdded,
    ZonePut,
    decode_record,
)
from vouchgate.flows.context import Context, Reads
from vouchgate.flows.facts import Facts, sources_digest
from vouchgate.flows.facts_credentials import live_credentials
from vouchgate.flows.prevalidate import prepare, prevalidate
from vouchgate.flows.sequence import Sequenced
from vouchgate.flows.workload_servers import server_registrations
from vouchgate.identity.bundle import make_bundle, write_jwks
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import Unverified
from vouchgate.vocabulary.habits import check_networks
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.mcp import MCP, METHODS, tool_id
from vouchgate.vocabulary.names import TrustDomain, principal, resource
from vouchgate.vocabulary.places import Budget, Egress, Endpoint, Route, Zone
from vouchgate.vocabulary.principals import Registration, Selector, svid_seconds
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.settings import ROLES, EgressSettings, EndpointSettings, RouteSettings, Settings
from vouchgate.vocabulary.trust import PublicKey, SignedTrustRoot
from vouchgate.vocabulary.vouches import UnixMillis

PAGE = 1_000
"""Records read at once."""
ENFORCEMENT_POINT = "role:enforcement-point"
"""Group of who may ask for decisions about others (base policy)."""
OBSERVE_DAYS = 30
"""Days after which observe becomes enforce by itself."""
SETTINGS_AUTHOR, SETTINGS_OWNER = "settings-files", "settings-owner"
"""Who stands in the statement of a policy that comes from files: whoever may write vouchgate.toml is trusted with both."""


def replay(store: Reads, facts: Facts, now: UnixMillis) -> int:
    """Step 1; returns how many changes were replayed."""
    count = 0
    for kind in ORDER:
        changes: Iterable[Change] = _records(store, kind)
        if kind == "vouch":
            changes = sorted(changes, key=lambda change: change.log_index if isinstance(change, VouchAdded) else 0)
        if kind == "policy":
            changes = list(changes)[-1:]
        for change in changes:
            index = change.log_index if isinstance(change, VouchAdded) else 0
            facts.apply(Sequenced(change=change, epoch=0, log_index=index), now)
            count += 1
    for issued in live_credentials(store, now):
        facts.apply(Sequenced(change=issued, epoch=0, log_index=0), now)
        count += 1
    facts.epoch = store.epoch()
    return count


def snapshot(store: Reads, now: UnixMillis) -> Iterator[Sequenced]:
    """The whole state as changes in replay order, for a replica; read as it is asked for, so that it is never in memory at once."""
    for kind in ORDER:
        if kind in {"vouch", "policy"}:
            changes = list(_records(store, kind))
            changes.sort(key=lambda change: change.log_index if isinstance(change, VouchAdded) else 0)
            yield from (_unsequenced(change) for change in (changes[-1:] if kind == "policy" else changes))
        else:
            yield from (_unsequenced(change) for change in _records(store, kind))
    yield from (_unsequenced(change) for change in live_credentials(store, now))


def _unsequenced(change: Change) -> Sequenced:
    return Sequenced(change=change, epoch=0, log_index=getattr(change, "log_index", 0))


def _records(store: Reads, kind: str) -> Iterator[Change]:
    after = ""
    while True:
        page = store.scan(kind, after=after, limit=PAGE)
        yield from (decode_record(kind, record.value) for record in page)
        if len(page) < PAGE:
            return
        after = page[-1].key


async def bring_in(context: Context, signed_root: bytes, policies: Sequence[tuple[str, str]], bootstrap: str) -> None:
    """Steps 2 to 4. `bootstrap` is taken in once: a used token stays used."""
    signed = wire.decode(SignedTrustRoot, signed_root, what="TrustRoot")
    if context.facts.signed_root is None or signed.payload != context.facts.signed_root.payload:
        await put(context, TrustRootAdopted(signed=signed))
    root = context.facts.trust_root
    if root is None or root.expires_at <= context.clock.now():
        raise Unverified("the TrustRoot has expired", remedy="run `vouchgate admin renew-trust --root-key FILE`, then start again")
    await publish_keys(context)
    place = context.place
    for change in wanted(context.settings, context.facts, context.clock.now(), own_uid=place.own_uid, isolated=place.isolated):
        await put(context, change)
    if bootstrap and "bootstrap" not in context.facts.settings:
        await put(context, SettingPut(key="bootstrap", value=bootstrap))
    if context.facts.settings.get("policy-files") != sources_digest(policies):
        await activate(context, policies, author=SETTINGS_AUTHOR, approver=SETTINGS_OWNER)
        await put(context, SettingPut(key="policy-files", value=sources_digest(policies)))


async def publish_keys(context: Context) -> None:
    """The signer's public side, if it is not the published one."""
    said = await context.signer.call("public_keys")
    keys = [wire.from_plain(PublicKey, key, what="public key") for key in said["keys"]]
    jwt = tuple(key.spki for key in keys if key.purpose == "jwt")
    sequence = context.facts.bundle.sequence if context.facts.bundle else 0
    bundle = make_bundle(context.trust_domain, x509_authorities=tuple(said["x509_authorities"]), jwt_spkis=jwt, sequence=sequence + 1)
    old = context.facts.bundle
    if old is None or (old.x509_authorities, old.jwt_authorities) != (bundle.x509_authorities, bundle.jwt_authorities):
        await put(context, KeysPublished(bundle=write_jwks(bundle), sequence=bundle.sequence))


async def activate(context: Context, sources: Sequence[tuple[str, str]], *, author: str, approver: str) -> PolicyActivated | None:
    """A new signed policy version, if the text differs from the one in force. Raises `InvalidPolicy`."""
    await prevalidate(sources, context.validator, crossings=context.facts.crossings, zones=context.facts.zones)
    context.facts.compiled(sources)
    digest = sources_digest(sources)
    current = context.facts.policy
    if current is not None and current.digest == digest:
        return None
    # a version that was signed and never recorded (we ended in between) stays unused: the signer signs none twice
    signed_last = (await context.signer.call("health"))["policy_version"]
    version = max(current.version if current else 0, signed_last) + 1
    signed = await context.signer.call("policy", version=version, policy_digest=digest, author=author, approver=approver)
    change = PolicyActivated(
        version=version,
        sources=tuple((name, text) for name, text in sources),
        digest=digest,
        envelope=signed["envelope"],
        author=author,
        approver=approver,
        applied_at=context.clock.now(),
    )
    await put(context, change)
    return change


async def put(context: Context, change: Change, *, who: str = "system:control") -> Sequenced:
    """Commit one change of the installation itself, with its entry."""
    await prepare(context.facts, [_unsequenced(change)], context.validator, checked=True)
    kind = type(change).__name__
    detail = {
        "record": wire.to_plain(change) if not isinstance(change, PolicyActivated) else {"version": change.version, "digest": change.digest}
    }
    entry = ocsf.act(
        context.trust_domain,
        uid=f"{kind}/{context.facts.epoch + 1}/{context.clock.now()}",
        who=who,
        verb=f"put-{kind}",
        resource=resource(context.trust_domain, "system", "control"),
        outcome="done",
        detail=detail,
        now=context.clock.now(),
    )
    made = await context.sequencer.submit(who, [change], [Append(entry=entry)])
    return made[0]


def wanted(settings: Settings, facts: Facts, now: UnixMillis, *, own_uid: int, isolated: bool) -> list[Change]:
    """Step 3, as changes."""
    found: list[Change] = []
    for name, zone in settings.zones.items():
        until = UnixMillis(now + OBSERVE_DAYS * 86_400_000) if zone.mode == "observe" else UnixMillis(0)
        known = facts.zones.get(name)
        made = Zone(
            name=name,
            trust_domain=TrustDomain(settings.trust_domain),
            mode=known.mode if known else zone.mode,
            observe_until=known.observe_until if known else until,
            lease_seconds=zone.lease_seconds,
        )
        if made != known:
            found.append(ZonePut(zone=made))
    found += wanted_zones(settings, facts)
    layout = Layout(Path(settings.data_dir))
    served = [endpoint_of(settings, one, layout) for one in settings.endpoints]
    for endpoint in (*served, *(egress_of(settings, one) for one in settings.egress)):
        known_endpoint = facts.endpoints.get(endpoint.id)
        if known_endpoint is None or msgspec.structs.replace(known_endpoint, model_digest="", digest_tier="") != endpoint:
            found.append(EndpointPut(endpoint=endpoint))
    servers = server_registrations(settings, now, own_uid=own_uid, isolated=isolated)
    for registration in (*registrations_of(settings, now, own_uid=own_uid), *servers):
        known_one = facts.registrations.get(registration.principal)
        if known_one is None or msgspec.structs.replace(known_one, created_at=now, epoch=0) != registration:
            found.append(RegistrationPut(registration=registration))
    return found


def endpoint_of(settings: Settings, one: EndpointSettings, layout: Layout) -> Endpoint:
    """An endpoint as the settings describe it."""
    upstream = one.upstream
    if one.command:
        upstream = f"unix:{layout.upstream_socket(one.name)}"
    elif upstream.startswith("server:"):
        upstream = f"unix:{layout.upstream_socket(upstream.removeprefix('server:'))}"
    return Endpoint(
        id=resource(settings.trust_domain, "endpoint", one.name),
        trust_domain=TrustDomain(settings.trust_domain),
        zone=one.zone,
        upstream=upstream,
        host=one.host,
        prefix=one.prefix,
        routes=_mcp_routes(one.mcp_path) if one.mcp else _routes(one.routes),
        mcp=one.mcp,
        tools={tool: tool_id(resource(settings.trust_domain, "endpoint", one.name), tool) for tool in one.tools},
        methods=one.methods,
        resource_uri=one.resource_uri,
        labels=one.labels,
        purposes=one.purposes,
        approvals=one.approvals,
        asset=resource(settings.trust_domain, *one.asset.split("/")) if one.asset else "",
        bearer=one.bearer,
        model_in_body=one.model_in_body,
        models={name: resource(settings.trust_domain, "endpoint", target) for name, target in one.models.items()},
        wrapped=one.wrapped,
        max_stream_seconds=one.max_stream_seconds,
    )


def _routes(listed: Sequence[RouteSettings]) -> tuple[Route, ...]:
    return tuple(Route(method=route.method, path=route.path, action=route.action, streams=route.streams) for route in listed)


def _mcp_routes(path: str) -> tuple[Route, ...]:
    """The streamable HTTP transport's: messages, the server's own stream, the end of a session."""
    return (
        Route(method="POST", path=path, action=MCP, streams=True),
        Route(method="GET", path=path, action=METHODS["initialize"], streams=True),
        Route(method="DELETE", path=path, action=METHODS["initialize"]),
    )


def egress_of(settings: Settings, one: EgressSettings) -> Endpoint:
    """A provider outside as the settings describe it."""
    host, _, port = one.upstream.removeprefix("https://").partition(":")
    budget = Budget(requests=one.requests_per_day, bytes=one.megabytes_per_day * 1_000_000)
    return Endpoint(
        id=resource(settings.trust_domain, "endpoint", one.name),
        trust_domain=TrustDomain(settings.trust_domain),
        zone=one.zone,
        upstream=f"https:{host}:{port or 443}",
        host=one.host,
        prefix=one.prefix,
        routes=_routes(one.routes),
        labels=one.labels,
        egress=Egress(
            secret=one.secret,
            header=one.header,
            prefix=f"{one.scheme} " if one.scheme else "",
            query=one.query,
            ca_file=one.ca_file,
            budget=budget,
        ),
        max_stream_seconds=one.max_stream_seconds,
    )


def registrations_of(settings: Settings, now: UnixMillis, *, own_uid: int) -> list[Registration]:
    """Identities and administrators of the settings, and the supervisor, which imports what the settings name."""
    td = TrustDomain(settings.trust_domain)
    found = [
        Registration(
            principal=principal(td, one.kind, one.zone, one.name),
            trust_domain=td,
            selectors=(Selector(type="unix:uid", value=str(one.uid)),) if one.uid >= 0 else (),
            groups=(*one.groups, ENFORCEMENT_POINT) if one.enforcement_point else one.groups,
            svid_ttl_seconds=one.svid_seconds or svid_seconds(one.kind),
            jwt_ttl_seconds=one.jwt_seconds,
            networks=check_networks(one.networks),
            hours=one.hours,
            source="settings",
            created_at=now,
        )
        for one in settings.identities
    ]
    found += [
        Registration(
            principal=principal(td, "person", "admin", one.name),
            trust_domain=td,
            selectors=(Selector(type="unix:uid", value=str(one.uid)),),
            groups=tuple(f"role:{role}" for role in one.roles),
            source="settings",
            created_at=now,
        )
        for one in settings.administrators
    ]
    if settings.solo and not any(one.uid == own_uid for one in settings.administrators):
        found.append(owner_registration(settings, own_uid, now))
    found.append(
        Registration(principal=principal(td, "system", "control", "supervisor"), trust_domain=td, groups=("importers",), created_at=now)
    )
    return found


def owner_registration(settings: Settings, uid: int, now: UnixMillis) -> Registration:
    """Solo: whoever runs the installation holds every role."""
    return Registration(
        principal=principal(settings.trust_domain, "person", "admin", "owner"),
        trust_domain=TrustDomain(settings.trust_domain),
        selectors=(Selector(type="unix:uid", value=str(uid)),),
        groups=(*(f"role:{role}" for role in ROLES), "importers"),
        created_at=now,
    )

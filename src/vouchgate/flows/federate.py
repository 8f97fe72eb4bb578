"""Foreign trust domains: their bundles are fetched, checked, recorded, and given to whoever verifies their callers (SPIFFE Federation, section 5).

1. A partner is named in vouchgate.toml, never by what a bundle says. A partner that is no longer named is gone with the next start or reload,
   and what was being fetched for it then is thrown away. Partners are looked at side by side: a slow one keeps nobody waiting.
2. `https_web`: the endpoint's certificate is the web's. `https_spiffe`: it is an SVID of the named id, verified by the partner's own recorded
   bundle; the first one comes from `bundle_file`. `file`: that file is all there is.
3. A bundle that violates a clause, names another trust domain, or has a lower sequence than the recorded one changes nothing and is an entry.
4. Asked again after the bundle's own hint, between `LEAST_SECONDS` and `MOST_SECONDS`; where it cannot be fetched, the recorded one counts
   `stale_hours` longer, then its callers are refused.
5. Bundles stay apart: the gateway, the Workload API and the token service each hold one a trust domain, and a foreign authority can vouch for
   no name of ours. A foreign caller acts as the principal whose registration has the selector `federated:spiffe_id`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from vouchgate.audit import ocsf
from vouchgate.flows.administer import authorise
from vouchgate.flows.changes import Change, RegistrationPut, RegistrationRemoved, SettingPut, SourcePut, SourceRemoved
from vouchgate.flows.context import Context, Remote
from vouchgate.flows.sequence import Sequenced
from vouchgate.identity.foreign_bundle import MAX_BUNDLE_BYTES, ForeignBundle, read_foreign_bundle
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_identities import PartnerState
from vouchgate.vocabulary.errors import InvalidInput, Unavailable, VouchgateError
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.principals import ALIAS_ZONE, Registration
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.settings_federation import FederationSettings
from vouchgate.vocabulary.sources import TrustSource
from vouchgate.vocabulary.vouches import UnixMillis

LEAST_SECONDS, MOST_SECONDS = 10, 24 * 3600
"""Bounds of a partner's hint: it can neither have us ask all the time, nor never."""
FAILED_SECONDS = 10
"""Between tries after a failure."""
TICK_SECONDS = 1.0
PREFIX = "federation:"
"""Before a partner's name, in the names of recorded sources."""
SEEN = "federation-seen/"
"""Setting, followed by a partner's name: when its bundle was last fetched, so that a restart does not shorten what rule 4 gives."""
SEEN_MS = 3_600_000
"""How old that may be while the bundle stays the same; each is a record."""
WHO = "system:federation"

log = logging.getLogger("vouchgate.federation")


class Points(Protocol):
    """The gateway's view (edges/envoy/publisher.py)."""

    def set_federated_bundles(self, bundles: Mapping[str, str]) -> None: ...
    def set_federated_names(self, names: Mapping[str, str]) -> None: ...


@dataclass
class _Partner:
    due: UnixMillis = UnixMillis(0)
    seen_at: UnixMillis = UnixMillis(0)
    problem: str = ""
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Federation:
    """See the module's text."""

    def __init__(self, context: Context, outbound: Remote, points: Points, files: Mapping[str, bytes]) -> None:
        self._context, self._outbound, self._points, self.files = context, outbound, points, files
        self._partners: dict[str, _Partner] = {}
        self._told: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self._changing = asyncio.Lock()

    async def run(self) -> None:
        """Rules 1 to 4, for as long as it is not cancelled."""
        await self.begin()
        async with asyncio.TaskGroup() as looking:
            while True:
                now = self._context.clock.now()
                for one in self._context.settings.federation:
                    partner = self._partners.setdefault(one.name, _Partner())
                    if now >= partner.due and not partner.looking.locked():
                        looking.create_task(self.look(one))
                await asyncio.sleep(TICK_SECONDS)

    async def reload(self, files: Mapping[str, bytes]) -> None:
        """Other settings hold now, and with them other `files`: rule 1, and everybody's bundle is fetched again at once."""
        self.files = files
        self._partners = {one.name: self._partners.get(one.name, _Partner()) for one in self._context.settings.federation}
        for partner in self._partners.values():
            partner.due = UnixMillis(0)
        await self.begin()

    async def begin(self) -> None:
        """Let go of who is no longer named, and hand on what is recorded."""
        async with self._changing:
            named = {one.name: one.trust_domain for one in self._context.settings.federation}
            for source in list(self._context.facts.sources.values()):
                if source.kind == "spiffe" and source.name.startswith(PREFIX) and named.get(source.name[len(PREFIX) :]) != source.issuer:
                    await self._submit([SourceRemoved(name=source.name)], "let-go", source.issuer, {})
            self.hand_on()

    async def look(self, one: FederationSettings) -> None:
        """Fetch a partner's bundle if it is due."""
        partner = self._partners.setdefault(one.name, _Partner())
        async with partner.looking:
            now = self._context.clock.now()
            if now < partner.due:
                return
            partner.due = UnixMillis(now + FAILED_SECONDS * 1000)
            try:
                bundle = await self._fetch(one)
                if await self._take(one, bundle, now):
                    wait, partner.problem, partner.seen_at = min(max(bundle.refresh_seconds, LEAST_SECONDS), MOST_SECONDS), "", now
                    # a reload in the meantime has made it due
                    partner.due = UnixMillis(now + wait * 1000) if partner.due else partner.due
            except VouchgateError as error:
                # what cannot be written down now is found again at the next look
                with contextlib.suppress(VouchgateError):
                    await self._failed(one, partner, error, now)

    async def _fetch(self, one: FederationSettings) -> ForeignBundle:
        ours = self._context.trust_domain
        recorded = self._recorded(one)
        first = self.files.get(one.name, b"")
        if one.profile == "file":
            return read_foreign_bundle(first, one.trust_domain, ours=ours)
        authorities: list[bytes] = []
        if one.profile == "https_spiffe":
            known = recorded.keys if recorded else first
            if not known:
                raise Unavailable(f"the first bundle of `{one.trust_domain}` is not there", remedy="set `bundle_file` in [[federation]]")
            authorities = list(read_foreign_bundle(known, one.trust_domain, ours=ours).authorities)
        said = await self._outbound.call("out.bundle", to=f"federation:{one.name}", authorities=authorities)
        return read_foreign_bundle(_body(said), one.trust_domain, ours=ours)

    async def _take(self, one: FederationSettings, bundle: ForeignBundle, now: UnixMillis) -> bool:
        """Rule 3; False where its settings are others by now (rule 1)."""
        async with self._changing:
            if one not in self._context.settings.federation:
                return False
            await self._record(one, bundle, now)
            self.hand_on()
            return True

    async def _record(self, one: FederationSettings, bundle: ForeignBundle, now: UnixMillis) -> None:
        recorded = self._recorded(one)
        if not bundle.authorities and recorded is not None and read_foreign_bundle(
            recorded.keys, one.trust_domain, ours=self._context.trust_domain
        ).authorities:  # fmt: skip
            raise InvalidInput(f"the bundle of `{one.trust_domain}` lost all its authorities at once", remedy="ask its operator")
        sequence = bundle.sequence or (recorded.sequence + 1 if recorded else 1)
        if recorded is not None:
            if recorded.keys == bundle.keys and bundle.sequence <= recorded.sequence:
                await self._note_seen(one, now)
                return
            if bundle.sequence and bundle.sequence <= recorded.sequence:
                raise InvalidInput(
                    f"the bundle of `{one.trust_domain}` has sequence {bundle.sequence}, and {recorded.sequence} is recorded with other keys",
                    remedy="ask its operator: a replay, or a restored server",
                )
        source = TrustSource(
            name=PREFIX + one.name, kind="spiffe", issuer=one.trust_domain, keys=bundle.keys, sequence=sequence, fetched_at=now
        )
        await self._submit(
            [SourcePut(source=source)], "bundle", one.trust_domain, {"sequence": sequence, "authorities": len(bundle.authorities)}
        )

    async def _note_seen(self, one: FederationSettings, now: UnixMillis) -> None:
        if now - self._seen(one) >= SEEN_MS:
            await self._submit([SettingPut(key=SEEN + one.name, value=str(now))], "seen", one.trust_domain, {})

    def _seen(self, one: FederationSettings) -> int:
        """When the bundle that counts was last fetched, as far as it is written down."""
        recorded, noted = self._recorded(one), self._context.facts.settings.get(SEEN + one.name, "")
        return max(recorded.fetched_at if recorded else 0, int(noted) if noted.isdigit() else 0)

    async def _failed(self, one: FederationSettings, partner: _Partner, error: VouchgateError, now: UnixMillis) -> None:
        """Rule 4. A failure is an entry once, until it is another one."""
        if partner.problem != error.reason:
            partner.problem = error.reason
            log.warning("partner %s: %s", one.name, error.reason)
            await self._submit([], "bundle", one.trust_domain, {"problem": error.reason}, outcome="failed")
        async with self._changing:
            if self._recorded(one) is not None and one in self._context.settings.federation and now > self._stale_at(one, partner):
                await self._submit([SourceRemoved(name=PREFIX + one.name)], "stale", one.trust_domain, {"hours": one.stale_hours})
                self.hand_on()

    def _stale_at(self, one: FederationSettings, partner: _Partner) -> UnixMillis:
        return UnixMillis(max(partner.seen_at, self._seen(one)) + one.stale_hours * 3_600_000)

    # -- handing on

    def tell(self, batch: Iterable[Sequenced]) -> None:
        """Changes as they are applied: foreign callers may have come or gone."""
        if any(self._concerns(sequenced.change) for sequenced in batch):
            self.hand_on()

    def _concerns(self, change: Change) -> bool:
        match change:
            case RegistrationPut(registration=Registration(principal=name)) | RegistrationRemoved(principal=name):
                return f"/{ALIAS_ZONE}" in name
            case _:
                return False

    def hand_on(self) -> None:
        """The gateway is given every partner's bundle and the names of its callers."""
        bundles: dict[str, str] = {}
        for one in self._context.settings.federation:
            recorded = self._recorded(one)
            if recorded is None:
                continue
            try:
                bundle = read_foreign_bundle(recorded.keys, one.trust_domain, ours=self._context.trust_domain)
            except InvalidInput as error:
                # recorded by a version that read it otherwise: its callers are refused until it is fetched again
                log.error("the recorded bundle of `%s` is left out: %s", one.trust_domain, error.reason)
                continue
            if bundle.authorities:
                bundles[one.trust_domain] = bundle.pem
        names = self._context.facts.aliases()
        if (bundles, names) != self._told:
            self._told = (bundles, names)
            self._points.set_federated_bundles(bundles)
            self._points.set_federated_names(names)

    # -- asked by people

    async def states(self, caller: Caller) -> tuple[PartnerState, ...]:
        """Every partner."""
        await authorise(self._context, caller, "read")
        return self.listed()

    def listed(self) -> tuple[PartnerState, ...]:
        """The same, for who has been let in already."""
        return tuple(self._state(one) for one in self._context.settings.federation)

    async def refresh(self, caller: Caller, name: str) -> PartnerState:
        """Fetch now. Raises `InvalidInput` for who is no partner."""
        await authorise(self._context, caller, "federate")
        for one in self._context.settings.federation:
            if one.name == name:
                self._partners.setdefault(name, _Partner()).due = UnixMillis(0)
                await self.look(one)
                return self._state(one)
        raise InvalidInput(f"there is no partner `{name[:64]}`", remedy="name it in vouchgate.toml under [[federation]]")

    def _state(self, one: FederationSettings) -> PartnerState:
        recorded, partner = self._recorded(one), self._partners.get(one.name, _Partner())
        callers = sum(1 for name in self._told[1] if name.startswith(f"spiffe://{one.trust_domain}/"))
        return PartnerState(
            name=one.name,
            trust_domain=one.trust_domain,
            profile=one.profile,
            state="trusted" if recorded is not None else "refused",
            sequence=recorded.sequence if recorded else 0,
            fetched_at=UnixMillis(max(partner.seen_at, self._seen(one)) if recorded else 0),
            stale_at=self._stale_at(one, partner) if recorded is not None and partner.problem else UnixMillis(0),
            next_at=partner.due,
            callers=callers,
            problem=partner.problem,
        )

    def _recorded(self, one: FederationSettings) -> TrustSource | None:
        found = self._context.facts.sources.get(PREFIX + one.name)
        return found if found is not None and found.issuer == one.trust_domain and found.kind == "spiffe" else None

    async def _submit(self, changes: list[Change], verb: str, partner: str, detail: dict[str, Any], outcome: str = "done") -> None:
        entry = ocsf.act(
            self._context.trust_domain,
            uid=secrets.token_hex(16),
            who=WHO,
            verb=f"federation-{verb}",
            resource=resource(self._context.trust_domain, "system", "control"),
            outcome=outcome,
            detail={"trust_domain": partner, **detail},
            now=self._context.clock.now(),
        )
        await self._context.sequencer.submit(WHO, changes, [Append(entry=entry)])


def _body(said: Any) -> bytes:
    """What the token service brought; whoever took it over can make it anything. Raises `Unavailable`."""
    status, body = (said.get("status"), said.get("body")) if isinstance(said, dict) else (None, None)
    if not isinstance(status, int) or not isinstance(body, bytes) or len(body) > MAX_BUNDLE_BYTES:
        raise Unavailable("the token service's answer is not one", remedy="see its log; if nothing explains it, somebody else speaks there")
    if status != 200:
        raise Unavailable(f"the bundle endpoint answered {status}", remedy="ask the partner's operator")
    return body

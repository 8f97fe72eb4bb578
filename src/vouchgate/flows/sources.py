"""Keys of providers and transmitters: fetched by the token service, believed only as recorded.

1. A provider's description is kept `KEPT_MS`; its endpoints must lie on origins that the settings name.
2. Keys are fetched when none are recorded, when the last look is older than `KEPT_MS`, and when a token names a key that is not recorded; for
   the last at most every `AGAIN_MS`, so that a flood of made-up key ids asks a provider nothing.
3. What is fetched replaces what is recorded, and each change is an entry that names the keys that came and went. A key that is no longer
   published counts no longer. A set that is not one (identity/foreign.py) changes nothing and is an entry too.
4. Where fetching fails, recorded keys count until `MAX_STALE_MS` after the last look that succeeded; then nobody logs in with that provider.
5. Whoever fetches could lie about keys that it fetches first: so a change of keys is never silent, and a provider's keys may be pinned in the
   settings; then none are fetched.
6. Whoever shows a key that is recorded waits for no fetch that somebody else's made-up key caused.
Left to others: the fetching and its bounds (ports/http.py, edges/processes/outbound.py), what the keys may say (the settings).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from vouchgate.audit import ocsf
from vouchgate.flows.changes import SourcePut
from vouchgate.flows.context import Context, Remote
from vouchgate.identity.foreign import ForeignKey, read_keys, write_keys
from vouchgate.identity.oidc import Provider, description_url, read_provider
from vouchgate.vocabulary.errors import InvalidInput, NotFound, NotPermitted, Unavailable, VouchgateError
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.settings import StsSourceSettings
from vouchgate.vocabulary.settings_people import OidcSettings, TransmitterSettings
from vouchgate.vocabulary.sources import TrustSource
from vouchgate.vocabulary.vouches import UnixMillis

KEPT_MS = 3_600_000
"""An hour: how long a description or a set of keys is believed to be the newest."""
AGAIN_MS = 10_000
"""Between two looks for a key that is not recorded."""
FAILED_MS = 2_000
"""After a failure nobody is asked again for this long; people get a quick answer instead of another wait."""
MAX_STALE_MS = 24 * KEPT_MS
"""A day: keys that could not be looked at for longer count for nothing, since one may have been withdrawn."""
MAX_DESCRIPTION_BYTES = 128 * 1024
MAX_KEYS_BYTES = 256 * 1024
WHO = "system:sources"
EVIDENCE = "source:"
"""Before the name of one of [[sts.sources]], in the names of recorded sources."""

log = logging.getLogger("vouchgate.sources")


@dataclass
class _Look:
    """What is known of one source since the start."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    looked_at: int = 0
    """The last look that succeeded."""
    asked_at: int = 0
    """The last try, so that failures and made-up keys do not ask again and again."""
    failed_at: int = 0
    failure: VouchgateError | None = None
    provider: Provider | None = None
    described_at: int = 0
    read: tuple[bytes, Mapping[str, ForeignKey]] = (b"", {})
    """The recorded set and what it says, so that a flood of tokens does not have it read each time."""


class Sources:
    """See the module's text."""

    def __init__(self, context: Context, outbound: Remote) -> None:
        self._context, self._outbound = context, outbound
        self._looks: dict[str, _Look] = {}

    def settings_of(self, alias: str) -> OidcSettings:
        """A provider's settings. Raises `NotFound`."""
        for one in self._context.settings.oidc:
            if one.name == alias:
                return one
        raise NotFound(f"there is no provider `{alias[:64]}`", remedy="name one that `vouchgate login` lists")

    async def provider(self, alias: str) -> Provider:
        """How a provider describes itself. Raises `NotFound`, `Unavailable`, `InvalidInput`, `NotPermitted`."""
        one, look = self.settings_of(alias), self._look(f"oidc:{alias}")
        known = look.provider
        if known is not None and known.issuer == one.issuer and self._context.clock.now() - look.described_at <= KEPT_MS:
            return known
        async with look.lock:
            now = self._context.clock.now()
            if look.provider is None or look.provider.issuer != one.issuer or now - look.described_at > KEPT_MS:
                self._not_again(look, now)
                try:
                    said = await self._get(f"oidc:{alias}", description_url(one.issuer), MAX_DESCRIPTION_BYTES)
                    found = read_provider(said, one.issuer)
                    check_origins(found, one)
                except VouchgateError as error:
                    look.failed_at, look.failure = now, error
                    raise
                look.provider, look.described_at = found, now
            return look.provider

    async def provider_keys(self, alias: str, kid: str = "") -> Mapping[str, ForeignKey]:
        """A provider's keys; `kid` is one that a token names. Raises `Unavailable`, `InvalidInput`."""
        one = self.settings_of(alias)
        if one.keys:
            return await self._pinned(f"oidc:{alias}", one.issuer, one.keys)
        provider = await self.provider(alias)
        return await self._keys(f"oidc:{alias}", provider.issuer, provider.jwks_uri, kid)

    async def transmitter_keys(self, transmitter: TransmitterSettings, kid: str = "") -> Mapping[str, ForeignKey]:
        """A transmitter's keys: its own, or those of its provider."""
        if not transmitter.keys_url:
            return await self.provider_keys(transmitter.provider, kid)
        return await self._keys(f"ssf:{transmitter.name}", transmitter.issuer, transmitter.keys_url, kid)

    async def evidence_keys(self, source: StsSourceSettings, kid: str = "") -> None:
        """See to the keys of one of [[sts.sources]] that has a `keys_url`. What cannot be fetched leaves the recorded ones as they are, until
        they are stale (rule 4). Raises what stood in the way then."""
        name = f"{EVIDENCE}{source.name}"
        try:
            await self._keys(name, source.issuer, source.keys_url, kid)
        except VouchgateError as error:
            recorded = self._recorded(name, source.issuer)
            if recorded is None or self._context.clock.now() - max(self._look(name).looked_at, recorded.fetched_at) > MAX_STALE_MS:
                raise
            log.warning("the keys of `%s` could not be fetched: %s", source.name, error.reason)

    async def _keys(self, name: str, issuer: str, url: str, kid: str) -> Mapping[str, ForeignKey]:
        look = self._look(name)
        if (at_hand := self._at_hand(look, name, issuer, kid)) is not None:
            return at_hand
        async with look.lock:
            # whoever waited may find that the one before fetched for both
            if (at_hand := self._at_hand(look, name, issuer, kid)) is not None:
                return at_hand
            now, recorded = self._context.clock.now(), self._recorded(name, issuer)
            seen_at = max(look.looked_at, recorded.fetched_at if recorded else 0)
            keys = self._read(look, recorded) if recorded else {}
            try:
                self._not_again(look, now)
                return await self._fetch(look, name, issuer, url, recorded)
            except VouchgateError as error:
                if look.failed_at != now:
                    look.failed_at, look.failure = now, error
                if recorded is None or now - seen_at > MAX_STALE_MS or isinstance(error, InvalidInput):
                    raise
                return keys

    def _at_hand(self, look: _Look, name: str, issuer: str, kid: str) -> Mapping[str, ForeignKey] | None:
        """Recorded keys, where nothing is to be gained by fetching (rule 2)."""
        now, recorded = self._context.clock.now(), self._recorded(name, issuer)
        if recorded is None or now - max(look.looked_at, recorded.fetched_at) > KEPT_MS:
            return None
        keys = self._read(look, recorded)
        return None if kid and kid not in keys and now - look.asked_at > AGAIN_MS else keys

    @staticmethod
    def _read(look: _Look, recorded: TrustSource) -> Mapping[str, ForeignKey]:
        if look.read[0] != recorded.keys:
            look.read = (recorded.keys, read_keys(recorded.keys))
        return look.read[1]

    async def _pinned(self, name: str, issuer: str, text: str) -> Mapping[str, ForeignKey]:
        """Rule 5. Raises `InvalidInput` for settings that hold no set of keys."""
        found = read_keys(text.encode())
        async with self._look(name).lock:
            await self._record(name, issuer, found, self._recorded(name, issuer))
        return found

    async def _fetch(self, look: _Look, name: str, issuer: str, url: str, recorded: TrustSource | None) -> Mapping[str, ForeignKey]:
        look.asked_at = self._context.clock.now()
        said = await self._get(name, url, MAX_KEYS_BYTES)
        try:
            found = read_keys(said)
        except InvalidInput as error:
            await self._note(name, "denied", {"issuer": issuer, "reason": error.reason})
            raise
        await self._record(name, issuer, found, recorded)
        look.looked_at = look.asked_at
        return found

    async def _record(self, name: str, issuer: str, found: Mapping[str, ForeignKey], recorded: TrustSource | None) -> None:
        """Rule 3."""
        data, now = write_keys(found), self._context.clock.now()
        if recorded is None or data != recorded.keys:
            before = set(read_keys(recorded.keys)) if recorded else set()
            made = TrustSource(
                name=name, kind="oidc", issuer=issuer, keys=data, sequence=recorded.sequence + 1 if recorded else 1, fetched_at=now
            )
            detail = {"issuer": issuer, "came": sorted(set(found) - before), "went": sorted(before - set(found)), "sequence": made.sequence}
            await self._context.sequencer.submit(WHO, [SourcePut(source=made)], [self._entry(name, "done", detail)])

    async def _get(self, name: str, url: str, max_bytes: int) -> bytes:
        answer = await self._outbound.call("out.get", to=name, url=url, accept="application/json", max_bytes=max_bytes, bearer="")
        if answer["status"] != 200:
            raise Unavailable(
                f"`{url[:200]}` answered {answer['status']}",
                remedy="see whether the issuer in vouchgate.toml is right, and ask its operator",
            )
        return bytes(answer["body"])

    def _recorded(self, name: str, issuer: str) -> TrustSource | None:
        """Keys of another issuer under the same name count for nothing: the settings were changed."""
        found = self._context.facts.sources.get(name)
        return found if found is not None and found.issuer == issuer else None

    def _look(self, name: str) -> _Look:
        return self._looks.setdefault(name, _Look())

    def _not_again(self, look: _Look, now: UnixMillis) -> None:
        if look.failure is not None and now - look.failed_at < FAILED_MS:
            raise look.failure
        look.failure = None

    async def _note(self, name: str, outcome: str, detail: dict[str, object]) -> None:
        await self._context.sequencer.submit(WHO, (), [self._entry(name, outcome, detail)])

    def _entry(self, name: str, outcome: str, detail: dict[str, object]) -> Append:
        return Append(
            entry=ocsf.act(
                self._context.trust_domain,
                uid=secrets.token_hex(16),
                who=WHO,
                verb="source-keys",
                resource=resource(self._context.trust_domain, "system", "control"),
                outcome=outcome,
                detail={"source": name, **detail},
                now=self._context.clock.now(),
            )
        )


def check_origins(provider: Provider, settings: OidcSettings) -> None:
    """Rule 1. Raises `NotPermitted`: a description may not send people or secrets to somewhere that nobody configured."""
    allowed = {_origin(url) for url in (settings.issuer, *settings.origins)}
    for url in (provider.authorization_endpoint, provider.token_endpoint, provider.jwks_uri, provider.userinfo_endpoint):
        if url and _origin(url) not in allowed:
            raise NotPermitted(
                f"the provider names `{url[:160]}`, which is on another origin",
                remedy=f"list its origin in `origins` of [[oidc]] `{settings.name}`",
            )


def _origin(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput(f"`{url[:160]}` is not an address", remedy="ask the provider's operator") from None
    if "@" in parts.netloc or "\\" in url or parts.scheme not in {"https", "http"}:
        raise InvalidInput(f"`{url[:160]}` is not an address", remedy="ask the provider's operator")
    return parts.scheme, (parts.hostname or "").lower(), port or (443 if parts.scheme == "https" else 80)

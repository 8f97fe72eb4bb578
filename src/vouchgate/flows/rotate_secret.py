"""Rotate a secret that somebody else owns: make the new one, prove it, move over, retire the old one, show that it is dead.

States (vocabulary/secrets.py) and what ends them; every move is a change in the store, so that a kill between any two begins the step again
    making       `make` gave a version            -> proving          a person must act -> waiting
    proving      it opens the door                -> overlapping (steady, where there was none before)
                 `PROVE_TRIES` failures           -> steady: the new one is retired, the old one was in use all the time
    overlapping  `overlap_seconds` have passed    -> retiring
    retiring     the old one is refused           -> steady           a person must act -> waiting
    waiting      looked at again every `WAIT_SECONDS`
Rules
1. The version in use changes only after the new one was proved, and the old one ends only after its users had time to move over.
2. One step of one secret at a time; a failed step is tried again after a pause that doubles up to `LONGEST_PAUSE`.
3. A secret's bytes are opened for one step and for whoever it is released to, and are in no entry, answer or error.
4. Bringing, rotating and reading a secret are decided like every other act; reading is `release-key` and is an entry before it leaves.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets as randomness
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.changes import SecretPut
from vouchgate.flows.context import Context
from vouchgate.protection.catalog import keeper, rotator
from vouchgate.protection.rotators import Answer, Ask, Assist, Credential, Fresh, Rotator
from vouchgate.protection.secretbox import place, seal, unseal
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, NotPermitted, VouchgateError
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.secrets import SealedVersion, Secret, SecretLine, SecretState
from vouchgate.vocabulary.settings import SecretSettings
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import encode

PROVE_TRIES = 8
"""Failures of the proof after which the new version is given up: about two minutes, since some owners take a while to know a new key."""
FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 500, 60_000
"""Between tries of a step."""
WAIT_SECONDS = 60
"""Between looks at what a person was asked to do."""
TICK_SECONDS = 0.5
"""Between looks at all secrets."""
MAX_ASKS = 2_000
"""Asks of one story: tidying up after a long outage included."""

log = logging.getLogger("vouchgate.secrets")


class Outside(Protocol):
    """Whoever carries asks out (the token service's process, the only one that calls out)."""

    async def ask(self, one: Ask) -> Answer:
        """Raises `Unavailable`, `NotPermitted`."""


class Push(Protocol):
    """Who injects a secret into requests."""

    def __call__(self, name: str, value: bytes) -> None: ...


@dataclass
class Vault:
    """Seals and opens under the control plane's own key."""

    trust_domain: str
    kek: bytes

    def __repr__(self) -> str:
        return "Vault"

    def seal(self, name: str, part: str, number: int, credential: Credential, now: UnixMillis) -> SealedVersion:
        """A credential at rest."""
        data = encode(dict(credential.parts))
        sealed = seal(keeper("file"), self.kek, randomness.token_bytes(32), place(self.trust_domain, name, part, number), data)
        return SealedVersion(number=number, sealed=sealed, made_at=now)

    def open(self, name: str, part: str, version: SealedVersion) -> Credential:
        """Raises `Unverified` where the bytes are of another place."""
        data = unseal(keeper("file"), self.kek, place(self.trust_domain, name, part, version.number), version.sealed)
        return Credential(msgspec.json.decode(data, type=dict[str, str]))

    def random(self, name: str, number: int) -> bytes:
        """The same 32 bytes each time the making of a version is begun again."""
        return hmac.digest(self.kek, f"vouchgate/secret/random/v1\x00{name}\x00{number}".encode(), "sha256")


class Secrets:
    """All secrets of the settings, tended."""

    def __init__(self, context: Context, vault: Vault, outside: Outside, push: Push) -> None:
        self._context, self._vault, self._outside, self._push = context, vault, outside, push
        self._not_before: dict[str, UnixMillis] = {}
        self._working: dict[str, asyncio.Lock] = {}

    # -- asked by people and workloads

    async def put(self, caller: Caller, name: str, parts: Mapping[str, str], *, admin: bool) -> SecretLine:
        """Bring a credential, or what vouchgate shows to the owner. Raises `InvalidInput`, `Conflict`, `NotPermitted`."""
        await authorise(self._context, caller, "secret")
        settings, kind = self._settings(name), self._rotator(name)
        wanted = kind.admin_parts if admin else kind.parts
        if set(parts) != set(wanted) or not all(value and len(value) <= 8_192 for value in parts.values()):
            raise InvalidInput(f"`{name}` takes exactly {', '.join(wanted) or 'nothing'}", remedy="bring these parts, none of them empty")
        async with self._lock(name):
            secret = self._secret(settings)
            if admin:
                made = self._seal(secret, "admin", dict(parts))
                await self._move(caller, msgspec.structs.replace(secret, admin=made), "bring-admin")
            else:
                made = self._bring(secret, dict(parts))
                await self._move(caller, msgspec.structs.replace(secret, following=made, state="proving", problem="", tries=0), "bring")
        return self.line(name)

    def _bring(self, secret: Secret, parts: dict[str, str]) -> SealedVersion:
        """A person's version is proved like every other; none is taken while another is on its way."""
        waits_for_it = secret.state == "waiting" and secret.previous is None
        if secret.state not in {"empty", "steady"} and not waits_for_it:
            raise Conflict(f"`{secret.name}` is {secret.state}", remedy="wait until it is steady, or roll it back")
        return self._seal(secret, "secret", parts)

    async def rotate(self, caller: Caller, name: str) -> SecretLine:
        """Begin a rotation now. Raises `Conflict`."""
        await authorise(self._context, caller, "secret")
        async with self._lock(name):
            secret = self._secret(self._settings(name))
            if secret.state not in {"steady", "empty"}:
                raise Conflict(f"`{name}` is {secret.state}", remedy="wait until it is steady, or roll it back")
            await self._move(caller, msgspec.structs.replace(secret, state="making", problem="", tries=0), "rotate")
        return self.line(name)

    async def roll_back(self, caller: Caller, name: str) -> SecretLine:
        """Use the version before again, as long as it was not retired. Raises `Conflict`."""
        await authorise(self._context, caller, "secret")
        async with self._lock(name):
            secret = self._secret(self._settings(name))
            if secret.state == "overlapping" and secret.previous is not None:
                back = msgspec.structs.replace(
                    secret, current=secret.previous, previous=secret.current, state="retiring", problem="", tries=0
                )
            elif secret.state in {"making", "proving", "waiting"} and secret.previous is None and secret.current is not None:
                given_up = secret.following
                back = msgspec.structs.replace(
                    secret, following=None, previous=given_up, state="retiring" if given_up else "steady", problem="", tries=0
                )
            else:
                raise Conflict(f"`{name}` is {secret.state}: there is nothing to go back to", remedy="rotate it again")
            await self._move(caller, back, "roll-back")
            self._hand_on(back)
        return self.line(name)

    async def release(self, caller: Caller, name: str) -> dict[str, str]:
        """The credential in use, for a caller whom policy lets have it; who may not have it does not learn whether there is one. Raises
        `NotPermitted`, `NotFound`, `InvalidName`."""
        context, now = self._context, self._context.clock.now()
        decision = context.facts.decide(caller.principal, "release-key", resource(context.trust_domain, "system", f"secret.{name}"), now)
        allowed = decision.effect == "allow"
        entries = [
            Append(entry=ocsf.decision(decision), label=decision.id),
            act_entry(context, caller, "release-secret", decision.resource, "done" if allowed else "denied", {"secret": name}),
        ]
        await context.sequencer.submit(caller.principal.principal.id, (), entries)
        if not allowed:
            raise NotPermitted(f"`{name[:64]}` is not released to you", remedy="ask for a policy that permits `release-key` on it")
        self._settings(name)
        secret = context.facts.secrets.get(name)
        if secret is None or secret.current is None:
            raise NotFound(f"nobody has brought `{name}` yet", remedy=f"run `vouchgate secrets put {name}`")
        return dict(self._vault.open(name, "secret", secret.current).parts)

    async def lines(self, caller: Caller) -> tuple[SecretLine, ...]:
        """All secrets without their bytes."""
        await authorise(self._context, caller, "read")
        return tuple(self.line(one.name) for one in self._context.settings.secrets)

    def line(self, name: str) -> SecretLine:
        """One secret without its bytes."""
        settings = self._settings(name)
        secret, now = self._secret(settings), self._context.clock.now()
        made = secret.current.made_at if secret.current else UnixMillis(0)
        overlap = secret.changed_at + settings.overlap_seconds * 1000 if secret.state == "overlapping" else 0
        return SecretLine(
            name=name,
            rotator=settings.rotator,
            state=secret.state,
            version=secret.current.number if secret.current else 0,
            age_ms=now - made if made else 0,
            rotates_at=UnixMillis(made + settings.rotate_days * 86_400_000 if made and settings.rotate_days else 0),
            overlap_until=UnixMillis(overlap),
            problem=secret.problem,
        )

    # -- tending

    async def run(self) -> None:
        """Hand on what is in use, then take each secret a step further whenever it is due."""
        for secret in self._context.facts.secrets.values():
            self._hand_on(secret)
        while True:
            await asyncio.gather(*(self.tend(one.name) for one in self._context.settings.secrets))
            await asyncio.sleep(TICK_SECONDS)

    async def tend(self, name: str) -> None:
        """One step of one secret, if one is due."""
        settings, now = self._settings(name), self._context.clock.now()
        if now < self._not_before.get(name, 0):
            return
        async with self._lock(name):
            secret = self._secret(settings)
            due = self._due(secret, settings, now)
            if not due:
                return
            try:
                await self._step(msgspec.structs.replace(secret, state=due), settings, now)
            except VouchgateError as error:
                await self._failed(msgspec.structs.replace(secret, state=due), error, now)
            except (KeyError, TypeError, ValueError) as error:
                # the owner's answer had another shape; its text may hold a secret
                await self._failed(msgspec.structs.replace(secret, state=due), _unexpected(error), now)

    def _due(self, secret: Secret, settings: SecretSettings, now: UnixMillis) -> SecretState | None:
        """The state whose step is to be taken now, or None."""
        match secret.state:
            case "making" | "proving" | "retiring":
                return secret.state
            case "waiting" if secret.previous is not None:
                return "retiring"
            case "overlapping" if now >= secret.changed_at + settings.overlap_seconds * 1000:
                return "retiring"
            case "steady" if secret.current is not None and settings.rotate_days:
                return "making" if now >= secret.current.made_at + settings.rotate_days * 86_400_000 else None
            case _:
                return None

    async def _step(self, secret: Secret, settings: SecretSettings, now: UnixMillis) -> None:
        kind, config = self._rotator(secret.name), settings.config
        kind.config.check(config, what=f"secret `{secret.name}`")
        match secret.state:
            case "making":
                number = self._number(secret)
                fresh = Fresh(self._vault.random(secret.name, number), now, number)
                made = await self._tell(kind.make(config, self._admin(secret), self._open(secret.name, secret.current), fresh))
                following = self._vault.seal(secret.name, "secret", number, made, now)
                await self._move(None, msgspec.structs.replace(secret, following=following, state="proving", problem="", tries=0), "made")
            case "proving":
                assert secret.following is not None
                opened = self._vault.open(secret.name, "secret", secret.following)
                await self._tell(kind.prove(config, opened, self._fresh(secret.following, secret.name, now)))
                await self._use(secret)
            case _:
                assert secret.previous is not None
                opened = self._vault.open(secret.name, "secret", secret.previous)
                fresh = self._fresh(secret.previous, secret.name, now)
                await self._tell(kind.retire(config, self._admin(secret), opened, fresh))
                await self._tell(kind.prove_retired(config, opened, fresh))
                end: SecretState = "steady" if secret.current is not None else "empty"
                await self._move(None, msgspec.structs.replace(secret, previous=None, state=end, tries=0), "retired")

    async def _use(self, secret: Secret) -> None:
        state: SecretState = "overlapping" if secret.current is not None else "steady"
        made = msgspec.structs.replace(
            secret, current=secret.following, previous=secret.current, following=None, state=state, problem="", tries=0
        )
        await self._move(None, made, "in-use")
        self._hand_on(made)

    async def _failed(self, secret: Secret, error: VouchgateError, now: UnixMillis) -> None:
        """Rule 2, and the ends that the table names for failures."""
        tries = secret.tries + 1
        log.warning("secret %s, %s: %s", secret.name, secret.state, error.reason)
        if isinstance(error, Assist):
            self._not_before[secret.name] = UnixMillis(now + WAIT_SECONDS * 1000)
            moved = msgspec.structs.replace(secret, state="waiting", problem=f"{error.reason}: {error.remedy}", tries=0)
        elif secret.state == "proving" and (tries >= PROVE_TRIES or isinstance(error, InvalidInput)):
            # the version in use never changed; what was made is retired
            end: SecretState = "steady" if secret.current is not None else "empty"
            moved = msgspec.structs.replace(
                secret, following=None, previous=secret.following, state="retiring", problem=f"given up: {error.reason}", tries=0
            )
            if not self._rotator(secret.name).admin_parts:
                moved = msgspec.structs.replace(moved, previous=None, state=end)
        elif secret.state == "making" and isinstance(error, InvalidInput | NotFound):
            moved = msgspec.structs.replace(
                secret, state="steady" if secret.current is not None else "empty", problem=f"{error.reason}: {error.remedy}", tries=0
            )
            self._not_before[secret.name] = UnixMillis(now + WAIT_SECONDS * 1000)
        else:
            pause = min(FIRST_PAUSE_MS << min(tries - 1, 10), LONGEST_PAUSE_MS)
            self._not_before[secret.name] = UnixMillis(now + pause)
            moved = msgspec.structs.replace(secret, problem=error.reason, tries=tries)
        known = self._context.facts.secrets.get(secret.name)
        if known is None or (known.state, known.problem) != (moved.state, moved.problem) or moved.state == "proving":
            await self._move(None, moved, "failed", keep_clock=moved.state == secret.state)

    async def _tell(self, story: Generator[Ask, Answer, Any]) -> Any:
        """Drive a rotator's story to its end."""
        try:
            one = next(story)
            for _ in range(MAX_ASKS):
                one = story.send(await self._outside.ask(one))
        except StopIteration as end:
            return end.value
        finally:
            story.close()
        raise InvalidInput("the owner has more to tidy up than one rotation may do", remedy="tidy up at the owner by hand")

    async def _move(self, caller: Caller | None, secret: Secret, what: str, *, keep_clock: bool = False) -> None:
        """Record where a secret stands."""
        context = self._context
        now = secret.changed_at if keep_clock else context.clock.now()
        made = msgspec.structs.replace(secret, changed_at=now)
        detail = {"secret": secret.name, "step": what, "state": made.state, "version": made.current.number if made.current else 0}
        if caller is not None:
            entry = act_entry(context, caller, "secret", "", "done", detail)
        else:
            entry = Append(
                entry=ocsf.act(
                    context.trust_domain,
                    uid=randomness.token_hex(16),
                    who="system:secrets",
                    verb="rotate-secret",
                    resource=resource(context.trust_domain, "system", f"secret.{secret.name}"),
                    outcome="failed" if what == "failed" else "done",
                    detail={**detail, "problem": made.problem},
                    now=context.clock.now(),
                )
            )
        who = caller.principal.principal.id if caller is not None else "system:secrets"
        await context.sequencer.submit(who, [SecretPut(secret=made)], [entry])

    def _hand_on(self, secret: Secret) -> None:
        """What is injected into requests goes to who injects it."""
        part = self._rotator(secret.name).injected if secret.current is not None else ""
        if part and secret.current is not None:
            self._push(secret.name, self._vault.open(secret.name, "secret", secret.current)[part].encode())

    # -- looking up

    def _settings(self, name: str) -> SecretSettings:
        for one in self._context.settings.secrets:
            if one.name == name:
                return one
        raise NotFound(f"there is no secret `{name[:64]}`", remedy="name it in vouchgate.toml under [[secrets]]")

    def _rotator(self, name: str) -> Rotator:
        return rotator(self._settings(name).rotator)

    def _secret(self, settings: SecretSettings) -> Secret:
        return self._context.facts.secrets.get(settings.name) or Secret(name=settings.name, rotator=settings.rotator)

    def _seal(self, secret: Secret, part: str, parts: dict[str, str]) -> SealedVersion:
        number = self._number(secret) if part == "secret" else (secret.admin.number if secret.admin else 0) + 1
        return self._vault.seal(secret.name, part, number, Credential(parts), self._context.clock.now())

    def _number(self, secret: Secret) -> int:
        return max((one.number for one in (secret.current, secret.following, secret.previous) if one is not None), default=0) + 1

    def _admin(self, secret: Secret) -> Credential:
        if not self._rotator(secret.name).admin_parts:
            return Credential({})
        if secret.admin is None:
            raise NotFound(
                f"nobody has brought what the owner of `{secret.name}` asks for",
                remedy=f"run `vouchgate secrets put {secret.name} --admin`",
            )
        return self._vault.open(secret.name, "admin", secret.admin)

    def _open(self, name: str, version: SealedVersion | None) -> Credential | None:
        return None if version is None else self._vault.open(name, "secret", version)

    def _fresh(self, version: SealedVersion, name: str, now: UnixMillis) -> Fresh:
        return Fresh(self._vault.random(name, version.number), now, version.number)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._working.setdefault(name, asyncio.Lock())


def _unexpected(error: Exception) -> InvalidInput:
    return InvalidInput(f"the owner's answer has another shape than expected ({type(error).__name__})", remedy="check [[secrets]] `config`")

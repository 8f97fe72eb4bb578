"""Rotation from making to retiring: what is in use is valid at every moment, whatever breaks, and whenever it is killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from flows_world import NOW, TD, World, lasting, make_world, registration, running, serving

from vouchgate.flows.changes import PolicyActivated, RegistrationPut
from vouchgate.flows.rotate_secret import PROVE_TRIES, Secrets, Vault
from vouchgate.protection.rotators import Answer, Ask, HttpAnswer, HttpAsk
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable, Unverified
from vouchgate.vocabulary.settings import SecretSettings

ADMIN, NOBODY = lasting("kim", "key-custodian", "auditor"), lasting("nobody")
URL = "https://llm.test"
LLM = SecretSettings(
    name="llm", rotator="openai-service-account", config={"url": URL, "project": "proj_1"}, rotate_days=30, overlap_seconds=600
)
HUB = SecretSettings(name="hub", rotator="hugging-face-token", config={"account": "team-bot"}, rotate_days=0, overlap_seconds=0)
KEK = bytes(range(32))


class Killed(BaseException):
    """The process ends here."""


class Owner:
    """A provider in memory. `before` is called ahead of each ask; `broken` refuses new keys, `down` answers nothing."""

    def __init__(self) -> None:
        self.accounts: dict[str, str] = {}
        self.broken = self.down = self.deaf = False
        self.asked = 0
        self.kill_at = -1
        self.watch: Callable[[], None] = lambda: None
        self.hub: dict[str, str] = {}
        self._next = 0

    async def ask(self, one: Ask) -> Answer:
        assert isinstance(one, HttpAsk)
        self.watch()
        self.asked += 1
        if self.down:
            raise Unavailable("the provider is away", remedy="wait")
        answer = self._answer(one)
        if self.asked == self.kill_at:
            raise Killed
        return answer

    def _answer(self, one: HttpAsk) -> Answer:
        shown = one.headers["authorization"].removeprefix("Bearer ")
        if one.url.endswith("/api/whoami-v2"):
            role = self.hub.get(shown)
            return (
                HttpAnswer(200, json.dumps({"name": "team-bot", "auth": {"accessToken": {"role": role}}}).encode())
                if role
                else HttpAnswer(401)
            )
        if one.url == f"{URL}/v1/models":
            new = bool(self.accounts) and shown == list(self.accounts.values())[-1]
            return HttpAnswer(200 if shown in self.accounts.values() and not (self.broken and new) else 401, b"{}")
        if shown != "admin":
            return HttpAnswer(403)
        if one.method == "GET":
            return HttpAnswer(200, json.dumps({"data": [{"id": name, "name": f"vouchgate-{name}"} for name in self.accounts]}).encode())
        if one.method == "POST":
            self._next += 1
            self.accounts[f"svc_{self._next}"] = f"sk-{self._next}"
            return HttpAnswer(200, json.dumps({"id": f"svc_{self._next}", "api_key": {"value": f"sk-{self._next}"}}).encode())
        if not self.deaf:
            self.accounts.pop(one.url.rpartition("/")[2], None)
        return HttpAnswer(200, b"{}")


class Office:
    """A control plane with two secrets, an owner, and whoever injects."""

    def __init__(self, world: World) -> None:
        self.world, self.owner, self.pushed = world, Owner(), {}  # type: ignore[var-annotated]
        world.context.settings = msgspec.structs.replace(world.context.settings, secrets=(LLM, HUB))
        self.start()

    def start(self) -> None:
        self.secrets = Secrets(self.world.context, Vault(TD, KEK), self.owner, self._push)

    def _push(self, name: str, value: bytes) -> None:
        self.pushed[name] = value.decode()

    async def bring(self) -> None:
        await self.secrets.put(ADMIN, "llm", {"api_key": "admin"}, admin=True)
        await self.secrets.rotate(ADMIN, "llm")
        await self.until("steady")

    async def until(self, state: str, name: str = "llm", tries: int = 60) -> None:
        for _ in range(tries):
            if self.secrets.line(name).state == state and not self.secrets.line(name).overlap_until:
                return
            await self.secrets.tend(name)
            self.world.clock.at += 61_000
        raise AssertionError(self.secrets.line(name))

    def in_use(self) -> str:
        secret = self.world.context.facts.secrets.get("llm")
        if secret is None or secret.current is None:
            return ""
        return Vault(TD, KEK).open("llm", "secret", secret.current)["api_key"]


def run(story: Callable[[Office], Awaitable[None]]) -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            for uid, one in enumerate((ADMIN, NOBODY), 1001):
                who = one.principal.principal
                await world.put(RegistrationPut(registration=registration(who.id, groups=who.groups, uid=uid)))
            await story(Office(world))

    asyncio.run(go())


def test_a_whole_turn_with_overlap_and_one_key_at_the_end():
    async def story(office: Office) -> None:
        await office.bring()
        first = office.in_use()
        assert office.pushed == {"llm": first}
        await office.secrets.rotate(ADMIN, "llm")
        await office.secrets.tend("llm")
        assert (office.secrets.line("llm").state, office.in_use()) == ("proving", first)
        await office.secrets.tend("llm")
        assert office.secrets.line("llm").state == "overlapping" and len(office.owner.accounts) == 2
        assert office.pushed["llm"] == office.in_use() != first
        office.world.clock.at += 599_000
        await office.secrets.tend("llm")
        assert first in office.owner.accounts.values()
        office.world.clock.at += 1_001
        await office.secrets.tend("llm")
        assert office.secrets.line("llm").state == "steady"
        assert list(office.owner.accounts.values()) == [office.in_use()]

    run(story)


def test_it_begins_by_itself_when_it_is_old():
    async def story(office: Office) -> None:
        await office.bring()
        first = office.in_use()
        office.world.clock.at = office.secrets.line("llm").rotates_at - 1
        await office.secrets.tend("llm")
        assert office.secrets.line("llm").state == "steady"
        office.world.clock.at += 1
        await office.secrets.tend("llm")
        await office.secrets.tend("llm")
        assert office.in_use() != first

    run(story)


@pytest.mark.parametrize("ask", range(1, 12))
def test_killed_after_any_ask_it_ends_the_same_and_what_is_in_use_is_always_valid(ask: int):
    async def story(office: Office) -> None:
        await office.bring()

        def valid() -> None:
            assert office.in_use() in office.owner.accounts.values()

        office.owner.watch, office.owner.asked, office.owner.kill_at = valid, 0, ask
        await office.secrets.rotate(ADMIN, "llm")
        for _ in range(40):
            try:
                await office.secrets.tend("llm")
            except Killed:
                office.start()
            valid()
            office.world.clock.at += 61_000
        assert office.secrets.line("llm").state == "steady"
        assert list(office.owner.accounts.values()) == [office.in_use()]

    run(story)


def test_a_key_that_never_works_is_given_up_and_retired():
    async def story(office: Office) -> None:
        await office.bring()
        first = office.in_use()
        office.owner.broken = True
        await office.secrets.rotate(ADMIN, "llm")
        await office.until("steady")
        line = office.secrets.line("llm")
        assert (office.in_use(), line.version) == (first, 1) and "given up" in line.problem
        assert list(office.owner.accounts.values()) == [first] and office.pushed["llm"] == first
        assert office.owner.asked > PROVE_TRIES

    run(story)


def test_an_owner_that_is_away_is_asked_again_and_the_old_key_goes_on():
    async def story(office: Office) -> None:
        await office.bring()
        first, office.owner.down = office.in_use(), True
        await office.secrets.rotate(ADMIN, "llm")
        for _ in range(5):
            await office.secrets.tend("llm")
            office.world.clock.at += 61_000
        assert office.in_use() == first and "away" in office.secrets.line("llm").problem
        office.owner.down = False
        await office.until("steady")
        assert office.in_use() != first

    run(story)


def test_an_owner_that_keeps_a_retired_key_alive_is_seen():
    async def story(office: Office) -> None:
        await office.bring()
        office.owner.deaf = True
        await office.secrets.rotate(ADMIN, "llm")
        for _ in range(20):
            await office.secrets.tend("llm")
            office.world.clock.at += 61_000
        line = office.secrets.line("llm")
        assert line.state == "retiring" and "still accepts" in line.problem

    run(story)


def test_a_turn_is_rolled_back_while_the_old_key_lives():
    async def story(office: Office) -> None:
        await office.bring()
        first = office.in_use()
        await office.secrets.rotate(ADMIN, "llm")
        await office.secrets.tend("llm")
        await office.secrets.tend("llm")
        await office.secrets.roll_back(ADMIN, "llm")
        assert office.in_use() == first == office.pushed["llm"]
        await office.until("steady")
        assert list(office.owner.accounts.values()) == [first]
        with pytest.raises(Conflict):
            await office.secrets.roll_back(ADMIN, "llm")

    run(story)


def test_one_that_a_person_brings_is_proved_and_waits_for_the_person_to_delete_the_old():
    async def story(office: Office) -> None:
        office.owner.hub = {"hf_1": "read", "hf_2": "fineGrained", "hf_wide": "write"}
        await office.secrets.put(ADMIN, "hub", {"token": "hf_1"}, admin=False)
        await office.until("steady", "hub")
        await office.secrets.put(ADMIN, "hub", {"token": "hf_wide"}, admin=False)
        await office.until("steady", "hub")
        assert office.pushed["hub"] == "hf_1" and "wider" in office.secrets.line("hub").problem
        await office.secrets.put(ADMIN, "hub", {"token": "hf_2"}, admin=False)
        await office.until("waiting", "hub")
        assert office.pushed["hub"] == "hf_2" and "deletes the old token" in office.secrets.line("hub").problem
        del office.owner.hub["hf_1"]
        await office.until("steady", "hub")

    run(story)


def test_a_rotation_that_needs_a_person_says_so():
    async def story(office: Office) -> None:
        await office.secrets.rotate(ADMIN, "hub")
        await office.secrets.tend("hub")
        line = office.secrets.line("hub")
        assert line.state == "waiting" and "a person makes the new token" in line.problem
        office.owner.hub = {"hf_1": "read"}
        await office.secrets.put(ADMIN, "hub", {"token": "hf_1"}, admin=False)
        await office.until("steady", "hub")

    run(story)


@pytest.mark.parametrize(
    ("name", "parts", "admin"),
    [("llm", {}, True), ("llm", {"api_key": ""}, True), ("llm", {"api_key": "a", "b": "c"}, True), ("llm", {"api_key": "x"}, False),
     ("hub", {"token": "t"}, True), ("hub", {"token": "x" * 8_193}, False)],
)  # fmt: skip
def test_parts_that_are_not_taken(name: str, parts: dict[str, str], admin: bool):
    async def story(office: Office) -> None:
        with pytest.raises(InvalidInput):
            await office.secrets.put(ADMIN, name, parts, admin=admin)
        assert name not in office.world.context.facts.secrets

    run(story)


def test_who_may_not_touch_secrets():
    async def story(office: Office) -> None:
        for act in (
            office.secrets.put(NOBODY, "llm", {"api_key": "x"}, admin=True),
            office.secrets.rotate(NOBODY, "llm"),
            office.secrets.roll_back(NOBODY, "llm"),
            office.secrets.lines(NOBODY),
            office.secrets.release(NOBODY, "llm"),
            office.secrets.release(ADMIN, "llm"),
        ):
            with pytest.raises(NotPermitted):
                await act

    run(story)


def test_a_secret_that_nobody_named():
    async def story(office: Office) -> None:
        with pytest.raises(NotFound):
            await office.secrets.rotate(ADMIN, "other")
        refused = []
        for name in ("other", "llm", "hub"):
            with pytest.raises(NotPermitted) as told:
                await office.secrets.release(ADMIN, name)
            refused.append(told.value.reason.replace(name, "it"))
        assert len(set(refused)) == 1

    run(story)


def test_no_byte_of_a_secret_is_in_the_log_the_store_or_a_text_form():
    async def story(office: Office) -> None:
        office.owner.hub = {"hf_needle_1": "read"}
        await office.secrets.put(ADMIN, "hub", {"token": "hf_needle_1"}, admin=False)
        await office.until("steady", "hub")
        store = office.world.context.store
        written = b"".join(store.entries(0, store.size())) + b"".join(one.value for one in store.scan("secret"))
        shown = repr((office.secrets, office.world.context.facts.secrets, Vault(TD, KEK), office.secrets.line("hub")))
        assert b"needle" not in written and "needle" not in shown and KEK.hex() not in shown and repr(KEK) not in shown

    run(story)


def test_a_sealed_version_that_was_moved_does_not_open():
    vault = Vault(TD, KEK)
    from vouchgate.protection.rotators import Credential

    made = vault.seal("llm", "secret", 1, Credential({"api_key": "x"}), NOW)
    assert vault.open("llm", "secret", made)["api_key"] == "x"
    flipped = msgspec.structs.replace(made, sealed=made.sealed[:-1] + bytes([made.sealed[-1] ^ 1]))
    for name, part, version, key in (
        ("hub", "secret", made, KEK),
        ("llm", "admin", made, KEK),
        ("llm", "secret", msgspec.structs.replace(made, number=2), KEK),
        ("llm", "secret", flipped, KEK),
        ("llm", "secret", made, bytes(range(1, 33))),
    ):
        with pytest.raises(Unverified):
            Vault(TD, key).open(name, part, version)


POLICY = '@id("pricing-may-have-it") permit (principal in Group::"pricing", action == Action::"release-key", resource == System::"vg://test.local/system/secret.llm");'


def test_a_secret_is_released_by_policy_and_recorded_first():
    async def story(office: Office) -> None:
        from vouchgate.flows.start import activate

        sources = office.world.context.facts.policy.sources if office.world.context.facts.policy else ()
        made = await activate(office.world.context, [*sources, ("extra.cedar", POLICY)], author="a", approver="b")
        assert isinstance(made, PolicyActivated)
        await office.bring()
        pricing = lasting("pricing-bot")
        who = pricing.principal.principal
        await office.world.put(RegistrationPut(registration=registration(who.id, groups=("pricing",), uid=1009)))
        pricing = msgspec.structs.replace(
            pricing,
            principal=msgspec.structs.replace(pricing.principal, principal=msgspec.structs.replace(who, groups=("pricing",))),
        )
        before = office.world.context.store.size()
        assert await office.secrets.release(pricing, "llm") == {"account": "svc_1", "api_key": "sk-1"}
        entries = office.world.context.store.entries(before, 10)
        assert any(b"release-secret" in one for one in entries) and not any(b"sk-1" in one for one in entries)
        with pytest.raises(NotPermitted):
            await office.secrets.release(pricing, "hub")

    run(story)


def test_what_waits_for_a_person_is_told_on_the_first_page():
    async def story(office: Office) -> None:
        from vouchgate.flows.needs import _secrets

        assert list(_secrets(office.world.context)) == []
        await office.secrets.rotate(ADMIN, "hub")
        await office.secrets.tend("hub")
        need = next(_secrets(office.world.context))
        assert (need.kind, need.severity, need.subject) == ("secret", "act", "hub") and "a person makes the new token" in need.detail

    run(story)

"""Questions to the control plane: batches, turns, and what becomes of them when it is away; renewals, each at its own moment."""

from __future__ import annotations

import asyncio
import time

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from vouchgate.edges.spiffe import asking, live
from vouchgate.edges.spiffe.asking import MAX_BATCH, Known, Questions, status_of
from vouchgate.edges.spiffe.der import split_der
from vouchgate.edges.spiffe.live import Live, renew_at
from vouchgate.vocabulary.errors import InvalidInput, Unavailable


class Control:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gone: list[str] = []
        self.let = asyncio.Event()
        self.error: Exception | None = None
        self.state = {"n": 0}

    async def call(self, method, /, **params):
        if method == "workload.state":
            await self.let.wait()
            if self.error:
                raise self.error
            return dict(self.state)
        self.batches.append([one["uid"] for one in params["requests"]])
        self.gone += params["gone"]
        await self.let.wait()
        if self.error:
            raise self.error
        return [{"ok": True, "uid": one["uid"]} for one in params["requests"]]


def run(story) -> None:
    asyncio.run(asyncio.wait_for(story(), 10))


def test_who_asks_a_thousand_times_delays_nobody_who_asks_once():
    async def story() -> None:
        control = Control()
        questions = Questions(control)
        many = [asyncio.create_task(questions.ask({"uid": 1})) for _ in range(1_000)]
        await asyncio.sleep(0.01)
        one = asyncio.create_task(questions.ask({"uid": 2}))
        await asyncio.sleep(0)
        control.let.set()
        assert (await one)["uid"] == 2
        assert sum(task.done() for task in many) < 400
        await asyncio.gather(*many)
        assert all(len(batch) <= MAX_BATCH for batch in control.batches)

    run(story)


def test_what_waits_is_bounded_and_what_was_given_up_is_not_asked(monkeypatch):
    monkeypatch.setattr(asking, "MAX_WAITING", 40)

    async def story() -> None:
        control = Control()
        questions = Questions(control)
        first = [asyncio.create_task(questions.ask({"uid": 1})) for _ in range(4 * MAX_BATCH)]
        await asyncio.sleep(0.01)
        refused = [task for task in first if task.done()]
        assert refused and all(isinstance(task.exception(), GRPCError) for task in refused)
        for task in first:
            task.cancel()
        questions.gone("c")
        asked = sum(map(len, control.batches))
        last = asyncio.create_task(questions.ask({"uid": 1}))
        control.let.set()
        await last
        assert sum(map(len, control.batches)) == asked + 1 and control.gone == ["c"]

    run(story)


@pytest.mark.parametrize(
    ("error", "status"),
    [(Unavailable("away", remedy="r"), Status.UNAVAILABLE), (InvalidInput("wrong", remedy="r"), Status.INVALID_ARGUMENT)],
)
def test_a_control_plane_that_fails_fails_each_question_of_the_batch(error, status):
    async def story() -> None:
        control = Control()
        control.error = error
        control.let.set()
        questions = Questions(control)
        made = await asyncio.gather(*(questions.ask({"uid": 1}) for _ in range(5)), return_exceptions=True)
        assert [one.status for one in made] == [status] * 5
        control.error = None
        assert (await questions.ask({"uid": 1}))["ok"]

    run(story)


def test_unknown_codes_are_denials():
    assert status_of("something new") is Status.PERMISSION_DENIED
    assert status_of("gone") is Status.UNAVAILABLE
    assert status_of("audience") is Status.INVALID_ARGUMENT


def test_the_state_is_kept_where_it_cannot_be_renewed_and_told_only_when_it_differs():
    async def story() -> None:
        control = Control()
        known = Known(control)
        told = []
        known.on_change = lambda: told.append(known.version)
        control.error = Unavailable("away", remedy="r")
        control.let.set()
        with pytest.raises(GRPCError):
            await known.get()
        control.error = None
        assert await known.get() == {"n": 0}
        await known.renew()
        assert told == []
        control.state["n"] = 1
        await known.renew()
        assert told == [known.version] and await known.get() == {"n": 1}
        control.error = Unavailable("away", remedy="r")
        await known.renew()
        assert await known.get() == {"n": 1}

    run(story)


def test_renewals_lie_between_45_and_50_percent_and_not_all_at_once():
    began = time.monotonic()
    moments = [renew_at(1_000_000) - began for _ in range(500)]
    assert 449 < min(moments) < 460 and 490 < max(moments) < 501


def test_what_failed_is_asked_again_as_it_was_and_later_each_time(monkeypatch):
    monkeypatch.setattr(live, "RETRY_FIRST_SECONDS", 0.01)

    async def story() -> None:
        one = Live(None)
        one.wake("check")
        assert await one.next(None) == {"check"}
        pauses = []
        for _ in range(12):
            pauses.append(one.later({"check"}) - time.monotonic())
        assert pauses[0] <= 0.01 and max(pauses) <= live.RETRY_MOST_SECONDS and pauses[-1] > 10 * pauses[0]
        assert await one.next(time.monotonic()) == {"check"}
        assert await one.next(time.monotonic()) == {"rotate"}
        one.wake("state", after=0.01)
        assert await one.next(time.monotonic() + 5) == {"state"}

    run(story)


@pytest.mark.parametrize("data", [b"\x30", b"\x30\x82\x01", b"\x30\x05abc", b"\x30\x85\x00\x00\x00\x00\x01a", b"\x30\x03abc\x30"])
def test_certificates_that_are_cut_off_are_refused(data):
    with pytest.raises(InvalidInput):
        split_der(data)


def test_certificates_are_taken_apart():
    assert split_der(b"\x30\x03abc\x30\x00") == [b"\x30\x03abc", b"\x30\x00"]
    assert split_der(b"") == []

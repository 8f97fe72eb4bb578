from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from asgi_servers import ENDPOINT, NOW, Control
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.integrations import leases
from vouchgate.integrations.leases import FramesSource, hold, wall_ms
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.leased import InProcessCall, LeasedMap
from vouchgate.vocabulary.wire import decode, encode

Make = Callable[..., LeasedMap]


def call(seq: int, *, allowed: bool = True) -> InProcessCall:
    return InProcessCall(at=NOW, seq=seq, instance="i", request_id=f"i-{seq:x}", allowed=allowed)


def until(true: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


@given(
    st.builds(call, st.integers(1, 2**40), allowed=st.booleans()) | st.builds(
        LeasedMap, trust_domain=st.just("test.local"), endpoint=st.just(ENDPOINT), epoch=st.integers(0, 2**50), now=st.just(NOW),
        lease_ms=st.integers(-1, 10**6), revoked=st.lists(st.text(max_size=20)).map(tuple), bundle=st.binary(max_size=50),
    )
)  # fmt: skip
def test_round_trip(noun: InProcessCall | LeasedMap) -> None:
    assert decode(type(noun), encode(noun)) == noun


def test_lease_counts_from_the_question(leased: Make) -> None:
    held = hold(leased(lease_ms=1_000), None, asked_ns=7_000_000_000)
    assert held.until_ns == 8_000_000_000
    assert hold(leased(lease_ms=-5), None, asked_ns=7).until_ns == 7


def test_older_epoch_and_other_endpoint_are_refused(leased: Make) -> None:
    held = hold(leased(epoch=5), None, asked_ns=0)
    with pytest.raises(InvalidInput):
        hold(leased(epoch=4), held, asked_ns=0)
    with pytest.raises(InvalidInput):
        hold(leased(epoch=6, endpoint=ENDPOINT + "2"), held, asked_ns=0)


def test_heartbeat_keeps_the_map_and_any_other_change_replaces_it(leased: Make) -> None:
    held = hold(leased(), None, asked_ns=0)
    renewed = hold(leased(now=NOW + 500, lease_ms=99), held, asked_ns=1)
    assert renewed.leased is held.leased and renewed.until_ns == 99_000_001
    assert hold(leased(bearer=False), held, asked_ns=1).leased is not held.leased


def test_time_never_goes_back_with_a_control_plane_that_does(leased: Make) -> None:
    held = hold(leased(now=NOW + 60_000), None, asked_ns=0)
    back = hold(leased(now=NOW), held, asked_ns=0)
    at = time.monotonic_ns()
    assert wall_ms(back, at) >= wall_ms(held, at)


def test_frames_source_follows_and_delivers(control: Control, leased: Make) -> None:
    control.put(leased())
    source = FramesSource(control.path, ENDPOINT).start()
    assert until(lambda: source.current() is not None)
    for seq in range(1, 1_201):
        source.record(call(seq))
    assert until(lambda: len(control.calls) == 1_200)
    assert [entry["seq"] for entry in control.calls] == list(range(1, 1_201))
    control.put(leased(epoch=2))
    assert until(lambda: (held := source.current()) is not None and held.leased.epoch == 2)
    source.close()


def test_lease_is_renewed_by_every_answer_and_lapses_when_answers_stop(control: Control, leased: Make) -> None:
    control.put(leased(lease_ms=900))
    source = FramesSource(control.path, ENDPOINT).start()
    assert until(lambda: source.current() is not None)
    first = source.current()
    assert first and until(lambda: source.current().until_ns > first.until_ns)  # type: ignore[union-attr]
    control.stop()
    last = source.current()
    assert last and until(lambda: time.monotonic_ns() > last.until_ns) and source.current() is not None
    assert source.current().until_ns <= last.until_ns + 900_000_000  # type: ignore[union-attr]
    assert until(lambda: source.trouble != "")
    source.close()


def test_record_that_is_refused_is_kept_then_stops_the_point(control: Control, leased: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RECORD_LAG_SECONDS", 0.5)
    control.put(leased())
    control.refuse_record = True
    source = FramesSource(control.path, ENDPOINT).start()
    assert source.can_record()
    source.record(call(1))
    assert until(lambda: not source.can_record())
    control.refuse_record = False
    assert until(source.can_record)
    assert [entry["seq"] for entry in control.calls] == [1]
    source.close()


def test_full_queue_stops_the_point_and_refusals_are_counted(leased: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MAX_UNSENT_CALLS", 10)
    source = FramesSource(Path("/nowhere.sock"), ENDPOINT)
    for seq in range(1, 11):
        source.record(call(seq))
    assert not source.can_record()
    for seq in range(11, 21):
        source.record(call(seq, allowed=False))
    assert source.lost == 10


@pytest.mark.parametrize("answer", [b"", b"\0\0\0\1x", b"\xff\xff\xff\xff", b"\0\0\0\3\x93\x01\xc3", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_control_plane_that_talks_nonsense_gives_no_map(control: Control, answer: bytes) -> None:
    path = control.path.with_name("bad.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)

        def speak() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(4096)
                    peer.sendall(answer)

        threading.Thread(target=speak, daemon=True).start()
        source = FramesSource(path, ENDPOINT).start()
        assert until(lambda: source.trouble != "") and source.current() is None
        source.close()
        listener.shutdown(socket.SHUT_RDWR)

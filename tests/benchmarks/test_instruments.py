"""The instruments: they count what they say, and see what is wrong. Nothing here is timed but the delay server's own delay."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from benchmarks.load import delay_server, generator, product
from benchmarks.load.client import BadAnswer, Connection, Target, length_of, request, statuses
from benchmarks.load.credentials import Credentials, Probe
from benchmarks.load.links import Link, Loop
from benchmarks.load.prober import Seen, note, percentile
from benchmarks.load.rounds import Table, added, estimate, interleave, ratio
from benchmarks.load.stack import INFER, Stack, free_port, start_models
from benchmarks.load.usage import CpuMeter, cpu_ns, memory, tree
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import gateway
from vouchgate.vocabulary.settings_file import parse_settings


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as made:
        start_models(made)
        yield made


def test_delay_is_never_shorter_than_said_and_the_answer_is_whole(stack: Stack) -> None:
    for delay in ("0", "5", "50"):
        connection = Connection(stack.targets[f"direct/{delay}"])
        for _ in range(3):
            took, answer = connection.call()
            assert took >= int(delay) * 1_000_000 and answer.status == 200 and answer.body == delay_server.BODY
        connection.close()


def test_burning_model_spends_its_delay_on_the_processor(stack: Stack) -> None:
    pid = stack.roles["model"][0]
    connection = Connection(stack.targets["direct/burn"])
    before = cpu_ns(pid)
    for _ in range(4):
        connection.call()
    assert cpu_ns(pid) - before >= 4 * 5_000_000
    connection.close()


def test_request_that_comes_in_pieces_is_answered_once(stack: Stack) -> None:
    target = stack.targets["direct/0"]
    with socket.create_connection(target.address, 5) as sock:
        for at in range(0, len(target.request), 97):
            sock.sendall(target.request[at : at + 97])
            time.sleep(0.001)
        assert sock.recv(65536) == delay_server.ANSWER


def test_stream_goes_on_until_the_reader_leaves(stack: Stack) -> None:
    with socket.create_connection(stack.targets["direct/0"].address, 5) as sock:
        sock.sendall(request("/v1/chat/completions"))
        data = b""
        while data.count(b"data: ") < 3:
            data += sock.recv(65536)
        assert b"text/event-stream" in data


def test_interleaved_rounds_count_every_call(stack: Stack) -> None:
    targets = {"a": stack.targets["direct/0"], "b": stack.targets["direct/5"]}
    meter = CpuMeter(stack.roles)
    table = interleave(targets, rounds=3, calls=4, warm=2, around=meter.around)
    assert table.calls == {"a": 18, "b": 18} and table.failures == {"a": 0, "b": 0}
    assert len(table.column("b")) == 3 and min(table.column("b")) >= 5_000
    assert ratio(table, "b", "a").value > 1 and added(table, "b", "a").value > 0
    assert set(meter.spent) == {"a", "b"} and all(spent["model"] > 0 for spent in meter.spent.values())


def test_round_with_a_refusal_is_left_out_and_counted(stack: Stack) -> None:
    refusing = _refusing_target()
    table = interleave({"good": stack.targets["direct/0"], "bad": refusing}, rounds=2, calls=2, warm=1)
    assert table.failures == {"good": 0, "bad": 6} and table.column("bad") == [] and len(table.column("good")) == 2
    assert table.paired("bad", "good") == []
    with pytest.raises(ValueError, match="no round"):
        ratio(table, "bad", "good")


def _refusing_target() -> Target:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            while peer.recv(65536):
                peer.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    return Target(name="refusing", address=listener.getsockname(), request=b"GET / HTTP/1.1\r\n\r\n")


def test_nobody_there_is_no_status() -> None:
    assert statuses(Target(name="nobody", address=("127.0.0.1", free_port()), request=b"x")) == [0]


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"])
def test_answer_without_a_length_is_not_measured(head: bytes) -> None:
    with pytest.raises(BadAnswer):
        length_of(head)


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=20))
def test_estimate_lies_in_its_interval(values: list[float]) -> None:
    found = estimate(values)
    assert min(values) <= found.low <= found.value <= found.high <= max(values) and found.n == len(values)


def test_ratio_is_taken_within_a_round() -> None:
    table = Table(rounds=[{"a": 2e3 * slow, "b": 1e3 * slow} for slow in (1, 7, 90)])
    assert ratio(table, "a", "b").value == 2.0 and ratio(table, "a", "b").high == 2.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_percentile_covers_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert percentile(values, 1.0) == max(values)


def test_percentile_99_of_1000_is_the_990th() -> None:
    assert percentile([float(value) for value in range(1, 1001)], 0.99) == 990.0


def seen(*answers: tuple[int, int]) -> Seen:
    made = Seen(name="x", t0_ns=1_000_000, last_allowed_ns=0)
    for status, at in answers:
        note(made, status, at)
    return made


def test_enforcement_is_the_last_allowed_answer() -> None:
    assert seen((200, 2_000_000), (200, 4_000_000), (403, 5_000_000)).enforced_ms == 3.0
    assert seen((200, 2_000_000), (403, 5_000_000)).refused_ms == 4.0
    assert seen((200, 900_000), (403, 2_000_000)).enforced_ms == 0.0
    assert seen((403, 2_000_000)).enforced_ms == 0.0


def test_allowed_after_a_refusal_is_late_and_moves_the_value() -> None:
    late = seen((200, 2_000_000), (403, 3_000_000), (200, 51_000_000), (403, 52_000_000))
    assert late.late == 1 and late.enforced_ms == 50.0 and late.refused_ms == 2.0


def test_never_refused_is_infinite_and_a_closed_connection_refuses() -> None:
    assert seen((200, 2_000_000)).refused_ms == float("inf")
    assert seen((-1, 3_000_000)).refused_ms == 2.0


@pytest.mark.parametrize(
    ("probe", "count"),
    [
        (Probe(200, 403, 401), 0), (Probe(200, 403, 403), 0), (Probe(200, 403, 0), 0), (Probe(200, 200, 200), 2), (Probe(200, 403, 200), 1),
        (Probe(200, 503, 401), 1), (Probe(503, 403, 401), 1), (Probe(0, 0, 0), 2), (Probe(200, 404, 401), 1), (Probe(200, 401, 401), 1),
    ],
)  # fmt: skip
def test_protection_is_judged_by_three_callers(probe: Probe, count: int) -> None:
    assert len(probe.faults()) == count


@pytest.mark.parametrize(("made", "held", "found"), [(10, 10, 0), (10, 9, 1), (10, 11, 1), (0, 0, 0), (10, 0, 1)])
def test_record_must_hold_every_call_once(made: int, held: int, found: int) -> None:
    assert len(gateway.record_faults("x", made, held)) == found


def test_goals_name_rows_that_exist() -> None:
    for name, base, delay, _ in gateway.GOALS:
        assert {name, base} <= set(gateway.SAID) and delay in gateway.FULL.calls
    assert {row for rows in gateway.FAMILIES.values() for row in rows} <= set(gateway.SAID)


def test_settings_of_the_measured_installation_are_valid(tmp_path: Path) -> None:
    class Held:
        directory = tmp_path

    made = product.Product(Held(), {"0": "/run/d0.sock", "5": "/run/d5.sock"})  # type: ignore[arg-type]
    path = tmp_path / "vg" / "vouchgate.toml"
    settings = parse_settings(path.read_text(), path)
    assert {endpoint.name for endpoint in settings.endpoints} == {"d0", "d5", "e0", "e5", "chat"}
    assert made.port and settings.audit == type(settings.audit)() and settings.gateway.concurrency == 1


def test_callers_of_the_peers_are_what_they_say(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    assert credentials.token() != credentials.token()
    assert credentials.context("allowed").get_ca_certs() and Path(credentials.file("allowed.key")).stat().st_mode & 0o077 == 0
    assert len(credentials.leased_map(INFER).grants) == 2


def test_link_reads_answers_that_come_in_pieces_and_sees_the_end(stack: Stack) -> None:
    here, there = socket.socketpair()
    loop, link = Loop(), Link(here, "pair")
    loop.add(link)
    assert link.idle
    link.send(b"GET / HTTP/1.1\r\n\r\n")
    assert not link.idle
    for part in (b"HTTP/1.1 403 Forbidden\r\nContent-", b"Length: 3\r\n\r\na", b"bc"):
        there.sendall(part)
        _, done = loop.turn()
    assert done == [link] and link.status == 403 and link.body == b"abc" and link.idle
    there.close()
    assert loop.turn()[1] == [link] and link.status == -1 and not link.idle
    loop.close()


def test_ticks_come_and_are_counted_once() -> None:
    loop = Loop(0.001)
    assert sum(loop.turn()[0] for _ in range(20)) == 20
    loop.close()


def test_generator_answers_for_what_it_sent(stack: Stack, tmp_path: Path) -> None:
    host, port = stack.targets["direct/0"].address
    out = tmp_path / "counts.json"
    data = request(INFER, body=b'{"name":"' + generator.COUNTER + b'"}')
    asked = msgspec.json.decode(
        generator.spec(data, out=str(out), host=host, port=port, connections=2, per_second=200.0, counted=True), type=generator.Spec
    )
    made = generator.Generator(asked)
    assert b"00000001" in made._next() and len(made._next()) == len(data)
    threading.Timer(0.5, lambda: setattr(made, "running", False)).start()
    made.run()
    made.tell()
    counts = msgspec.json.decode(out.read_bytes(), type=generator.Counts)
    assert set(counts.answers) == {"200"} and 50 <= counts.answers["200"] <= 120


def test_own_process_tree_is_seen() -> None:
    assert os.getpid() in tree(os.getpid()) and memory(os.getpid()).pss > 0 and cpu_ns(os.getpid()) > 0
    assert memory(2**22 + 1).rss == 0 and cpu_ns(2**22 + 1) == 0

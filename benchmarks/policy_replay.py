"""`make bench-replay`: a million different recorded decisions under two versions of a policy, read from a file, on one core.

Rules (contracts, "Figures cannot be bent")
1. Records are different in pairs: caller, thing, time and address; the file is written beforehand and read within the measured time, as
   `vouchgate policy replay` does. Both versions have 1,000 scoped policies, of which every tenth reads the hour; the new one lowers the risk at which they end
   and drops every hundredth.
2. The answer is compared with deciding a sample of the records one by one, with nothing shared; one difference fails the run.
3. Without sharing (`one by one`) is measured beside, and so is cedarpy over the same questions: what the sharing is worth, and what it is not.
4. Null: the same policy twice changes nothing. Sabotage: a new version that lost one forbid must be found to let somebody gain, and classes of callers that
   ignore their groups (what a wrong index would do) must be found by rule 2.

Usage: python -m benchmarks.policy_replay [--quick]
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rows import Row, emit, exit_code, median_interval
from vouchgate.policy import catalog
from vouchgate.policy.classes import Classes
from vouchgate.policy.compile import CompiledPolicies, Request, ask_cedar, compile_policies
from vouchgate.policy.facts import put_artifact, put_endpoint, put_principal
from vouchgate.policy.load import Source
from vouchgate.policy.recorded import End, Header, Recorded, RecordedLog, write_end, write_header, write_records
from vouchgate.policy.replay import Replay, context_of, decide_recorded, uid_of_resource
from vouchgate.policy.values import Uid
from vouchgate.policy.world import Evidence, Held, World
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, resource_id
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.principals import Principal
from vouchgate.vocabulary.vouches import UnixMillis

TD = "bench.local"
RECORDS, QUICK_RECORDS = 1_000_000, 100_000
GOAL_SECONDS = 15.0
CALLERS, THINGS, POLICIES = 10_000, 200, 1_000
START = 1_790_000_000_000
CHUNK = 4 * 1024 * 1024
FORBID = '@id("no-late") forbid (principal, action == Action::"infer", resource) when { context.risk >= 30 };'


def policies(risk: int, *, drop: int = 0, forbid: bool = True) -> CompiledPolicies:
    texts = [FORBID] if forbid else []
    for number in range(POLICIES):
        if drop and number % drop == 0:
            continue
        hour = " && context has hour && context.hour < 20" if number % 10 == 0 else ""
        texts.append(
            f'@id("p{number}") permit (principal in Group::"team-{number}", action in [Action::"infer", Action::"chat"], '
            'resource is Endpoint in Zone::"serve") when { resource has model && resource.model.vouches.containsAll(["scan", "structure"]) && '
            f'resource.vouches.contains("serves@rederived") && context.risk < {risk}{hour} }};'
        )
    return compile_policies(catalog.load([Source("bench.cedar", "\n".join(texts))]))


def world() -> World:
    made, late = World(), UnixMillis(2**50)
    for number in range(CALLERS):
        put_principal(made, Principal(id=PrincipalId(caller(number)), groups=(f"team-{number % POLICIES}", "staff")))
    for number in range(THINGS):
        digest = f"sha256:{number:064x}"
        endpoint = Endpoint(
            id=resource_id(thing(number)), trust_domain=TrustDomain(TD), zone="serve", upstream="unix:/x", routes=(), model_digest=digest
        )
        put_endpoint(made, endpoint, Evidence((Held("serves", "v1", "verified", late),)))
        held = (Held("scan", "v2", "verified", late), Held("structure", "v3", "verified", late))
        put_artifact(made, f"vg://{TD}/artifact/{digest}", Evidence(held if number % 5 else held[:1]))
    return made


def caller(number: int) -> str:
    return f"spiffe://{TD}/service/serve/caller-{number}"


def thing(number: int) -> str:
    return f"vg://{TD}/endpoint/e{number}"


def records(count: int) -> Iterator[list[Recorded]]:
    """Rule 1; no two have the same caller, thing and time."""
    chance, some = random.Random(1), []
    for number in range(count):
        who, what = chance.randrange(CALLERS), chance.randrange(THINGS)
        some.append(
            Recorded(
                time=START + number * 600, principal=caller(who), action="infer", resource=thing(what), risk=chance.choice((0, 0, 0, 5, 25, 35, 55)),
                effect="allow" if what % 5 else "deny", source_ip=f"10.{who % 250}.{what}.{number % 250 + 1}", method="POST", path="/predict",
                by=(f"p{who % POLICIES}",), decision=f"{number:032x}",
            )
        )  # fmt: skip
        if len(some) == 5_000:
            yield some
            some = []
    yield some


def written(path: Path, count: int) -> int:
    with path.open("wb") as file:
        file.write(write_header(Header(trust_domain=TD, not_recorded=())))
        for some in records(count):
            file.write(write_records(some))
        file.write(write_end(End(records=count)))
    return path.stat().st_size


def chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def run(path: Path, place: World, old: CompiledPolicies, new: CompiledPolicies) -> tuple[float, Replay]:
    """(seconds of one core, from the file to the outcome; what answered)"""
    gc.collect()
    begin = time.process_time()
    replay, log = Replay(place, old, new), RecordedLog(chunks(path), TD)
    for batch in log.batches():
        replay.take(batch)
    replay.outcome()
    assert not log.cut_off
    return time.process_time() - begin, replay


def sample(path: Path, each: int) -> list[Recorded]:
    """A few of every batch, so that all of the file is represented."""
    chance = random.Random(2)
    return [one for batch in RecordedLog(chunks(path), TD).batches() for one in chance.sample(batch, min(each, len(batch)))]


def differences(replay: Replay, asked: Sequence[Recorded], place: World, old: CompiledPolicies, new: CompiledPolicies) -> int:
    """Rule 2."""
    return sum(replay.verdicts(one) != (decide_recorded(old, place, one), decide_recorded(new, place, one)) for one in asked)


def one_by_one(asked: Sequence[Recorded], place: World, old: CompiledPolicies, new: CompiledPolicies) -> float:
    """Microseconds of one core for each record, nothing shared."""
    replay = Replay(place, old, new, shared=False)
    begin = time.process_time()
    replay.take(asked)
    return (time.process_time() - begin) * 1e6 / len(asked)


def by_cedar(asked: Sequence[Recorded], place: World, both: Sequence[CompiledPolicies]) -> tuple[float, int]:
    """(microseconds of one core for each record under both versions, effects that differ from ours)"""
    found, begin = [], time.process_time()
    for one in asked:
        request = Request(Uid("Principal", one.principal), Uid("Action", one.action), uid_of_resource(one.resource), context_of(one))
        found.append([ask_cedar(of.cedar_handle, request, place, of.source.schema, of.named).allowed for of in both])
    took = (time.process_time() - begin) * 1e6 / len(asked)
    wrong = sum(
        said[number] != (decide_recorded(of, place, one).effect == "allow")
        for one, said in zip(asked, found, strict=True)
        for number, of in enumerate(both)
    )
    return took, wrong


class Blind(Classes):
    """Sabotage: callers are told apart by their type alone."""

    def of_principal(self, uid: Uid) -> int:
        return 1


def blinded(path: Path, place: World, old: CompiledPolicies, new: CompiledPolicies, asked: Sequence[Recorded]) -> int:
    """Differences that rule 2 finds in an engine that takes all callers for one."""
    replay = Replay(place, old, new)
    replay._classes = Blind(place, old, new)
    replay.take(asked)
    return differences(replay, asked, place, old, new)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_replay")
    parser.add_argument("--quick", action="store_true", help="a tenth of the records; not for figures")
    quick = parser.parse_args(arguments).quick
    count, rounds = (QUICK_RECORDS, 2) if quick else (RECORDS, 3)
    place, old, new, lost = world(), policies(60), policies(50, drop=100), policies(60, forbid=False)
    with tempfile.TemporaryDirectory(prefix="vg") as folder:
        path = Path(folder) / "log.jsonl"
        size = written(path, count)
        took, walls = [], []
        for _ in range(rounds):
            begin = time.perf_counter()
            seconds, replay = run(path, place, old, new)
            took.append(seconds)
            walls.append(time.perf_counter() - begin)
        outcome, asked = replay.outcome(), sample(path, 10 if quick else 4)
        wrong = differences(replay, asked, place, old, new)
        same = run(path, place, old, policies(60))[1].outcome()
        loosened = run(path, place, old, lost)[1].outcome()
        alone = [one_by_one(asked, place, old, new) for _ in range(rounds)]
        cedar, disagreed = by_cedar(asked[:40], place, (old, new))
        blind = blinded(path, place, old, new, asked)
    seconds, (low, high) = statistics.median(took), median_interval(took)
    note = f"{count:,} records of {size / count:.0f} bytes, parsing included; {outcome.lost:,} lose, {outcome.gained:,} gain; {replay.decided:,} questions"
    rows = [
        Row(name="replay: a million records, two versions of 1,000 policies, one core", value=seconds, unit="s", goal=f"<= {GOAL_SECONDS:g}",
            met=None if quick else high <= GOAL_SECONDS, n=rounds, interval=(low, high), note=note),
        Row(name="replay: the same by the clock on the wall", value=statistics.median(walls), unit="s", n=rounds),
        Row(name="replay: records a second of one core", value=count / statistics.median(took), unit="1/s", n=rounds),
        Row(name="replay: one by one, nothing shared", value=statistics.median(alone), unit="us", n=rounds, interval=median_interval(alone),
            note="for each record under both versions, first sight of nearly every cell"),
        Row(name="replay: cedarpy, both versions", value=cedar, unit="us", n=40, note="parsed policies and entities kept"),
        Row(name="replay: effects equal to cedarpy's", value=80 - disagreed, unit="answers", goal="80", met=disagreed == 0, n=80),
        Row(name="replay: shared answers equal to deciding one by one", value=len(asked) - wrong, unit="records", goal=str(len(asked)),
            met=wrong == 0, n=len(asked)),
        Row(name="replay: null, the same policy twice", value=count - same.same, unit="changes", goal="0", met=same.same == count, n=count),
        Row(name="replay: sabotage, a lost forbid is found", value=loosened.gained, unit="gains", goal="> 0",
            met=loosened.gained > 0 and loosened.lost == 0, n=count),
        Row(name="replay: sabotage, classes that ignore groups are found", value=blind, unit="differences", goal="> 0", met=blind > 0, n=len(asked)),
    ]  # fmt: skip
    emit("replay", rows)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())

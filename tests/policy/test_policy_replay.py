"""Recorded decisions under two versions: equal to deciding one by one, honest about what is not known, and clear about every bad file."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_world import (
    ACTIONS,
    ARTIFACT,
    BATCH,
    CALLER,
    ENDPOINT,
    ONSITE,
    PEOPLE,
    STRANGER,
    THINGS,
    compiled,
    good_world,
    policy_texts,
    raw,
    spine,
    worlds,
)

from vouchgate.policy.catalog import schema_text
from vouchgate.policy.classes import UNKNOWN, Classes
from vouchgate.policy.compile import CompiledPolicies, evaluate
from vouchgate.policy.compile import Request as Asked
from vouchgate.policy.facts import REQUEST_FACTS, principal_uid, put_endpoint, resource_uid
from vouchgate.policy.recorded import (
    MAX_LINE_BYTES,
    End,
    Header,
    Recorded,
    RecordedLog,
    hour_of,
    weekday_of,
    write_end,
    write_header,
    write_records,
)
from vouchgate.policy.replay import Replay, decide_recorded, kind_of
from vouchgate.policy.values import Uid
from vouchgate.policy.world import World
from vouchgate.vocabulary.answers_policy import ReplayOutcome
from vouchgate.vocabulary.errors import InvalidInput, Unsupported, VouchgateError

MONDAY_9 = 1_790_000_000_000 - 1_790_000_000_000 % (7 * 86_400_000) + 4 * 86_400_000 + 9 * 3_600_000
EVERYTHING = settings(deadline=None, suppress_health_check=list(HealthCheck))
IN = 'principal, action == Action::"infer", resource'


def record(**changes: Any) -> Recorded:
    return Recorded(**({"time": MONDAY_9, "principal": CALLER, "action": "infer", "resource": ENDPOINT} | changes))


def replayed(
    old: CompiledPolicies, new: CompiledPolicies, records: Iterable[Recorded], *, world: World | None = None, **options: Any
) -> ReplayOutcome:
    made = Replay(world or good_world(), old, new, **options)
    made.take(records)
    return made.outcome()


def file_of(*records: Recorded, end: End | None = None, **header: Any) -> bytes:
    return write_header(Header(trust_domain="test.local", **header)) + write_records(records) + write_end(end or End(records=len(records)))


def read(data: bytes, size: int = 64, **options: Any) -> tuple[RecordedLog, list[Recorded]]:
    log = RecordedLog([data[at : at + size] for at in range(0, len(data), size)], **options)
    return log, [one for batch in log.batches() for one in batch]


# -- the file


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_a_file_reads_back_whatever_the_size_of_its_pieces(size: int) -> None:
    written = [record(risk=number, source_ip="10.0.0.1", by=("a",), actors=("b",)) for number in range(20)]
    log, found = read(file_of(*written), size)
    assert found == written
    assert not log.cut_off
    assert log.end == End(records=20)


@pytest.mark.parametrize("lost", range(1, 400, 7))
def test_a_file_that_was_cut_off_says_so_and_gives_what_is_whole(lost: int) -> None:
    data = file_of(*[record(risk=number) for number in range(5)])
    try:
        log, found = read(data[:-lost])
    except InvalidInput as error:
        assert "no recorded decisions" in error.reason
        return
    assert log.cut_off or lost == 1
    assert [one.risk for one in found] == list(range(len(found)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no recorded decisions"),
        (b"\x00\xff\xfe", "no recorded decisions"),
        (b"[]\n", "no recorded decisions"),
        (b"{}\n", "no recorded decisions"),
        (b'{"format":"vouchgate/recorded-decisions"}\n', "no recorded decisions"),
        (b'{"format":"other/log","version":1}\n', "no recorded decisions"),
        (b"x" * 10 * MAX_LINE_BYTES, "no recorded decisions"),
        (b"[" * 60_000 + b"\n", "no recorded decisions"),
        (b'{"format":"vouchgate/recorded-decisions","version":1,"trust_domain":7}\n', "header"),
        (b'{"format":"vouchgate/recorded-decisions","version":1,"trust_domain":"test.local","more":1}\n', "header"),
        (file_of(record()) + b"more\n", "behind the end"),
        (file_of(record()) + file_of(record()), "behind the end"),
        (file_of(record(), end=End(records=9)), "says it holds 9"),
        (file_of(record()).replace(b'"action"', b'"acti0n"'), "line 2"),
        (write_header(Header(trust_domain="test.local")) + b'{"time":1}\n' + write_records([record()]), "line 2"),
        (write_header(Header(trust_domain="test.local")) + b"y" * 3 * MAX_LINE_BYTES, "over"),
    ],
)
def test_what_is_no_file_of_ours_is_refused_with_its_place(data: bytes, said: str) -> None:
    with pytest.raises(VouchgateError) as told:
        read(data, 4096)
    assert said in told.value.reason
    assert told.value.remedy


def test_another_version_of_the_format_is_refused_before_its_records() -> None:
    data = file_of(version=2) + b"what only version 2 can read\n"
    with pytest.raises(Unsupported, match="version 2") as told:
        read(data)
    assert "the vouchgate that wrote them" in told.value.remedy


def test_decisions_of_another_trust_domain_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"other\.local"):
        read(file_of(record()), trust_domain="other.local")


@given(st.binary(max_size=300), st.integers(0, 200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_records_or_a_typed_refusal(noise: bytes, at: int) -> None:
    data = file_of(record(), record(risk=3))
    for broken in (noise, data[:at] + noise + data[at:], data[:at] + noise):
        try:
            read(broken, 50)
        except VouchgateError as error:
            assert error.remedy


@pytest.mark.parametrize(
    ("time", "hour", "weekday"),
    [(0, 0, 4), (86_399_999, 23, 4), (4 * 86_400_000, 0, 1), (3 * 86_400_000 + 3_600_000, 1, 7), (MONDAY_9, 9, 1)],
)
def test_hour_and_weekday_are_those_of_the_time(time: int, hour: int, weekday: int) -> None:
    assert (hour_of(time), weekday_of(time)) == (hour, weekday)


# -- who gains, who loses


def test_who_loses_and_why() -> None:
    new = compiled(f'@id("few") permit ({IN}) when {{ principal in Group::"batch-callers" && context.risk < 60 }};')
    found = replayed(
        spine(), new, [record(decision="d1"), record(time=MONDAY_9 + 5, decision="d2"), record(principal=STRANGER, effect="deny")]
    )
    (one,) = found.losses
    assert (one.principal, one.action, one.resource, one.count, one.was, one.now) == (CALLER, "infer", ENDPOINT, 2, "allow", "deny")
    assert (one.first_at, one.last_at, one.example) == (MONDAY_9, MONDAY_9 + 5, "d1")
    assert one.because == "no longer permitted by `callers-may-infer`"
    assert (found.lost, found.same, found.gained, found.drifted) == (2, 1, 0, 0)


def test_who_gains_by_a_permit_and_by_a_forbid_that_is_gone() -> None:
    forbid = f'@id("no") forbid ({IN}) when {{ context.risk >= 10 }};'
    permit = f'@id("yes") permit ({IN}) when {{ context.risk < 60 }};'
    old, new = compiled(forbid, permit), compiled(permit)
    (one,) = replayed(old, new, [record(risk=20, effect="deny")]).gains
    assert one.because == "no longer forbidden by `no`, permitted by `yes`"
    (one,) = replayed(compiled(), new, [record(principal=STRANGER, effect="deny")]).gains
    assert one.because == "permitted by `yes`"
    (one,) = replayed(new, old, [record(risk=20)]).losses
    assert one.because == "forbidden by `no`"


def test_each_hour_is_decided_by_itself() -> None:
    night = [record(principal=BATCH, time=MONDAY_9 + hour * 3_600_000, effect="allow") for hour in range(24)]
    found = replayed(spine(), compiled(), night)
    assert found.lost == 8
    assert found.same == 16


def test_each_address_is_decided_by_itself() -> None:
    asked = [record(principal=ONSITE, source_ip=ip) for ip in ("10.1.2.3", "10.1.2.3", "192.0.2.1", "no address", "::ffff:10.0.0.9", None)]
    assert replayed(spine(), compiled(), asked).lost == 3


def test_a_fact_that_was_not_recorded_leaves_the_answer_open_and_one_that_was_absent_does_not() -> None:
    new = compiled(f'@id("p") permit ({IN}) when {{ context has purpose && context.purpose == "billing" && context.risk < 60 }};')
    unknown = replayed(compiled(), new, [record(effect="deny"), record(effect="deny", purpose="x")], not_recorded=frozenset({"purpose"}))
    assert (unknown.opened, unknown.same) == (1, 1)
    assert unknown.opens[0].because == "it depends on facts that were not recorded: `p`"
    assert replayed(compiled(), new, [record(effect="deny")]).opened == 0


def test_a_record_that_is_whole_leaves_nothing_open() -> None:
    new = compiled(f'@id("p") permit ({IN}) when {{ context has purpose && context.purpose == "billing" && context.risk < 60 }};')
    asked = [record(effect="deny", whole=whole, **more) for whole in (True, False) for more in ({}, {"purpose": "billing"})]
    found = replayed(compiled(), new, asked, not_recorded=frozenset({"purpose"}))
    assert (found.same, found.opened, found.gained) == (1, 1, 2)


def test_an_obligation_is_a_change_of_its_own() -> None:
    permit = f'@id("yes") permit ({IN}) when {{ context.risk < 60 }};'
    new = compiled(permit, f'@id("slow") @oblige("budget=5/minute") forbid ({IN});')
    found = replayed(compiled(permit), new, [record()])
    assert (found.bound, found.lost) == (1, 0)
    assert found.bounds[0].because == "carries budget=5/minute instead of nothing"


def test_what_changed_since_is_nobodys_loss() -> None:
    found = replayed(spine(), spine(), [record(), record(principal=STRANGER)], world=good_world(scan="expired"))
    assert (found.lost, found.gained, found.same, found.drifted) == (0, 0, 2, 2)
    assert {(one.recorded, one.today) for one in found.drifts} == {("allow", "deny")}
    assert "today no permit's evidence" in found.drifts[0].why


def test_what_a_zone_let_pass_while_it_observed_is_no_drift() -> None:
    assert replayed(spine(), spine(), [record(principal=STRANGER, observed=True)]).drifted == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"principal": "spiffe://test.local/service/serve/gone"},
        {"principal": ""},
        {"principal": "x" * 2_000},
        {"resource": "vg://test.local/endpoint/gone"},
        {"resource": ""},
        {"resource": "vg://test.local/secret/x"},
        {"resource": "vg://"},
        {"action": "levitate"},
        {"action": ""},
    ],
)
def test_a_name_that_is_not_known_is_denied_under_both_and_counted(changes: dict[str, Any]) -> None:
    everybody = compiled('@id("all") permit (principal, action, resource) when { context.risk < 90 };')
    found = replayed(compiled(), everybody, [record(effect="deny", **changes)])
    assert (found.gained, found.same, found.unknown_names, found.drifted) == (0, 1, 1, 0)


def test_a_caller_in_a_group_that_nobody_knows_is_denied() -> None:
    world = good_world()
    world.remove(Uid("Group", "callers"))
    everybody = compiled('@id("all") permit (principal, action, resource) when { context.risk < 90 };')
    assert replayed(compiled(), everybody, [record(effect="deny")], world=world).unknown_names == 1


# -- equal to one by one

RECORDS = st.lists(
    st.builds(
        record,
        principal=st.sampled_from((CALLER, STRANGER, BATCH, ONSITE)),
        action=st.sampled_from(("infer", "chat", "call", "read")),
        resource=st.sampled_from((ENDPOINT, ARTIFACT, "vg://test.local/endpoint/twin")),
        time=st.integers(0, 48).map(lambda hour: hour * 3_600_000),
        risk=st.sampled_from((0, 29, 30, 59, 60, 80, 100)),
        effect=st.sampled_from(("allow", "deny")),
        authenticated=st.booleans(),
        credential=st.sampled_from(("x509", "declared")),
        source_ip=st.sampled_from((None, "10.0.0.1", "192.0.2.1", "127.0.0.1")),
        usual_hour=st.sampled_from((None, True, False)),
        actors=st.sampled_from(((), ("spiffe://test.local/agent/a/b",))),
        whole=st.booleans(),
    ),
    min_size=1,
    max_size=30,
)
POLICIES = st.lists(
    st.sampled_from(
        (
            f"permit ({IN}) when {{ context.risk < 30 }};",
            'permit (principal in Group::"callers", action in Action::"use", resource is Endpoint) when { context.risk < 60 };',
            f'permit ({IN}) when {{ principal.name == "app" && context.risk < 60 }};',
            f'permit ({IN}) when {{ resource has model && resource.model.vouches.contains("scan") && context.risk < 60 }};',
            f"permit ({IN}) when {{ context has usual_hour && context.usual_hour && context.risk < 60 }};",
            f"permit ({IN}) when {{ context has hour && context.hour < 12 && context.risk < 60 }};",
            f'permit ({IN}) when {{ context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/8")) && context.risk < 60 }};',
            f'permit (principal == Principal::"{CALLER}", action, resource) when {{ context.risk < 60 }};',
            f'forbid (principal, action, resource == Endpoint::"{ENDPOINT}") when {{ context.risk >= 50 }};',
            'forbid (principal, action == Action::"chat", resource);',
            '@oblige("budget=5/minute") forbid (principal in Zone::"serve", action, resource);',
            "forbid (principal, action, resource) when { context.delegated };",
        )
    ),
    unique=True,
    max_size=6,
)


def named(texts: list[str]) -> CompiledPolicies:
    return _named(tuple(texts))


@functools.lru_cache(maxsize=256)
def _named(texts: tuple[str, ...]) -> CompiledPolicies:
    return raw("\n".join(f'@id("p{number}") {text}' for number, text in enumerate(texts)), schema_text())


def twins() -> World:
    world = good_world()
    from policy_world import endpoint, held

    from vouchgate.policy.world import Evidence

    twin = msgspec.structs.replace(endpoint(), id="vg://test.local/endpoint/twin")
    put_endpoint(world, twin, Evidence((held("serves"),)))
    return world


@given(POLICIES, RECORDS, st.sampled_from((frozenset[str](), frozenset({"usual_hour", "run"}))))
@settings(max_examples=40, deadline=None)
def test_the_same_policy_changes_nothing(texts: list[str], records: list[Recorded], not_recorded: frozenset[str]) -> None:
    policies = named(texts)
    found = replayed(policies, named(texts), records, world=twins(), not_recorded=not_recorded)
    assert found.same == len(records)
    assert not (found.gains or found.losses or found.opens or found.bounds)


@given(POLICIES, POLICIES, RECORDS, st.sampled_from((frozenset[str](), frozenset({"usual_hour", "run"}))))
@settings(max_examples=80, deadline=None)
def test_gains_and_losses_are_those_of_deciding_one_by_one(
    one: list[str], two: list[str], records: list[Recorded], not_recorded: frozenset[str]
) -> None:
    world, old, new = twins(), named(one), named(two)
    shared, alone = (replayed(old, new, records, world=world, not_recorded=not_recorded, shared=way) for way in (True, False))
    assert dataclasses.asdict(_counted(shared)) == dataclasses.asdict(_counted(alone))
    assert shared == alone
    kinds = [
        kind_of(decide_recorded(old, world, record, not_recorded), decide_recorded(new, world, record, not_recorded)) for record in records
    ]
    counted = (shared.same, shared.gained, shared.lost, shared.opened, shared.bound)
    assert counted == tuple(kinds.count(kind) for kind in ("same", "gains", "loses", "open", "bound"))
    assert sum(row.count for row in shared.gains) == shared.gained
    assert sum(row.count for row in shared.losses) == shared.lost


@dataclasses.dataclass
class _Counts:
    records: int
    same: int
    drifted: int
    unknown: int


def _counted(found: ReplayOutcome) -> _Counts:
    return _Counts(found.records, found.same, found.drifted, found.unknown_names)


@given(policy_texts(), policy_texts(), worlds())
@EVERYTHING
def test_what_one_class_is_told_all_of_it_is(one: str, two: str, world: World) -> None:
    """Every operator there is, over erring and ill-typed policies: members of one class get one answer from both sets."""
    sets = (raw(one), raw(two))
    classes = Classes(world, *sets)
    answers: dict[Any, Any] = {}
    for who in PEOPLE:
        for what in THINGS:
            principal, resource = classes.of_principal(who), classes.of_resource(what)
            if UNKNOWN in (principal, resource):
                continue
            for action in ACTIONS:
                said = [
                    (found.effect, found.determining, found.errors)
                    for found in (evaluate(policies, Asked(who, action, what), world) for policies in sets)
                ]
                assert answers.setdefault((principal, action, resource), said) == said


def test_what_no_policy_can_tell_apart_is_one_class_and_what_one_can_is_not() -> None:
    world = twins()
    digits, twin = resource_uid(ENDPOINT), resource_uid("vg://test.local/endpoint/twin")
    blind = Classes(world, spine())
    assert blind.of_resource(digits) == blind.of_resource(twin) != UNKNOWN
    assert blind.of_principal(principal_uid(CALLER)) != blind.of_principal(principal_uid(BATCH))
    seeing = Classes(world, compiled(f'@id("x") forbid (principal, action, resource == Endpoint::"{ENDPOINT}");'))
    assert seeing.of_resource(digits) != seeing.of_resource(twin)
    assert seeing.of_principal(principal_uid(CALLER)) == seeing.of_principal(principal_uid(STRANGER))


def test_a_million_equal_questions_are_one_decision() -> None:
    made = Replay(good_world(), spine(), compiled())
    made.take(record(time=MONDAY_9 + number, path=f"/{number}") for number in range(3_000))
    assert made.decided == 1
    assert made.outcome().lost == 3_000


def test_every_fact_of_a_request_can_be_recorded() -> None:
    assert set(Recorded.__struct_fields__) >= REQUEST_FACTS

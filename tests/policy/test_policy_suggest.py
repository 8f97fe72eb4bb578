"""Least privilege from what was used: it loads, grants what was used and what it says beside, and never what was excluded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_world import compiled

from vouchgate.policy import catalog
from vouchgate.policy.check import check
from vouchgate.policy.compile import CompiledPolicies, compile_policies
from vouchgate.policy.facts import put_artifact, put_asset, put_endpoint, put_principal
from vouchgate.policy.learn import EXCESS, Options, learn, unseen_share
from vouchgate.policy.load import Source, read
from vouchgate.policy.privilege import Grants, table
from vouchgate.policy.recorded import DAY_MS, HOUR_MS, Recorded
from vouchgate.policy.replay import decide_recorded
from vouchgate.policy.suggest import share_interval, suggest
from vouchgate.policy.suggest_text import clauses_of, comment, inside, quoted, window_of
from vouchgate.policy.usage import Usage, network_of
from vouchgate.policy.world import Evidence, Held, World
from vouchgate.vocabulary.answers_policy import Standing, Suggestion
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound
from vouchgate.vocabulary.names import PrincipalId, ResourceId, TrustDomain, resource_id
from vouchgate.vocabulary.places import Asset, Endpoint
from vouchgate.vocabulary.principals import Principal
from vouchgate.vocabulary.vouches import UnixMillis

START = 20_000 * DAY_MS
LATE = UnixMillis(2**50)
DIGEST = "sha256:" + "ab" * 32
TEAM = tuple(f"spiffe://test.local/service/serve/app-{number}" for number in range(6))
LONER = "spiffe://test.local/job/train/loner"
ALL = (*TEAM, LONER)
THINGS = tuple(f"vg://test.local/endpoint/e{number}" for number in range(4))
OUTSIDE = "vg://test.local/endpoint/outside"
SECRET = "vg://test.local/dataset/secret"
PLAIN = "vg://test.local/dataset/plain"
EVERYTHING = '@id("all") permit (principal, action in [Action::"use", Action::"move"], resource) when { context.risk < 80 };'


def world(*, things: tuple[str, ...] = THINGS) -> World:
    made = World()
    for name in TEAM:
        put_principal(made, Principal(id=PrincipalId(name), groups=("team",)))
    put_principal(made, Principal(id=PrincipalId(LONER), groups=("solo",)))
    put_artifact(
        made,
        f"vg://test.local/artifact/{DIGEST}",
        Evidence((Held("scan", "v2", "verified", LATE), Held("structure", "v3", "verified", LATE))),
    )
    for name in (*things, OUTSIDE):
        endpoint = Endpoint(
            id=resource_id(name), trust_domain=TrustDomain("test.local"), zone="serve", upstream="unix:/x", routes=(), model_digest=DIGEST,
            labels=("personal",) if name == OUTSIDE else (),
        )  # fmt: skip
        put_endpoint(made, endpoint, Evidence((Held("serves", "v1", "verified", LATE),)))
    put_asset(made, Asset(id=ResourceId(SECRET), zones=("train",), labels=("secret",)), Evidence())
    put_asset(made, Asset(id=ResourceId(PLAIN), zones=("train",)), Evidence((Held("scan", "v9", "verified", LATE),)))
    return made


def record(day: float, who: str = TEAM[0], thing: str = THINGS[0], action: str = "infer", **changes: Any) -> Recorded:
    wanted = {
        "time": int(START + day * DAY_MS),
        "principal": who,
        "action": action,
        "resource": thing,
        "source_ip": "10.1.2.3",
        "by": ("all",),
    }
    return Recorded(**(wanted | changes))


def usage_of(*records: Recorded) -> Usage:
    usage = Usage()
    usage.take(records)
    return usage


def daily(who: str, thing: str, days: int = 10, **changes: Any) -> list[Recorded]:
    return [record(day + 0.4, who, thing, **changes) for day in range(days)]


def suggested(*records: Recorded, of: World | None = None, policies: CompiledPolicies | None = None, **options: Any) -> Suggestion:
    standing = options.pop("standing", {})
    return suggest(usage_of(*records), of or world(), policies or compiled(EVERYTHING), standing, Options(**options))


def loaded(found: Suggestion) -> CompiledPolicies:
    return compile_policies(catalog.load([Source("s.cedar", found.text)]))


def allowed(found: Suggestion, who: str, thing: str, action: str = "infer", of: World | None = None, **changes: Any) -> bool:
    return decide_recorded(loaded(found), of or world(), record(20.5, who, thing, action, **changes)).effect == "allow"


# -- what is granted


def test_what_was_used_on_enough_days_is_granted_and_nothing_else() -> None:
    found = suggested(*daily(LONER, THINGS[0]), *daily(TEAM[0], THINGS[1]))
    assert (found.cells, found.granted, found.pooled) == (2, 2, 0)
    granted = {(who, thing) for who in ALL for thing in THINGS if allowed(found, who, thing)}
    assert granted == {(LONER, THINGS[0]), (TEAM[0], THINGS[1])}
    assert not allowed(found, LONER, THINGS[0], "chat")


def test_once_is_an_accident_unless_peers_bear_it_out() -> None:
    alone = suggested(*daily(TEAM[0], THINGS[0]), record(3, LONER, THINGS[1]))
    assert not allowed(alone, LONER, THINGS[1])
    (one,) = alone.left_out
    assert (one.why, one.principal, one.days, one.count) == ("too-few-days", LONER, 1, 1)
    assert "on 1 day, and no peer bears it out" in alone.text
    borne = suggested(*daily(TEAM[0], THINGS[0]), record(3, TEAM[1], THINGS[0]))
    assert allowed(borne, TEAM[1], THINGS[0])
    strangers = suggested(*daily(TEAM[0], THINGS[0]), record(3, LONER, THINGS[0]))
    assert not allowed(strangers, LONER, THINGS[0])


def test_two_who_were_seen_once_each_do_not_bear_each_other_out() -> None:
    found = suggested(record(1, TEAM[0], THINGS[0]), record(2, TEAM[1], THINGS[0]), *daily(LONER, THINGS[1]))
    assert not allowed(found, TEAM[0], THINGS[0])


def test_more_days_can_be_asked_for() -> None:
    records = daily(LONER, THINGS[0], 3)
    assert allowed(suggested(*records, min_days=3), LONER, THINGS[0])
    assert not allowed(suggested(*records, min_days=4), LONER, THINGS[0])


def test_what_most_of_a_group_used_is_the_groups_within_the_excess() -> None:
    everyday = [one for who in TEAM for thing in THINGS[:3] for one in daily(who, thing)]
    most = [one for who in TEAM[:5] for one in daily(who, THINGS[3])]
    found = suggested(*everyday, *most)
    assert allowed(found, TEAM[5], THINGS[3])
    assert found.pooled == 1
    assert found.granted / found.cells <= EXCESS
    assert 'principal in Group::"team"' in found.text
    few = suggested(*everyday, *[one for who in TEAM[:3] for one in daily(who, THINGS[3])])
    assert not allowed(few, TEAM[5], THINGS[3])
    narrow = suggested(*most)
    assert not allowed(narrow, TEAM[5], THINGS[3]), "one cell more for five used is more than the excess"


@given(st.lists(st.tuples(st.sampled_from(ALL), st.sampled_from((*THINGS, OUTSIDE)), st.integers(0, 9)), min_size=1, max_size=60),
       st.sets(st.sampled_from(ALL), max_size=2))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_it_loads_grants_what_it_says_and_nothing_to_the_excluded(uses: list[tuple[str, str, int]], revoked: set[str]) -> None:
    made, policies = world(), compiled(EVERYTHING)
    standing = {who: Standing(principal=who, revoked="lost") for who in revoked}
    usage = usage_of(*[record(day + 0.3, who, thing) for who, thing, day in uses])
    found = suggest(usage, made, policies, standing)
    text = loaded(found)
    begin, end = usage.first // DAY_MS * 24, usage.last // HOUR_MS + 1
    learned = learn(usage, made, policies.actions, standing, Options(), begin, end)
    zone_wide = "what is placed there later is in it too" in found.text
    for who in ALL:
        for thing in (*THINGS, OUTSIDE):
            says = decide_recorded(text, made, record(20.5, who, thing)).effect == "allow"
            assert says == ((who, "infer", thing) in learned.cells), (who, thing, zone_wide)
            if who in revoked or thing == OUTSIDE:
                assert not says
    for cell in learned.cells - learned.pooled:
        assert cell in usage.cells
    assert found.granted == len(learned.cells)
    assert not [one for one in check([Source("s.cedar", found.text)]) if one.severity == "error"]


def test_every_forbid_stays_word_for_word_and_permits_for_what_the_log_does_not_show() -> None:
    forbid = '@id("night") forbid (principal, action == Action::"infer", resource)\nwhen { context has hour && context.hour < 3 };'
    sign = '@id("signers") permit (principal in Group::"team", action == Action::"sign", resource) when { context.risk < 10 };'
    forbid = forbid.replace("context has hour && context.hour < 3", "context.risk >= 30")
    found = suggested(*daily(LONER, THINGS[0]), policies=compiled(EVERYTHING, forbid, sign))
    assert forbid in found.text
    assert sign in found.text
    assert found.kept == ("night", "signers")
    assert found.replaces == ("all",)
    assert not allowed(found, LONER, THINGS[0], risk=30)


NIGHT = """@id("night-shift")
permit (principal in Group::"team", action in Action::"use", resource is Endpoint in Zone::"serve")
when { context has hour && context.hour < 6 && context.risk < 20 } // ends; here
unless { principal.name == "app;)" };"""


def test_what_is_suggested_is_never_laxer_than_the_permit_that_it_narrows() -> None:
    policies = compiled(NIGHT.replace("unless { principal.name", "when { principal.name").replace('== "app;)"', '!= "app;)"'))
    records = [record(day + 0.1, who, thing) for who in TEAM for thing in THINGS for day in range(8)]
    found = suggested(*records, policies=policies, bounds=False)
    text, made = loaded(found), world()
    for who in ALL:
        for hour in (0, 5, 6, 12):
            for risk in (0, 19, 20, 59):
                asked = record(20, who, THINGS[0], hour=hour, risk=risk)
                assert decide_recorded(text, made, asked).effect == decide_recorded(policies, made, asked).effect
    left = world()
    put_principal(left, Principal(id=PrincipalId(TEAM[0]), groups=()))
    assert decide_recorded(text, left, record(20, TEAM[0], hour=1)).effect == "deny", "who left the group has lost what it had by it"


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("permit (principal, action, resource);", ""),
        ('@id("a(") permit (principal == Principal::"x)", action, resource) when { true };', "when { true }"),
        ('// when ) {\n@id("permit (") forbid(principal,action,resource)\nunless { context.a == ");" } ;', 'unless { context.a == ");" }'),
        ("nothing", ""),
    ],
)
def test_the_conditions_of_a_policy_are_found(text: str, clauses: str) -> None:
    assert clauses_of(text) == clauses


def test_a_comment_at_the_end_of_a_policy_swallows_nothing_of_what_is_suggested() -> None:
    kept = clauses_of('permit (principal, action, resource)\nwhen { context.risk < 10 } // not when "risky"\n;')
    made = f"permit (principal, action, resource)\n{kept};\n\npermit (principal, action, resource)\n{kept}\nunless {{ true }};"
    assert len(read([Source("s.cedar", made)], catalog.schema_text()).policies) == 2


def test_content_that_is_always_new_is_not_learned_from() -> None:
    importers = '@id("importers") permit (principal in Group::"solo", action in [Action::"import", Action::"admit"], resource is Artifact);'
    artifact = f"vg://test.local/artifact/{DIGEST}"
    found = suggested(*daily(LONER, artifact, action="admit"), *daily(LONER, THINGS[0]), policies=compiled(EVERYTHING, importers))
    assert found.kept == ("importers",)
    assert importers in found.text
    assert found.cells == 1


def test_what_a_replaced_permit_gave_beside_is_said() -> None:
    assert "Beside it all gave acts that are not learned" in suggested(*daily(LONER, THINGS[0])).text
    plain = '@id("plain") permit (principal, action in [Action::"use"], resource) when { context.risk < 80 };'
    assert "Beside it" not in suggested(*daily(LONER, THINGS[0]), policies=compiled(plain)).text


def test_a_permit_under_which_nothing_was_used_is_named() -> None:
    spare = '@id("spare") permit (principal in Group::"solo", action == Action::"chat", resource) when { context.risk < 10 };'
    assert suggested(*daily(TEAM[0], THINGS[0]), policies=compiled(EVERYTHING, spare)).unused == ("spare",)


def test_names_of_policies_that_stay_are_not_taken() -> None:
    taken = '@id("seen-001") forbid (principal, action == Action::"chat", resource);'
    assert loaded(suggested(*daily(LONER, THINGS[0]), policies=compiled(EVERYTHING, taken)))


# -- who and what is excluded


@pytest.mark.parametrize(
    "stands", [Standing(principal=TEAM[0], revoked="key lost"), Standing(principal=TEAM[0], risk=41, reasons=("denied burst",))]
)
def test_nothing_is_learned_from_a_caller_that_something_stands_against(stands: Standing) -> None:
    records = [one for who in TEAM for one in daily(who, THINGS[0])]
    found = suggested(*records, standing={TEAM[0]: stands})
    assert not allowed(found, TEAM[0], THINGS[0])
    assert allowed(found, TEAM[1], THINGS[0])
    assert [one.why for one in found.left_out] == ["excluded-caller"]
    assert found.later is not None and found.later.by_reason.keys() == {"excluded-caller"}
    assert found.later.left_to_person == found.later.denied


def test_risk_at_the_bound_is_learned_from() -> None:
    assert allowed(suggested(*daily(TEAM[0], THINGS[0]), standing={TEAM[0]: Standing(principal=TEAM[0], risk=40)}), TEAM[0], THINGS[0])


@pytest.mark.parametrize(
    ("thing", "action", "why"),
    [(OUTSIDE, "infer", "labelled personal"), (SECRET, "read", "labelled secret"), (PLAIN, "export", "the act `export`")],
)
def test_high_value_is_shown_to_a_person_and_not_granted(thing: str, action: str, why: str) -> None:
    records = daily(LONER, thing, action=action)
    found = suggested(*records, *daily(TEAM[0], THINGS[0]))
    assert not allowed(found, LONER, thing, action)
    assert [(one.why, one.detail) for one in found.left_out] == [("high-value", why)]
    ready = [line.strip("/ ") for line in found.text.splitlines() if "by-hand" in line]
    assert len(ready) == 1
    taken = compile_policies(catalog.load([Source("s.cedar", found.text + "\n" + ready[0])]))
    assert decide_recorded(taken, world(), record(20, LONER, thing, action)).effect == "allow"
    assert allowed(suggested(*records, high_value=True), LONER, thing, action)


def test_a_caller_that_is_gone_and_a_thing_that_is_gone_are_not_granted() -> None:
    found = suggested(
        *daily("spiffe://test.local/job/train/gone", THINGS[0]), *daily(LONER, "vg://test.local/endpoint/gone"), *daily(LONER, THINGS[0])
    )
    assert {one.why for one in found.left_out} == {"not-known"}
    assert found.granted == 1


def test_denied_requests_teach_nothing() -> None:
    with pytest.raises(InvalidInput, match="no allowed request"):
        suggested(record(1, effect="deny"), record(2, effect="deny"))


def test_where_nothing_in_force_allowed_it_the_evidence_that_holds_now_is_asked_for() -> None:
    found = suggested(*daily(LONER, THINGS[0]), *daily(LONER, PLAIN, action="read"), policies=compiled())
    assert 'resource.model.vouches.containsAll(["scan", "structure"])' in found.text
    assert 'resource.vouches.contains("serves@verified")' in found.text
    bare = world()
    put_endpoint(
        bare,
        Endpoint(id=resource_id(THINGS[0]), trust_domain=TrustDomain("test.local"), zone="serve", upstream="unix:/x", routes=()),
        Evidence(),
    )
    assert not allowed(found, LONER, THINGS[0], of=bare)
    assert not allowed(found, LONER, THINGS[0], risk=60)


def test_a_whole_zone_is_named_only_where_all_of_it_was_used() -> None:
    every = [one for thing in THINGS for one in daily(LONER, thing)]
    found = suggested(*every)
    assert "what is placed there later is in it too" in found.text
    assert not allowed(found, LONER, OUTSIDE), "of high value"
    later = world(things=(*THINGS, "vg://test.local/endpoint/new"))
    assert allowed(found, LONER, "vg://test.local/endpoint/new", of=later)
    part = suggested(*[one for one in every if one.resource != THINGS[3]])
    assert "what is placed there later" not in part.text
    assert not allowed(part, LONER, "vg://test.local/endpoint/new", of=later)


def test_one_zone_alone() -> None:
    found = suggested(*daily(LONER, THINGS[0]), *daily(LONER, PLAIN, action="read"), zone="train")
    assert PLAIN in found.text
    assert THINGS[0] not in found.text
    with pytest.raises(InvalidInput, match="no zone"):
        suggested(*daily(LONER, THINGS[0]), zone="nowhere")


# -- bounds


def busy(days: int, hours: range, each: int, **changes: Any) -> list[Recorded]:
    return [record(day + (hour + 0.5) / 24, LONER, THINGS[0], **changes) for day in range(days) for hour in hours for _ in range(each)]


def test_hours_and_networks_are_bounded_where_they_were_stable() -> None:
    found = suggested(*busy(20, range(9, 17), 10))
    assert "context.hour >= 8 && context.hour <= 17" in found.text
    assert 'isInRange(ip("10.1.2.0/24"))' in found.text
    assert allowed(found, LONER, THINGS[0], time=START + 40 * DAY_MS + 12 * HOUR_MS)
    assert not allowed(found, LONER, THINGS[0], time=START + 40 * DAY_MS + 3 * HOUR_MS)
    assert not allowed(found, LONER, THINGS[0], source_ip="10.9.9.9")
    assert found.later is not None and found.later.denied == 0
    assert "context.hour" not in suggested(*busy(20, range(9, 17), 10), bounds=False).text


@pytest.mark.parametrize(
    "records",
    [
        busy(20, range(9, 17), 1),
        busy(20, range(24), 10),
        [*busy(20, range(9, 17), 10), record(19.1, LONER, THINGS[0])],
        busy(4, range(9, 17), 60),
    ],
    ids=["too few requests", "all day", "one request outside", "too few days"],
)
def test_hours_that_were_not_stable_are_not_bounded(records: list[Recorded]) -> None:
    assert "context.hour" not in suggested(*records).text


def test_networks_that_were_not_stable_are_not_bounded() -> None:
    assert "isInRange" not in suggested(*busy(20, range(9, 17), 10), record(19.4, LONER, THINGS[0], source_ip="192.0.2.1")).text
    assert "isInRange" not in suggested(*busy(20, range(9, 17), 10, source_ip=None)).text


@pytest.mark.parametrize(
    ("hours", "window"),
    [
        ({9, 10, 16}, (8, 17)),
        ({22, 23, 0, 1}, (21, 2)),
        ({0}, (23, 1)),
        (set(range(24)), None),
        ({0, 12}, None),
        (set(), None),
        ({23}, (22, 0)),
    ],
)
def test_the_shortest_window_of_hours(hours: set[int], window: tuple[int, int] | None) -> None:
    assert window_of(hours) == window
    if window:
        assert all(inside(hour, window) for hour in hours)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("::ffff:10.1.2.3", "10.1.2.0/24"),
        ("2001:db8:0:7::9", "2001:db8:0:7::/64"),
        ("", ""),
        ("x", ""),
        ("999.1.1.1", ""),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network


# -- later, and whether there is enough


def test_the_text_is_held_to_what_came_later() -> None:
    records = [*daily(TEAM[0], THINGS[0], 12), *[record(day + 0.5, TEAM[0], THINGS[1]) for day in (10, 11)]]
    later = suggested(*records).later
    assert later is not None
    assert (later.requests, later.denied, later.by_reason) == (6, 2, {"never-seen": 2})
    assert later.low <= later.share == 1 / 3 <= later.high


def test_who_came_later_is_told_apart() -> None:
    later = suggested(*daily(TEAM[0], THINGS[0], 12), *[record(day + 0.5, LONER, THINGS[1]) for day in (10, 11)]).later
    assert later is not None and later.by_reason == {"new-caller": 2}


def test_a_short_time_holds_nothing_back() -> None:
    assert suggested(*daily(TEAM[0], THINGS[0], 2)).later is None


def test_not_enough_data_is_said_with_how_much_more() -> None:
    once = [record(day + 0.3, TEAM[0], thing) for day, thing in enumerate(THINGS)]
    found = suggested(*once, *daily(LONER, THINGS[0], 4))
    assert not found.enough
    assert found.more_days > 0
    assert found.unseen == 0.5
    assert suggested(*daily(LONER, THINGS[0], 10)).enough


def test_the_share_of_what_was_never_seen_is_that_of_what_was_seen_on_one_day() -> None:
    usage = usage_of(*daily(LONER, THINGS[0], 9), record(3, TEAM[0], THINGS[1]))
    begin = START // HOUR_MS
    assert unseen_share(usage, begin, begin + 24 * 20) == pytest.approx(0.1)
    assert unseen_share(usage, begin + 24 * 50, begin + 24 * 60) == 1.0


@pytest.mark.parametrize(
    ("clusters", "low", "high"),
    [([], 0, 1), ([(10, 0)] * 3, 0, 1), ([(10, 0)] * 300, 0, 0.01), ([(10, 10)] * 30, 1, 1), ([(10, 1)] * 100, 0.1, 0.1)],
)
def test_intervals(clusters: list[tuple[int, int]], low: float, high: float) -> None:
    assert share_interval(clusters) == pytest.approx((low, high))


# -- text of others


@pytest.mark.parametrize("text", ['a"); permit (principal, action, resource);', "a\\", "a\n}", "\u202e", "\x00", 'x" || true || "', "é"])
def test_no_name_ends_its_string_or_its_comment(text: str) -> None:
    policies = catalog.load(
        [Source("q.cedar", f'// {comment(text)}\n@id("q") permit (principal == Principal::{quoted(text)}, action, resource);')]
    )
    assert [one.id for one in policies.policies if one.source == "q.cedar"] == ["q"]
    assert policies.policy("q").json["principal"]["entity"]["id"] == text  # type: ignore[union-attr]


def test_a_reason_of_a_revocation_stays_a_comment() -> None:
    stands = Standing(principal=TEAM[0], revoked='x\n@id("z") permit (principal, action, resource);')
    assert loaded(suggested(*daily(TEAM[0], THINGS[0]), *daily(LONER, THINGS[1]), standing={TEAM[0]: stands})).source.policy("z") is None


# -- privilege


def test_granted_beside_used_the_largest_excess_first() -> None:
    policies = compiled(
        '@id("team") permit (principal in Group::"team", action in [Action::"infer", Action::"chat"], resource) when { context.risk < 60 };',
        '@id("night") permit (principal in Group::"solo", action == Action::"infer", resource) when { context has hour && context.hour < 3 };',
    )
    asks = [(action, thing) for thing in THINGS for action in ("infer", "chat")]
    found = table(usage_of(*daily(TEAM[0], THINGS[0]), *daily(LONER, THINGS[0], action="chat")), world(), policies, asks)
    rows = {row.principal: row for row in found.callers}
    assert (rows[TEAM[0]].granted, rows[TEAM[0]].used, rows[TEAM[0]].on_request) == (8, 1, 0)
    assert (rows[LONER].granted, rows[LONER].on_request, rows[LONER].used, rows[LONER].used_beyond) == (4, 4, 0, 1)
    assert found.callers[0].excess == 8
    assert found.dormant == 5
    assert rows[LONER].unused[0].policies == ("night",)
    assert rows[LONER].unused[0].on_request
    assert found.unused_policies == ("night",)


def test_what_was_used_too_long_ago_is_unused_and_told_with_when() -> None:
    found = table(usage_of(*daily(LONER, THINGS[0], 3)), world(), compiled(EVERYTHING), [], principal=LONER, since=START + 9 * DAY_MS)
    (one,) = found.callers[0].unused
    assert one.last_at == START + 2.4 * DAY_MS


def test_a_caller_that_is_not_there() -> None:
    with pytest.raises(NotFound):
        table(usage_of(record(1)), world(), compiled(EVERYTHING), [], principal="spiffe://test.local/service/serve/nobody")


@given(st.sampled_from(ALL), st.sampled_from((*THINGS, OUTSIDE, SECRET)), st.sampled_from(("infer", "chat", "read", "levitate")))
@settings(max_examples=30, deadline=None)
def test_a_grant_is_what_some_request_could_be_allowed(who: str, thing: str, action: str) -> None:
    policies = compiled(
        '@id("some") permit (principal in Group::"team", action == Action::"infer", resource) when { context has hour && context.hour < 3 };'
    )
    effect = Grants(policies, world()).of(who, action, thing)[0]
    could = any(decide_recorded(policies, world(), record(20, who, thing, action, hour=hour)).effect == "allow" for hour in range(24))
    assert (effect != "deny") == could


def test_too_many_cells_are_a_bound_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.policy.usage.MAX_CELLS", 2)
    with pytest.raises(LimitExceeded):
        usage_of(*[record(1, who) for who in ALL])

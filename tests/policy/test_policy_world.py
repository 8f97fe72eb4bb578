"""The World: ancestors, dangling names, lapsing vouches, what a change touches, Cedar's JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_world import ARTIFACT, CALLER, ENDPOINT, endpoint, good_world, held

from vouchgate.policy.compile import WHOLE_WORLD, Request, ask_cedar, compile_policies
from vouchgate.policy.crosscheck import crosscheck
from vouchgate.policy.facts import evidence_of, group_uid, put_endpoint, put_group, put_principal, resource_uid, zone_uid
from vouchgate.policy.load import Source, read
from vouchgate.policy.values import Uid
from vouchgate.policy.world import MAX_PARENTS, MIN_LAPSES, Entity, Evidence, World, tier_strings, world_from_cedar_json
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded
from vouchgate.vocabulary.principals import Principal
from vouchgate.vocabulary.vouches import TIERS, Method, Subject, Vouch

NODES = [Uid("Group", str(number)) for number in range(6)]
STEPS = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.sets(st.integers(0, 5), max_size=3))), max_size=25)


@settings(max_examples=200)
@given(STEPS)
def test_incremental_ancestors_equal_those_of_a_fresh_world(steps):
    world, plain = World(), {}
    for number, parents in steps:
        if parents is None:
            world.remove(NODES[number])
            plain.pop(NODES[number], None)
            continue
        above = frozenset(NODES[one] for one in parents if one > number)
        world.put(Entity(NODES[number], parents=above))
        plain[NODES[number]] = above

    def climb(uid):
        return frozenset({uid}).union(*(climb(parent) for parent in plain.get(uid, ())))

    assert world.up == {uid: climb(uid) for uid in plain}
    for uid in NODES:
        assert world.dangling(uid) == {one for one in climb(uid) if one not in plain}


def test_a_group_cannot_contain_itself():
    world = World()
    put_group(world, "a", ["b"])
    put_group(world, "b", ["c"])
    with pytest.raises(InvalidInput, match="contain itself"):
        put_group(world, "c", ["a"])
    with pytest.raises(InvalidInput, match="contain itself"):
        world.put(Entity(group_uid("a"), parents=frozenset({group_uid("a")})))
    assert world.up[group_uid("a")] == {group_uid("a"), group_uid("b"), group_uid("c")}


def test_bounds_hold():
    with pytest.raises(LimitExceeded):
        World().put(Entity(group_uid("a"), parents=frozenset(group_uid(str(number)) for number in range(MAX_PARENTS + 1))))


@pytest.mark.parametrize("value", [1.5, None, 2**63, object(), [None]])
def test_a_value_that_no_policy_can_read_is_refused_and_changes_nothing(value):
    world = World([Entity(Uid("A", "a"), {"x": 1})])
    with pytest.raises(InvalidInput):
        world.put(Entity(Uid("A", "a"), {"x": value}))
    assert world.attributes[Uid("A", "a")] == {"x": 1}


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_counts_for_itself_and_every_weaker_one(tier):
    strings = tier_strings("scan", tier)
    assert strings[0] == "scan"
    assert set(strings[1:]) == {f"scan@{one}" for one in TIERS[TIERS.index(tier) :]}


def test_attributes_cannot_smuggle_vouches_in():
    world = World([Entity(Uid("Artifact", "x"), {"vouches": ["scan@verified"]}, evidence=Evidence())])
    assert world.attributes[Uid("Artifact", "x")]["vouches"] == frozenset()


def test_a_vouch_that_did_not_pass_is_not_held():
    vouch = Vouch(
        id="v", trust_domain="test.local", predicate_type="scan", predicate_version=1, subjects=(Subject(name=ARTIFACT),), outcome="fail",
        issuer_key="k", issuer_role="scanner", issued_at=0, not_before=0, expires_at=9, method=Method(tool="t", version="1"),
    )  # fmt: skip
    assert evidence_of([vouch]) == Evidence((), {"scan": "failed"})


def test_advance_drops_what_lapsed_and_says_where():
    world = good_world()
    assert world.next_lapse == 400_000
    assert world.advance(399_999) == frozenset()
    assert world.advance(400_000) == {resource_uid(ENDPOINT)}
    assert world.entities[resource_uid(ENDPOINT)].evidence.lacking == {"serves": "expired"}
    assert world.advance(500_000) == {resource_uid(ARTIFACT)}
    assert world.next_lapse is None


def test_a_renewed_vouch_survives_the_lapse_of_the_old_one():
    world = good_world()
    put_endpoint(world, endpoint(), Evidence((held("serves", not_after=900_000),)))
    assert world.advance(400_000) == frozenset()
    assert "serves" in world.attributes[resource_uid(ENDPOINT)]["vouches"]


def test_renewing_over_and_over_does_not_grow_the_world():
    world = good_world()
    for second in range(5_000):
        put_endpoint(world, endpoint(), Evidence((held("serves", not_after=400_000 + second),)))
    assert len(world._lapses) <= MIN_LAPSES + 1
    assert world.advance(404_998) == frozenset()
    assert world.advance(404_999) == {resource_uid(ENDPOINT)}


def test_a_change_touches_what_is_under_it_and_what_names_it():
    world = good_world()
    assert resource_uid(ENDPOINT) in world.touched_by(resource_uid(ARTIFACT))
    assert Uid("Principal", CALLER) in world.touched_by(group_uid("callers"))
    assert resource_uid(ENDPOINT) in world.touched_by(zone_uid("serve"))
    assert world.touched_by(resource_uid(ENDPOINT)) == {resource_uid(ENDPOINT)}
    put_endpoint(world, endpoint(model=""), Evidence())
    assert resource_uid(ENDPOINT) not in world.touched_by(resource_uid(ARTIFACT))


def test_every_change_raises_the_revision():
    world = World()
    seen = [world.revision]
    put_principal(world, Principal(id=CALLER, groups=("callers",)))
    seen.append(world.revision)
    world.remove(group_uid("callers"))
    seen.append(world.revision)
    world.remove(group_uid("callers"))
    assert seen == sorted(set(seen))
    assert world.revision == seen[-1]


def test_a_world_reads_back_from_cedars_json():
    world = good_world()
    again = world_from_cedar_json(world.to_cedar_json())
    assert again.attributes == world.attributes
    assert again.up == world.up


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        "[1]",
        "[{}]",
        '[{"uid": 1}]',
        '[{"uid": {"type": "A"}}]',
        '[{"uid": {"type": "A", "id": "a"}, "attrs": [1]}]',
        "[" * 100_000,
    ],
)
def test_malformed_entities_are_refused(document):
    with pytest.raises(InvalidInput):
        world_from_cedar_json(document)


def test_the_json_names_parents_once():
    rows = json.loads(good_world().to_cedar_json())
    assert len({(row["uid"]["type"], row["uid"]["id"]) for row in rows}) == len(rows)


def test_cedar_answers_the_same_from_a_slice_as_from_everything() -> None:
    """Entities reached by membership, by an attribute, and only by the policy's own words; far more than one handle is made for."""
    text = """
    @id("a") permit (principal in Group::"g0", action == Action::"infer", resource) when { resource.model in Zone::"z1" };
    @id("b") forbid (principal, action, resource) when { Principal::"far" in Group::"shut" };
    """
    policies = compile_policies(read([Source("t", text)]))
    groups = [Entity(Uid("Group", f"g{number}")) for number in range(300)]
    fixed = [
        Entity(Uid("Zone", "z1")),
        Entity(Uid("Group", "shut")),
        Entity(Uid("Artifact", "m"), parents=frozenset({Uid("Zone", "z1")})),
        Entity(Uid("Endpoint", "e"), {"model": Uid("Artifact", "m")}),
        *(Entity(Uid("Principal", f"p{number}"), parents=frozenset({Uid("Group", f"g{number}")})) for number in range(300)),
    ]
    for far in (frozenset[Uid](), frozenset({Uid("Group", "shut")})):
        world = World([*groups, *fixed, Entity(Uid("Principal", "far"), parents=far)])
        assert len(world) > WHOLE_WORLD
        for who in ("p0", "p1", "nobody"):
            request = Request(Uid("Principal", who), Uid("Action", "infer"), Uid("Endpoint", "e"))
            whole = ask_cedar(policies.cedar_handle, request, world, policies.source.schema)
            part = ask_cedar(policies.cedar_handle, request, world, policies.source.schema, policies.named)
            assert (part.decision, part.diagnostics.reasons) == (whole.decision, whole.diagnostics.reasons)
            assert crosscheck(policies, request, world) is None
        assert len(world.slice([Uid("Principal", "p0"), Uid("Endpoint", "e")])) == 5

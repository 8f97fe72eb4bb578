"""The index of registrations answers what going over all of them does."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.identity.catalog import REFILE_AT, RegistrationIndex, match
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Registration, Selector

NOW = 1_800_000_000_000
FEW = [Selector(type=kind, value=value) for kind in ("unix:uid", "unix:gid", "unix:path", "container:uid") for value in ("1", "2")]
SETS = st.lists(st.sampled_from(FEW), max_size=5).map(tuple)
ENDS = st.sampled_from([0, NOW - 1, NOW, NOW + 1])


def entry(name: str, selectors: tuple[Selector, ...], expires_at: int = 0) -> Registration:
    return Registration(
        principal=f"spiffe://test.local/service/prod/{name}",
        trust_domain="test.local",
        selectors=selectors,
        created_at=0,
        expires_at=expires_at,
    )


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 12), st.none() | st.tuples(SETS, ENDS)), max_size=60), st.lists(SETS, min_size=1, max_size=6))
def test_it_equals_going_over_all_after_any_changes(changes, asked):
    index, plain = RegistrationIndex(), {}
    for number, made in changes:
        name = f"n{number}"
        if made is None:
            index.remove(f"spiffe://test.local/service/prod/{name}")
            plain.pop(name, None)
        else:
            plain[name] = entry(name, *made)
            index.add(plain[name])
    assert len(index) == len(plain)
    for selectors in asked:
        for now in (NOW, NOW + 1):
            assert index.match(selectors, now) == match(selectors, plain.values(), now)
    for one in list(plain.values()):
        index.remove(one.principal)
    assert len(index) == 0 and vars(index) == vars(RegistrationIndex()), "nothing is left behind"


def test_a_registration_that_has_ended_earns_nothing():
    uid = (FEW[0],)
    for how in (lambda entries, now: match(uid, entries, now), lambda entries, now: RegistrationIndex(entries).match(uid, now)):
        assert how([entry("a", uid, NOW)], NOW - 1).principal.endswith("/a")
        assert how([entry("a", uid, NOW)], NOW).code == "not-registered"
        assert how([entry("a", uid, NOW), entry("b", uid)], NOW).principal.endswith("/b"), "one that ended makes no tie"
        assert how([entry("a", uid, NOW), entry("b", uid)], NOW - 1).code == "ambiguous"


def looked_at(index: RegistrationIndex, selectors: tuple[Selector, ...]) -> int:
    return sum(len(index._filed.get(one, ())) for one in selectors)


def test_with_ten_thousand_registrations_few_are_looked_at():
    uid, cluster = Selector(type="unix:uid", value="1000"), Selector(type="k8s:cluster", value="a")
    made = [entry(f"n{n}", (uid, cluster, Selector(type="k8s:pod_uid", value=str(n)))) for n in range(10_000)]
    random.Random(7).shuffle(made)
    index = RegistrationIndex(made)
    asked = (uid, cluster, Selector(type="k8s:pod_uid", value="4711"))
    assert index.match(asked, NOW).principal.endswith("/n4711")
    assert looked_at(index, asked) <= 2


def test_a_selector_that_becomes_common_later_is_not_what_sets_are_found_by():
    first, second = (Selector(type="a:common", value="x"), Selector(type="z:own", value="0"))
    index = RegistrationIndex()
    for n in range(2_000):
        index.add(entry(f"n{n}", (first, Selector(type=second.type, value=str(n)))))
    assert looked_at(index, (first,)) <= REFILE_AT


def test_many_that_ask_for_the_same_are_one_set():
    uid = (FEW[0],)
    index = RegistrationIndex(entry(f"n{n}", uid) for n in range(5_000))
    assert looked_at(index, uid) == 1
    answer = index.match(uid, NOW)
    assert isinstance(answer, Denied) and answer.code == "ambiguous"


def test_a_newer_registration_of_a_principal_replaces_the_older():
    index = RegistrationIndex([entry("a", (FEW[0],))])
    index.add(entry("a", (FEW[1],)))
    assert index.match((FEW[0],), NOW).code == "not-registered" and index.match((FEW[1],), NOW).principal.endswith("/a")
    index.add(entry("a", ()))
    assert index.match(FEW, NOW).code == "not-registered" and len(index) == 1
    index.remove("spiffe://test.local/service/prod/nobody")

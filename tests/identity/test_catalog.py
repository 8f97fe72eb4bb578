"""The attestor catalog, the unix attestor, and which registration selectors earn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.identity.catalog import attest, attestors, match
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Registration, Selector

UID, PATH, HASH = Selector(type="unix:uid", value="1000"), Selector(type="unix:path", value="/x"), Selector(type="unix:sha256", value="ab")
GID, NOW = Selector(type="unix:gid", value="7"), 1_800_000_000_000


def entry(name: str, *selectors: Selector) -> Registration:
    return Registration(principal=f"spiffe://test.local/service/prod/{name}", trust_domain="test.local", selectors=selectors, created_at=0)


def test_the_folder_is_the_list():
    assert "unix-process" in attestors()


def test_facts_become_selectors():
    found = attest("unix-process", {"pid": 7, "uid": 1000, "gid": 100, "exe_path": "/usr/bin/x", "exe_sha256": "ab"})
    assert {(one.type, one.value) for one in found.selectors} == {
        ("unix:uid", "1000"), ("unix:gid", "100"), ("unix:path", "/usr/bin/x"), ("unix:sha256", "ab"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "facts",
    [
        {}, {"uid": 1}, {"gid": 1}, {"uid": "1000", "gid": 1}, {"uid": True, "gid": 1}, {"uid": 1.0, "gid": 1}, {"uid": -1, "gid": 1}, {"uid": 1, "gid": -1},
        {"uid": 1, "gid": 1, "root": True}, {"uid": 1, "gid": 1, "exe_path": 5}, {"uid": 1, "gid": 1, "exe_path": "x" * 5000}, {"uid": 2**60, "gid": 1},
        {"uid": None, "gid": 1}, {"uid": 1, "gid": 1, "UID": 0},
    ],
)  # fmt: skip
def test_facts_that_are_missing_unknown_or_of_another_kind_are_refused(facts):
    with pytest.raises(InvalidInput) as caught:
        attest("unix-process", facts)
    assert caught.value.remedy


def test_an_unknown_attestor_is_refused():
    with pytest.raises(InvalidInput):
        attest("tpm", {})


def test_a_registration_is_earned_by_all_its_selectors():
    assert match([UID, PATH], [entry("a", UID, PATH)], NOW).principal.endswith("/a")
    assert match([UID, PATH, HASH], [entry("a", UID), entry("b", UID, HASH)], NOW).principal.endswith("/b")


@pytest.mark.parametrize(
    ("selectors", "entries", "code"),
    [
        ([], [entry("a", UID)], "not-registered"), ([UID], [entry("a")], "not-registered"), ([UID], [], "not-registered"), ([UID], [entry("a", UID, PATH)], "not-registered"),
        ([UID, GID], [entry("a", UID), entry("b", GID)], "ambiguous"), ([UID], [entry("a", UID), entry("b", UID)], "ambiguous"),
        ([Selector(type="unix:uid", value="01000")], [entry("a", UID)], "not-registered"), ([Selector(type="unix:gid", value="1000")], [entry("a", UID)], "not-registered"),
        ([UID, GID], [entry("a", UID, UID), entry("b", GID)], "ambiguous"),
    ],
)  # fmt: skip
def test_what_is_not_earned_is_denied(selectors, entries, code):
    answer = match(selectors, entries, NOW)
    assert isinstance(answer, Denied)
    assert answer.code == code


@given(st.permutations([entry("a", UID), entry("b", UID, PATH), entry("c", UID, PATH, HASH), entry("d")]))
def test_the_order_of_registrations_chooses_nothing(entries):
    assert match([UID, PATH, HASH], entries, NOW).principal.endswith("/c")

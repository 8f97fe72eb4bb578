"""Recorded evidence in every provider's published form (make_recorded.py) still establishes what it did, once and for its time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vouchgate.identity.attestors import Attested, Trust
from vouchgate.identity.catalog import attest, attestors
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.wire import decode, encode, to_plain

FILES = {path.stem: path for path in sorted((Path(__file__).parent / "recorded").glob("*.json"))}
every_file = pytest.mark.parametrize("name", FILES)
DAY_MS = 86_400_000


def recorded(name: str) -> tuple[dict[str, Any], Trust]:
    said = json.loads(FILES[name].read_text("utf-8"))
    return said, decode(Trust, json.dumps(said["trust"]))


def test_there_is_one_for_each_attestor_that_verifies_evidence():
    assert set(FILES) == {name for name, one in attestors().items() if one.kind == "presented"}
    assert not any("PRIVATE KEY" in path.read_text("utf-8") for path in FILES.values())


@every_file
def test_it_establishes_what_it_did(name):
    said, source = recorded(name)
    answer = attest(name, said["given"], source, said["now"], said["nonce"])
    assert isinstance(answer, Attested) and list(to_plain(answer.selectors)) == said["selectors"]
    assert answer.replay_key and said["now"] < answer.expires_at <= said["now"] + DAY_MS
    assert source == decode(Trust, encode(source))


@every_file
def test_it_is_refused_once_its_replay_key_may_be_forgotten(name):
    said, source = recorded(name)
    first = attest(name, said["given"], source, said["now"], said["nonce"])
    assert isinstance(first, Attested)
    later = attest(name, said["given"], source, first.expires_at, said["nonce"])
    # A nonce is made by the server, which takes it back itself after one attempt.
    assert isinstance(later, Denied) or attestors()[name].nonce


@every_file
def test_every_field_is_known_by_name(name):
    said, source = recorded(name)
    one = attestors()[name]
    assert set(said["given"]) <= {*one.fields.required, *one.fields.optional}
    for given in ({**said["given"], "more": "x"}, {}, {**said["given"], next(iter(said["given"])): 5}):
        answer = attest(name, given, source, said["now"], said["nonce"])
        assert isinstance(answer, Denied) and answer.code == "evidence-malformed"


@every_file
def test_another_source_does_not_take_it(name):
    said, _ = recorded(name)
    for other in FILES:
        if other == name:
            continue
        _, source = recorded(other)
        try:
            answer = attest(name, said["given"], source, said["now"], said["nonce"])
        except InvalidInput:
            continue  # keys of another kind are a broken source
        assert isinstance(answer, Denied), other


@every_file
def test_it_carries_the_name_of_a_source_that_is_not_the_usual_one(name):
    said, source = recorded(name)
    renamed = decode(Trust, encode({**to_plain(source), "name": "other"}))
    answer = attest(name, said["given"], renamed, said["now"], said["nonce"])
    assert isinstance(answer, Attested)
    usual, named = {one["type"] for one in said["selectors"]}, {one.type for one in answer.selectors}
    assert not usual & named and all(".other:" in type or ":other:" in type for type in named)

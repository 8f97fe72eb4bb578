"""SLSA provenance: which builder made which bytes from which source; one thing wrong at a time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import sigstore_world as s
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.evidence.slsa import Provenance, check_covers, check_provenance, read_provenance
from vouchgate.vocabulary.errors import InvalidInput, Unverified

SOURCE, COMMIT, BUILDER = "https://github.com/example/model", "ab" * 20, "https://github.com/actions/runner/github-hosted"
WORKFLOW = "https://actions.github.io/buildtypes/workflow/v1"
A, B = "aa" * 32, "bb" * 32


def said(build_type: str = WORKFLOW, parameters: Any = None, dependencies: Any = None, **changes: Any) -> dict[str, Any]:
    workflow = {"workflow": {"ref": "refs/tags/v1", "repository": SOURCE, "path": ".github/workflows/release.yml"}}
    resolved = [{"uri": f"git+{SOURCE}@refs/tags/v1", "digest": {"gitCommit": COMMIT}}]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "a.bin", "digest": {"sha256": A}}, {"name": "./b/c.bin", "digest": {"sha256": B}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": build_type,
                "externalParameters": workflow if parameters is None else parameters,
                "internalParameters": {"github": {"event_name": "push"}},
                "resolvedDependencies": resolved if dependencies is None else dependencies,
            },
            "runDetails": {"builder": {"id": BUILDER}, "metadata": {"invocationId": f"{SOURCE}/actions/runs/1"}},
        },
    } | changes


def read(value: dict[str, Any]) -> Provenance:
    return read_provenance(s.dump(value))


def test_what_a_builder_says_is_read() -> None:
    found = read(said())
    assert (found.builder, found.source, found.commit, found.build_type) == (BUILDER, SOURCE, COMMIT, WORKFLOW)
    check_provenance(found, builder=BUILDER, sources=[SOURCE])
    check_provenance(found, builder=BUILDER, sources=["https://x.example/y", f"git+{SOURCE}.git"], build_types=[WORKFLOW])
    check_provenance(found, builder=BUILDER, sources=[SOURCE], certified={"repository": SOURCE, "commit": COMMIT, "runner": "x"})
    check_covers(found, {"a.bin": A, "b/c.bin": B})
    check_covers(found, {"": B})


@pytest.mark.parametrize("source", [SOURCE, {"uri": f"git+{SOURCE}@refs/heads/main"}, {"repository": SOURCE}])
def test_other_builds_state_their_source(source: Any) -> None:
    assert read(said("https://example.com/build/v1", {"source": source})).source == SOURCE


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (said("https://example.com/build/v1"), "cannot be told"),
        (said("https://example.com/build/v1", {"source": 7}), "cannot be told"),
        (said(parameters={}), "workflow"),
        (said(parameters={"workflow": {"repository": ""}}), "empty"),
        (said(parameters={"workflow": {"repository": SOURCE + "\u202e"}}), "cannot be shown"),
        (said(dependencies=[]), "one commit"),
        (said(dependencies=[{"uri": "git+https://github.com/example/other", "digest": {"gitCommit": COMMIT}}]), "one commit"),
        (said(dependencies=[{"uri": SOURCE, "digest": {"gitCommit": COMMIT}}, {"uri": SOURCE, "digest": {"gitCommit": "cd" * 20}}]), "one commit"),
        (said(dependencies=[{"uri": SOURCE, "digest": {"gitCommit": "main"}}]), "one commit"),
        (said(dependencies=7), "one commit"),
        (said(predicateType="https://slsa.dev/provenance/v0.2"), "not over"),
        (said(_type="https://in-toto.io/Statement/v0.1"), "not over"),
        (said(subject=[]), "no subject"),
        (said(subject=[{"name": "a"}]), "digest"),
        (said(predicate={}), "buildDefinition"),
    ],
)  # fmt: skip
def test_provenance_that_does_not_say_enough_is_refused(value: dict[str, Any], why: str) -> None:
    with pytest.raises((Unverified, InvalidInput), match=why):
        read(value)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"builder": BUILDER + "/"}, "not by"),
        ({"builder": "https://github.com/actions/runner/self-hosted"}, "not by"),
        ({"sources": ["https://github.com/example"]}, "not among the sources"),
        ({"sources": [SOURCE + "-fork"]}, "not among the sources"),
        ({"sources": [SOURCE.upper()]}, "not among the sources"),
        ({"sources": []}, "not among the sources"),
        ({"build_types": ["https://example.com/build/v1"]}, "not taken"),
        ({"certified": {"repository": SOURCE + "-fork"}}, "tells of another"),
        ({"certified": {"repository": SOURCE, "commit": "cd" * 20}}, "tells of another"),
    ],
)
def test_another_builder_source_or_certificate_is_refused(how: dict[str, Any], why: str) -> None:
    with pytest.raises(Unverified, match=why):
        check_provenance(read(said()), **({"builder": BUILDER, "sources": [SOURCE]} | how))


@pytest.mark.parametrize("files", [{"a.bin": B}, {"b.bin": A}, {"c.bin": B}, {"a.bin": A, "new": "cc" * 32}, {"": "cc" * 32}])
def test_every_file_has_to_be_a_subject_under_its_own_name(files: dict[str, str]) -> None:
    with pytest.raises(Unverified, match="not what the provenance is about"):
        check_covers(read(said()), files)


def test_a_source_s_host_is_never_read_as_a_ref() -> None:
    """`user@host` in an address is part of the host, not a ref: nobody passes as another host by it."""
    trick = "https://github.com@evil.example/example/model"
    found = read(said(parameters={"workflow": {"repository": trick}}, dependencies=[{"uri": trick, "digest": {"gitCommit": COMMIT}}]))
    with pytest.raises(Unverified, match="not among the sources"):
        check_provenance(found, builder=BUILDER, sources=[SOURCE, "https://github.com"])


def test_what_follows_an_at_is_a_ref_only_where_git_is_said() -> None:
    other = SOURCE + "@evil/fork"
    found = read(said(parameters={"workflow": {"repository": other}}, dependencies=[{"uri": other, "digest": {"gitCommit": COMMIT}}]))
    assert found.source == other
    with pytest.raises(Unverified, match="not among the sources"):
        check_provenance(found, builder=BUILDER, sources=[SOURCE])
    with pytest.raises(Unverified, match="one commit"):
        read(said(dependencies=[{"uri": other, "digest": {"gitCommit": COMMIT}}]))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["uri", "digest", "id", "builder", "workflow", "repository", "name"]), inner, max_size=3), max_leaves=6), st.sampled_from([("subject",), ("predicate",), ("predicate", "buildDefinition"), ("predicate", "buildDefinition", "externalParameters"), ("predicate", "buildDefinition", "resolvedDependencies"), ("predicate", "runDetails"), ("predicate", "runDetails", "builder")]))  # fmt: skip
def test_any_value_anywhere_gets_a_typed_answer(value: Any, path: tuple[str, ...]) -> None:
    made: Any = copy.deepcopy(said())
    here = made
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    try:
        found = read(made)
    except (Unverified, InvalidInput):
        return
    assert found.source == SOURCE or path[-1] == "externalParameters"

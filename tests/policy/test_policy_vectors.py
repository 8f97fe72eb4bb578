"""Cedar's conformance corpus: every decision, every determining and every erring policy; none skipped, in any form of the folder."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from vouchgate.edges.cli.main import main
from vouchgate.policy import vectors
from vouchgate.policy.vectors import find_cases, run_vectors
from vouchgate.vocabulary.errors import LimitExceeded, NotFound

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "cedar-corpus.tar.xz"
SCHEMA = "entity User in [Group]; entity Group; entity Photo; action view appliesTo { principal: User, resource: Photo };"
POLICIES = 'permit (principal in Group::"g", action, resource);\nforbid (principal, action, resource) when { context.x };\n'
ENTITIES = [
    {"uid": {"type": "User", "id": "u"}, "attrs": {}, "parents": [{"type": "Group", "id": "g"}]},
    {"uid": {"type": "Group", "id": "g"}, "attrs": {}, "parents": []},
    {"uid": {"type": "Photo", "id": "p"}, "attrs": {}, "parents": []},
]


def request(**changes):
    row = {
        "description": "one",
        "principal": {"type": "User", "id": "u"},
        "action": {"type": "Action", "id": "view"},
        "resource": {"type": "Photo", "id": "p"},
        "context": {"x": False},
        "decision": "allow",
        "reason": ["policy0"],
        "errors": [],
    }
    return {**row, **changes}


def case(**changes):
    return {"policies": POLICIES, "entities": ENTITIES, "schema": SCHEMA, "shouldValidate": False, "requests": [request()], **changes}


def write(folder, document, name="case.json"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not CORPUS.exists():
        pytest.skip("the Cedar corpus does not stand beside this checkout (../shared/vectors/cedar-corpus.tar.xz)")
    target = tmp_path_factory.mktemp("corpus")
    with tarfile.open(CORPUS) as archive:
        archive.extractall(target, filter="data")
    return target / "cedar-corpus"


def test_the_whole_corpus_agrees(folder):
    agreement = run_vectors(folder)
    assert agreement.differences == ()
    assert agreement.agreed == agreement.total
    assert agreement.total >= 15_000
    assert agreement.left_to_cedar < agreement.total // 20
    assert agreement.validated == agreement.validations == agreement.cases >= 1_900
    assert agreement.other_files == 0


def test_a_corpus_that_states_otherwise_is_reported(folder, tmp_path):
    cases = find_cases(folder)
    name = next(one.name for one in cases if one.document["requests"][0]["decision"] == "allow")
    for suffix in (".json", ".cedar", ".cedarschema", ".entities.json"):
        text = (folder / f"{name}{suffix}").read_text()
        (tmp_path / f"{name}{suffix}").write_text(text.replace('"allow"', '"deny"') if suffix == ".json" else text)
    agreement = run_vectors(tmp_path)
    assert agreement.agreed < agreement.total
    assert agreement.differences


def test_the_layout_of_the_integration_tests(tmp_path):
    """Cases in folders, files named from the root of the checkout, and the older names of the members."""
    write(tmp_path, POLICIES, "tests/multi/policies_1.cedar")
    write(tmp_path, SCHEMA, "sample-data/sandbox_a/schema.cedarschema")
    write(tmp_path, ENTITIES, "sample-data/sandbox_a/entities.json")
    older = request(decision="Allow", reasons=["policy0"])
    del older["reason"]
    document = {
        "policies": "tests/multi/policies_1.cedar",
        "entities": "sample-data/sandbox_a/entities.json",
        "schema": "sample-data/sandbox_a/schema.cedarschema",
        "shouldValidate": False,
        "queries": [older, request(principal=None, decision="Deny", reason=[])],
    }
    write(tmp_path, document, "tests/multi/1.json")
    whole = run_vectors(tmp_path)
    assert (whole.agreed, whole.total, whole.other_files, whole.validated) == (2, 2, 0, 1), whole
    part = run_vectors(tmp_path / "tests", above=tmp_path)
    assert (part.agreed, part.total) == (2, 2), part


def test_the_content_may_stand_in_the_case_itself(tmp_path):
    write(tmp_path, case())
    assert run_vectors(tmp_path).agreed == 1


def test_policies_in_json_are_named_by_their_keys(tmp_path):
    body = {
        "effect": "permit",
        "principal": {"op": "All"},
        "action": {"op": "All"},
        "resource": {"op": "All"},
        "conditions": [],
        "annotations": {"id": "not-this"},
    }
    policies = {"staticPolicies": {"named-so": body}, "templates": {}, "templateLinks": []}
    write(tmp_path, case(policies=policies, policyFormat="json", shouldValidate=True, requests=[request(reason=["named-so"])]))
    assert run_vectors(tmp_path).agreed == 1


def test_an_id_annotation_is_no_name_in_a_case(tmp_path):
    text = '@id("same") permit (principal, action, resource);\n@id("same") permit (principal, action, resource);'
    write(tmp_path, case(policies=text, requests=[request(reason=["policy0", "policy1"])]))
    assert run_vectors(tmp_path).agreed == 1


def test_what_the_engine_does_not_take_is_answered_by_cedar_and_counted(tmp_path):
    chain = " || ".join(["context.x"] * 200 + ["true"])
    write(tmp_path, case(policies=f"permit (principal, action, resource) when {{ {chain} }};"))
    found = run_vectors(tmp_path)
    assert (found.agreed, found.total, found.left_to_cedar) == (1, 1, 1), found


def test_a_context_that_only_the_schema_can_type(tmp_path):
    schema = SCHEMA.replace("resource: Photo ", "resource: Photo, context: { ip: ipaddr } ")
    policy = "permit (principal, action, resource) when { context.ip.isLoopback() };"
    write(tmp_path, case(policies=policy, schema=schema, shouldValidate=True, requests=[request(context={"ip": "127.0.0.1"})]))
    found = run_vectors(tmp_path)
    assert (found.agreed, found.left_to_cedar) == (1, 1), found


def test_validation_is_counted_by_itself(tmp_path):
    write(tmp_path, case(shouldValidate=True))
    found = run_vectors(tmp_path)
    assert (found.agreed, found.validations, found.validated) == (1, 1, 0)
    assert found.validation_differences


@pytest.mark.parametrize(
    "changes",
    [
        {"requests": [request(decision="deny")]},
        {"requests": [request(reason=["policy1"])]},
        {"requests": [request(errors=["policy1"])]},
        {"requests": [request(decision="maybe")]},
        {"requests": []},
        {"requests": {"0": request()}},
        {"requests": ["nonsense"]},
        {"requests": [{"principal": {"type": "User", "id": "u"}}]},
        {"requests": [request(principal="no entity")]},
        {"requests": [request(context=[1])]},
        {"requests": [request(context={"x": {"__extn": {"fn": "nothing", "arg": "1"}}})]},
        {"policies": "permit (principal"},
        {"policies": "nowhere.cedar"},
        {"policies": "../outside.cedar"},
        {"policies": 7},
        {"policies": "permit (principal, action, resource) when { " + "(" * 5000 + "true" + ")" * 5000 + " };"},
        {"policies": "permit (principal, action, resource) when { true" + " && true" * 50_000 + " };"},
        {"entities": "[{]"},
        {"entities": {"uid": 1}},
        {"entities": None},
        {"schema": "entity User in ;"},
        {"schema": "nowhere.cedarschema"},
    ],
)
def test_nothing_that_is_wrong_agrees(tmp_path, changes):
    (tmp_path / "inner").mkdir()
    (tmp_path / "outside.cedar").write_text(POLICIES)
    write(tmp_path / "inner", case(**changes))
    found = run_vectors(tmp_path / "inner")
    assert found.agreed == 0
    assert found.total == 1
    assert found.differences


@pytest.mark.parametrize("text", ["{", "\x00", "[" * 100_000])
def test_a_case_that_cannot_be_read_is_a_difference(tmp_path, text):
    write(tmp_path, case())
    write(tmp_path, text, "broken.json")
    found = run_vectors(tmp_path)
    assert (found.agreed, found.total) == (1, 2)


def test_differences_are_bounded_and_counted(tmp_path):
    write(tmp_path, case(requests=[request(decision="deny", description="x" * 10_000)] * 100))
    found = run_vectors(tmp_path)
    assert found.total == 100
    assert len(found.differences) == vectors.MAX_DIFFERENCES
    assert all(len(one) <= vectors.MAX_SHOWN for one in found.differences)


def test_a_folder_without_cases_is_no_success(tmp_path, capsys):
    write(tmp_path, {"other": 1}, "other.json")
    with pytest.raises(NotFound, match="no cases"):
        run_vectors(tmp_path)
    assert main(["policy", "vectors", str(tmp_path)]) != 0
    assert main(["policy", "vectors", str(tmp_path / "nowhere")]) != 0
    assert main(["policy", "vectors", str(tmp_path / "other.json")]) != 0
    assert "unpack an archive first" in capsys.readouterr().err


def test_folders_without_end(tmp_path):
    write(tmp_path, case())
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(LimitExceeded, match="deep"):
        run_vectors(tmp_path)


def test_the_command_says_n_of_m(tmp_path, capsys):
    write(tmp_path, case(requests=[request(), request()]))
    assert main(["policy", "vectors", str(tmp_path)]) == 0
    assert "agreed 2 of 2" in capsys.readouterr().out.splitlines()
    write(tmp_path, case(requests=[request(decision="deny")]), "deep/er/two.json")
    assert main(["policy", "vectors", str(tmp_path)]) == 1
    assert "agreed 2 of 3" in capsys.readouterr().out.splitlines()
    assert main(["policy", "vectors", str(tmp_path), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["agreed"], answer["total"], answer["cases"]) == (2, 3, 2)

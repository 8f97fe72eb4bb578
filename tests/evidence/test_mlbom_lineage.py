"""Vouches in the document: schema-valid declarations, read again exactly, and nothing that the evidence does not give."""

import base64
import functools
import json
import random

import pytest

from vouchgate.evidence.bom.document import SPECS, File, Model, Scan, serial_number, write_bom
from vouchgate.evidence.bom.gaps import answer
from vouchgate.evidence.bom.lineage import MAX_TEXT, Vouched, content_reference, declared
from vouchgate.evidence.bom.read import read_bom
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.wire import encode

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32
WHOLE, FILE, DATA = f"sha256-tree:{A}", f"sha256:{B}", f"sha256:{C}"
AT = "2026-01-31T12:00:00.000Z"


def vouched(number, predicate="scan", **more):
    said = {
        "id": f"{number:064x}", "predicate": predicate, "about": WHOLE, "standing": "held", "outcome": "pass", "tier": "verified", "role": "scanner",
        "key": "9c" * 32, "tool": "vouchgate-scan 1", "issued_at": 1_700_000_000_000, "expires_at": 1_700_086_400_000,
    }  # fmt: skip
    return Vouched(**(said | more))


SCAN = vouched(1)
IMPORT = vouched(2, "import", role="importer", key="9d" * 32, rests_on=(SCAN.id, f"{99:064x}"))
TRAIN = vouched(3, "train", role="supervisor", inputs=(DATA, FILE), run="run-7")
DATA_SCAN = vouched(4, about=DATA, standing="against", told="revoked: poisoned")
ENDED = vouched(5, "validate", standing="open", told="expired")
FILE_SCAN = vouched(6, about=FILE)
ALL = (SCAN, IMPORT, TRAIN, DATA_SCAN, ENDED, FILE_SCAN)


def model(*vouches, **changes):
    said = {
        "name": "m", "digest": WHOLE, "manifest": f"sha256-manifest:{B}", "folder": True, "scan": Scan(outcome="clean", format="safetensors"),
        "files": (File(path="a.safetensors", size=1, sha256=B), File(path="b.safetensors", size=1, sha256=B)), "vouches": vouches, "asked": True,
    }  # fmt: skip
    return Model(**(said | changes))


def written(*vouches, spec="1.6", **changes):
    return write_bom(model(*vouches, **changes), None, spec=spec, timestamp=AT, version="1")


def changed(change):
    """A document that somebody changed and gave a new serial number."""
    document = json.loads(written(*ALL))
    change(document)
    document["serialNumber"] = serial_number(document)
    return read_bom(encode(document))


@pytest.mark.parametrize("spec", SPECS)
def test_it_is_valid_by_the_published_schema_and_reads_as_it_was_written(spec):
    found = read_bom(written(*ALL, spec=spec))
    assert found.faults == () and found.vouches == tuple(sorted(ALL, key=lambda one: one.id))


def test_the_order_of_answers_changes_nothing():
    assert written(*ALL) == written(*reversed(ALL))


def test_each_vouch_is_a_claim_about_its_content_with_evidence():
    document = json.loads(written(*ALL))
    claims = {one["bom-ref"]: one for one in document["declarations"]["claims"]}
    assert {one["target"] for one in claims.values()} == {"model", "file:a.safetensors", content_reference(DATA)}
    assert claims[f"claim:{IMPORT.id}"]["evidence"] == [f"vouch:{IMPORT.id}", f"vouch:{SCAN.id}"]
    assert claims[f"claim:{DATA_SCAN.id}"]["counterEvidence"] == [f"vouch:{DATA_SCAN.id}"]
    first = document["declarations"]["evidence"][0]
    assert json.loads(base64.b64decode(first["data"][0]["contents"]["attachment"]["content"]))["id"] == SCAN.id
    assert (first["created"], first["expires"]) == ("2023-11-14T22:13:20.000Z", "2023-11-15T22:13:20.000Z")


def test_what_fell_is_a_counter_claim_and_what_ended_is_attested_by_nobody():
    attestations = json.loads(written(*ALL))["declarations"]["attestations"]
    by = {one["assessor"]: one["map"][0] for one in attestations}
    assert by[f"assessor:scanner:{'9c' * 32}"] == {
        "claims": [f"claim:{SCAN.id}", f"claim:{FILE_SCAN.id}"], "counterClaims": [f"claim:{DATA_SCAN.id}"],
    }  # fmt: skip
    assert f"claim:{ENDED.id}" not in json.dumps(attestations)


def test_a_derivation_is_a_workflow_from_its_inputs_to_the_model():
    (formula,) = json.loads(written(*ALL))["formulation"]
    (workflow,) = formula["workflows"]
    assert workflow["uid"] == "run-7"
    assert [one["resource"]["ref"] for one in workflow["inputs"]] == ["file:a.safetensors", content_reference(DATA)]
    assert workflow["outputs"][0]["resource"]["ref"] == "model"
    data = next(one for one in json.loads(written(*ALL))["components"] if one["bom-ref"] == content_reference(DATA))
    assert data["hashes"] == [{"alg": "SHA-256", "content": C}] and data["type"] == "data"


def test_nothing_vouched_is_nothing_declared_and_that_somebody_asked_is_said():
    document = json.loads(written())
    assert "declarations" not in document and "formulation" not in document
    assert {"name": "vouchgate:control:asked", "value": "true"} in document["metadata"]["component"]["properties"]
    assert "control:asked" not in written(asked=False).decode()


def test_only_what_holds_of_the_model_itself_is_a_property_of_it():
    properties = json.loads(written(*ALL))["metadata"]["component"]["properties"]
    assert {(one["name"], one["value"]) for one in properties if one["name"].startswith("vouchgate:vouch:")} == {
        ("vouchgate:vouch:scan", SCAN.id), ("vouchgate:vouch:import", IMPORT.id), ("vouchgate:vouch:train", TRAIN.id),
    }  # fmt: skip


def retold(document, at, **more):
    attachment = document["declarations"]["evidence"][at]["data"][0]["contents"]["attachment"]
    said = json.loads(base64.b64decode(attachment["content"])) | more
    attachment["content"] = base64.b64encode(encode(said)).decode()


CHANGES = {
    "a fall becomes a pass": lambda d: retold(d, 3, standing="held", told=""),
    "a claim without evidence": lambda d: d["declarations"]["claims"].append({"predicate": "scan", "target": "model"}),
    "a counter-claim left out": lambda d: (
        d["declarations"]["attestations"][0]["map"][0].pop("counterClaims", None)
        or d["declarations"]["attestations"][1]["map"][0].pop("counterClaims", None)
    ),
    "evidence left out": lambda d: d["declarations"]["evidence"].pop(),
    "evidence twice": lambda d: d["declarations"]["evidence"].append(d["declarations"]["evidence"][0] | {"bom-ref": "other"}),
    "another input": lambda d: d["formulation"][0]["workflows"][0]["inputs"].pop(),
    "no formulation": lambda d: d.pop("formulation"),
    "a member that nobody knows": lambda d: retold(d, 0, more=1),
    "no id": lambda d: retold(d, 0, id="x"),
    "another standing": lambda d: retold(d, 0, standing="fine"),
    "a digest that is none": lambda d: retold(d, 0, about="../x"),
    "a text without end": lambda d: retold(d, 0, tool="x" * (MAX_TEXT + 1)),
    "a line break": lambda d: retold(d, 0, told="a\nb"),
    "a time beyond time": lambda d: retold(d, 0, expires_at=10**18),
    "no base64": lambda d: d["declarations"]["evidence"][0]["data"][0]["contents"]["attachment"].update(content="%%"),
    "no data": lambda d: d["declarations"]["evidence"][0].pop("data"),
    "declarations of another tool": lambda d: d["declarations"].update(targets={"components": []}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_document_whose_declarations_are_not_those_of_its_evidence_is_not_sound(change):
    found = changed(change)
    assert found.faults and found.vouches == ()


def test_a_document_without_changes_is_sound():
    assert changed(lambda _: None).faults == ()


@pytest.mark.parametrize("vouches", [(SCAN, SCAN), (vouched(7, rests_on=("x",)),), (vouched(8, about="x"),), (vouched(9, inputs=("x",)),)])
def test_what_is_no_vouch_is_not_written(vouches):
    with pytest.raises(InvalidInput):
        declared(vouches, {})


def test_what_fell_speaks_against_shipping_unless_something_newer_holds():
    def against(*vouches):
        return answer(read_bom(written(*vouches)), "b", (), (), None, signed=True, demand="recorded").against

    assert against(SCAN, TRAIN) == ()
    assert against(*ALL) == (f"`scan` of {DATA[:30]} does not hold: revoked: poisoned",)
    newer = vouched(8, about=DATA, issued_at=DATA_SCAN.issued_at + 1)
    assert against(*ALL, newer) == ()
    assert len(against(newer, vouched(9, about=DATA, issued_at=newer.issued_at, standing="against", told="failed"))) == 1
    assert len(against(DATA_SCAN, vouched(9, about=DATA, issued_at=newer.issued_at, standing="open", told="expired"))) == 1


def steps(value, above=()):
    """Where every member and item of a document lies."""
    yield above
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from steps(one, (*above, key))


ODD = (None, 0, -1, "", [], {}, "x" * 600, 1e308, True, [[]], {"a": 1}, "vouch:" + "0" * 64)


def test_no_change_anywhere_in_declarations_or_formulation_is_sound():
    chance = random.Random(5)
    before = json.loads(written(*ALL))
    every = [one for one in steps(before) if one and one[0] in ("declarations", "formulation")]
    for place in every:
        document = json.loads(json.dumps(before))
        above = functools.reduce(lambda value, key: value[key], place[:-1], document)
        if chance.random() < 0.3:
            del above[place[-1]]
        elif isinstance(above, list) and chance.random() < 0.4:
            above.append(above[place[-1]])
        else:
            above[place[-1]] = chance.choice(ODD)
        if document != before:
            document["serialNumber"] = serial_number(document)
            assert read_bom(encode(document)).faults, place

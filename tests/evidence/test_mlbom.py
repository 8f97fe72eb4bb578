"""The document: valid by the published schemas, the same for the same facts, sound or told, and signed."""

import importlib.resources
import json
import re

import jsonschema_rs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vouchgate.evidence.bom.card import Claims
from vouchgate.evidence.bom.document import SPECS, File, Model, Scan, Weights, serial_number, write_bom
from vouchgate.evidence.bom.python import Distribution, Environment, Fault, Metadata, Source
from vouchgate.evidence.bom.read import MAX_DEPTH, read_bom
from vouchgate.evidence.bom.signed import same, sign_bom, statement_bom, verify_bom
from vouchgate.evidence.dsse import PAYLOAD_TYPE, Envelope, Signature, pae, parse_envelope, write_envelope
from vouchgate.evidence.statement import STATEMENT_TYPE
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.wire import encode

AT = "2026-01-31T12:00:00.000Z"
A, B = "aa" * 32, "bb" * 32
KEY = Ed25519PrivateKey.generate()


def distribution(name="numpy", version="2.0", **more):
    said = Metadata(name=name, version=version, license="BSD-3-Clause", summary="arrays", requires=more.pop("requires", ()))
    return Distribution(**({"folder": f"lib/{name}-{version}.dist-info", "metadata": said, "record": A, "files": 3, "hashed": 2} | more))


ENVIRONMENT = Environment(
    python="3.11.4",
    distributions=(
        distribution(requires=("Cython",)),
        distribution(
            "Cython", "3", requires=("numpy",), source=Source(url="https://h/c.whl", sha256=B, commit="c0"), tags=("py3-none-any",)
        ),
        distribution("Broken", "1", faults=(Fault(path="x.py", why="it was changed"),), altered=1, installer="pip"),
    ),
    unowned=("lib/evil.pth",),
    unowned_count=1,
    compiled=7,
)


def model(**changes):
    said = {
        "name": "m",
        "digest": f"sha256-tree:{A}",
        "manifest": f"sha256-manifest:{B}",
        "folder": True,
        "files": (File(path="b/w.safetensors", size=3, sha256=A, format="safetensors"), File(path="config.json", size=2, sha256=B)),
        "weights": (Weights(path="b/w.safetensors", format="safetensors", tensors=2, parameters=30, dtypes={"F32": 2}),),
        "scan": Scan(outcome="clean", format="hugging-face", scanner="2", knowledge="20"),
        "claims": Claims(
            license="MIT", base_models=("a/b",), datasets=("squad",), task="fill-mask", architectures=("Bert",), model_type="bert"
        ),
    }
    return Model(**(said | changes))


def written(spec="1.6", environment=ENVIRONMENT, at=AT, **changes):
    return write_bom(model(**changes), environment, spec=spec, timestamp=at, version="0.1.0")


def changed(**members):
    return encode(json.loads(written()) | members)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("environment", [ENVIRONMENT, None], ids=["python", "alone"])
def test_it_is_valid_by_the_published_schema(spec, environment):
    found = read_bom(written(spec, environment))
    assert found.faults == () and found.is_ours and found.spec == spec
    assert set(found.files) == {"b/w.safetensors", "config.json"} and len(found.packages) == (3 if environment else 0)


def test_the_schema_that_it_is_held_to_is_the_published_one():
    for spec in SPECS:
        text = (importlib.resources.files("cyclonedx.schema") / "_res" / f"bom-{spec}.SNAPSHOT.schema.json").read_text()
        assert json.loads(text)["$id"] == f"http://cyclonedx.org/schema/bom-{spec}.schema.json"
        assert jsonschema_rs.meta.is_valid(json.loads(text))


def test_the_same_facts_give_the_same_bytes_and_serial_number():
    assert written() == written()
    first, later, other = (json.loads(one) for one in (written(), written(at="2027-01-31T12:00:00.000Z"), written(release="2")))
    assert first["serialNumber"] == later["serialNumber"] == serial_number(first) != other["serialNumber"]
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first["serialNumber"])


def test_what_was_seen_and_what_is_claimed_never_share_a_property():
    component = json.loads(written())["metadata"]["component"]
    said = {(one["name"], one["value"]) for one in component["properties"]}
    assert {("vouchgate:seen:parameters", "30"), ("vouchgate:seen:dtype:F32", "2"), ("vouchgate:scan:verdict", "clean")} <= said
    assert {("vouchgate:claimed:license", "MIT"), ("vouchgate:claimed:base-model", "a/b"), ("vouchgate:claimed:dataset", "squad")} <= said
    assert component["modelCard"]["modelParameters"]["task"] == "fill-mask"
    assert component["pedigree"]["ancestors"][0]["description"].startswith("claimed")
    assert component["licenses"] == [{"expression": "MIT", "acknowledgement": "declared"}]


def test_a_digest_of_a_tree_is_no_hash_and_one_of_a_file_is():
    assert "hashes" not in json.loads(written())["metadata"]["component"]
    alone = model(folder=False, digest=f"sha256:{A}", files=(File(path="m.onnx", size=1, sha256=A),))
    document = json.loads(write_bom(alone, None, spec="1.7", timestamp=AT, version="1"))
    assert document["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": A}]


def test_the_dependency_graph():
    edges = {one["ref"]: one["dependsOn"] for one in json.loads(written())["dependencies"]}
    assert edges["model"] == ["file:b/w.safetensors", "file:config.json", "python"]
    assert len(edges["python"]) == 3
    assert edges["python:lib/numpy-2.0.dist-info"] == ["python:lib/Cython-3.dist-info"]


def test_a_package_says_how_it_came_here():
    by_name = {one["name"]: one for one in json.loads(written())["components"]}
    assert by_name["Cython"]["hashes"] == [{"alg": "SHA-256", "content": B}] and by_name["Cython"]["purl"] == "pkg:pypi/cython@3"
    assert {"name": "vouchgate:python:record", "value": "altered"} in by_name["Broken"]["properties"]
    assert {"name": "vouchgate:python:unowned-file", "value": "lib/evil.pth"} in by_name["Python environment"]["properties"]


HOSTILE = st.text(max_size=30)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(HOSTILE, HOSTILE, HOSTILE, st.sampled_from(SPECS))
def test_whatever_a_model_says_of_itself_the_document_is_valid(first, second, third, spec):
    try:
        (first + second + third).encode()
    except UnicodeEncodeError:
        return
    claims = Claims(
        license_text=first, base_models=(second,), datasets=(third,), task=first, model_type=second, notes=(third,), languages=(first,)
    )
    said = Metadata(name="x", version="1", license_text=second, summary=third)
    environment = Environment(
        python=first, distributions=(Distribution(folder=second, metadata=said, source=Source(url=third, commit=first), installer=first),)
    )
    document = write_bom(model(name=first or "x", claims=claims), environment, spec=spec, timestamp=AT, version="1")
    assert read_bom(document).faults == ()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{}", "no CycloneDX"),
        (b"[]", "not a JSON object"),
        (b"{", "strict JSON"),
        (b'{"bomFormat": "CycloneDX", "bomFormat": "CycloneDX", "specVersion": "1.6"}', "strict JSON"),
        (b'{"bomFormat": "CycloneDX", "specVersion": "1.5"}', "is of CycloneDX"),
        (b'{"bomFormat": "CycloneDX", "specVersion": 1.6}', "no CycloneDX"),
        (b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1e999}', "strict JSON"),
        (b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "x": "\\ud800"}', "strict JSON"),
    ],
)
def test_what_is_no_document_is_refused(data, why):
    with pytest.raises(InvalidInput, match=why):
        read_bom(data)


@pytest.mark.parametrize(
    "members",
    [
        {"unknown": 1},
        {"version": 0},
        {"serialNumber": "urn:uuid:1"},
        {"components": [{"type": "library"}]},
        {"components": [{"type": "car", "name": "x"}]},
        {"components": [{"type": "file", "name": "x", "hashes": [{"alg": "SHA-256", "content": "zz"}]}]},
        {"metadata": {"timestamp": "yesterday"}},
    ],
)
def test_what_the_schema_forbids_is_a_fault(members):
    found = read_bom(changed(**members))
    assert found.faults and not found.is_ours


def test_references_lead_somewhere_and_are_unique():
    document = json.loads(written())
    twice = [*document["components"], document["components"][0] | {"name": "other"}]
    assert any("two components" in fault for fault in read_bom(changed(components=twice)).faults)
    assert any("not in the document" in fault for fault in read_bom(changed(components=document["components"][1:])).faults)
    double = [*document["dependencies"], {"ref": "model", "dependsOn": []}]
    assert any("stand twice" in fault for fault in read_bom(changed(dependencies=double)).faults)


def test_components_nest_within_a_bound():
    nested = {"type": "file", "name": "x"}
    for _ in range(MAX_DEPTH + 2):
        nested = {"type": "file", "name": "x", "components": [nested]}
    with pytest.raises(InvalidInput, match="deeper"):
        read_bom(changed(components=[nested], dependencies=[]))


def test_a_changed_document_does_not_have_its_serial_number():
    document = json.loads(written())
    document["components"][0]["hashes"][0]["content"] = "cc" * 32
    assert read_bom(encode(document)).faults == ("the serial number is not that of the content: it was changed",)


def test_another_tools_document_is_read_without_our_layout():
    other = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [{"type": "library", "name": "x", "purl": "pkg:pypi/x@1.0?a=b"}],
    }
    found = read_bom(encode(other))
    assert not found.faults and not found.is_ours and found.packages[0].pypi == ("x", "1.0")


KEYS = [KEY, ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1())]


@pytest.mark.parametrize("key", KEYS, ids=["ed25519", "p256", "p384", "p521"])
def test_what_was_signed_verifies_and_names_its_subject(key):
    envelope = sign_bom(read_bom(written()), key)
    found = verify_bom(envelope, key.public_key())
    assert found.is_ours and same(found, json.loads(written())) and not same(found, json.loads(written(release="2")))
    statement = json.loads(parse_envelope(envelope).payload)
    assert statement["predicateType"] == "https://cyclonedx.org/bom" and statement["subject"][0]["digest"] == {"vouchgateTreeV1": A}


def test_another_key_or_kind_of_key_does_not_verify():
    envelope = sign_bom(read_bom(written()), KEY)
    for key in (Ed25519PrivateKey.generate(), *KEYS[1:]):
        with pytest.raises(Unverified):
            verify_bom(envelope, key.public_key())
    with pytest.raises(InvalidInput, match="curve"):
        sign_bom(read_bom(written()), ec.generate_private_key(ec.SECP256K1()))


def test_every_changed_byte_is_found():
    envelope = sign_bom(read_bom(written(environment=None)), KEY)
    for position in range(0, len(envelope), 97):
        twisted = bytearray(envelope)
        twisted[position] ^= 1
        with pytest.raises((Unverified, InvalidInput)):
            verify_bom(bytes(twisted), KEY.public_key())


def statement(**changes):
    document = json.loads(written())
    said = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "m", "digest": {"vouchgateTreeV1": A}}],
        "predicateType": "https://cyclonedx.org/bom",
        "predicate": document,
    }
    return encode(said | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"subject": []},
        {"subject": [{"name": "m", "digest": {"vouchgateTreeV1": B}}]},
        {"subject": [{"name": "m", "digest": {"sha256": A}}]},
        {"subject": [{"name": "m", "digest": {"vouchgateTreeV1": A, "sha256": B}}]},
        {"subject": [{"name": "m", "digest": {"vouchgateTreeV1": A}}] * 2},
        {"more": 1},
        {"predicate": {"bomFormat": "CycloneDX"}},
        {"predicate": []},
    ],
)
def test_a_statement_about_other_content_does_not_count_although_it_is_signed(changes):
    payload = statement(**changes)
    envelope = write_envelope(Envelope(PAYLOAD_TYPE, payload, (Signature("", KEY.sign(pae(PAYLOAD_TYPE, payload))),)))
    with pytest.raises((Unverified, InvalidInput)):
        verify_bom(envelope, KEY.public_key())
    assert statement_bom(statement()).is_ours


def test_only_a_sound_document_of_ours_is_signed():
    foreign = encode({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1})
    for data in (foreign, changed(version=0)):
        with pytest.raises(InvalidInput):
            sign_bom(read_bom(data), KEY)


def test_a_named_key_is_the_one_that_signed():
    payload = statement()
    envelope = write_envelope(Envelope(PAYLOAD_TYPE, payload, (Signature("k", KEY.sign(pae(PAYLOAD_TYPE, payload))),)))
    with pytest.raises(Unverified, match="another key"):
        verify_bom(envelope, KEY.public_key())


def test_two_signatures_are_not_one_signers_word():
    payload = statement()
    good = KEY.sign(pae(PAYLOAD_TYPE, payload))
    envelope = write_envelope(Envelope(PAYLOAD_TYPE, payload, (Signature("", good), Signature("b", b"x"))))
    with pytest.raises(InvalidInput, match="more than one signature"):
        verify_bom(envelope, KEY.public_key())

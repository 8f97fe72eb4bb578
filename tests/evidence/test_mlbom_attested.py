"""Attestations as the index hands them out, verified under a Sigstore instance of the tests' own, from a folder to a package's class."""

import base64
import hashlib
import json
from functools import partial

import pytest
from sigstore_world import NOW, World

from vouchgate.evidence import pep740
from vouchgate.evidence.bom.locks import identity_of
from vouchgate.evidence.bom.read import read_bom
from vouchgate.evidence.sigstore.root import read_trusted_root
from vouchgate.flows.describe_gaps import Asked, look_up
from vouchgate.ports.artifact_files import Place
from vouchgate.vocabulary.vouches import UnixMillis

WHEEL = "alpha-1.0-py3-none-any.whl"
DIGEST = hashlib.sha256(b"wheel").hexdigest()
AT = UnixMillis((NOW + 3600) * 1000)
WORLD = World()
PIN = (("alpha", identity_of("https://github.com/example/model")),)


def attestation(world=WORLD, digest=DIGEST, name=WHEEL):
    payload = json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": {"sha256": digest}}],
            "predicateType": "https://docs.pypi.org/attestations/publish/v1",
            "predicate": None,
        }
    ).encode()
    bundle = world.bundle(payload)
    material, envelope = bundle["verificationMaterial"], bundle["dsseEnvelope"]
    return {
        "version": 1,
        "verification_material": {"certificate": material["certificate"]["rawBytes"], "transparency_entries": material["tlogEntries"]},
        "envelope": {"statement": envelope["payload"], "signature": envelope["signatures"][0]["sig"]},
    }


def package(tmp_path, wire, pins=PIN, root=WORLD, now=AT):
    component = {
        "type": "library",
        "name": "alpha",
        "version": "1.0",
        "purl": "pkg:pypi/alpha@1.0",
        "hashes": [{"alg": "SHA-256", "content": DIGEST}],
    }
    bom = read_bom(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [component]}).encode())
    (tmp_path / f"{WHEEL}.provenance").write_text(
        json.dumps({"version": 1, "attestation_bundles": [{"publisher": {}, "attestations": [wire]}]})
    )
    trusted = read_trusted_root(json.dumps(root.root()).encode())
    asked = Asked(pins=pins, attestations=Place(str(tmp_path)), verify=partial(pep740.verify, root=trusted, now=now))
    found = look_up(bom, "b", asked, now)
    return found.packages[0], found.notes


def test_an_attested_package(tmp_path):
    found, notes = package(tmp_path, attestation())
    assert (found.provenance, found.publisher, notes) == ("attested", "https://github.com/example/model", ())


def test_a_publisher_whom_nobody_named(tmp_path):
    assert package(tmp_path, attestation(), pins=())[0].provenance == "locked"


def test_another_root_file_name_or_signature_does_not_hold(tmp_path):
    for number, (wire, root) in enumerate(
        [(attestation(World()), WORLD), (attestation(), World()), (attestation(name="beta-1.0-py3-none-any.whl"), WORLD)]
    ):
        (tmp_path / str(number)).mkdir()
        found, notes = package(tmp_path / str(number), wire, root=root)
        assert found.provenance == "locked" and "does not hold" in notes[0]


@pytest.mark.parametrize("part", ["statement", "signature"])
def test_a_changed_attestation_does_not_hold(tmp_path, part):
    wire = attestation()
    raw = bytearray(base64.b64decode(wire["envelope"][part]))
    raw[-2] ^= 1
    wire["envelope"][part] = base64.b64encode(raw).decode()
    assert package(tmp_path, wire)[0].provenance == "locked"

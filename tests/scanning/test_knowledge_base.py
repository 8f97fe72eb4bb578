"""The compiled knowledge base: nothing of it counts unless all of it is what was signed; allowances count for one digest, one name, a time."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from vouchgate.scanning.knowledge.base import MANIFEST, read
from vouchgate.scanning.knowledge.compare import changes, check_not_older
from vouchgate.scanning.knowledge.entries import Entry, Nothing
from vouchgate.scanning.knowledge.overlay import DAY_MS, allowed, fault_of, overlay
from vouchgate.scanning.knowledge.parts import Manifest, entries_of, part_of, write_manifest, write_part
from vouchgate.scanning.knowledge.sealed import seal
from vouchgate.scanning.knowledge.shipped import Unreadable, shipped, shipped_files
from vouchgate.scanning.scan import scan
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import Unverified
from vouchgate.vocabulary.vouches import Method, Subject, VerifiedVouch, Vouch
from vouchgate.vocabulary.wire import decode

KEY, OTHER = Ed25519PrivateKey.from_private_bytes(b"k" * 32), Ed25519PrivateKey.from_private_bytes(b"o" * 32)
PUBLISHERS = (base64.b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode(),)
DIGEST, ELSE = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NOW = 1_800_000_000_000


def entry(name, uses=("inert",), **fields):
    return Entry(module="lib.mod", name=name, uses=uses, library="lib", reviewer="generated", **fields)


ENTRIES = [
    entry("f"),
    entry("C", ("inert", "constructible")),
    entry("Outer.Inner", ("constructible",)),
    entry("g", ("callable",), arguments="none"),
]


def files(entries=ENTRIES, key=KEY, **fields):
    part = write_part(part_of("lib", [("1.0", "0" * 64)], list(entries)))
    from hashlib import sha256

    manifest = Manifest(**{"version": 3, "generator": "", "parts": {"lib.json": sha256(part).hexdigest()}, **fields})
    return {"lib.json": part, MANIFEST: seal(write_manifest(manifest), key)}


def test_what_was_written_is_read_back():
    base = read(files(), PUBLISHERS)
    assert {found.name: found.uses for found in base.entries()} == {one.name: one.uses for one in ENTRIES}
    assert base.find("lib.mod", "g").arguments == "none"
    assert base.find("lib.mod", "h") is None and base.find("lib", "mod.f") is None and base.find("lib.mod", "") is None


@pytest.mark.parametrize("name", ["lib.json", MANIFEST])
def test_any_flipped_byte_is_found(name):
    sound = files()
    for at in range(0, len(sound[name]), 7):
        broken = bytearray(sound[name])
        broken[at] ^= 1
        with pytest.raises(Unverified):
            read({**sound, name: bytes(broken)}, PUBLISHERS)


@pytest.mark.parametrize(
    "broken",
    [
        {"lib.json": None},
        {MANIFEST: None},
        {"more.json": b"{}"},
        {MANIFEST: b""},
        {MANIFEST: b"{}"},
    ],
    ids=["no part", "no manifest", "a part more", "an empty manifest", "an empty envelope"],
)
def test_what_is_not_whole_is_refused(broken):
    given = {name: data for name, data in {**files(), **broken}.items() if data is not None}
    with pytest.raises(Unverified):
        read(given, PUBLISHERS)


def test_another_key_is_refused():
    with pytest.raises(Unverified, match="not signed by a key"):
        read(files(key=OTHER), PUBLISHERS)


def test_two_signatures_or_another_spelling_are_refused():
    sound = files()
    envelope = json.loads(sound[MANIFEST])
    for changed in (
        {**envelope, "signatures": envelope["signatures"] * 2},
        {**envelope, "signatures": []},
        {**envelope, "payloadType": "text/plain"},
    ):
        with pytest.raises(Unverified):
            read({**sound, MANIFEST: json.dumps(changed).encode()}, PUBLISHERS)
    with pytest.raises(Unverified, match="canonical"):
        read({**sound, MANIFEST: json.dumps(envelope, indent=1).encode()}, PUBLISHERS)


def test_two_parts_that_speak_of_one_name_are_refused():
    from hashlib import sha256

    part = write_part(part_of("lib", [], [entry("f")]))
    parts = {"a.json": part, "b.json": part}
    manifest = Manifest(version=1, generator="", parts={name: sha256(data).hexdigest() for name, data in parts.items()})
    with pytest.raises(Unverified, match="two parts"):
        read({**parts, MANIFEST: seal(write_manifest(manifest), KEY)}, PUBLISHERS)


def test_writing_is_deterministic():
    part = part_of("lib", [("1.0", "0" * 64)], ENTRIES)
    assert write_part(part) == write_part(part_of("lib", [("1.0", "0" * 64)], ENTRIES[::-1]))
    again = decode(type(part), write_part(part))
    assert entries_of(again) == entries_of(part)


def test_what_ships_verifies_and_every_callable_was_reviewed():
    base = read(shipped_files())
    assert shipped().fault == "" and base.version >= 1
    unreviewed = [found.name for found in base.entries() if "callable" in found.uses and (found.reviewer == "generated" or not found.why)]
    assert not unreviewed


def test_an_unverified_base_makes_every_scan_incomplete():
    verdict = scan(
        b'{"__metadata__":{}}'.rjust(0) and (19).to_bytes(8, "little") + b'{"__metadata__":{}}',
        "m.safetensors",
        knowledge=Unreadable("changed"),
    )
    assert verdict.outcome != "clean"
    assert any(reason.rule == "knowledge:unverified" for reason in verdict.reasons)


def test_changes_show_what_may_act_first():
    new = [entry("f", ("callable",), arguments="none"), entry("D", ("constructible",)), entry("C"), entry("h")]
    found = [(change.what, change.name) for change in changes(ENTRIES, new)]
    assert found[0] == ("callable", "lib.mod.f") and found[1] == ("constructible", "lib.mod.D")
    assert ("less", "lib.mod.C") in found and ("less", "lib.mod.g") in found
    assert changes(ENTRIES, ENTRIES) == []


def test_an_older_version_is_refused():
    check_not_older(4, 4)
    with pytest.raises(Unverified, match="version 3"):
        check_not_older(3, 4)


def allowance(**fields):
    claims = {"module": "acme.features", "name": "Scaler", "use": "constructible", "why": "scales"} | fields.pop("claims", {})
    vouch = Vouch(
        id="1", trust_domain="acme.example", predicate_type="allow", predicate_version=1, outcome="pass", issuer_key="reviewer", issuer_role="reviewer",
        subjects=(Subject(name="vg://acme.example/artifact/x", digest=parse_digest(DIGEST)),), issued_at=NOW, not_before=NOW,
        expires_at=NOW + 30 * DAY_MS, method=Method(tool="t", version="1"), claims=claims,
    )  # fmt: skip
    return VerifiedVouch(vouch=replace(vouch, **fields), verified_at=NOW, trust_root_version=1)


def test_an_allowance_counts_for_its_artifact_and_changes_the_digest():
    base = Nothing()
    seen = overlay(base, [allowance()], DIGEST, NOW, authors=())
    assert seen.find("acme.features", "Scaler").uses == ("constructible",) and seen.digest != base.digest
    assert seen.find("acme.features", "Other") is None
    assert overlay(base, [allowance()], ELSE, NOW, authors=()) is base


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_at": NOW},
        {"expires_at": NOW + 91 * DAY_MS},
        {"not_before": NOW + 1},
        {"outcome": "fail"},
        {"predicate_type": "scan"},
        {"subjects": ()},
        {"subjects": (Subject(name="a", digest=parse_digest(DIGEST)), Subject(name="b", digest=parse_digest(ELSE)))},
        {"issuer_key": "author"},
        {"claims": {"module": "os", "name": "system"}},
        {"claims": {"module": "acme.os", "name": "a b"}},
        {"claims": {"use": "inert"}},
        {"claims": {"use": "callable"}},
        {"claims": {"arguments": "none"}},
        {"claims": {"name": ""}},
    ],
    ids=str,
)
def test_what_does_not_count_is_as_if_it_were_not_there(fields):
    assert allowed(allowance(**fields), DIGEST, NOW, {"author"}) is None


@pytest.mark.parametrize("module", ["os", "subprocess", "builtins", "__builtin__", "posix", "nt", "importlib.util"])
def test_nothing_of_the_standard_library_can_be_allowed(module):
    assert fault_of(module, "anything", "constructible", "")

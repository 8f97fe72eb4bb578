"""Models are signed and held to their signatures, both ways with the reference implementation where that is installed."""

import base64
import datetime
import importlib.util
import json
import os
from contextlib import closing

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vouchgate.evidence.model_signing import read_bundle, read_listing, sign_listing
from vouchgate.flows.sign_artifact import Signing, by_certificate, by_key, sign_model, verify_model
from vouchgate.ports.artifact_files import Place
from vouchgate.vocabulary.errors import InvalidInput, Unverified

KEY = ec.generate_private_key(ec.SECP256R1())
reference = pytest.mark.skipif(importlib.util.find_spec("model_signing") is None, reason="the library model-signing is not installed")


@pytest.fixture
def model(tmp_path):
    made = tmp_path / "model"
    (made / "a").mkdir(parents=True)
    (made / ".git").mkdir()
    for name in ("a/z.bin", "a.txt", "empty", ".git/config"):
        (made / name).write_bytes(name.encode() * 3000 if name != "empty" else b"")
    return made


def sign(path, key=KEY, **how):
    with closing(Place(str(path))) as place:
        return sign_model(place, Signing(key, **how))[0]


def verify(path, bundle, checked=None, without=()):
    with closing(Place(str(path))) as place:
        return verify_model(place, bundle, checked or by_key(KEY.public_key()), frozenset(without))


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_what_was_signed_verifies(model, curve):
    key = ec.generate_private_key(curve())
    found = verify(model, sign(model, key), by_key(key.public_key()))
    assert found.holds and found.files == 4
    assert verify(model / "a.txt", sign(model / "a.txt", key), by_key(key.public_key())).holds


def test_other_curves_sign_nothing(model):
    with pytest.raises(InvalidInput, match="curve"):
        sign(model, ec.generate_private_key(ec.SECP256K1()))


CHANGES = {
    "added": lambda m: (m / "new").write_bytes(b""),
    "hidden": lambda m: (m / ".git" / "hook").write_bytes(b"x"),
    "removed": lambda m: (m / "empty").unlink(),
    "renamed": lambda m: (m / "a.txt").rename(m / "b.txt"),
    "swapped": lambda m: ((m / "a.txt").rename(m / "x"), (m / "empty").rename(m / "a.txt"), (m / "x").rename(m / "empty")),
    "flipped": lambda m: (m / "a" / "z.bin").write_bytes(b"b" + (m / "a" / "z.bin").read_bytes()[1:]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_told(model, change):
    bundle = sign(model)
    CHANGES[change](model)
    found = verify(model, bundle)
    assert not found.holds and found.differences


def test_a_link_is_no_content(model):
    bundle = sign(model)
    (model / "a.txt").rename(model.parent / "kept")
    (model / "a.txt").symlink_to(model.parent / "kept")
    with pytest.raises(InvalidInput, match="link"):
        verify(model, bundle)
    with pytest.raises(InvalidInput, match="link"):
        sign(model)


def test_what_is_left_out_is_the_verifiers_choice(model):
    bundle = sign(model, without=frozenset({".git"}))
    found = verify(model, bundle)
    assert found.differences == ("`.git/config` is not covered by the signature: the signer's tool was told to ignore it",)
    assert found.ignored_by_signer == (".git",)
    assert verify(model, bundle, without={".git"}).holds
    assert verify(model, sign(model), without={".git"}).holds, "what was signed may be left out too"


def test_the_signature_of_another_model_or_key_does_not_hold(model, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_bytes(b"")
    assert not verify(model, sign(tmp_path / "other")).holds
    with pytest.raises(Unverified, match="another key"):
        verify(model, sign(model, ec.generate_private_key(ec.SECP256R1())))


def forged(bundle, change):
    wire = json.loads(bundle)
    return json.dumps(change(wire) or wire).encode()


def envelope(**members):
    return lambda wire: wire["dsseEnvelope"].update(members)


BROKEN = {
    "two signatures": lambda w: w["dsseEnvelope"]["signatures"].append(w["dsseEnvelope"]["signatures"][0]),
    "no signature": envelope(signatures=[]),
    "other type": envelope(payloadType="text/plain"),
    "loose base64": lambda w: w["dsseEnvelope"].update(payload=w["dsseEnvelope"]["payload"] + "\n"),
    "other media type": lambda w: w.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
    "unknown member": lambda w: w.update(extra=1),
    "two proofs": lambda w: w["verificationMaterial"].update(certificate={"rawBytes": ""}),
    "no proof": lambda w: w["verificationMaterial"].pop("publicKey") and None,
    "signature no object": envelope(signatures=["x"]),
    "material no object": lambda w: w.update(verificationMaterial=[]),
    "not an object": lambda w: [w],
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_bundle_that_is_not_exactly_one_is_refused(model, how):
    with pytest.raises(InvalidInput):
        verify(model, forged(sign(model), BROKEN[how]))


def test_a_member_that_stands_twice_is_refused(model):
    bundle = sign(model)
    for bad in (b'{"mediaType":"x",' + bundle[1:], b"[" * 100_000, b"\xff", bundle + b"{}", b'{"a":NaN}'):
        with pytest.raises(InvalidInput):
            verify(model, bad)


def test_a_changed_payload_or_signature_does_not_hold(model):
    def flip(name):
        def change(wire):
            holder = wire["dsseEnvelope"] if name == "payload" else wire["dsseEnvelope"]["signatures"][0]
            raw = bytearray(base64.b64decode(holder[name]))
            raw[len(raw) // 2] ^= 1
            holder[name] = base64.b64encode(raw).decode()

        return change

    for name in ("payload", "sig"):
        with pytest.raises(Unverified):
            verify(model, forged(sign(model), flip(name)))


def listing(model, change):
    statement = json.loads(read_bundle(sign(model)).payload)
    change(statement, statement["predicate"])
    return sign_listing(json.dumps(statement).encode(), KEY)


def renamed(to):
    return lambda s, p: p["resources"][0].update(name=to)


STATEMENTS = {
    "twice": lambda s, p: p["resources"].append(p["resources"][0]),
    "none": lambda s, p: p.update(resources=[]),
    "up": renamed("../x"),
    "absolute": renamed("/x"),
    "alone and others": renamed("."),
    "other digest": lambda s, p: p["resources"][0].update(algorithm="sha1"),
    "short digest": lambda s, p: p["resources"][0].update(digest="00"),
    "hash type": lambda s, p: p["serialization"].update(hash_type="blake2b"),
    "links": lambda s, p: p["serialization"].update(allow_symlinks=True),
    "links as text": lambda s, p: p["serialization"].update(allow_symlinks="false"),
    "method": lambda s, p: p["serialization"].update(method="dfs"),
    "shards of no size": lambda s, p: p["serialization"].update(method="shards"),
    "shards of one byte": lambda s, p: p["serialization"].update(method="shards", shard_size=1),
    "ignored no texts": lambda s, p: p["serialization"].update(ignore_paths=[1]),
    "root": lambda s, p: s["subject"][0]["digest"].update(sha256="00" * 32),
    "two subjects": lambda s, p: s["subject"].append(s["subject"][0]),
    "old predicate": lambda s, p: s.update(predicateType="https://model_signing/Digests/v0.1"),
    "another statement": lambda s, p: s.update(_type="https://in-toto.io/Statement/v0.1"),
}


@pytest.mark.parametrize("how", STATEMENTS)
def test_a_signed_statement_that_is_not_of_this_kind_is_refused(model, how):
    with pytest.raises(InvalidInput):
        verify(model, listing(model, STATEMENTS[how]))


def test_further_members_of_the_predicate_are_told(model):
    assert verify(model, listing(model, lambda s, p: p.update(card="x"))).notes == ("card",)


def certificate(name, key, issuer=None, issuer_key=None, *, ca=False, usage=True, purpose=None, days=(-1, 30)):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer_key or key).public_key()), critical=False)
        .add_extension(x509.KeyUsage(usage, False, False, False, False, ca, ca, False, False), critical=True)
    )
    if purpose:
        made = made.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return made.sign(issuer_key or key, hashes.SHA256())


ROOT_KEY, MIDDLE_KEY = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256R1())
ROOT = certificate("root", ROOT_KEY, ca=True, days=(-900, 900))
MIDDLE = certificate("middle", MIDDLE_KEY, ROOT, ROOT_KEY, ca=True, days=(-900, 900))
NOW = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)


def leaf(key=KEY, **how):
    return certificate("builder", key, MIDDLE, MIDDLE_KEY, **how)


def test_a_certificate_below_a_named_root_signs(model):
    for purpose in (None, ExtendedKeyUsageOID.CODE_SIGNING):
        bundle = sign(model, certificates=(leaf(purpose=purpose), MIDDLE))
        assert verify(model, bundle, by_certificate((ROOT,), NOW)).signer == "CN=builder"
        assert verify(model, bundle, by_certificate((ROOT,), NOW, "CN=builder")).holds
        with pytest.raises(Unverified, match="not by"):
            verify(model, bundle, by_certificate((ROOT,), NOW, "CN=other"))


def test_a_chain_that_does_not_hold_is_refused(model):
    payload = read_bundle(sign(model)).payload
    stranger = ec.generate_private_key(ec.SECP256R1())

    def by(*chain):
        return sign_listing(payload, KEY, tuple(one.public_bytes(Encoding.DER) for one in chain))

    bad = {
        "no way to the root": by(leaf()),
        "expired": by(leaf(days=(-20, -10)), MIDDLE),
        "not begun": by(leaf(days=(10, 20)), MIDDLE),
        "no signing": by(leaf(usage=False), MIDDLE),
        "web server": by(leaf(purpose=ExtendedKeyUsageOID.SERVER_AUTH), MIDDLE),
        "brings its own root": by(certificate("builder", KEY, certificate("root", stranger, ca=True), stranger)),
        "is a root itself": by(certificate("root", KEY, ca=True)),
        "no authority above": by(certificate("x", KEY, leaf(stranger), stranger), leaf(stranger), MIDDLE),
        "another's certificate": by(leaf(stranger), MIDDLE),
    }
    for why, bundle in bad.items():
        with pytest.raises(Unverified):
            verify(model, bundle, by_certificate((ROOT,), NOW))
            pytest.fail(why)
    assert verify(model, bad["expired"], by_certificate((ROOT,), NOW - 15 * 86_400_000)).holds, "the verifier names the time"
    with pytest.raises(InvalidInput):
        verify(model, sign_listing(payload, KEY, (b"\x30\x00",)), by_certificate((ROOT,), NOW))
    with pytest.raises(Unverified, match="certificate"):
        verify(model, by(leaf(), MIDDLE))
    with pytest.raises(Unverified, match="no certificate"):
        verify(model, sign(model), by_certificate((ROOT,), NOW))


def test_who_may_not_sign_is_told_before_signing(model):
    for wrong in (leaf(usage=False), leaf(purpose=ExtendedKeyUsageOID.SERVER_AUTH), leaf(ec.generate_private_key(ec.SECP256R1()))):
        with pytest.raises(InvalidInput):
            sign(model, certificates=(wrong,))


def files(folder, bundle=b""):
    (folder / "key.pem").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "key.pub").write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (folder / "own.pem").write_bytes(leaf().public_bytes(Encoding.PEM))
    (folder / "middle.pem").write_bytes(MIDDLE.public_bytes(Encoding.PEM))
    (folder / "root.pem").write_bytes(ROOT.public_bytes(Encoding.PEM))
    (folder / "ours.sig").write_bytes(bundle)


@reference
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("certified", [False, True])
def test_the_reference_implementation_verifies_what_we_sign(model, tmp_path, alone, certified):
    from model_signing import hashing, verifying

    target = model / "a.txt" if alone else model
    files(tmp_path, sign(target, certificates=(leaf(), MIDDLE) if certified else ()))
    config = verifying.Config().set_hashing_config(hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False))
    if certified:
        config.use_certificate_verifier(certificate_chain=[tmp_path / "root.pem"])
    else:
        config.use_elliptic_key_verifier(public_key=tmp_path / "key.pub")
    config.verify(target, tmp_path / "ours.sig")
    target = model / "a.txt"
    target.write_bytes(b"other")
    with pytest.raises(ValueError, match="mismatch"):
        config.verify(target if alone else model, tmp_path / "ours.sig")


@reference
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("certified", [False, True])
def test_we_verify_what_the_reference_implementation_signs(model, tmp_path, sharded, certified):
    from model_signing import hashing, signing

    files(tmp_path)
    how = hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
    if sharded:
        (model / "empty").write_bytes(b"x" * 8192)
        how = how.use_shard_serialization(shard_size=4096)
    config = signing.Config().set_hashing_config(how)
    if certified:
        config.use_certificate_signer(
            private_key=tmp_path / "key.pem", signing_certificate=tmp_path / "own.pem", certificate_chain=[tmp_path / "middle.pem"]
        )
    else:
        config.use_elliptic_key_signer(private_key=tmp_path / "key.pem")
    config.sign(model, tmp_path / "theirs.sig")
    bundle = (tmp_path / "theirs.sig").read_bytes()
    checked = by_certificate((ROOT,), NOW) if certified else by_key(KEY.public_key())
    found = verify(model, bundle, checked)
    assert found.holds, found.differences
    (model / "a" / "z.bin").write_bytes(b"z" * 20_000)
    assert verify(model, bundle, checked).differences == ("`a/z.bin` is not what was signed",)


@reference
def test_what_the_reference_implementation_ignores_by_default_is_not_covered(model, tmp_path):
    from model_signing import signing

    files(tmp_path)
    signing.Config().use_elliptic_key_signer(private_key=tmp_path / "key.pem").sign(model, tmp_path / "theirs.sig")
    bundle = (tmp_path / "theirs.sig").read_bytes()
    found = verify(model, bundle)
    assert not found.holds and ".git" in found.ignored_by_signer
    assert verify(model, bundle, without={".git"}).holds


def test_a_listing_of_many_files_is_read(tmp_path):
    assert os.sep == "/"
    rows = [{"name": f"d/{one:06}", "algorithm": "sha256", "digest": f"{one:064x}"} for one in range(100_000)]
    import hashlib

    root = hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in rows)).hexdigest()
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "m", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {"serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False}, "resources": rows},
    }
    bundle = read_bundle(sign_listing(json.dumps(statement).encode(), KEY))
    assert len(read_listing(bundle.payload).digests) == 100_000

"""Sigstore bundles under a pinned root: what holds, and one thing wrong at a time. The instance is the tests' own, in the real formats."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import sigstore_world as s
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.evidence.sigstore.bundle import read_sigstore_bundle
from vouchgate.evidence.sigstore.root import read_trusted_root
from vouchgate.evidence.sigstore.verify import Expected, Signed, verify, verify_any
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis

W = s.World()
ROOT = W.root()
FILE = b"weights"
DIGEST = hashlib.sha256(FILE).digest()
NOW = UnixMillis(s.NOW * 1000 + 5_000)
Wire = dict[str, Any]


def held(bundle: Wire, root: Wire = ROOT, *, digest: bytes = b"", now: int = NOW, expected: Expected | None = None) -> Signed:
    read, pinned = read_sigstore_bundle(s.dump(bundle)), read_trusted_root(s.dump(root))
    return (
        verify(read, pinned, expected, UnixMillis(now), digest=digest)
        if expected
        else verify_any(read, pinned, UnixMillis(now), digest=digest)
    )


def changed(value: Wire, *path: Any, to: Any = None, drop: bool = False) -> Wire:
    """A copy with one member set, or taken away."""
    made = copy.deepcopy(value)
    here: Any = made
    for step in path[:-1]:
        here = here[step]
    if drop:
        del here[path[-1]]
    else:
        here[path[-1]] = to(here[path[-1]]) if callable(to) else to
    return made


def flipped(text: str) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[len(raw) // 2] ^= 1
    return s.b64(bytes(raw))


ENTRY = ("verificationMaterial", "tlogEntries", 0)
PROOF = (*ENTRY, "inclusionProof")
STAMPS = ("verificationMaterial", "timestampVerificationData", "rfc3161Timestamps")
GOOD, SECOND, BLOB = W.bundle(), W.bundle(generation=2), W.bundle(file=FILE)


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("over", ["payload", "file", "older kind"])
def test_what_was_signed_and_logged_holds(generation: int, over: str) -> None:
    how: Wire = {"file": {"file": FILE}, "payload": {}, "older kind": {"kind": "intoto" if generation == 1 else "dsse"}}[over]
    found = held(W.bundle(generation=generation, **how), digest=DIGEST if over == "file" else b"")
    assert (found.signer.identity, found.signer.issuer) == (s.IDENTITY, s.ISSUER)
    assert found.signer.claims == {"repository": s.CLAIMS[12], "commit": s.CLAIMS[13], "ref": s.CLAIMS[14]}
    assert found.at == s.NOW * 1000 + (1000 if generation == 2 else 0)


def test_a_promise_and_a_timestamp_give_the_earlier_time() -> None:
    signature = W.signer.sign(s.pae(b"{}"), ec.ECDSA(s.hashes.SHA256()))
    bundle = W.bundle(b"{}", signature=signature, at=s.NOW + 30, tokens=[W.tsa.stamp(signature, s.NOW + 2)])
    assert held(bundle, now=NOW + 60_000).at == (s.NOW + 2) * 1000


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_older_bundles_bring_a_chain_of_which_only_the_first_counts(version: str) -> None:
    leaf = GOOD["verificationMaterial"]["certificate"]
    strange = {"rawBytes": s.b64(s.Issuing(ExtendedKeyUsageOID.CODE_SIGNING).root.public_bytes(s.Encoding.DER))}
    material = {key: value for key, value in GOOD["verificationMaterial"].items() if key != "certificate"}
    old = GOOD | {
        "mediaType": f"application/vnd.dev.sigstore.bundle+json;version={version}",
        "verificationMaterial": material | {"x509CertificateChain": {"certificates": [leaf, strange]}},
    }
    assert held(old).signer.identity == s.IDENTITY
    other = changed(old, "verificationMaterial", "x509CertificateChain", "certificates", to=lambda chain: chain[::-1])
    with pytest.raises((Unverified, InvalidInput)):
        held(other)


@pytest.mark.parametrize(
    ("identity", "issuer", "takes"),
    [
        (s.IDENTITY, s.ISSUER, True),
        (s.IDENTITY.partition("@")[0] + "@*", s.ISSUER, True),
        (s.IDENTITY, "https://accounts.example", False),
        (s.IDENTITY, "", False),
        ("", s.ISSUER, False),
        ("@*", s.ISSUER, False),
        (s.IDENTITY + "0", s.ISSUER, False),
        (s.IDENTITY[:-1] + "*", s.ISSUER, False),
        (s.IDENTITY.partition("@")[0], s.ISSUER, False),
        (s.IDENTITY.partition("@")[0][:-1] + "@*", s.ISSUER, False),
        ("https://github.com/example/@*", s.ISSUER, False),
    ],
)
def test_identity_and_issuer_are_both_demanded(identity: str, issuer: str, takes: bool) -> None:
    if takes:
        assert held(GOOD, expected=Expected(identity, issuer)).signer.identity == s.IDENTITY
    else:
        with pytest.raises(Unverified, match="was signed by"):
            held(GOOD, expected=Expected(identity, issuer))


@pytest.mark.parametrize(
    ("expected", "identity"),
    [
        ("alice@*", "alice@evil.example"),
        ("https://github.com/example/model/.github/workflows/release.yml@*", "https://github.com/example/model/.github/workflows/release.yml@evil.example"),
    ],
)  # fmt: skip
def test_an_open_ref_opens_nothing_else(expected: str, identity: str) -> None:
    bundle = W.bundle(leaf=W.leaf(identity=identity))
    assert held(bundle).signer.identity == identity
    with pytest.raises(Unverified, match="was signed by"):
        held(bundle, expected=Expected(expected, s.ISSUER))


def leaf(**how: Any) -> Callable[[], Wire]:
    return lambda: W.bundle(leaf=W.leaf(**how))


OTHER = s.World()
BAD: dict[str, tuple[Callable[[], Wire], str]] = {
    "payload of another": (lambda: changed(GOOD, "dsseEnvelope", "payload", to=s.b64(b'{"_type":"y"}')), "another signature"),
    "type of another": (lambda: changed(GOOD, "dsseEnvelope", "payloadType", to="text/plain"), "does not hold"),
    "signature flipped": (lambda: changed(GOOD, "dsseEnvelope", "signatures", 0, "sig", to=flipped), "another signature"),
    "signature of another key": (lambda: W.bundle(key=ec.generate_private_key(ec.SECP256R1())), "signature does not hold"),
    "signature empty": (lambda: changed(GOOD, "dsseEnvelope", "signatures", 0, "sig", to=""), "another signature"),
    "certificate of another authority": (leaf(by=OTHER.fulcio), "certificate does not hold"),
    "certificate for servers": (leaf(purpose=ExtendedKeyUsageOID.SERVER_AUTH), "code signing"),
    "certificate that does not sign": (leaf(signs=False), "digitalSignature"),
    "certificate expired when signed": (leaf(at=s.NOW - 7200), "not valid"),
    "certificate not begun when signed": (leaf(at=s.NOW + 60), "not valid"),
    "no certificate log": (leaf(stamps=0), "0 timestamps"),
    "two certificate logs": (leaf(stamps=2), "2 timestamps"),
    "certificate log unknown": (leaf(log=OTHER.ct), "does not know for that time"),
    "certificate logged was another": (leaf(stamp_of=b"another"), "did not take in"),
    "certificate logged before the log began": (leaf(stamp_at=1_500_000_000), "does not know for that time"),
    "nobody named": (leaf(names=[x509.DNSName("build.example")]), "one mail address or URI"),
    "two named": (leaf(names=[x509.RFC822Name("a@b.example"), x509.RFC822Name("c@d.example")]), "one mail address or URI"),
    "no issuer of the identity": (leaf(issuer=None), "who vouched"),
    "two issuers of the identity": (leaf(raw={1: b"https://other.example"}), "who vouched"),
    "issuer that is no DER": (leaf(raw={8: b"https://token.example"}), "cannot be read"),
    "claim that hides": (leaf(claims={12: "https://github.com/example/model\u202e"}), "cannot be shown"),
    "key of another kind": (
        lambda: W.bundle(leaf=W.leaf(key=(key := ec.generate_private_key(ec.SECP256K1()))), key=key),
        "not hold|not known",
    ),
    "log unknown": (lambda: W.bundle(log=s.Rekor()), "does not know"),
    "log claims to be another": (lambda: W.bundle(log=_posing()), "not signed by the log"),
    "entry of another payload": (lambda: W.bundle(logged={"payload": b"{}"}), "another signature"),
    "entry of another signature": (lambda: W.bundle(logged={"signature": b"0" * 70}), "another signature"),
    "entry of another signer": (lambda: W.bundle(logged={"leaf": OTHER.leaf()}), "another signature"),
    "entry of a file": (lambda: W.bundle(kind="hashedrekord"), "not one for such"),
    "entry says another kind than its body": (lambda: changed(GOOD, *ENTRY, "kindVersion", "kind", to="intoto"), "times|given|not one for such|gives none"),
    "body flipped": (lambda: changed(GOOD, *ENTRY, "canonicalizedBody", to=flipped), "not of the tree"),
    "proof flipped": (lambda: changed(GOOD, *PROOF, "hashes", 0, to=flipped), "not of the tree"),
    "proof too short": (lambda: changed(GOOD, *PROOF, "hashes", to=lambda hashes: hashes[:-1]), "not of this place"),
    "proof too long": (lambda: changed(GOOD, *PROOF, "hashes", to=lambda hashes: [*hashes, hashes[0]]), "not of this place|not of the tree"),
    "proof with a short hash": (lambda: changed(GOOD, *PROOF, "hashes", 0, to=s.b64(b"x" * 31)), "not of this place"),
    "proof of another place": (lambda: changed(GOOD, *PROOF, "logIndex", to="4"), "not of"),
    "proof beyond the log": (lambda: changed(GOOD, *PROOF, "logIndex", to="99"), "outside the log"),
    "proof of another size": (lambda: changed(GOOD, *PROOF, "treeSize", to="1000"), "not of"),
    "proof of another root": (lambda: changed(GOOD, *PROOF, "rootHash", to=flipped), "not of the tree"),
    "checkpoint of another root": (lambda: _checkpoint(root=b"\0" * 32), "not of the tree"),
    "checkpoint of another size": (lambda: _checkpoint(size=3), "not of the tree"),
    "checkpoint not signed": (lambda: changed(GOOD, *PROOF, "checkpoint", "envelope", to=lambda note: note.partition("\u2014")[0]), "malformed"),
    "checkpoint signed by another": (lambda: _checkpoint(by=OTHER.rekor), "not signed by the log"),
    "checkpoint with a late line": (
        lambda: changed(GOOD, *PROOF, "checkpoint", "envelope", to=lambda note: note.replace("\n\n", "\nmore\n\n")),
        "not signed by the log",
    ),
    "promise flipped": (lambda: changed(GOOD, *ENTRY, "inclusionPromise", "signedEntryTimestamp", to=flipped), "does not hold"),
    "promise of another time": (lambda: changed(GOOD, *ENTRY, "integratedTime", to=str(s.NOW - 30)), "does not hold"),
    "promise of another place": (lambda: changed(GOOD, *ENTRY, "logIndex", to="7"), "does not hold"),
    "promise without a time": (lambda: changed(GOOD, *ENTRY, "integratedTime", drop=True), "without a time"),
    "time without a promise": (lambda: changed(GOOD, *ENTRY, "inclusionPromise", drop=True), "nobody says when"),
    "no time at all": (lambda: W.bundle(generation=2, tokens=[]), "nobody says when"),
    "signed in the future": (lambda: W.bundle(leaf=W.leaf(at=s.NOW + 7000), at=s.NOW + 7200), "in the future"),
    "a bare key": (
        lambda: changed(changed(GOOD, "verificationMaterial", "certificate", drop=True), "verificationMaterial", "publicKey", to={"hint": "x"})
        if False
        else GOOD | {"verificationMaterial": {"publicKey": {"hint": "x"}, "tlogEntries": GOOD["verificationMaterial"]["tlogEntries"]}},
        "bare key",
    ),
    "no entry": (lambda: changed(GOOD, "verificationMaterial", "tlogEntries", to=[]), "0 entries"),
    "two entries": (lambda: changed(GOOD, "verificationMaterial", "tlogEntries", to=lambda many: many * 2), "2 entries"),
    "two signatures": (lambda: changed(GOOD, "dsseEnvelope", "signatures", to=lambda many: many * 2), "2 signatures"),
    "payload and file": (lambda: GOOD | {"messageSignature": BLOB["messageSignature"]}, "one signature"),
    "no content": (lambda: {key: value for key, value in GOOD.items() if key != "dsseEnvelope"}, "one signature"),
    "another version": (lambda: GOOD | {"mediaType": "application/vnd.dev.sigstore.bundle.v0.4+json"}, "stands elsewhere"),
    "a member more": (lambda: GOOD | {"trustedRoot": ROOT}, "not known"),
    "a member more of the entry": (lambda: changed(GOOD, *ENTRY, "verified", to=True), "not known"),
    "a number that is none": (lambda: changed(GOOD, *ENTRY, "logIndex", to="-1"), "number"),
    "a number too large": (lambda: changed(GOOD, *PROOF, "treeSize", to=str(2**63)), "number"),
    "a number that is true": (lambda: changed(GOOD, *PROOF, "treeSize", to=True), "number"),
    "base64 of another spelling": (lambda: changed(GOOD, *PROOF, "rootHash", to=lambda text: text.rstrip("=")), "base64"),
    "no proof": (lambda: changed(GOOD, *ENTRY, "inclusionProof", drop=True), "inclusionProof"),
}  # fmt: skip


def _posing() -> s.Rekor:
    class Posing(s.Rekor):
        id = W.rekor.id

    return Posing()


def _checkpoint(*, root: bytes | None = None, size: int | None = None, by: s.Rekor | None = None) -> Wire:
    proof = GOOD["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    note = (by or W.rekor).checkpoint(size or int(proof["treeSize"]), root or base64.b64decode(proof["rootHash"]))
    return changed(GOOD, *PROOF, "checkpoint", "envelope", to=note)


@pytest.mark.parametrize("case", BAD)
def test_one_thing_wrong_is_refused(case: str) -> None:
    assert held(GOOD)
    make, why = BAD[case]
    with pytest.raises((Unverified, InvalidInput), match=why) as told:
        held(make())
    assert told.value.remedy


TSA = W.tsa
STRANGE = s.Stamping()
TOKENS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "of another message": (lambda message: TSA.stamp(message + b"x"), "another signature"),
    "not granted": (lambda message: TSA.stamp(message, status=2), "not granted"),
    "of another authority": (STRANGE.stamp, "does not know"),
    "by another key": (lambda message: TSA.stamp(message, key=STRANGE.key), "does not hold"),
    "that names another certificate": (lambda message: TSA.stamp(message, named=b"\0" * 32), "does not name"),
    "whose attributes are of another": (lambda message: TSA.stamp(message, over=b"0"), "another time"),
    "of another content type": (lambda message: TSA.stamp(message, attribute_type="1.2.840.113549.1.7.1"), "what it is over"),
    "with extensions": (lambda message: TSA.stamp(message, extensions=s.tlv(0xA1, s.tlv(0x30))), "extensions"),
    "with two signers": (lambda message: TSA.stamp(message, signers=2), "2 signers"),
    "before the authority was there": (lambda message: TSA.stamp(message, 1_500_000_000), "not hold at its time"),
    "after the certificate ended": (lambda message: TSA.stamp(message, s.NOW + 3), "certificate does not hold"),
    "with a time that is none": (lambda message: TSA.stamp(message, time=b"20261332250000Z"), "malformed"),
    "with an offset": (lambda message: TSA.stamp(message, time=b"20260101000000+0100"), "malformed"),
    "with a byte more": (lambda message: TSA.stamp(message) + b"\0", "another kind|cut off"),
    "cut off": (lambda message: TSA.stamp(message)[:-1], "cut off"),
    "empty": (lambda message: b"0", "cut off"),
}


@pytest.mark.parametrize("case", TOKENS)
def test_a_timestamp_that_does_not_hold_refuses(case: str) -> None:
    make, why = TOKENS[case]
    short = {"leaf": W.leaf(at=s.NOW - 598)} if case.startswith("after") else {}
    signature = W.signer.sign(s.pae(b"{}"), ec.ECDSA(s.hashes.SHA256()))
    good = W.bundle(b"{}", generation=2, signature=signature, tokens=[TSA.stamp(signature)], **short)
    assert held(good)
    with pytest.raises((Unverified, InvalidInput), match=why):
        held(W.bundle(b"{}", generation=2, signature=signature, tokens=[make(signature)], **short))


def test_a_false_timestamp_beside_a_promise_refuses_too() -> None:
    with pytest.raises(Unverified, match="another signature"):
        held(W.bundle(tokens=[TSA.stamp(b"x")]))
    twice = TSA.stamp(b"x")
    with pytest.raises(InvalidInput, match="twice"):
        held(W.bundle(tokens=[twice, twice]))
    with pytest.raises(InvalidInput, match="more than"):
        held(W.bundle(tokens=[TSA.stamp(b"%d" % one) for one in range(9)]))


def test_a_timestamp_by_a_certificate_for_more_than_timestamps_refuses() -> None:
    world = s.World()
    world.tsa.own = world.tsa.certificate(ExtendedKeyUsageOID.CODE_SIGNING)
    with pytest.raises(Unverified, match="other purposes"):
        held(world.bundle(generation=2), world.root())


PINS: dict[str, tuple[Wire, str]] = {
    "no log": (W.root(tlogs=[]), "no log"),
    "no authority": (W.root(certificateAuthorities=[]), "no certificate authority"),
    "another instance": (OTHER.root(), "does not know"),
    "log ended": (changed(ROOT, "tlogs", 0, "publicKey", "validFor", to={"start": "2020-01-01T00:00:00Z", "end": "2025-01-01T00:00:00.5Z"}), "log did not count"),
    "log not begun": (changed(ROOT, "tlogs", 0, "publicKey", "validFor", to={"start": "2030-01-01T00:00:00Z"}), "log did not count"),
    "authority ended": (changed(ROOT, "certificateAuthorities", 0, "validFor", to={"start": "2020-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z"}), "did not count"),
    "certificate log ended": (changed(ROOT, "ctlogs", 0, "publicKey", "validFor", to={"start": "2020-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z"}), "for that time"),
    "no certificate log": (W.root(ctlogs=[]), "for that time"),
    "log's key of another": (changed(ROOT, "tlogs", 0, "publicKey", "rawBytes", to=s.b64(s.spki(OTHER.rekor.key))), "not signed by the log"),
    "log's key of another kind": (changed(ROOT, "tlogs", 0, "publicKey", "keyDetails", to="PKIX_ED25519"), "another kind"),
    "log's key of an unknown kind": (changed(ROOT, "tlogs", 0, "publicKey", "keyDetails", to="ML_DSA_65"), "does not know"),
    "two logs of one id": (changed(ROOT, "tlogs", to=lambda logs: [logs[0], *logs]), "two logs"),
    "a member more": (ROOT | {"extra": 1}, "not known"),
    "another document": (ROOT | {"mediaType": "application/json"}, "not a Sigstore trusted root"),
    "a time that is none": (changed(ROOT, "tlogs", 0, "publicKey", "validFor", "start", to="yesterday"), "not a time"),
    "no window": (changed(ROOT, "tlogs", 0, "publicKey", "validFor", drop=True), "start"),
    "a certificate that is none": (changed(ROOT, "certificateAuthorities", 0, "certChain", "certificates", 0, "rawBytes", to=s.b64(b"x")), "cannot be read"),
    "only the issuer, without its root": (changed(ROOT, "certificateAuthorities", 0, "certChain", "certificates", to=lambda many: many[1:]), "certificate does not hold"),
}  # fmt: skip


@pytest.mark.parametrize("case", PINS)
def test_a_pinned_root_that_does_not_fit_refuses(case: str) -> None:
    root, why = PINS[case]
    with pytest.raises((Unverified, InvalidInput), match=why):
        held(GOOD, root)


def test_a_second_generation_needs_a_pinned_timestamp_authority() -> None:
    assert held(SECOND)
    with pytest.raises(Unverified, match="authority that the trusted root does not know"):
        held(SECOND, W.root(timestampAuthorities=[]))


def test_a_file_s_bundle_needs_the_file_and_a_statement_s_has_none() -> None:
    assert held(BLOB, digest=DIGEST)
    for bundle, digest, why in (
        (BLOB, b"", "no file was named"),
        (BLOB, b"\0" * 32, "another file"),
        (GOOD, DIGEST, "not the file itself"),
    ):
        with pytest.raises((Unverified, InvalidInput), match=why):
            held(bundle, digest=digest)
    silent = changed(BLOB, "messageSignature", "messageDigest", to=None)
    assert held(silent, digest=DIGEST)
    with pytest.raises(Unverified, match="of another signature"):
        held(silent, digest=b"\0" * 32)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_flipped_byte_passes(data: st.DataObject) -> None:
    """Whatever is changed in a bundle, it is refused, or it is the same bundle as before to the reader."""
    bundle = data.draw(st.sampled_from([GOOD, SECOND]))
    raw = bytearray(json.dumps(bundle, ensure_ascii=False).encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    root = read_trusted_root(s.dump(ROOT))
    try:
        read = read_sigstore_bundle(bytes(raw))
        verify_any(read, root, NOW)
    except (Unverified, InvalidInput):
        return
    assert _told(read) == _told(read_sigstore_bundle(s.dump(bundle))), at


def _told(read: Any) -> Any:
    """What of a bundle decides; the name beside a checkpoint's signature does not, nor the certificate that a timestamp brings along."""
    return read.certificate, read.content, read.signature, read.entry.body, read.entry.proof.root, read.entry.integrated_at


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_get_a_typed_answer(raw: bytes) -> None:
    from vouchgate.evidence.sigstore.timestamp import check_timestamp

    root = read_trusted_root(s.dump(ROOT))
    for read in (read_sigstore_bundle, read_trusted_root, lambda data: check_timestamp(data, b"", root.timestampers)):
        with pytest.raises((InvalidInput, Unverified)):
            read(raw)


@pytest.mark.parametrize("cut", range(0, 1400, 37))
def test_a_timestamp_that_is_cut_or_changed_anywhere_is_refused(cut: int) -> None:
    from vouchgate.evidence.sigstore.timestamp import check_timestamp

    root = read_trusted_root(s.dump(ROOT))
    token = TSA.stamp(b"message")
    assert check_timestamp(token, b"message", root.timestampers) == (s.NOW + 1) * 1000
    place = cut % len(token)
    embedded = token.find(TSA.own.public_bytes(s.Encoding.DER))
    with pytest.raises((InvalidInput, Unverified)):
        check_timestamp(token[:place], b"message", root.timestampers)
    broken = bytearray(token)
    broken[place] ^= 0x10
    if embedded - 4 <= place < embedded + len(TSA.own.public_bytes(s.Encoding.DER)):
        return  # the certificate that a token brings along is not looked at
    with pytest.raises((InvalidInput, Unverified)):
        check_timestamp(bytes(broken), b"message", root.timestampers)


def test_keys_of_other_curves_sign_payloads_with_their_own_hash() -> None:
    for curve, algorithm in ((ec.SECP384R1(), s.hashes.SHA384()), (ec.SECP521R1(), s.hashes.SHA512())):
        key = ec.generate_private_key(curve)
        signature = key.sign(s.pae(b"{}"), ec.ECDSA(algorithm))
        assert held(W.bundle(b"{}", leaf=W.leaf(key=key), key=key, signature=signature))


def test_an_authority_s_own_certificate_signs_nothing() -> None:
    issuer = W.fulcio.middle.public_bytes(s.Encoding.DER)
    with pytest.raises(Unverified):
        held(W.bundle(leaf=issuer, key=W.fulcio.key, signature=W.fulcio.key.sign(s.pae(b'{"_type":"x"}'), ec.ECDSA(s.hashes.SHA384()))))


def test_an_identity_under_another_kind_of_name_is_not_read() -> None:
    other = x509.OtherName(ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), s.tlv(0x0C, s.IDENTITY.encode()))
    with pytest.raises(Unverified):
        held(W.bundle(leaf=W.leaf(names=[other])))


def test_a_log_of_the_second_generation_signs_under_its_own_name() -> None:
    """Two logs whose keys are swapped: the id in the entry leads to the other's key."""
    swapped = s.Rekor(2, W.rekor2.host, ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(Unverified, match="does not know"):
        held(W.bundle(generation=2, log=swapped))

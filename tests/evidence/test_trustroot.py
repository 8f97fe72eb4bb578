"""The TrustRoot: n of m over distinct keys, versions, pin, delegations, succession."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from evidence_world import DAY, KEYS, NOW, ROOTS, SIGNED_ROOT, STRANGER, TD, TRUST_ROOT, delegation, public, trust_root
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.evidence.dsse import sign
from vouchgate.evidence.trustroot import (
    PAYLOAD_TYPE,
    add_signature,
    fingerprint,
    sign_trust_root,
    verify_successor,
    verify_trust_root,
)  # fmt: skip
from vouchgate.identity.ca import spki_of as ec_spki
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.trust import PublicKey, SignedTrustRoot, key_id
from vouchgate.vocabulary.wire import encode

PIN = fingerprint(TRUST_ROOT)


def refused(signed, *, pin=PIN, now=NOW, current=None, says=""):
    with pytest.raises(Unverified) as caught:
        verify_trust_root(signed, pin, now, current=current)
    assert says in caught.value.reason
    assert caught.value.remedy


def test_enough_root_keys_make_a_trust_root():
    assert verify_trust_root(SIGNED_ROOT, PIN, NOW) == TRUST_ROOT
    assert verify_trust_root(sign_trust_root(TRUST_ROOT, ROOTS), PIN.replace(" ", "").upper(), NOW) == TRUST_ROOT
    assert verify_trust_root(add_signature(sign_trust_root(TRUST_ROOT, ROOTS[:1]), ROOTS[2]), PIN, NOW) == TRUST_ROOT


def test_the_fingerprint_is_of_roots_threshold_and_domain_alone():
    assert fingerprint(trust_root(version=9, delegations=[])) == PIN
    assert fingerprint(trust_root(threshold=1)) != PIN
    assert len(PIN) == 79


def test_fewer_keys_than_the_threshold_are_refused():
    refused(sign_trust_root(TRUST_ROOT, ROOTS[:1]), says="are needed")
    refused(sign_trust_root(TRUST_ROOT, []), says="are needed")


def test_one_key_signing_twice_counts_once():
    """The signature map is by key id, and an id is the hash of its key: a second id for the same key is no root key."""
    one = sign(PAYLOAD_TYPE, SIGNED_ROOT.payload, ROOTS[0])
    twice = SignedTrustRoot(payload=SIGNED_ROOT.payload, signatures={one.key_id: one.signature, one.key_id.upper(): one.signature})
    refused(twice, says="not a root key")
    refused(SignedTrustRoot(payload=SIGNED_ROOT.payload, signatures={one.key_id: one.signature}), says="are needed")


def test_one_key_listed_twice_is_refused():
    with pytest.raises(InvalidInput):
        trust_root(keys=[public(ROOTS[0], "root"), public(ROOTS[0], "root")], delegations=[], threshold=2)
    renamed = PublicKey(key_id="0" * 64, spki=public(ROOTS[0], "root").spki, purpose="root")
    with pytest.raises(InvalidInput):
        trust_root(keys=[public(ROOTS[0], "root"), renamed], delegations=[], threshold=2)


def test_a_second_spelling_of_a_key_is_no_second_key():
    """The same Ed25519 key with a NULL parameter: another hash, hence another id, and one person would count twice."""
    spki = public(ROOTS[0], "root").spki
    spelled = bytes.fromhex("302c300706032b65700500") + spki[-35:]
    with pytest.raises(InvalidInput):
        trust_root(
            keys=[public(ROOTS[0], "root"), PublicKey(key_id=key_id(spelled), spki=spelled, purpose="root")], delegations=[], threshold=2
        )


def test_a_stranger_or_a_broken_signature_is_an_error_not_a_miss():
    refused(sign_trust_root(TRUST_ROOT, [*ROOTS, STRANGER]), says="not a root key")
    refused(sign_trust_root(TRUST_ROOT, [*ROOTS, KEYS["scanner"]]), says="not a root key")
    broken = {name: value[:-1] + bytes([value[-1] ^ 1]) for name, value in SIGNED_ROOT.signatures.items()}
    refused(SignedTrustRoot(payload=SIGNED_ROOT.payload, signatures=broken), says="does not hold")
    swapped = dict(zip(SIGNED_ROOT.signatures, reversed(SIGNED_ROOT.signatures.values()), strict=True))
    refused(SignedTrustRoot(payload=SIGNED_ROOT.payload, signatures=swapped), says="does not hold")


def test_another_pin_is_refused():
    refused(SIGNED_ROOT, pin="0" * 64, says="other root keys")
    refused(SIGNED_ROOT, pin="", says="other root keys")
    attacker = trust_root(keys=[public(STRANGER, "root")], delegations=[], threshold=1)
    refused(sign_trust_root(attacker, [STRANGER]), says="other root keys")


def test_a_lower_threshold_of_the_same_keys_is_refused():
    refused(sign_trust_root(trust_root(threshold=1), ROOTS[:1]), says="other root keys")


def test_an_older_version_is_refused():
    older, newer = sign_trust_root(trust_root(version=2), ROOTS), sign_trust_root(trust_root(version=4), ROOTS)
    refused(older, current=SIGNED_ROOT, says="older")
    assert verify_trust_root(newer, PIN, NOW, current=SIGNED_ROOT).version == 4
    assert verify_trust_root(SIGNED_ROOT, PIN, NOW, current=SIGNED_ROOT) == TRUST_ROOT


def test_two_documents_of_one_version_are_refused():
    refused(sign_trust_root(trust_root(delegations=[]), ROOTS), current=SIGNED_ROOT, says="two TrustRoots")


def test_times_are_held():
    refused(SIGNED_ROOT, now=TRUST_ROOT.expires_at, says="expired")
    refused(SIGNED_ROOT, now=NOW - 10 * DAY, says="future")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + b" ", lambda text: text.replace(b'"version":3', b'"version":3,"version":4'), lambda text: b"{}", lambda text: b"",
        lambda text: text.replace(b'"threshold":2', b'"threshold":1'), lambda text: text.replace(b'"threshold":2', b'"threshold":2,"extra":1'),
    ],
)  # fmt: skip
def test_another_spelling_is_refused_even_signed(change):
    payload = change(SIGNED_ROOT.payload)
    made = [sign(PAYLOAD_TYPE, payload, key) for key in ROOTS]
    refused(SignedTrustRoot(payload=payload, signatures={one.key_id: one.signature for one in made}))


def test_a_signature_under_another_payload_type_is_refused():
    made = [sign("application/vnd.in-toto+json", SIGNED_ROOT.payload, key) for key in ROOTS]
    refused(SignedTrustRoot(payload=SIGNED_ROOT.payload, signatures={one.key_id: one.signature for one in made}), says="does not hold")


P256 = ec_spki(ec.generate_private_key(ec.SECP256R1()).public_key())


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0}, {"threshold": 4}, {"threshold": -1}, {"version": 0}, {"expires_at": NOW}, {"issued_at": -1}, {"keys": []},
        {"delegations": [delegation("scanner", key_id="0" * 64)]}, {"delegations": [delegation("scanner", role="importer")]}, {"delegations": [delegation("scanner", predicates=("serves",))]},
        {"delegations": [delegation("scanner", predicates=("nonsense",))]}, {"delegations": [delegation("scanner", expires_at=NOW + 400 * DAY)]}, {"delegations": [delegation("scanner", zones=())]},
        {"delegations": [delegation("scanner", zones=("a b",))]}, {"delegations": [delegation("scanner", key_id=public(ROOTS[0], "root").key_id, role="root", predicates=())]},
        {"delegations": [delegation("scanner", key_id=public(ROOTS[0], "root").key_id)]},
        {"delegations": [delegation("scanner")] * 1025},
        {"keys": [public(ROOTS[0], "root"), PublicKey(key_id="0" * 64, spki=public(ROOTS[1], "root").spki, purpose="root")], "delegations": []},
        {"keys": [public(ROOTS[0], "root"), public(ROOTS[1], "root"), public(ROOTS[0], "scanner")], "delegations": []},
        {"keys": [public(ROOTS[0], "root"), PublicKey(key_id=key_id(P256), spki=P256, purpose="root")], "delegations": []},
        {"keys": [public(ROOTS[0], "root"), public(ROOTS[1], "root"), PublicKey(key_id=key_id(b"x"), spki=b"x", purpose="Bad Purpose")], "delegations": []},
    ],
)  # fmt: skip
def test_a_document_that_contradicts_itself_is_not_made(changes):
    with pytest.raises(InvalidInput):
        trust_root(**changes)


def test_a_contradicting_document_is_refused_even_signed():
    plain = json.loads(SIGNED_ROOT.payload)
    plain["delegations"][0]["predicates"] = ["serves", "approval"]
    payload = encode(plain)
    made = [sign(PAYLOAD_TYPE, payload, key) for key in ROOTS]
    refused(SignedTrustRoot(payload=payload, signatures={one.key_id: one.signature for one in made}))


NEW_ROOTS = tuple(Ed25519PrivateKey.generate() for _ in range(2))


def successor(**changes):
    keys = [public(key, "root") for key in NEW_ROOTS]
    return trust_root(**({"keys": keys, "delegations": [], "threshold": 2, "version": 4} | changes))


def test_root_keys_change_with_both_thresholds():
    assert verify_successor(sign_trust_root(successor(), [*ROOTS[:2], *NEW_ROOTS]), SIGNED_ROOT, NOW).version == 4


@pytest.mark.parametrize(
    ("root", "signers"),
    [
        (successor(), [*ROOTS[:1], *NEW_ROOTS]), (successor(), [*ROOTS, *NEW_ROOTS[:1]]), (successor(), NEW_ROOTS), (successor(), ROOTS),
        (successor(version=5), [*ROOTS, *NEW_ROOTS]), (successor(version=3), [*ROOTS, *NEW_ROOTS]), (successor(), [*ROOTS, *NEW_ROOTS, STRANGER]),
    ],
)  # fmt: skip
def test_a_succession_that_one_side_did_not_sign_is_refused(root, signers):
    with pytest.raises(Unverified):
        verify_successor(sign_trust_root(root, signers), SIGNED_ROOT, NOW)


@given(st.integers(min_value=0), st.integers(1, 255))
def test_flipping_any_byte_is_refused(position, change):
    payload = bytearray(SIGNED_ROOT.payload)
    payload[position % len(payload)] ^= change
    with pytest.raises(Unverified):
        verify_trust_root(SignedTrustRoot(payload=bytes(payload), signatures=SIGNED_ROOT.signatures), PIN, NOW)


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=5), st.binary(max_size=70), max_size=3))
def test_any_bytes_get_a_typed_error(payload, signatures):
    with pytest.raises(Unverified):
        verify_trust_root(SignedTrustRoot(payload=payload, signatures=signatures), PIN, NOW)


def test_the_domain_is_named():
    assert TRUST_ROOT.trust_domain == TD

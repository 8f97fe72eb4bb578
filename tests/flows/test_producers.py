"""Producers outside in the TrustRoot: let in by the offline key, kept by a renewal, dropped by name."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flows_world import KEYS, NOW, ROOTS, TRUST_ROOT

from vouchgate.evidence.trustroot import fingerprint, verify_trust_root
from vouchgate.flows.initialise import next_trust_root, producer_key, sign_with
from vouchgate.flows.sign import public_keys
from vouchgate.vocabulary.errors import InvalidInput


def pem(key: object) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


EDR = producer_key("device", pem(Ed25519PrivateKey.generate()))


def test_a_producer_comes_stays_and_goes() -> None:
    first = next_trust_root(TRUST_ROOT, keys=public_keys(KEYS), now=NOW, producers=[EDR])
    (given,) = [one for one in first.delegations if one.key_id == EDR.key_id]
    assert (given.role, given.predicates, given.highest_tier) == ("device", ("posture",), "cooperative")
    second = next_trust_root(first, keys=public_keys(KEYS), now=NOW, producers=[EDR])
    assert [one.key_id for one in second.delegations].count(EDR.key_id) == 1
    third = next_trust_root(second, keys=public_keys(KEYS), now=NOW, dropped=[EDR.key_id])
    assert EDR not in third.keys
    assert all(one.key_id != EDR.key_id for one in third.delegations)
    for made in (first, second, third):
        verify_trust_root(sign_with(made, [ROOTS[0].pem]), fingerprint(TRUST_ROOT), NOW, current=None)


def test_dropping_what_is_not_there_is_told() -> None:
    with pytest.raises(InvalidInput, match="no producer"):
        next_trust_root(TRUST_ROOT, keys=public_keys(KEYS), now=NOW, dropped=["ab" * 32])
    ours = next(key.key_id for key in TRUST_ROOT.keys if key.purpose == "scanner")
    with pytest.raises(InvalidInput, match="no producer"):
        next_trust_root(TRUST_ROOT, keys=public_keys(KEYS), now=NOW, dropped=[ours])


@pytest.mark.parametrize("role", ["root", "scanner", "approver", "supervisor", "", "Device"])
def test_nobody_outside_takes_a_role_of_ours(role: str) -> None:
    with pytest.raises(InvalidInput, match="not a role"):
        producer_key(role, pem(Ed25519PrivateKey.generate()))


@pytest.mark.parametrize(
    "text",
    [b"", b"junk", pem(ec.generate_private_key(ec.SECP256R1())), pem(rsa.generate_private_key(65537, 2048)), ROOTS[0].pem],
    ids=["empty", "junk", "another curve", "RSA", "a private key"],
)
def test_a_key_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="key"):
        producer_key("device", text)

"""Break-glass statements: fresh, of this trust domain, signed by enough root keys and nobody else."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vouchgate.evidence.breakglass import LIFE_MS, MAX_AGE_MS, PAYLOAD_TYPE, BreakGlass, sign_break_glass, verify_break_glass
from vouchgate.evidence.dsse import spki_of
from vouchgate.evidence.trustroot import make_trust_root
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.trust import PublicKey, TrustRoot, key_id
from vouchgate.vocabulary.vouches import UnixMillis

NOW = UnixMillis(1_790_000_000_000)
ROOTS = [Ed25519PrivateKey.generate() for _ in range(3)]


def root(threshold: int = 1) -> TrustRoot:
    keys = [PublicKey(key_id=key_id(spki_of(key)), spki=spki_of(key), purpose="root") for key in ROOTS]
    return make_trust_root(
        "test.local",
        keys=keys,
        delegations=(),
        threshold=threshold,
        version=1,
        issued_at=NOW,
        expires_at=UnixMillis(NOW + 86_400_000),
    )


def statement(**changes: object) -> BreakGlass:
    given = {"trust_domain": "test.local", "uid": 1000, "reason": "locked out", "nonce": "ab" * 16, "signed_at": NOW, **changes}
    return BreakGlass(**given)  # type: ignore[arg-type]


def test_a_fresh_statement_of_the_root_holds() -> None:
    assert verify_break_glass(sign_break_glass(statement(), ROOTS[:1]), root(), NOW).uid == 1000
    assert LIFE_MS == 3_600_000


@pytest.mark.parametrize("signers", [[], [Ed25519PrivateKey.generate()], [ROOTS[0], Ed25519PrivateKey.generate()]])
def test_other_signers_do_not(signers: list[Ed25519PrivateKey]) -> None:
    with pytest.raises(Unverified):
        verify_break_glass(sign_break_glass(statement(), signers), root(), NOW)


def test_a_threshold_of_two_needs_two_distinct_keys() -> None:
    with pytest.raises(Unverified, match="enough root keys"):
        verify_break_glass(sign_break_glass(statement(), ROOTS[:1]), root(2), NOW)
    with pytest.raises(Unverified):
        verify_break_glass(sign_break_glass(statement(), [ROOTS[0], ROOTS[0]]), root(2), NOW)
    assert verify_break_glass(sign_break_glass(statement(), ROOTS[:2]), root(2), NOW)


@pytest.mark.parametrize("late", [MAX_AGE_MS + 1, -2_001])
def test_a_statement_is_used_at_once(late: int) -> None:
    with pytest.raises(Unverified, match="not fresh"):
        verify_break_glass(sign_break_glass(statement(), ROOTS[:1]), root(), UnixMillis(NOW + late))


def test_another_trust_domains_statement_does_not_hold() -> None:
    with pytest.raises(Unverified, match="another trust domain"):
        verify_break_glass(sign_break_glass(statement(trust_domain="other.local"), ROOTS[:1]), root(), NOW)


@pytest.mark.parametrize("changes", [{"nonce": "ab"}, {"nonce": "AB" * 16}, {"reason": " "}, {"uid": -1}, {"reason": "x" * 501}])
def test_an_incomplete_statement_is_not_signed(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        sign_break_glass(statement(**changes), ROOTS[:1])


def test_no_changed_byte_passes() -> None:
    good = sign_break_glass(statement(), ROOTS[:1])
    for at in range(0, len(good), 3):
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises(Unverified):
            verify_break_glass(changed, root(), NOW)


def test_a_vouch_does_not_pass_for_break_glass() -> None:
    envelope = json.loads(sign_break_glass(statement(), ROOTS[:1]))
    envelope["payloadType"] = "application/vnd.in-toto+json"
    with pytest.raises(Unverified):
        verify_break_glass(json.dumps(envelope).encode(), root(), NOW)
    assert base64.b64decode(envelope["payload"]) and PAYLOAD_TYPE

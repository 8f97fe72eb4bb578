"""A TrustRoot with one key a role, and vouches to sign, for the evidence room's tests."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vouchgate.evidence.catalog import predicates
from vouchgate.evidence.dsse import spki_of
from vouchgate.evidence.statement import sign_vouch
from vouchgate.evidence.trustroot import make_trust_root, sign_trust_root
from vouchgate.vocabulary.digests import Digest, file_digest
from vouchgate.vocabulary.trust import Delegation, PublicKey, key_id
from vouchgate.vocabulary.vouches import Method, Subject, VerifiedVouch, Vouch

TD = "test.local"
NOW = 1_790_000_000_000
DAY = 86_400_000
ROLES = ("scanner", "importer", "supervisor", "validator", "approver", "device", "reviewer")
ROOTS = tuple(Ed25519PrivateKey.generate() for _ in range(3))
KEYS = {role: Ed25519PrivateKey.generate() for role in ROLES}
STRANGER = Ed25519PrivateKey.generate()


def public(key: Ed25519PrivateKey, purpose: str) -> PublicKey:
    spki = spki_of(key)
    return PublicKey(key_id=key_id(spki), spki=spki, purpose=purpose)


def delegation(role: str, /, **changes: Any) -> Delegation:
    names = tuple(sorted(name for name, one in predicates().items() if role in one.roles))
    wanted = {
        "key_id": public(KEYS[role], role).key_id, "role": role, "predicates": names, "highest_tier": "verified", "expires_at": NOW + 300 * DAY,
    }  # fmt: skip
    return Delegation(**(wanted | changes))


def trust_root(**changes: Any):
    wanted = {
        "keys": [public(key, "root") for key in ROOTS] + [public(key, role) for role, key in KEYS.items()],
        "delegations": [delegation(role) for role in ROLES], "threshold": 2, "version": 3, "issued_at": NOW, "expires_at": NOW + 365 * DAY,
    }  # fmt: skip
    return make_trust_root(TD, **(wanted | changes))


TRUST_ROOT = trust_root()
SIGNED_ROOT = sign_trust_root(TRUST_ROOT, ROOTS[:2])
CONTENT = file_digest(b"a model")
CLAIMS: dict[str, dict[str, Any]] = {
    "scan": {"format": "onnx"}, "structure": {"format": "onnx"}, "import": {"source": "file", "requested_by": "spiffe://test.local/person/admin/ann"},
    "serves": {"model": "vg://test.local/artifact/" + CONTENT.text}, "train": {"run": "vg://test.local/run/r1", "inputs": []},
    "validate": {"probe": "p", "statistic": 0.5, "goal": 0.4}, "declaration": {"statement": "license", "value": "x", "declared_by": "spiffe://test.local/person/admin/ann"},
    "approval": {"action": "a", "requester": "r", "approvers": ["x"], "params_digest": "d", "nonce": "n"},
    "waiver": {"control": "scan", "reason": "r", "requester": "a", "approver": "b"},
    "attested": {"checked": ["unix:uid"]}, "posture": {"source": "edr", "checked": ["disk"]},
    "allow": {"module": "shop.features", "name": "Scaler", "use": "constructible", "why": "ours, reviewed"},
    "signature": {"signer": "ml-team", "kind": "key", "identity": "key 0", "bundle": "0" * 64, "authors": []},
    "provenance": {"builder": "ci", "builder_id": "b", "build_type": "t", "source": "s", "bundle": "0" * 64, "authors": []},
    "bom": {"document": "0" * 64, "spec": "1.6", "demand": "signed"},
}  # fmt: skip


def artifact(digest: Digest = CONTENT) -> Subject:
    return Subject(name=f"vg://{TD}/artifact/{digest.text}", digest=digest)


def endpoint(name: str, digest: Digest = CONTENT) -> Subject:
    return Subject(name=f"vg://{TD}/endpoint/{name}", digest=digest)


def vouch(predicate: str = "scan", **changes: Any) -> Vouch:
    (role,) = predicates()[predicate].roles
    wanted = {
        "id": "", "trust_domain": TD, "predicate_type": predicate, "predicate_version": 1, "subjects": (artifact(),), "outcome": "pass",
        "issuer_key": public(KEYS[changes.get("issuer_role", role)], role).key_id if changes.get("issuer_role", role) in KEYS else "0" * 64,
        "issuer_role": role, "issued_at": NOW, "not_before": NOW, "expires_at": NOW + DAY, "tier": "verified",
        "method": Method(tool="t", version="1"), "claims": CLAIMS[predicate],
    }  # fmt: skip
    return Vouch(**(wanted | changes))


def signed(predicate: str = "scan", **changes: Any):
    made = vouch(predicate, **changes)
    return sign_vouch(made, KEYS[made.issuer_role])


def verified(predicate: str = "scan", **changes: Any) -> VerifiedVouch:
    """For tests of what comes after verification; ids need not be hashes."""
    return VerifiedVouch(vouch=vouch(predicate, **changes), verified_at=NOW, trust_root_version=3)

"""Asking: vouches beside a file count under the pinned root alone; an allow of the control plane is held no longer than it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from guard_control import Control

from vouchgate.evidence.dsse import spki_of
from vouchgate.evidence.statement import sign_vouch
from vouchgate.evidence.trustroot import fingerprint, make_trust_root, sign_trust_root
from vouchgate.integrations.guard_asking import NEEDED, Beside, ControlPlane, LoadRefused
from vouchgate.vocabulary.digests import Digest, file_digest
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.trust import Delegation, PublicKey, key_id
from vouchgate.vocabulary.vouches import Method, Subject, UnixMillis, Vouch
from vouchgate.vocabulary.wire import encode

TD, NOW, HOUR = "test.local", UnixMillis(1_790_000_000_000), 3_600_000
MODEL, OTHER = file_digest(b"a model"), file_digest(b"another")
ROOT_KEY, SCANNER, IMPORTER, STRANGE = (Ed25519PrivateKey.generate() for _ in range(4))
ROLES = {"scan": "scanner", "structure": "scanner", "import": "importer"}
CLAIMS: dict[str, dict[str, Any]] = {
    "scan": {"format": "onnx"},
    "structure": {"format": "onnx"},
    "import": {"source": "file", "requested_by": f"spiffe://{TD}/person/admin/ann"},
}


def public(key: Ed25519PrivateKey, purpose: str) -> PublicKey:
    return PublicKey(key_id=key_id(spki_of(key)), spki=spki_of(key), purpose=purpose)


def trust_root(root: Ed25519PrivateKey = ROOT_KEY) -> Any:
    keys = {"scanner": public(SCANNER, "scanner"), "importer": public(IMPORTER, "importer")}
    return make_trust_root(
        TD,
        version=1,
        threshold=1,
        keys=[public(root, "root"), *keys.values()],
        delegations=[
            Delegation(key_id=keys[role].key_id, role=role, predicates=predicates, highest_tier="verified", expires_at=NOW + 100 * HOUR)
            for role, predicates in (("scanner", ("scan", "structure")), ("importer", ("import",)))
        ],
        issued_at=UnixMillis(NOW - HOUR),
        expires_at=UnixMillis(NOW + 200 * HOUR),
    )


def vouch(predicate: str, digest: Digest = MODEL, key: Ed25519PrivateKey | None = None, **changes: Any) -> Any:
    key = key or {"scanner": SCANNER, "importer": IMPORTER}[ROLES[predicate]]
    wanted = {
        "id": "", "trust_domain": TD, "predicate_type": predicate, "predicate_version": 1,
        "subjects": (Subject(name=resource(TD, "artifact", digest.text), digest=digest),), "outcome": "pass",
        "issuer_key": key_id(spki_of(key)), "issuer_role": ROLES[predicate], "issued_at": NOW - 1, "not_before": NOW - 1,
        "expires_at": NOW + HOUR, "tier": "verified", "method": Method(tool="t", version="1"), "claims": CLAIMS[predicate],
    }  # fmt: skip
    return sign_vouch(Vouch(**(wanted | changes)), key)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "root.json").write_bytes(encode(sign_trust_root(trust_root(), [ROOT_KEY])))
    return tmp_path


def beside(place: Path, *signed: Any, pinned: str = "", now: int = NOW) -> None:
    """Ask about `MODEL` with these vouches beside it."""
    (place / "model.vouches").write_bytes(b"\n".join(one if isinstance(one, bytes) else one.envelope for one in signed))
    judge = Beside(place / "root.json", pinned or fingerprint(trust_root()), lambda: UnixMillis(now))
    judge.admit(MODEL, str(place / "model"), "torch")


def all_three(**changes: Any) -> list[Any]:
    return [vouch(one, **changes) for one in NEEDED]


def test_vouches_beside_a_file_let_it_in_whatever_their_order(place: Path) -> None:
    scan, structure, imported = vouch("scan"), vouch("structure"), None
    imported = vouch("import", rests_on=tuple(sorted((scan.vouch.id, structure.vouch.id))))
    beside(place, scan, structure, imported)
    beside(place, imported, structure, scan, b"", vouch("scan", OTHER))


@pytest.mark.parametrize("absent", NEEDED)
def test_each_is_needed_and_named(place: Path, absent: str) -> None:
    with pytest.raises(LoadRefused, match=rf"missing `{absent}` \(absent\).*model\.vouches"):
        beside(place, *(vouch(one) for one in NEEDED if one != absent))


@pytest.mark.parametrize(
    ("signed", "says"),
    [
        (lambda: all_three(digest=OTHER), "absent"),
        (lambda: all_three(key=STRANGE), "does not know the key"),
        (lambda: all_three(expires_at=NOW), "has expired"),
        (lambda: all_three(issued_at=NOW + HOUR, not_before=NOW + HOUR, expires_at=NOW + 2 * HOUR), "in the future"),
        (lambda: [*all_three(), vouch("scan", outcome="fail", issued_at=NOW)], "absent"),
        (lambda: [*all_three()[1:], vouch("scan", outcome="inconclusive")], "absent"),
        (lambda: [all_three()[0].envelope.replace(b'"sig":"', b'"sig":"AA'), *all_three()[1:]], "missing `scan`"),
        (lambda: [b"{}"] * 257, "more than 256"),
        (lambda: [b"x" * (4 * 1024 * 1024 + 1)], "more than"),
        (lambda: [vouch("import", rests_on=("f" * 64,)), *all_three()[:2]], "is not known"),
    ],
)
def test_what_does_not_count(place: Path, signed: Any, says: str) -> None:
    with pytest.raises(LoadRefused, match=says):
        beside(place, *signed())


def test_another_root_than_the_pinned_one_counts_for_nothing(place: Path) -> None:
    with pytest.raises(LoadRefused, match="other root keys than the pinned fingerprint"):
        beside(place, *all_three(), pinned=fingerprint(trust_root(STRANGE)))
    forged = msgspec.structs.replace(sign_trust_root(trust_root(), [ROOT_KEY]), signatures={key_id(spki_of(ROOT_KEY)): bytes(64)})
    (place / "root.json").write_bytes(encode(forged))
    with pytest.raises(LoadRefused):
        beside(place, *all_three())
    (place / "root.json").unlink()
    with pytest.raises(LoadRefused, match="cannot be read"):
        beside(place, *all_three())


def test_without_vouches_beside_it_nothing_is_let_in(place: Path) -> None:
    with pytest.raises(LoadRefused, match="put the signed vouches there"):
        Beside(place / "root.json", fingerprint(trust_root()), lambda: NOW).admit(MODEL, str(place / "absent"), "torch")


def test_an_allow_is_held_for_its_time_and_a_refusal_never(tmp_path: Path) -> None:
    control = Control(tmp_path / "api.sock")
    try:
        judge = ControlPlane(control.path, purpose="trial", endpoint="digits")
        for _ in range(2):
            with pytest.raises(LoadRefused, match="missing `scan`"):
                judge.admit(MODEL, "m", "torch")
        assert len(control.asked) == 2
        control.allowed, control.hold_ms = {MODEL.text}, 60_000
        judge.admit(MODEL, "m", "torch")
        judge.admit(MODEL, "elsewhere", "joblib")
        assert len(control.asked) == 3
        assert control.asked[-1] == {"digest": MODEL.text, "library": "torch", "purpose": "trial", "endpoint": "digits"}
        with pytest.raises(LoadRefused):
            judge.admit(OTHER, "m", "torch")
        control.hold_ms = 0
        for _ in range(2):
            ControlPlane(control.path).admit(MODEL, "m", "torch")
        assert len(control.asked) == 6
    finally:
        control.close()

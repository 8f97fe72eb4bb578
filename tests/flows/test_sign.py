"""The signer's story with values alone: who may, what is built, what is refused, and what survives a crash."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_der_public_key

from vouchgate.audit.checkpoints import log_verifier, open_checkpoint
from vouchgate.evidence.policystatement import verify_policy
from vouchgate.evidence.trustroot import fingerprint, verify_trust_root
from vouchgate.evidence.verify import nothing_revoked, verify
from vouchgate.flows.initialise import first_trust_root, load_root_key, make_root_keys, next_trust_root, sign_with
from vouchgate.flows.sign import MAX_ORIGINS, RATES, ROLES, Access, Keys, SignedBefore, Signer, public_keys
from vouchgate.identity.bundle import make_bundle
from vouchgate.identity.ca import make_ca, spki_of
from vouchgate.identity.verify import verify_jwt, verify_x509
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotPermitted, Unavailable, VouchgateError
from vouchgate.vocabulary.trust import PublicKey
from vouchgate.vocabulary.vouches import VerifiedVouch
from vouchgate.vocabulary.wire import decode, from_plain

TD = "test.local"
CONTROL, SUPERVISOR, STRANGER = 58_002, 58_050, 1_000
PRINCIPAL = f"spiffe://{TD}/service/prod/scorer"
DIGEST = {"value": "ab" * 32}
ORIGIN = f"{TD}/log"
CA_KEY, JWT_KEY, LEAF_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
SIGNING = {name: Ed25519PrivateKey.generate() for name in ("log", "policy", *ROLES)}
NOW = 1_790_000_000_000
CA_DER = make_ca(TD, CA_KEY, now=NOW, days=30)


class HandClock:
    """A clock that the test moves."""

    def __init__(self, now: int = NOW) -> None:
        self.at, self.trouble = now, ""

    def now(self) -> int:
        return self.at

    def accept(self) -> None:
        self.trouble = ""


class Memory:
    """A state that survives, or a disk that is full."""

    def __init__(self) -> None:
        self.saved: list[SignedBefore] = []
        self.full = False

    async def save(self, state: bytes) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise OSError(28, "No space left on device")
        self.saved.append(decode(SignedBefore, state))


class World:
    """A signer whose clock and disk the test holds."""

    def __init__(self, *, before: SignedBefore | None = None, own: dict[str, frozenset[int]] | None = None, solo: bool = False) -> None:
        self.clock, self.disk = HandClock(), Memory()
        self.keys = Keys(ca=CA_KEY, ca_certificate=CA_DER, jwt=JWT_KEY, ed25519=SIGNING)
        access = Access(control=CONTROL, own=own or {})
        self.signer = Signer(self.keys, before or SignedBefore(trust_domain=TD), access, self.clock, self.disk, solo=solo)

    def call(self, method: str, uid: int = CONTROL, /, **params: Any) -> Any:
        return asyncio.run(getattr(self.signer, method)(uid, params))

    def vouch(self, uid: int = CONTROL, /, **changes: Any) -> Any:
        return self.call("vouch", uid, **(VOUCH | changes))

    def checkpoint(self, size: int, root: bytes = b"a" * 32, origin: str = ORIGIN) -> str:
        return self.call("checkpoint", origin=origin, size=size, root_hash=root)


VOUCH: dict[str, Any] = {
    "role": "scanner", "predicate_type": "scan", "predicate_version": 1, "subjects": [{"name": f"vg://{TD}/artifact/sha256:{'ab' * 32}", "digest": DIGEST}],
    "outcome": "pass", "not_before": NOW, "expires_at": NOW + 86_400_000, "rests_on": [], "tier": "verified", "method": {"tool": "t", "version": "1"},
    "claims": {"format": "onnx"},
}  # fmt: skip
X509 = {"spki": spki_of(LEAF_KEY.public_key()), "principal": PRINCIPAL, "ttl_seconds": 600}
JWT = {"principal": PRINCIPAL, "audience": f"vg://{TD}/endpoint/digits", "ttl_seconds": 300}
POLICY = {"version": 1, "policy_digest": "sha256:" + "0" * 64, "author": "a", "approver": "b"}


def test_what_it_issues_verifies():
    world = World()
    bundle = make_bundle(TD, x509_authorities=(CA_DER,), jwt_spkis=(spki_of(JWT_KEY.public_key()),))
    issued = world.call("x509_svid", **X509, dns=["localhost"])
    assert verify_x509(issued["chain"], bundle, NOW).credential_id == issued["serial"]
    assert issued["thumbprint"] == hashlib.sha256(issued["chain"][0]).hexdigest()
    token = world.call("jwt_svid", **JWT)
    assert verify_jwt(token["token"], bundle, JWT["audience"], NOW).credential_id == token["jti"]
    assert token["jti"] != world.call("jwt_svid", **JWT)["jti"]


def test_the_whole_way_from_init_to_evidence():
    """Root keys, first TrustRoot over the signer's public keys, a vouch and a policy that verify under it."""
    world = World()
    given = world.call("public_keys")
    keys = [from_plain(PublicKey, key) for key in given["keys"]]
    assert tuple(keys) == public_keys(world.keys)
    roots = make_root_keys(3, passphrase=b"correct horse")
    first = first_trust_root(TD, root_keys=[root.public for root in roots], threshold=2, signer_keys=keys, now=NOW)
    signed = sign_with(first, [root.pem for root in roots[:2]], passphrase=b"correct horse")
    trust_root = verify_trust_root(signed, fingerprint(first), NOW)
    made = world.vouch()
    evidence = verify(made["envelope"], trust_root, NOW, known={}, revoked=nothing_revoked)
    assert isinstance(evidence, VerifiedVouch)
    assert evidence.vouch.id == made["id"]
    policy = verify_policy(world.call("policy", **POLICY)["envelope"], trust_root, current_version=0)
    assert policy.version == 1
    renewed = next_trust_root(first, keys=keys, now=NOW + 1000)
    assert (
        verify_trust_root(
            sign_with(renewed, [root.pem for root in roots[1:]], passphrase=b"correct horse"),
            fingerprint(first),
            NOW + 1000,
            current=signed,
        ).version
        == 2
    )


def test_root_keys_are_read_with_their_passphrase_alone():
    (root,) = make_root_keys(1, passphrase=b"correct horse")
    assert b"ENCRYPTED" in root.pem
    assert root.pem.decode() not in repr(root)
    for passphrase in (b"", b"wrong"):
        with pytest.raises(InvalidInput):
            load_root_key(root.pem, passphrase=passphrase)
    with pytest.raises(InvalidInput):
        load_root_key(LEAF_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for count in (0, 17):
        with pytest.raises(InvalidInput):
            make_root_keys(count)


@pytest.mark.parametrize("method", ["x509_svid", "jwt_svid", "vouch", "checkpoint", "policy", "accept_clock"])
@pytest.mark.parametrize("uid", [STRANGER, 0, -1, SUPERVISOR])
def test_another_uid_is_refused(method, uid):
    params = {
        "x509_svid": X509,
        "jwt_svid": JWT,
        "vouch": VOUCH,
        "checkpoint": {"origin": ORIGIN, "size": 1, "root_hash": b"a" * 32},
        "policy": POLICY,
        "accept_clock": {},
    }
    world = World(own={"vouch:supervisor": frozenset({SUPERVISOR})})
    with pytest.raises(NotPermitted):
        world.call(method, uid, **params[method])
    assert world.call("health")["refused"] == 1


def test_a_purpose_given_away_is_not_the_control_planes_any_more():
    world = World(own={"vouch:supervisor": frozenset({SUPERVISOR})})
    serves = {"role": "supervisor", "predicate_type": "serves", "claims": {"model": "x"}}
    assert world.vouch(SUPERVISOR, **serves)["id"]
    with pytest.raises(NotPermitted):
        world.vouch(CONTROL, **serves)
    with pytest.raises(NotPermitted):
        world.vouch(SUPERVISOR)


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "importer"}, {"role": "log"}, {"role": "policy"}, {"role": "x509-ca"}, {"role": ""}, {"predicate_type": "serves", "claims": {"model": "x"}},
        {"predicate_type": "nonsense"}, {"predicate_version": 2}, {"predicate_type": "scan/v1\",\"x"}, {"claims": {}}, {"claims": {"format": "onnx", "x": 1}}, {"outcome": "maybe"},
        {"tier": "certain"}, {"subjects": []}, {"subjects": [{"name": "vg://other.local/endpoint/x", "digest": DIGEST}]}, {"subjects": [{"name": "x", "digest": DIGEST}]},
        {"not_before": NOW - 61_000}, {"expires_at": NOW + 401 * 86_400_000}, {"expires_at": NOW}, {"not_before": "now"}, {"rests_on": ["x"]}, {"issued_at": 0},
        {"issuer_key": "0" * 64}, {"trust_domain": "other.local"}, {"payload": b"x"}, {"method": {"tool": "t"}}, {"id": "x"},
    ],
)  # fmt: skip
def test_a_vouch_that_its_role_may_not_make_is_not_signed(changes):
    with pytest.raises(VouchgateError) as caught:
        World().vouch(**changes)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("x509_svid", X509 | {"principal": "spiffe://other.local/service/prod/a"}), ("x509_svid", X509 | {"ttl_seconds": 10**9}), ("x509_svid", X509 | {"ca": True}),
        ("x509_svid", X509 | {"ttl_seconds": "600"}), ("x509_svid", X509 | {"spki": "x"}), ("x509_svid", X509 | {"spki": b"x"}), ("x509_svid", {}),
        ("x509_svid", X509 | {"dns": "localhost"}), ("x509_svid", X509 | {"dns": ["*"]}), ("jwt_svid", JWT | {"principal": "spiffe://other.local/service/prod/a"}),
        ("jwt_svid", JWT | {"ttl_seconds": 301}), ("jwt_svid", JWT | {"audience": ["a", "b"]}), ("jwt_svid", JWT | {"alg": "none"}), ("jwt_svid", JWT | {"claims": {}}),
        ("public_keys", {"private": True}), ("health", {"x": 1}), ("accept_clock", {"x": 1}), ("policy", POLICY | {"version": 0}), ("policy", POLICY | {"version": -1}),
        ("policy", POLICY | {"version": 2**63}), ("policy", POLICY | {"policy_digest": "x"}), ("policy", POLICY | {"signed_at": 1}),
    ],
)  # fmt: skip
def test_a_malformed_request_is_not_signed(method, params):
    with pytest.raises(VouchgateError) as caught:
        World().call(method, **params)
    assert caught.value.remedy


def test_a_checkpoint_is_a_signed_note():
    note = World().checkpoint(3)
    raw = SIGNING["log"].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert note.startswith(f"{ORIGIN}\n3\nYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=\n\n— {ORIGIN} ")
    assert open_checkpoint(note.encode(), log_verifier(ORIGIN, raw)).size == 3


def test_a_log_only_grows():
    world = World()
    world.checkpoint(3)
    world.checkpoint(3)
    world.checkpoint(7, b"b" * 32)
    for size, root in ((6, b"b" * 32), (7, b"a" * 32), (0, b"b" * 32), (3, b"a" * 32)):
        with pytest.raises(Conflict):
            world.checkpoint(size, root)
    again = World(before=world.disk.saved[-1])
    with pytest.raises(Conflict):
        again.checkpoint(6, b"b" * 32)
    assert again.checkpoint(7, b"b" * 32)


@pytest.mark.parametrize(
    "params",
    [
        {"origin": "other.local/log", "size": 1, "root_hash": b"a" * 32}, {"origin": TD + "/log\nx", "size": 1, "root_hash": b"a" * 32}, {"origin": TD + "/a b", "size": 1, "root_hash": b"a" * 32},
        {"origin": TD + "/a+b", "size": 1, "root_hash": b"a" * 32}, {"origin": "", "size": 1, "root_hash": b"a" * 32}, {"origin": ORIGIN, "size": -1, "root_hash": b"a" * 32},
        {"origin": ORIGIN, "size": 2**63, "root_hash": b"a" * 32}, {"origin": ORIGIN, "size": 1, "root_hash": b"a" * 31}, {"origin": ORIGIN, "size": 1, "root_hash": "a" * 32},
        {"origin": ORIGIN, "size": 1.0, "root_hash": b"a" * 32}, {"origin": ORIGIN, "size": 1, "root_hash": b"a" * 32, "extension": "x"},
    ],
)  # fmt: skip
def test_a_malformed_checkpoint_is_not_signed(params):
    world = World()
    with pytest.raises(VouchgateError):
        world.call("checkpoint", **params)
    assert not world.disk.saved


def test_nothing_is_signed_that_is_not_durable():
    world = World()
    world.checkpoint(3)
    world.disk.full = True
    with pytest.raises(OSError, match="No space"):
        world.checkpoint(9)
    with pytest.raises(OSError, match="No space"):
        world.call("policy", **POLICY)
    world.disk.full = False
    assert world.checkpoint(5, b"c" * 32)
    assert world.call("policy", **POLICY)


def test_two_checkpoints_at_once_cannot_fork_the_log():
    world = World()

    async def both():
        params = [{"origin": ORIGIN, "size": 5, "root_hash": bytes([n]) * 32} for n in range(8)]
        return await asyncio.gather(*(world.signer.checkpoint(CONTROL, one) for one in params), return_exceptions=True)

    answers = asyncio.run(both())
    assert sum(isinstance(one, str) for one in answers) == 1
    assert sum(isinstance(one, Conflict) for one in answers) == 7


def test_a_caller_that_goes_away_leaves_no_second_write_beside_the_first():
    """The RPC server cancels the requests of a connection that closes; a write that has begun still ends before the next begins."""
    world = World()
    writing, most = 0, 0

    async def save(state: bytes) -> None:
        nonlocal writing, most
        writing += 1
        most = max(most, writing)
        await asyncio.sleep(0.02)
        writing -= 1
        world.disk.saved.append(decode(SignedBefore, state))

    world.disk.save = save

    def ask(size: int):
        return asyncio.ensure_future(world.signer.checkpoint(CONTROL, {"origin": ORIGIN, "size": size, "root_hash": b"a" * 32}))

    async def story():
        first = ask(9)
        await asyncio.sleep(0.005)
        first.cancel()
        return await asyncio.gather(first, ask(8), ask(10), return_exceptions=True)

    cancelled, smaller, larger = asyncio.run(story())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert isinstance(smaller, Conflict)
    assert isinstance(larger, str)
    assert most == 1
    assert [one.checkpoints[ORIGIN][0] for one in world.disk.saved] == [9, 10]


def test_one_role_cannot_use_up_anothers_rate():
    world = World()
    for _ in range(int(RATES["vouch"][1])):
        world.vouch()
    with pytest.raises(LimitExceeded):
        world.vouch()
    assert world.vouch(role="importer", predicate_type="import", claims={"source": "x", "requested_by": "y"})


def test_one_signer_signs_for_few_logs():
    world = World()
    for number in range(MAX_ORIGINS):
        world.checkpoint(1, origin=f"{ORIGIN}/{number}")
    with pytest.raises(LimitExceeded):
        world.checkpoint(1, origin=f"{ORIGIN}/more")


def test_policy_versions_only_rise():
    world = World()
    world.call("policy", **POLICY)
    world.call("policy", **(POLICY | {"version": 7}))
    for version in (1, 6, 7):
        with pytest.raises(Conflict):
            world.call("policy", **(POLICY | {"version": version}))
    with pytest.raises(Conflict):
        World(before=world.disk.saved[-1]).call("policy", **(POLICY | {"version": 7}))


def test_nobody_approves_their_own_policy_but_solo():
    own = POLICY | {"approver": "a"}
    with pytest.raises(NotPermitted):
        World().call("policy", **own)
    assert World(solo=True).call("policy", **own)


def test_a_clock_in_trouble_issues_nothing_and_goes_on_logging():
    world = World()
    world.clock.trouble = "the machine's clock moved by 90000 ms against the steady clock"
    for method, params in (("x509_svid", X509), ("jwt_svid", JWT), ("vouch", VOUCH)):
        with pytest.raises(Unavailable):
            world.call(method, **params)
    assert world.checkpoint(1)
    assert not world.call("health")["ok"]
    world.call("accept_clock")
    assert world.call("x509_svid", **X509)


def test_an_expired_ca_says_how_to_renew_it():
    world = World()
    world.clock.at = NOW + 31 * 86_400_000
    with pytest.raises(InvalidInput) as caught:
        world.call("x509_svid", **X509)
    assert "renew-ca" in caught.value.remedy
    assert world.call("health")["ca_expired"]


def test_each_purpose_has_its_own_rate():
    world = World()
    a_second, burst = RATES["vouch"]
    for _ in range(int(burst)):
        world.vouch()
    with pytest.raises(LimitExceeded):
        world.vouch()
    assert world.call("x509_svid", **X509)
    world.clock.at += 1000
    for _ in range(int(a_second)):
        world.vouch()
    with pytest.raises(LimitExceeded):
        world.vouch()


def test_a_refused_peer_costs_the_permitted_nothing():
    world = World()
    for _ in range(int(RATES["policy"][1]) + 5):
        with pytest.raises(NotPermitted):
            world.call("policy", STRANGER, **POLICY)
    assert world.call("policy", **POLICY)


def secrets_of(keys: Keys) -> list[bytes]:
    """Every form in which a private key could leak."""
    found = []
    for key in (keys.ca, keys.jwt):
        number = key.private_numbers().private_value
        found += [str(number).encode(), f"{number:x}".encode(), number.to_bytes(32, "big")]
    for key in keys.ed25519.values():
        raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        found += [raw, raw.hex().encode()]
    return found


def test_no_answer_and_no_text_holds_a_key():
    world = World()
    answers = [world.call("public_keys"), world.call("health"), world.call("x509_svid", **X509), world.call("jwt_svid", **JWT), world.vouch(), world.checkpoint(1),
               world.call("policy", **POLICY), repr(world.keys), repr(world.signer), str(world.keys)]  # fmt: skip
    flat = repr(answers).encode() + b"".join(
        part for answer in answers if isinstance(answer, dict) for part in answer.values() if isinstance(part, bytes)
    )
    for secret in secrets_of(world.keys):
        assert secret not in flat
        assert repr(secret).encode() not in flat


def test_the_signer_of_another_domain_does_not_start():
    with pytest.raises(InvalidInput):
        World(before=SignedBefore(trust_domain="other.local"))


def test_public_keys_name_each_purpose_once():
    purposes = [key.purpose for key in public_keys(World().keys)]
    assert sorted(purposes) == sorted({"x509-ca", "jwt", "log", "policy", *ROLES})
    for key in public_keys(World().keys):
        load_der_public_key(key.spki)

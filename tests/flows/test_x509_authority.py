"""Roots and issuers with values alone: rotation at half life, a root's way, a CA above ours, and what a kill -9 leaves at every step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.flows.x509_authority import LEAVES_MS, MAX_ISSUERS, MAX_ROOTS, SPREAD_MS, Authority
from vouchgate.flows.x509_state import FIRST, CaState, MemoryKeys, issuer_name, root_name
from vouchgate.identity.bundle import TrustBundle
from vouchgate.identity.ca import make_ca, spki_of
from vouchgate.identity.x509svid import X509Facts, read_x509
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotFound, StoreDamaged, Unavailable, Unverified
from vouchgate.vocabulary.outcomes import Denied

TD = "test.local"
NOW = 1_790_000_000_000
DAY = 86_400_000
PRINCIPAL = f"spiffe://{TD}/service/prod/scorer"
ROOT_KEY, LEAF, CORPORATE = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
SPKI = spki_of(LEAF.public_key())


class Killed(BaseException):
    """kill -9."""


class Disk(MemoryKeys):
    """Keys and state that survive; each write may be the last one, before or after it reached the disk."""

    def __init__(self, *, path_length: int = 1) -> None:
        super().__init__(ROOT_KEY, make_ca(TD, ROOT_KEY, now=NOW, days=300, path_length=path_length))
        self.state = CaState()
        self.writes = 0
        self.kill_at = -1
        self.full = False

    def _write(self) -> None:
        if self.full:
            raise Unavailable("the disk is full", remedy="make room")
        self.writes += 1
        if self.writes == self.kill_at:
            raise Killed

    def ec(self, name: str, *, make: bool = False) -> ec.EllipticCurvePrivateKey:
        if make:
            self._write()
            self._certificates.pop(name, None)
        return super().ec(name, make=make)

    def put_certificate(self, name: str, der: bytes) -> None:
        self._write()
        super().put_certificate(name, der)

    def remove(self, name: str) -> None:
        self._write()
        super().remove(name)

    async def remember(self, state: CaState) -> None:
        self._write()
        self.state = state

    @property
    def names(self) -> set[str]:
        return set(self._keys)


def start(disk: Disk, **more: Any) -> Authority:
    return Authority(TD, disk, disk.state, remember=disk.remember, **more)


def run(work: Any) -> Any:
    return asyncio.run(work)


def issue(authority: Authority, now: int = NOW, seconds: int = 3600):
    return run(authority.issue(SPKI, PRINCIPAL, now=now, ttl_seconds=seconds))


def holds(authority: Authority, chain: Any, now: int = NOW) -> bool:
    return isinstance(read_x509(chain, TrustBundle(trust_domain=TD, x509_authorities=authority.authorities), now), X509Facts)


def statuses(authority: Authority) -> dict[int, str]:
    return {root["number"]: root["status"] for root in authority.describe()}


# -- issuers


def test_a_leaf_brings_its_issuer_and_holds_under_the_root_alone():
    authority = start(Disk())
    made = issue(authority)
    assert len(made.chain) == 2
    assert holds(authority, made.chain)
    assert not holds(authority, made.chain[:1])
    issuer = x509.load_der_x509_certificate(made.chain[1])
    assert issuer.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)


def test_an_issuer_is_replaced_at_half_its_life_and_the_old_one_goes_on_verifying():
    disk = Disk()
    authority = start(disk, issuer_seconds=7 * 86_400)
    first = issue(authority, seconds=86_400)
    assert issue(authority, NOW + 3 * DAY).chain[1] == first.chain[1]
    late = issue(authority, NOW + 3 * DAY + DAY // 2 - 100_000, seconds=86_400)
    second = issue(authority, NOW + 3 * DAY + DAY // 2)
    assert second.chain[1] != late.chain[1]
    assert holds(authority, late.chain, NOW + 4 * DAY)
    assert holds(authority, second.chain, NOW + 3 * DAY + DAY // 2)


def test_the_key_of_an_issuer_is_destroyed_when_its_last_leaf_has_expired():
    disk = Disk()
    authority = start(disk, issuer_seconds=7 * 86_400)
    issue(authority)
    for days in (4, 8, 12):
        issue(authority, NOW + days * DAY)
    assert {name for name in disk.names if "issuer" in name} == {issuer_name(3), issuer_name(4)}
    assert disk.state.issuers == (3, 4)


def test_a_hundred_callers_at_half_life_make_one_new_issuer():
    disk = Disk()
    authority = start(disk)

    async def many() -> set[bytes]:
        made = await asyncio.gather(*(authority.issue(SPKI, PRINCIPAL, now=NOW, ttl_seconds=60) for _ in range(100)))
        return {one.chain[1] for one in made}

    assert len(run(many())) == 1
    assert disk.state.issuers == (1,)


def test_a_caller_that_is_cut_off_does_not_break_the_rotation():
    disk = Disk()
    authority = start(disk)

    async def cut() -> None:
        asking = asyncio.ensure_future(authority.issuer(NOW))
        await asyncio.sleep(0)
        asking.cancel()
        await authority.issuer(NOW)

    run(cut())
    assert disk.state.issuers == (1,)


def test_a_full_disk_does_not_stop_issuing_while_the_old_issuer_lives():
    disk = Disk()
    authority = start(disk, issuer_seconds=7 * 86_400)
    issue(authority)
    disk.full = True
    later = issue(authority, NOW + 4 * DAY)
    assert holds(authority, later.chain, NOW + 4 * DAY)
    assert "could not be renewed" in authority.notice
    with pytest.raises(Unavailable):
        issue(authority, NOW + 8 * DAY)
    disk.full = False
    assert holds(authority, issue(authority, NOW + 8 * DAY).chain, NOW + 8 * DAY)
    assert authority.notice == ""


def test_forced_rotations_are_bounded():
    authority = start(Disk())
    for _ in range(MAX_ISSUERS):
        run(authority.step("issuer", NOW))
    with pytest.raises(LimitExceeded):
        run(authority.step("issuer", NOW))
    run(authority.step("issuer", NOW + LEAVES_MS + 60_000))


def test_an_issuer_never_outlives_its_root():
    authority = start(Disk(), issuer_seconds=90 * 86_400)
    at = NOW + 290 * DAY
    root_ends = authority.active.certificate.not_valid_after_utc
    assert run(authority.issuer(at)).certificate.not_valid_after_utc <= root_ends
    with pytest.raises(InvalidInput):
        issue(authority, NOW + 301 * DAY)


# -- before, and a restart


def test_a_root_that_was_made_with_path_length_0_goes_on_and_says_what_to_do():
    disk = Disk(path_length=0)
    authority = start(disk)
    made = issue(authority)
    assert len(made.chain) == 1
    assert holds(authority, made.chain)
    assert "renew-ca" in authority.notice
    with pytest.raises(Conflict):
        run(authority.step("issuer", NOW))
    disk.put_certificate(root_name(FIRST), make_ca(TD, ROOT_KEY, now=NOW, days=300))
    renewed = start(disk)
    assert renewed.notice == ""
    assert len(issue(renewed).chain) == 2
    assert holds(renewed, made.chain)


def test_a_restart_goes_on_with_the_same_issuer():
    disk = Disk()
    first = issue(start(disk))
    assert issue(start(disk)).chain[1] == first.chain[1]


@pytest.mark.parametrize("what", ["key", "certificate"])
def test_half_an_issuer_is_replaced_by_another(what):
    disk = Disk()
    first = issue(start(disk))
    (disk._keys if what == "key" else disk._certificates).pop(issuer_name(1))
    authority = start(disk)
    again = issue(authority)
    assert again.chain[1] != first.chain[1]
    assert holds(authority, first.chain)


def test_an_issuer_that_outlives_its_root_signs_no_more():
    """A root whose certificate was put back to an older one: the issuer below it would go on for days that nobody verifies."""
    disk = Disk()
    issue(start(disk))
    disk.put_certificate(root_name(FIRST), make_ca(TD, ROOT_KEY, now=NOW - 400 * DAY, days=365))
    with pytest.raises(InvalidInput, match="the CA has expired"):
        issue(start(disk))


def test_a_root_whose_certificate_is_for_another_key_is_damage():
    disk = Disk()
    disk._keys[root_name(FIRST)] = CORPORATE
    with pytest.raises(StoreDamaged):
        start(disk)


# -- a root's way


def test_a_new_root_is_in_the_bundle_before_it_signs_and_the_old_one_after():
    disk = Disk()
    authority = start(disk)
    old = issue(authority, seconds=86_400)
    (first,) = authority.authorities
    run(authority.step("prepare", NOW))
    assert statuses(authority) == {1: "active", 2: "prepared"}
    assert authority.authorities[0] == first
    assert len(authority.authorities) == 2
    with pytest.raises(Conflict, match="may not be everywhere"):
        run(authority.step("activate", NOW + SPREAD_MS - 1))
    run(authority.step("activate", NOW + SPREAD_MS))
    assert statuses(authority) == {1: "retiring", 2: "active"}
    new = issue(authority, NOW + SPREAD_MS)
    assert holds(authority, old.chain)
    assert holds(authority, new.chain, NOW + SPREAD_MS)
    only_old = TrustBundle(trust_domain=TD, x509_authorities=(first,))
    assert isinstance(read_x509(new.chain, only_old, NOW + SPREAD_MS), Denied)
    with pytest.raises(Conflict, match="may live"):
        run(authority.step("retire", NOW + SPREAD_MS + LEAVES_MS - 1))
    run(authority.step("retire", NOW + SPREAD_MS + LEAVES_MS))
    assert statuses(authority) == {2: "active"}
    assert not holds(authority, old.chain)
    assert first not in authority.authorities


def test_a_stolen_root_goes_at_once_by_force():
    authority = start(Disk())
    stolen = issue(authority)
    for step in ("prepare", "activate", "retire"):
        run(authority.step(step, NOW, force=True))
    assert not holds(authority, stolen.chain)
    assert holds(authority, issue(authority).chain)


@pytest.mark.parametrize("step", ["activate", "retire", "abandon"])
def test_a_step_that_does_not_follow_is_refused(step):
    authority = start(Disk())
    with pytest.raises(Conflict):
        run(authority.step(step, NOW, force=True))


def test_a_root_that_waited_too_long_is_not_activated():
    authority = start(Disk())
    run(authority.step("prepare", NOW))
    with pytest.raises(Conflict, match="expires within a day"):
        run(authority.step("activate", NOW + 364 * DAY + DAY // 2, force=True))


def test_two_roots_are_not_prepared_at_once_and_an_abandoned_one_is_gone():
    disk = Disk()
    authority = start(disk)
    run(authority.step("prepare", NOW))
    with pytest.raises(Conflict):
        run(authority.step("prepare", NOW))
    run(authority.step("abandon", NOW))
    assert statuses(authority) == {1: "active"}
    assert disk.names == {root_name(FIRST)}


def test_roots_are_bounded_and_the_next_waits_for_the_old_one():
    authority = start(Disk())
    run(authority.step("prepare", NOW))
    run(authority.step("activate", NOW, force=True))
    run(authority.step("prepare", NOW))
    with pytest.raises(Conflict, match="not retired"):
        run(authority.step("activate", NOW, force=True))
    run(authority.request(NOW))
    assert len(authority.describe()) == MAX_ROOTS
    with pytest.raises(Conflict):
        run(authority.step("prepare", NOW))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["prepare", "activate", "retire", "abandon", "issuer", "request", "issue"]), max_size=8), st.integers(1, 30)
)
def test_a_kill_at_any_write_leaves_an_authority_whose_leaves_hold(steps, kill_at):
    """Whatever was done, wherever it was cut off: a restart issues, and what was issued under a root in the bundle goes on verifying."""
    disk = Disk()
    authority = start(disk)
    made = [issue(authority)]
    disk.kill_at = disk.writes + kill_at
    try:
        for step in steps:
            try:
                if step == "request":
                    run(authority.request(NOW))
                elif step == "issue":
                    made.append(issue(authority))
                else:
                    run(authority.step(step, NOW, force=True))
            except (Conflict, LimitExceeded):
                continue
    except Killed:
        pass
    disk.kill_at = -1
    again = start(disk)
    run(again.sweep())
    assert sum(1 for root in again.describe() if root["status"] == "active") == 1
    assert holds(again, issue(again).chain)
    wanted = (
        {root_name(root["number"]) for root in again.describe()} | {root_name(FIRST)} | {issuer_name(one) for one in disk.state.issuers}
    )
    assert {name for name in disk.names if name.startswith("x509-ca")} <= wanted
    tainted = "retire" in steps
    assert tainted or all(holds(again, one.chain) for one in made)


# -- revocation lists


def test_every_issuer_with_live_leaves_has_a_list():
    authority = start(Disk())
    first = issue(authority)
    run(authority.step("issuer", NOW))
    second = issue(authority)
    lists = [x509.load_der_x509_crl(der) for der in run(authority.crls([first.serial, second.serial], 3, NOW))]
    assert len(lists) == 3
    for made, leaf in zip(lists, (second, first), strict=False):
        issuer = x509.load_der_x509_certificate(leaf.chain[1])
        assert made.is_signature_valid(issuer.public_key())
        assert made.get_revoked_certificate_by_serial_number(int(leaf.serial, 16)) is not None
    assert lists[2].is_signature_valid(ROOT_KEY.public_key())


def test_a_root_that_signs_leaves_itself_signs_their_list():
    authority = start(Disk(path_length=0))
    (made,) = run(authority.crls(["21"], 1, NOW))
    assert x509.load_der_x509_crl(made).is_signature_valid(ROOT_KEY.public_key())


# -- a CA above ours


def corporate(csr: bytes, *, key: ec.EllipticCurvePrivateKey = CORPORATE, keep: bool = True) -> tuple[tuple[bytes, ...], str]:
    """What a corporate CA makes of a request."""
    request = x509.load_der_x509_csr(csr)
    root = x509.load_der_x509_certificate(make_ca("corp.test", CORPORATE, now=NOW, days=300))
    builder = x509.CertificateBuilder(
        root.subject, request.subject, request.public_key(), 77, root.not_valid_before_utc, root.not_valid_after_utc
    )
    for one in request.extensions:
        builder = builder.add_extension(one.value, one.critical)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key()), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(CORPORATE.public_key())
    made = builder.add_extension(authority, critical=False).sign(key, hashes.SHA256())
    ders = tuple(one.public_bytes(Encoding.DER) for one in (made, root))
    return ders, root.fingerprint(hashes.SHA256()).hex()


def test_a_corporate_ca_signs_ours_and_only_ours_is_trusted():
    disk = Disk()
    authority = start(disk)
    old = issue(authority)
    chain, fingerprint = corporate(run(authority.request(NOW)))
    assert statuses(authority) == {1: "active", 2: "requested"}
    assert len(authority.authorities) == 1
    run(authority.install(chain, fingerprint, NOW))
    assert statuses(authority) == {1: "active", 2: "prepared"}
    run(authority.step("activate", NOW, force=True))
    new = issue(authority)
    assert new.chain[1:] == chain[:1]
    assert authority.authorities[0] == chain[0]
    assert chain[1] not in authority.authorities
    assert holds(authority, new.chain)
    assert holds(authority, old.chain)
    restarted = start(disk)
    assert issue(restarted).chain[1:] == chain[:1]
    assert restarted.describe()[1]["upstream"]


def test_asking_again_gives_a_request_for_the_same_key():
    authority = start(Disk())
    keys = {spki_of(x509.load_der_x509_csr(run(authority.request(NOW))).public_key()) for _ in range(2)}
    assert len(keys) == 1


def test_nothing_is_installed_that_was_not_asked_for_or_does_not_hold():
    disk = Disk()
    authority = start(disk)
    chain, fingerprint = corporate(run(start(Disk()).request(NOW)))
    with pytest.raises(NotFound):
        run(authority.install(chain, fingerprint, NOW))
    csr = run(authority.request(NOW))
    with pytest.raises(Unverified):  # somebody else's request
        run(authority.install(chain, fingerprint, NOW))
    chain, fingerprint = corporate(csr, key=LEAF)
    with pytest.raises(Unverified):
        run(authority.install(chain, fingerprint, NOW))
    assert statuses(authority) == {1: "active", 2: "requested"}
    assert start(disk).authorities == authority.authorities

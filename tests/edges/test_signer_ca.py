"""The signer's X.509 authority as files and a process: rotation that survives kill -9, a CA of before, and its renewal."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from test_signer import TD, X509, Process, folder, made, run_main, start, used

from vouchgate.flows.x509_authority import ISSUER_SECONDS
from vouchgate.identity.bundle import TrustBundle
from vouchgate.identity.ca import make_ca, path_length_of
from vouchgate.identity.x509svid import X509Facts, read_x509
from vouchgate.vocabulary.errors import Conflict, InvalidInput, VouchgateError

__all__ = ["folder", "made", "start", "used"]


def holds(signer: Process, chain: list[bytes]) -> bool:
    said = signer.client.call("public_keys")
    bundle = TrustBundle(trust_domain=TD, x509_authorities=tuple(said["x509_authorities"]))
    return isinstance(read_x509(chain, bundle, signer.client.call("health")["now"]), X509Facts)


def test_an_issuer_is_made_before_the_first_request_and_kept(used, start):
    signer = start()
    assert {path.name for path in (used / "keys").glob("x509-issuer-*")} == {"x509-issuer-1.key", "x509-issuer-1.crt"}
    assert all(path.stat().st_mode & 0o7777 == 0o600 for path in (used / "keys").iterdir())
    first = signer.client.call("x509_svid", **X509)["chain"]
    signer.end()
    again = start()
    assert again.client.call("x509_svid", **X509)["chain"][1] == first[1]
    assert holds(again, first)
    issuer = x509.load_der_x509_certificate(first[1])
    life = issuer.not_valid_after_utc - issuer.not_valid_before_utc
    assert abs(life.total_seconds() - ISSUER_SECONDS) < 60


def test_a_kill_9_while_issuers_rotate_leaves_a_signer_whose_leaves_hold(used, start):
    """Rotations one after the other, killed at a moment that differs each time."""
    issued: list[list[bytes]] = []
    for turn in range(3):
        signer = start()
        issued.append(signer.client.call("x509_svid", **X509)["chain"])
        rotating = threading.Thread(target=_rotate, args=(signer,))
        rotating.start()
        rotating.join(0.004 * (turn + 1))
        signer.end(signal.SIGKILL)
        rotating.join(10)
    signer = start()
    assert signer.client.call("health")["ok"]
    assert all(holds(signer, chain) for chain in issued)
    assert holds(signer, signer.client.call("x509_svid", **X509)["chain"])
    names = {path.stem for path in (used / "keys").glob("x509-issuer-*.key")}
    assert names == {path.stem for path in (used / "keys").glob("x509-issuer-*.crt")}


def _rotate(signer: Process) -> None:
    try:
        for _ in range(8):
            signer.client.call("ca_step", step="issuer")
    except VouchgateError:
        return


def test_a_root_rotates_and_the_new_one_survives_a_restart(used, start):
    signer = start()
    old = signer.client.call("x509_svid", **X509)["chain"]
    for step in ("prepare", "activate"):
        signer.client.call("ca_step", step=step, force=True)
    new = signer.client.call("x509_svid", **X509)["chain"]
    signer.end(signal.SIGKILL)
    again = start()
    assert holds(again, old)
    assert holds(again, new)
    with pytest.raises(Conflict):
        again.client.call("ca_step", step="retire")
    again.client.call("ca_step", step="retire", force=True)
    assert not holds(again, old)
    assert holds(again, new)
    again.end()
    assert run_main(used, "--renew-ca") == 0
    last = start()
    assert holds(last, new)
    assert len(last.client.call("public_keys")["x509_authorities"]) == 1


def test_a_ca_of_before_goes_on_and_is_renewed_by_the_command(used, start):
    """Path length 0, as installations had it: leaves as before, a notice, and issuers after `--renew-ca`."""
    key = load_der_private_key((used / "keys" / "x509-ca.key").read_bytes(), password=None)
    before = make_ca(TD, key, now=int(x509.load_der_x509_certificate((used / "keys" / "x509-ca.crt").read_bytes()).not_valid_before_utc.timestamp() * 1000), days=300, path_length=0)  # fmt: skip
    (used / "keys" / "x509-ca.crt").write_bytes(before)
    signer = start()
    old = signer.client.call("x509_svid", **X509)["chain"]
    assert len(old) == 1
    assert holds(signer, old)
    assert "renew-ca" in signer.client.call("health")["ca_notice"]
    assert signer.client.call("health")["ok"]
    with pytest.raises(Conflict, match="signs leaves itself"):
        signer.client.call("ca_step", step="issuer")
    signer.end()
    assert run_main(used, "--renew-ca") == 0
    renewed = start()
    assert renewed.client.call("health")["ca_notice"] == ""
    assert path_length_of(x509.load_der_x509_certificate(renewed.client.call("public_keys")["x509_ca"])) == 1
    assert len(renewed.client.call("x509_svid", **X509)["chain"]) == 2
    assert holds(renewed, old)


def test_a_lost_root_key_is_damage_and_not_a_new_root(used, start):
    signer = start()
    for step in ("prepare", "activate"):
        signer.client.call("ca_step", step=step, force=True)
    signer.end()
    (used / "keys" / "x509-ca-2.key").unlink()
    assert run_main(used) != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only the own uid may hold a key file")
def test_an_issuers_key_that_others_could_read_stops_it(used, start):
    start().end()
    (used / "keys" / "x509-issuer-1.key").chmod(0o640)
    assert run_main(used) != 0


def test_a_batch_its_list_and_junk_over_the_socket(used, start):
    signer = start()
    answers = signer.client.call("x509_svids", requests=[X509] * 64)
    assert len({one["serial"] for one in answers}) == 64
    made = signer.client.call("crl", serials=[one["serial"] for one in answers], number=1)
    assert len(list(x509.load_der_x509_crl(made["crl"]))) == 64
    signer.client.call("ca_request")
    for junk in ({"chain": [b"junk"], "root_fingerprint": "ab" * 32}, {"chain": 1, "root_fingerprint": ""}, {}):
        with pytest.raises(InvalidInput):
            signer.client.call("ca_install", **junk)
    assert len(signer.client.call("public_keys")["x509_authorities"]) == 1


def test_an_older_signers_folder_is_taken_up(used, start):
    """`state.json` from before the authority was remembered in it."""
    (used / "state.json").write_bytes(b'{"trust_domain":"' + TD.encode() + b'","policy_version":0,"checkpoints":{},"at":0}')
    assert len(start().client.call("x509_svid", **X509)["chain"]) == 2

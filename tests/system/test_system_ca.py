"""The X.509 authority of a whole installation: issuers and roots rotate under running callers, by the command line, with everything recorded."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import replace
from typing import Any

from cryptography import x509
from installation import Caller, Installation


def ca(house: Installation, *words: str) -> dict[str, Any]:
    said = house.cli("admin", *words, "--json")
    assert said.returncode == 0, said.stdout + said.stderr
    return json.loads(said.stdout)


def rotate(house: Installation, step: str) -> dict[str, Any]:
    return ca(house, "ca-rotate", step, "--force", "--reason", "a rehearsal")


def lets_in(house: Installation, who: Caller) -> bool:
    try:
        return house.infer(who).status == 200
    except OSError:
        return False


def test_a_leaf_brings_its_issuer(house: Installation, alice: Caller) -> None:
    chain = x509.load_pem_x509_certificates(alice.certificate.read_bytes())
    assert len(chain) == 2
    chain[0].verify_directly_issued_by(chain[1])
    assert ca(house, "ca")["issuer"]["number"] >= 1


def test_three_issuers_rotate_under_a_running_caller(house: Installation, alice: Caller) -> None:
    failures: list[Any] = []
    calls, stop = [0], threading.Event()

    def call() -> None:
        while not stop.is_set():
            try:
                status: Any = house.infer(alice).status
            except OSError as error:
                status = repr(error)
            calls[0] += 1
            if status != 200:
                failures.append(status)

    thread = threading.Thread(target=call)
    thread.start()
    numbers = [rotate(house, "issuer")["issuer"]["number"] for _ in range(3)]
    fresh = house.caller("alice")
    house.until(lambda: lets_in(house, fresh), 10)
    stop.set()
    thread.join(10)
    assert failures == []
    assert calls[0] > 10
    assert len(set(numbers)) == 3


def test_a_root_is_replaced_and_everything_follows(house: Installation, alice: Caller) -> None:
    before = ca(house, "ca")["sequence"]
    rotate(house, "prepare")
    house.caller("alice")  # brings today's bundle; whoever calls follows it, as the Workload API's clients do
    alice = replace(alice, tls=house.tls(alice.certificate, alice.key))
    assert lets_in(house, alice)
    said = rotate(house, "activate")
    assert {root["status"] for root in said["roots"]} == {"active", "retiring"}
    fresh = house.caller("alice")
    house.until(lambda: lets_in(house, fresh), 10, "the new root's leaf is not let in")
    assert lets_in(house, alice)
    said = rotate(house, "retire")
    assert said["sequence"] == before + 3
    house.until(lambda: not lets_in(house, alice), 10, "the old root's leaf is still let in")
    assert lets_in(house, fresh)
    house.send("signer", signal.SIGKILL)
    house.until(lambda: house.cli("admin", "ca").returncode == 0, 20, "the signer did not come back")
    again = house.caller("alice")
    house.until(lambda: lets_in(house, again), 10)
    verbs = [entry.summary for entry in house.entries(max(0, house.status().log_size - 400))]
    assert sum("ca-step" in text for text in verbs) >= 3, verbs[-30:]

"""What an attacker tries on the whole tree: parts that are killed while they give something out, tokens where they do not belong, privileges
that a registrar gives to himself."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from installation import TRUST_DOMAIN, Caller, Installation, part
from test_system_delegation import DIGITS, GRANT, JWT, POLICY, by_key, call, exchange, proof_for, sts, token_of

from vouchgate.edges.cli.client import Client
from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity, RegistrationRequest
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.principals import Registration, Selector

KILLED = ("control", "signer", "sts", "agent")
REGISTRAR_UID = 60_001


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="vg", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        policy = Path(folder) / "hand-on.cedar"
        policy.write_text(POLICY)
        more = f'\n[[policies]]\npath = "{policy}"\n\n[sts]\nlisten = "127.0.0.1:0"\n'
        with Installation(more=more, folder=Path(folder)) as running:
            yield running


@pytest.fixture(scope="module")
def agent(house: Installation) -> Caller:
    made = house.caller("planner", kind="agent")
    asked = IdentityRequest(kind="person", zone="serve", name="ann", groups=("callers",), form="jwt", audience="sts")
    house.client.post(IssuedIdentity, "/api/v1/identities", asked)
    house.until(lambda: exchange(house, made)[0] == 200, 15, "nothing was exchanged")
    return made


def handed_on(house: Installation, agent: Caller, subject: str) -> str:
    """What an exchange of this very token gives, or nothing."""
    form = {"grant_type": GRANT, "subject_token": subject, "subject_token_type": JWT, "resource": DIGITS, "scope": "infer:digits"}
    link = http.client.HTTPSConnection(*sts(house), context=agent.tls, timeout=10)
    try:
        link.request("POST", "/token", urlencode(form), {"content-type": "application/x-www-form-urlencoded"})
        return str(json.loads(link.getresponse().read()).get("access_token", ""))
    except (OSError, ValueError, http.client.HTTPException):
        # a port that nobody listens on may be taken by the very connections that look for it
        time.sleep(0.1)
        return ""
    finally:
        link.close()


def logged(house: Installation) -> set[str]:
    """Ids of the credentials that the log says were issued."""
    return {str(entry.body.get("metadata", {}).get("uid", "")) for entry in house.entries()}


def test_whatever_is_killed_meanwhile_nothing_is_given_out_without_its_entry(house: Installation, agent: Caller) -> None:
    seen: list[str] = []
    stop, said = threading.Event(), token_of(house, "person", "ann")

    def by_exchange() -> None:
        while not stop.is_set():
            made = handed_on(house, agent, said)
            if made:
                seen.append(part(made, 1)["jti"])

    def by_the_api() -> None:
        client = Client(house.layout.api_socket)
        asked = IdentityRequest(kind="person", zone="serve", name="ann", groups=None, form="jwt", audience="digits")
        while not stop.is_set():
            with contextlib.suppress(VouchgateError, OSError):
                seen.append(client.post(IssuedIdentity, "/api/v1/identities", asked).credential_id)

    threads = [threading.Thread(target=work) for work in (by_exchange, by_exchange, by_the_api, by_the_api)]
    for thread in threads:
        thread.start()
    rng, before = random.Random(5), 0
    try:
        for name in KILLED:
            before = len(seen)
            house.until(lambda before=before: len(seen) > before + 10, 25, "nothing was given out")
            time.sleep(rng.random() * 0.05)
            house.send(name, signal.SIGKILL)
            house.until(lambda name=name: name in house.processes(), 20)
        house.until(lambda: len(seen) > before + 20, 25, "nothing was given out any more")
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    house.until(house.ready, 30)
    house.until(lambda: handed_on(house, agent, said), 30, "the token service did not come back")
    missing = set(seen) - logged(house)
    assert len(seen) > 50
    assert not missing, f"{len(missing)} of {len(seen)} credentials are in no entry"
    assert len(seen) == len(set(seen))
    assert house.audited().ok


def test_what_is_exchanged_while_its_person_is_revoked_opens_nothing(house: Installation, agent: Caller) -> None:
    tokens: list[str] = []
    stop, said = threading.Event(), token_of(house, "person", "ann")

    def work() -> None:
        while not stop.is_set():
            tokens.append(handed_on(house, agent, said))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    house.until(lambda: sum(1 for one in tokens if one) > 5, 20)
    made = house.revoke(f"spiffe://{TRUST_DOMAIN}/person/serve/ann")
    stop.set()
    for thread in threads:
        thread.join(20)
    assert made.revocation is not None
    assert all(point.outcome == "enforced" for point in made.points)
    try:
        assert {call(house, agent, token).status for token in [one for one in tokens if one][-40:]} == {403}
        assert not handed_on(house, agent, said)
    finally:
        house.undo(made.revocation.id)
    house.until(lambda: exchange(house, agent)[0] == 200, 10)


def test_each_kind_of_token_is_good_in_its_own_place_alone(house: Installation, agent: Caller) -> None:
    bound = exchange(house, agent)[1]["access_token"]
    url = f"https://localhost:{sts(house)[1]}/token"
    keyed = by_key(house, agent)
    house.caller("alice")
    kinds = {
        "for-sts": token_of(house, "person", "ann"), "for-endpoint": house.token("alice"), "bound": bound, "keyed": keyed,
        "shortened": bound.rpartition(".")[0] + ".", "unsigned": "eyJhbGciOiJub25lIn0." + bound.split(".")[1] + ".",
    }  # fmt: skip

    def attest(token: str) -> int:
        return _post(house, "/attest", json.dumps({"attestor": "join-token", "evidence": {"token": token}, "nonce": "n", "spki": "AA=="}))

    places = {
        "endpoint": lambda token: call(house, None, token).status,
        "endpoint-as-dpop": lambda token: call(house, None, token, scheme="DPoP").status,
        "other-endpoint": lambda token: house.bearer(token, "/v1/chat/completions", body=b'{"model":"tiny-1","messages":[]}').status,
        "subject": lambda token: exchange(house, agent, subject_token=token)[0],
        "actor": lambda token: exchange(house, None, proof=proof_for(house, agent, url), actor_token=token, actor_token_type=JWT)[0],
        "evidence": attest,
        "event": lambda token: _post(house, "/ssf/events/any", token, "application/secevent+jwt"),
        "code": lambda token: _post(
            house,
            "/token",
            urlencode({"grant_type": "authorization_code", "code": token, "code_verifier": "v" * 43}),
            "application/x-www-form-urlencoded",
        ),
        "api": lambda token: _api(house, token),
    }
    taken = {(kind, place) for kind, token in kinds.items() for place, ask in places.items() if ask(token) < 400}
    # a plain token is a bearer token under either scheme; and whoever holds one for the service may narrow it for itself
    assert taken == {("for-endpoint", "endpoint"), ("for-endpoint", "endpoint-as-dpop"), ("for-sts", "subject"), ("for-sts", "actor")}


def _post(house: Installation, path: str, body: str, kind: str = "application/json") -> int:
    host, port = sts(house)
    link = http.client.HTTPSConnection(host, port, context=house.tls(), timeout=10)
    try:
        link.request("POST", path, body, {"content-type": kind})
        return link.getresponse().status
    finally:
        link.close()


def _api(house: Installation, token: str) -> int:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(house.layout.api_socket))
        link.sendall(f"GET /api/v1/status HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n".encode())
        return int(link.recv(100).split(b" ")[1])


AS_ANOTHER = """
import json, os, sys
from vouchgate.edges.cli.client import Client
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.wire import encode
uid, path, asked = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
client = Client(path)
for resource, body in asked:
    try:
        client.post(dict, resource, body)
        print("done")
    except VouchgateError as error:
        print(error.code, error.reason)
"""


def as_another(house: Installation, uid: int, *asked: tuple[str, dict[str, Any]]) -> list[str]:
    """What that unix user is answered: `done`, or the code of the refusal."""
    command = [sys.executable, "-c", AS_ANOTHER, str(uid), str(house.layout.api_socket), json.dumps(asked)]
    made = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as other users")
def test_a_registrar_gives_himself_nothing_that_he_does_not_hold(house: Installation) -> None:
    house.folder.chmod(0o755)
    me = RegistrationRequest(
        kind="person",
        zone="admin",
        name="rita",
        selectors=(Selector(type="unix:uid", value=str(REGISTRAR_UID)),),
        groups=("role:registrar",),
    )
    house.client.post(Registration, "/api/v1/registrations", me)
    owner = next(one for one in _registrations(house) if "role:responder" in one["groups"])
    kind, zone, name = owner["principal"].split("/")[3:]
    mine = [{"type": "unix:uid", "value": str(REGISTRAR_UID)}]
    server = next(one for one in _registrations(house) if one["principal"].endswith("/server/serve/digits"))

    def registered(**values: Any) -> tuple[str, dict[str, Any]]:
        return "/api/v1/registrations", {"kind": "service", "zone": "serve", "name": "shadow"} | values

    def issued(**values: Any) -> tuple[str, dict[str, Any]]:
        return "/api/v1/identities", {"form": "jwt", "audience": "sts", "groups": None, "spki": "", "run": "", "ttl_seconds": 0} | values

    tried = {
        "his own name with another role": registered(kind="person", zone="admin", name="rita", selectors=mine, groups=["role:registrar", "role:responder"]),
        "another name with a role": registered(kind="person", zone="admin", name="rob", selectors=mine, groups=["role:key-custodian"]),
        "the owner's name": registered(kind=kind, zone=zone, name=name, selectors=mine),
        "a server's name": registered(kind="server", zone="serve", name="digits", selectors=mine),
        "a second name for the owner's uid": registered(kind="person", zone="admin", name="rob", selectors=owner["selectors"]),
        "a second name for a server's uid": registered(selectors=server["selectors"]),
        "one of vouchgate's own": registered(kind="system", zone="control", name="control", selectors=mine),
        "the gateway's host name": registered(selectors=mine, dns=["localhost"]),
        "a wildcard": registered(selectors=mine, dns=["*"]),
        "a host name in capitals": registered(selectors=mine, dns=["LOCALHOST"]),
        "more groups than policies can hold": registered(groups=[f"g{number}" for number in range(300)]),
        "such a token": issued(kind="service", zone="serve", name="many", groups=[f"g{number}" for number in range(300)]),
        "a join token of his choice": registered(selectors=[{"type": "join:token", "value": "0" * 64}]),
        "what only narrows": registered(selectors=[{"type": "unix:path", "value": "/usr/bin/python3"}]),
        "a partner's name beside his uid": registered(zone="federated-x", selectors=[*mine, {"type": "federated:spiffe_id", "value": "spiffe://x/y"}]),
        "a partner of our own name": registered(zone="federated-x", selectors=[{"type": "federated:spiffe_id", "value": f"spiffe://{TRUST_DOMAIN}/y"}]),
        "a partner's name in our zone": registered(selectors=[{"type": "federated:spiffe_id", "value": "spiffe://x/y"}]),
        "the model of a server that vouchgate started": registered(name="liar", endpoint="digits"),
        "the owner's token": issued(kind=kind, zone=zone, name=name),
        "the owner's token, without the roles": issued(kind=kind, zone=zone, name=name, groups=["callers"]),
        "a role by a token": issued(kind="person", zone="serve", name="new", groups=["role:policy-author"]),
        "a join token for the owner": ("/api/v1/join-tokens", {"principal": owner["principal"], "ttl_seconds": 600}),
        "a join token for a server": ("/api/v1/join-tokens", {"principal": server["principal"], "ttl_seconds": 600}),
        "the gateway's own desk for everybody": ("/api/v1/wrap", {"name": "desk", "upstream": f"unix:{house.layout.admin_socket}", "zone": ""}),
        "a guarded model for everybody": ("/api/v1/wrap", {"name": "free", "upstream": f"unix:{house.layout.upstream_socket('digits')}", "zone": ""}),
        "to revoke": ("/api/v1/revoke", {"kind": "", "target": owner["principal"], "reason": "x"}),
        "to change a zone": ("/api/v1/adopt", {"zone": "serve", "to": "observe", "reason": "x"}),
    }  # fmt: skip
    answers = as_another(house, REGISTRAR_UID, *tried.values())
    let = [what for what, answer in zip(tried, answers, strict=True) if answer == "done" or answer.startswith(("not-found", "error"))]
    assert not let, list(zip(tried, answers, strict=True))
    assert "answers for" in answers[list(tried).index("the model of a server that vouchgate started")]
    assert as_another(house, REGISTRAR_UID + 1, issued(kind="service", zone="serve", name="alice"))[0].startswith("not-permitted")


def _registrations(house: Installation) -> list[dict[str, Any]]:
    return house.client.get(list[dict[str, Any]], "/api/v1/registrations")

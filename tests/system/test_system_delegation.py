"""A person's right in an agent's hands, through the real tree: exchanged, bound, used, replayed, withdrawn; and a run's end."""

from __future__ import annotations

import http.client
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from installation import INFER_PATH, TRUST_DOMAIN, Answer, Caller, Installation

from vouchgate.edges.cli.keys import dpop_proof
from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity, RunOutcome, RunRequest

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
DIGITS = f"vg://{TRUST_DOMAIN}/endpoint/digits"
POLICY = """@id("hand-on")
permit (principal in Group::"callers", action == Action::"exchange", resource is Endpoint in Zone::"serve")
when { context has depth && context.depth <= 1 };
"""


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="vg", dir="/tmp") as folder:
        policy = Path(folder) / "hand-on.cedar"
        policy.write_text(POLICY)
        more = f'\n[[policies]]\npath = "{policy}"\n\n[sts]\nlisten = "127.0.0.1:0"\n'
        with Installation(more=more, folder=Path(folder)) as running:
            yield running


@pytest.fixture(scope="module")
def agent(house: Installation) -> Caller:
    made = house.caller("planner", kind="agent")
    house.until(lambda: house.infer(made).status == 200, 10, "the agent was not let in")
    # whoever is registered first is known to the decision point too, once it is known to the gateway
    house.client.post(IssuedIdentity, "/api/v1/identities", _asked("person", "ann", ("callers",)))
    return made


def _asked(kind: str, name: str, groups: tuple[str, ...] | None = None, audience: str = "sts") -> IdentityRequest:
    return IdentityRequest(kind=kind, zone="serve", name=name, groups=groups, form="jwt", audience=audience)


def token_of(house: Installation, kind: str, name: str) -> str:
    return house.client.post(IssuedIdentity, "/api/v1/identities", _asked(kind, name)).token


def sts(house: Installation) -> tuple[str, int]:
    host, _, port = json.loads((house.data / "vouchgate.json").read_text())["sts"].rpartition(":")
    return host, int(port)


def exchange(house: Installation, caller: Caller | None, *, proof: str = "", **changes: str) -> tuple[int, dict[str, str]]:
    form = {
        "grant_type": GRANT, "subject_token": token_of(house, "person", "ann"), "subject_token_type": JWT, "resource": DIGITS,
        "scope": "infer:digits",
    } | changes  # fmt: skip
    host, port = sts(house)
    link = http.client.HTTPSConnection(host, port, context=caller.tls if caller else house.tls(), timeout=10)
    headers = {"content-type": "application/x-www-form-urlencoded"} | ({"dpop": proof} if proof else {})
    link.request("POST", "/token", urlencode(form), headers)
    answer = link.getresponse()
    assert answer.headers["cache-control"] == "no-store"
    said = json.loads(answer.read())
    link.close()
    return answer.status, said


def proof_for(house: Installation, caller: Caller, url: str, token: str = "") -> str:
    import base64
    import hashlib

    ath = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode() if token else ""
    return dpop_proof(caller.key.read_bytes(), "POST", url, time.time_ns() // 1_000_000, ath=ath)


def by_key(house: Installation, agent: Caller) -> str:
    url = f"https://localhost:{sts(house)[1]}/token"
    actor = token_of(house, "agent", "planner")
    said: dict[str, str] = {}

    def given() -> bool:
        nonlocal said
        status, said = exchange(house, None, proof=proof_for(house, agent, url), actor_token=actor, actor_token_type=JWT)
        return status == 200

    # for some seconds after its start the service cannot tell a proof from one that was used before
    house.until(given, 15, "nothing was exchanged", pause=0.2)
    assert said["token_type"] == "DPoP"
    return said["access_token"]


def call(house: Installation, caller: Caller | None, token: str, *, scheme: str = "Bearer", proof: str = "") -> Answer:
    return house.infer(caller, headers={"authorization": f"{scheme} {token}"} | ({"dpop": proof} if proof else {}))


def test_a_token_bound_to_the_agents_certificate_is_good_with_that_certificate_alone(house: Installation, agent: Caller) -> None:
    status, said = exchange(house, agent)
    assert status == 200, said
    assert (said["token_type"], said["scope"]) == ("Bearer", "infer:digits")
    token = said["access_token"]
    made = call(house, agent, token)
    assert made.status == 200, made
    assert call(house, None, token).status == 401, "not without the certificate"
    other = house.caller("mallory")
    assert call(house, other, token).status == 403, "not with another one"
    assert house.call(agent, "/v2/models/digits", method="GET", body=b"", headers={"authorization": f"Bearer {token}"}).status == 403
    entry = [one for one in house.entries() if "planner" in str(one) and '"actors"' in str(one).replace("'", '"')]
    assert entry, "the log names who acted"


def test_a_token_bound_to_a_key_goes_with_a_proof_that_is_used_once(house: Installation, agent: Caller) -> None:
    token = by_key(house, agent)
    url = f"https://localhost:{house.gateway[1]}{INFER_PATH}"

    def fresh() -> str:
        return proof_for(house, agent, url, token)

    # for some seconds after its start the decision point cannot tell a proof from one that was used before
    house.until(lambda: call(house, None, token, scheme="DPoP", proof=fresh()).status == 200, 15, "no proof was taken")
    once = fresh()
    assert call(house, None, token, scheme="DPoP", proof=once).status == 200
    again = call(house, None, token, scheme="DPoP", proof=once)
    assert again.status == 401
    assert "invalid_dpop_proof" in again.headers["www-authenticate"]
    assert call(house, None, token, scheme="DPoP").status == 401
    assert call(house, None, token, scheme="Bearer").status == 401
    assert call(house, None, token, scheme="DPoP", proof=proof_for(house, agent, url)).status == 401, "without the token's hash"
    assert call(house, None, token, scheme="DPoP", proof=proof_for(house, agent, url + "x", token)).status == 401
    assert call(house, None, token, scheme="DPoP", proof=proof_for(house, house.caller("mallory"), url, token)).status == 401


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "administer"}, "invalid_scope"), ({"scope": "chat"}, "access_denied"), ({"resource": "nowhere"}, "invalid_target"),
        ({"subject_token": "a.b.c"}, "invalid_grant"), ({"grant_type": "password"}, "unsupported_grant_type"), ({"unknown": "1"}, "invalid_request"),
    ],
)  # fmt: skip
def test_a_refusal_has_the_standards_form(changes: dict[str, str], error: str, house: Installation, agent: Caller) -> None:
    status, said = exchange(house, agent, **changes)
    if changes.get("scope") == "chat":
        assert status == 200, "a scope gives nothing by itself"
        return
    assert (status, said["error"]) == (400, error), said
    assert said["error_description"]
    assert said["remedy"]


def test_nobody_acts_without_proving_who_it_is(house: Installation, agent: Caller) -> None:
    status, said = exchange(house, None)
    assert (status, said["error"]) == (401, "invalid_client")


def test_revoking_the_person_stops_the_agent_and_undoing_it_lets_it_go_on(house: Installation, agent: Caller) -> None:
    bound, keyed = exchange(house, agent)[1]["access_token"], by_key(house, agent)
    url = f"https://localhost:{house.gateway[1]}{INFER_PATH}"
    assert call(house, agent, bound).status == 200
    made = house.revoke(f"spiffe://{TRUST_DOMAIN}/person/serve/ann")
    assert all(point.outcome == "enforced" for point in made.points)
    assert call(house, agent, bound).status == 403
    assert call(house, None, keyed, scheme="DPoP", proof=proof_for(house, agent, url, keyed)).status == 403
    assert house.infer(agent).status == 200, "the agent itself goes on"
    assert made.revocation is not None
    house.undo(made.revocation.id)
    house.until(lambda: call(house, agent, bound).status == 200, 10, "it did not go on")


def test_revoking_the_agent_or_the_persons_token_strikes_what_was_made_from_them(house: Installation, agent: Caller) -> None:
    keyed = by_key(house, agent)
    url = f"https://localhost:{house.gateway[1]}{INFER_PATH}"

    def status() -> int:
        return call(house, None, keyed, scheme="DPoP", proof=proof_for(house, agent, url, keyed)).status

    assert status() == 200
    made = house.revoke(agent.principal)
    assert status() == 403
    assert made.revocation is not None
    house.undo(made.revocation.id)
    house.until(lambda: status() == 200, 10)
    import base64

    body = keyed.split(".")[1]
    parents = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["vg"]["parents"]
    house.revoke(parents[0], "credential")
    assert status() == 403


def test_the_command_line_exchanges_for_whoever_runs_it(house: Installation, agent: Caller) -> None:
    subject = house.folder / "subject.jwt"
    subject.write_text(token_of(house, "person", "ann"))
    actor = house.folder / "actor.jwt"
    actor.write_text(token_of(house, "agent", "planner"))
    made = house.cli(
        "token", "exchange", "digits", "--scope", "infer:digits", "--subject", str(subject), "--actor", str(actor), "--key", str(agent.key)
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    url = f"https://localhost:{house.gateway[1]}{INFER_PATH}"
    assert call(house, None, token, scheme="DPoP", proof=proof_for(house, agent, url, token)).status == 200
    refused = house.cli("token", "exchange", "digits", "--scope", "administer", "--subject", str(subject), "--key", str(agent.key))
    assert refused.returncode == 1
    assert "invalid-scope" in refused.stderr or "invalid-grant" in refused.stderr or "invalid" in refused.stderr


def test_ending_a_run_strikes_its_certificate_at_the_gateway(house: Installation) -> None:
    job = house.caller("fit", kind="job")
    house.until(lambda: house.infer(job).status == 200, 10)
    asked = RunRequest(principal=job.principal, stage="evaluate", inputs=(), seconds=600)
    run = house.client.post(RunOutcome, "/api/v1/runs", asked).run
    bound = _bound_caller(house, run.id)
    assert house.infer(bound).status == 200
    listed = house.cli("runs", "list")
    assert run.id in listed.stdout
    ended = house.cli("runs", "end", run.id, "--reason", "done")
    assert ended.returncode == 0, ended.stderr
    assert house.infer(bound).status == 403
    assert house.infer(job).status == 200, "what is not of the run goes on"
    refused = house.cli("identity", "issue", "job", "serve", "fit", "--run", run.id)
    assert refused.returncode != 0


def _bound_caller(house: Installation, run: str) -> Caller:
    folder = house.folder / "bound"
    made = house.cli("identity", "issue", "job", "serve", "fit", "--run", run, "-o", str(folder))
    assert made.returncode == 0, made.stderr
    certificate, key = folder / "svid.pem", folder / "key.pem"
    return Caller("fit", f"spiffe://{TRUST_DOMAIN}/job/serve/fit", "", certificate, key, house.tls(certificate, key))


def test_a_token_service_that_is_killed_is_there_again(house: Installation, agent: Caller) -> None:
    import signal

    house.send("sts", signal.SIGKILL)

    def again() -> bool:
        try:
            return exchange(house, agent)[0] == 200
        except OSError:
            return False

    house.until(again, 20, "nothing was exchanged", pause=0.1)

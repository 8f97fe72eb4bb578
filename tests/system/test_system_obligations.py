"""Obligations through the real tree: a budget that outlives its counters, a rounded answer, and one approval for one of many racing requests."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import INFER, Answer, Caller, Installation

from vouchgate.vocabulary.answers_approvals import ApprovalState

NAMES = ("pay", "few", "rough", "young")
ENDPOINT = """
[[endpoints]]
name = "{name}"
zone = "serve"
upstream = "server:digits"
prefix = "/{name}"
approvals = true
routes = [{{ method = "POST", path = "/v2/models/digits/infer", action = "infer" }}]
"""
MET = """@id("meet-{name}") @oblige("{oblige}")
forbid (principal, action == Action::"infer", resource == Endpoint::"vg://example.local/endpoint/{name}");
"""
OBLIGE = {
    "pay": "approval=role:approver",
    "few": "budget=4/day",
    "rough": "rounded-answer=2; redaction=model_version",
    "young": "step-up=60",
}
PERMIT = """@id("obliged")
permit (principal in Group::"callers", action == Action::"infer", resource is Endpoint in Zone::"serve");
"""


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="vg", dir="/tmp") as folder:
        policy = Path(folder) / "obliged.cedar"
        policy.write_text(PERMIT + "".join(MET.format(name=name, oblige=oblige) for name, oblige in OBLIGE.items()))
        more = f'\n[[policies]]\npath = "{policy}"\n' + "".join(ENDPOINT.format(name=name) for name in NAMES)
        with Installation(more=more, folder=Path(folder)) as running:
            yield running


def ask(house: Installation, who: Caller, name: str, **more: Any) -> Answer:
    return house.call(who, f"/{name}/v2/models/digits/infer", **more)


def body(number: int) -> bytes:
    return json.dumps(INFER | {"id": f"n{number}"}).encode()


def waits(house: Installation, who: Caller, content: bytes) -> str:
    """Id of the approval that a request opens."""
    found: list[Answer] = []

    def asked() -> bool:
        found.append(ask(house, who, "pay", body=content))
        return found[-1].status == 403 and bool(found[-1].problem.get("approval"))

    house.until(asked, 10, "nobody was asked")
    return str(found[-1].problem["approval"])


def give(house: Installation, approval: str) -> None:
    assert house.client.post(ApprovalState, "/api/v1/approvals/give", {"id": approval}).state == "approved"


def test_one_of_many_racing_requests_passes(house: Installation, alice: Caller) -> None:
    approval = waits(house, alice, body(1))
    assert house.cli("approve", "list").returncode == 1
    shown = house.cli("approve", "show", approval).stdout
    assert '"id": "n1"' in shown
    given = house.cli("approve", "give", approval)
    assert given.returncode == 0, given
    with concurrent.futures.ThreadPoolExecutor(16) as many:
        answers = list(many.map(lambda _: ask(house, alice, "pay", body=body(1)).status, range(48)))
    assert answers.count(200) == 1
    assert set(answers) == {200, 403}
    assert ask(house, alice, "pay", body=body(2)).problem["type"].endswith("approval-needed")


@pytest.mark.parametrize("name", ["control", "pdp"])
def test_an_approval_outlives_a_kill_and_is_used_once(house: Installation, alice: Caller, name: str) -> None:
    content = body(len(name))
    give(house, waits(house, alice, content))
    pid = house.send(name, signal.SIGKILL)
    house.until(lambda: house.processes().get(name, pid) != pid and house.ready(), 40, f"{name} did not come back")
    house.until(lambda: ask(house, alice, "pay", body=content).status == 200, 20, "the approval was lost")
    assert waits(house, alice, content)


def test_a_budget_outlives_the_processes_that_count(house: Installation, alice: Caller) -> None:
    house.until(lambda: ask(house, alice, "few").status == 200, 10, "nothing passed")
    assert ask(house, alice, "few").status == 200
    for name in ("control", "pdp"):
        pid = house.send(name, signal.SIGKILL)
        house.until(lambda name=name, pid=pid: house.processes().get(name, pid) != pid and house.ready(), 40, "it did not come back")
    passed: list[int] = []
    house.until(lambda: passed.append(ask(house, alice, "few").status) or passed[-1] == 429, 20, "the budget has no end")
    assert passed.count(200) == 2
    over = ask(house, alice, "few")
    assert 0 < int(over.headers["retry-after"]) <= 86_400
    assert over.problem["type"].endswith("budget-spent")


def test_an_answer_is_rounded_and_shortened(house: Installation, alice: Caller) -> None:
    plain = json.loads(house.infer(alice).body)
    rough = ask(house, alice, "rough", headers={"accept-encoding": "gzip"})
    assert rough.status == 200, rough
    made = json.loads(rough.body)
    assert "model_version" not in made
    for one, other in zip(plain["outputs"], made["outputs"], strict=True):
        assert one["name"] == other["name"]
        flat = [value for row in one["data"] for value in (row if isinstance(row, list) else [row])]
        rounded = [value for row in other["data"] for value in (row if isinstance(row, list) else [row])]
        assert all(abs(was - now) <= 0.005 + 1e-9 and round(now, 2) == now for was, now in zip(flat, rounded, strict=True))


def test_an_old_credential_is_sent_for_a_young_one(house: Installation, alice: Caller) -> None:
    fresh = house.caller("alice")
    house.until(lambda: ask(house, fresh, "young").status in (200, 401), 10)
    young = house.caller("alice")
    assert ask(house, young, "young").status == 200
    house.until(lambda: ask(house, alice, "young").status == 401, 60, "an old certificate goes on")
    refused = ask(house, alice, "young")
    assert 'error="insufficient_user_authentication"' in refused.headers["www-authenticate"]
    assert 'max_age="60"' in refused.headers["www-authenticate"]


def test_the_log_holds(house: Installation) -> None:
    assert house.audited().ok

"""The public to-do scenario and the schemas of the specification, over HTTP; and the fixture of its certification, as an application."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from authzen_world import Client, Stand, example

from vouchgate.flows.applications import ApplicationFiles, compile_application

VECTORS = Path(__file__).parents[4] / "shared" / "vectors" / "authzen"
SCHEMA = """
entity user = { role?: String };
entity record = { status?: String };
action read, write, delete appliesTo { principal: user, resource: record, context: { action?: { soft?: Bool } } };
"""
POLICIES = """
@id("read") permit (principal, action == Action::"read", resource);
@id("alice-writes") permit (principal == user::"alice", action == Action::"write", resource) unless { resource has status && resource.status == "archived" };
@id("admins-archive") permit (principal, action == Action::"write", resource)
when { principal has role && principal.role == "admin" && resource has status && resource.status == "archived" };
@id("soft") permit (principal == user::"alice", action == Action::"delete", resource)
when { context has action && context.action has soft && context.action.soft };
"""
ENTITIES = [
    {"uid": {"type": "user", "id": "alice"}, "attrs": {}, "parents": []},
    {"uid": {"type": "user", "id": "bob"}, "attrs": {"role": "admin"}, "parents": []},
    {"uid": {"type": "record", "id": "record-1"}, "attrs": {"status": "active"}, "parents": []},
    {"uid": {"type": "record", "id": "record-2"}, "attrs": {"status": "archived"}, "parents": []},
]
AT = "/applications/record/access/v1"


def records() -> Stand:
    files = ApplicationFiles(name="record", schema=SCHEMA, policies=(("record.cedar", POLICIES),), entities=json.dumps(ENTITIES))
    return Stand(applications={"record": compile_application(files)})


def asked(who: str, action: Any, what: str, **properties: Any) -> dict[str, Any]:
    thing: dict[str, Any] = {"type": "record", "id": what}
    if properties:
        thing["properties"] = properties
    return {"subject": {"type": "user", "id": who}, "action": {"name": action} if isinstance(action, str) else action, "resource": thing}


def test_every_decision_of_the_scenario_over_http() -> None:
    if not VECTORS.exists():
        pytest.skip(f"the vectors of AuthZEN do not stand beside the checkout ({VECTORS.name})")
    scenario = json.loads((VECTORS / "todo-decisions.json").read_text())
    request, response = (
        jsonschema_rs.validator_for(json.loads((VECTORS / "schemas" / f"evaluation-{name}.schema.json").read_text()))
        for name in ("request", "response")
    )
    stand = Stand(applications={"todo": example()})

    async def story(client: Client) -> None:
        for case in scenario["evaluation"]:
            request.validate(case["request"])
            answer = (await client.post("/applications/todo/access/v1/evaluation", case["request"])).json
            response.validate(answer)
            assert answer["decision"] is case["expected"], case
        for case in scenario["evaluations"]:
            answer = (await client.post("/applications/todo/access/v1/evaluations", case["request"])).json
            for one in answer["evaluations"]:
                response.validate(one)
            assert [one["decision"] for one in answer["evaluations"]] == [one["decision"] for one in case["expected"]]

    stand.run(story)
    assert len(stand.decisions) == len(scenario["evaluation"]) + sum(len(one["expected"]) for one in scenario["evaluations"]) == 46


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (asked("alice", "read", "record-1"), True),
        (asked("alice", "write", "record-1"), True),
        (asked("bob", "read", "record-1"), True),
        (asked("bob", "write", "record-1"), False),
        (asked("alice", "write", "record-2", status="archived"), False),
        (asked("alice", {"name": "delete", "properties": {"soft": True}}, "record-1"), True),
        (asked("alice", {"name": "delete", "properties": {"soft": False}}, "record-1"), False),
        (asked("alice", "read", "record-1") | {"foo": "bar", "futureField": {"nested": True}}, True),
        (asked("alice", "read", "record-1") | {"context": {"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"}}, True),
        (asked("alice", "read", "record-1", status="active", owner="bob"), True),
        (asked("alice", "write", "record-9", status="archived"), False),
        (asked("alice", "write", "record-9"), True),
    ],
)
def test_the_fixture_of_the_certification(body: dict[str, Any], wanted: bool) -> None:
    async def story(client: Client) -> None:
        for _ in range(2):
            assert await client.evaluate(body, "record") is wanted

    records().run(story)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (asked("mallory", "read", "record-1"), "is not known"),
        (asked("alice", "fly", "record-1"), "is not an action"),
        (asked("alice", "read", "record-1") | {"resource": {"type": "spaceship", "id": "x"}}, "is not a type"),
        (asked("bob", "write", "record-1"), "no policy permits"),
        (asked("alice", "write", "record-2", status="active"), "another one on file"),
        (asked("bob", "write", "record-1", status="archived"), "another one on file"),
        (asked("alice", "read", "record-1", status=True), "another one on file"),
        (asked("alice", "read", "record-1", weight=0.5), "which no policy can read"),
        (asked("alice", "read", "record-1", weight=2**70), "which no policy can read"),
        (asked("alice", "delete", "record-1") | {"context": {"action": {"soft": "yes"}}}, "could not be evaluated"),
        (asked("alice", "read", "record-1") | {"context": {"x": {"__entity": 7}}}, "which no policy can read"),
    ],
)
def test_what_an_application_refuses_and_why(body: dict[str, Any], wanted: str) -> None:
    async def story(client: Client) -> None:
        answer = (await client.post(f"{AT}/evaluation", body)).json
        assert answer["decision"] is False
        assert wanted in answer["context"]["reason"]

    stand = records()
    stand.run(story)
    assert stand.decisions


def test_searches_of_the_certification_find_what_evaluations_allow() -> None:
    async def story(client: Client) -> None:
        found = (
            await client.post(
                f"{AT}/search/subject",
                {"subject": {"type": "user"}, "action": {"name": "read"}, "resource": {"type": "record", "id": "record-1"}},
            )
        ).json
        assert found["results"] == [{"type": "user", "id": "alice"}, {"type": "user", "id": "bob"}]
        assert found["page"]["next_token"] == ""
        archived = {"type": "record", "id": "record-2", "properties": {"status": "archived"}}
        found = (
            await client.post(f"{AT}/search/subject", {"subject": {"type": "user"}, "action": {"name": "write"}, "resource": archived})
        ).json
        assert found["results"] == [{"type": "user", "id": "bob"}]
        found = (
            await client.post(
                f"{AT}/search/resource",
                {
                    "subject": {"type": "user", "id": "bob", "properties": {"role": "admin"}},
                    "action": {"name": "write"},
                    "resource": {"type": "record"},
                },
            )
        ).json
        assert found["results"] == [{"type": "record", "id": "record-2"}]
        found = (
            await client.post(
                f"{AT}/search/action", {"subject": {"type": "user", "id": "alice"}, "resource": {"type": "record", "id": "record-1"}}
            )
        ).json
        assert found["results"] == [{"name": "read"}, {"name": "write"}]
        for body in (
            {"subject": {"type": "user", "id": "nobody"}, "resource": {"type": "record", "id": "record-1"}},
            {"subject": {"type": "spaceship", "id": "x"}, "resource": {"type": "record", "id": "record-1"}},
        ):
            assert (await client.post(f"{AT}/search/action", body)).json["results"] == []
        found = (
            await client.post(
                f"{AT}/search/subject",
                {"subject": {"type": "spaceship"}, "action": {"name": "read"}, "resource": {"type": "record", "id": "record-1"}},
            )
        ).json
        assert found["results"] == []

    records().run(story)


def test_evaluations_of_the_certification() -> None:
    async def story(client: Client) -> None:
        whole = [asked("alice", "read", "record-1"), asked("bob", "write", "record-1")]
        answer = (await client.post(f"{AT}/evaluations", {"evaluations": whole})).json
        assert [one["decision"] for one in answer["evaluations"]] == [True, False]
        merged = {
            "subject": {"type": "user", "id": "alice"}, "action": {"name": "write"}, "resource": {"type": "record"},
            "evaluations": [{"resource": {"id": "record-1", "properties": {"status": "active"}}}, {"resource": {"type": "record", "id": "record-2"}}, {}],
        }  # fmt: skip
        answer = (await client.post(f"{AT}/evaluations", merged)).json
        assert [one["decision"] for one in answer["evaluations"]] == [True, False, False]
        assert answer["evaluations"][2]["context"]["error"]["status"] == 400
        for empty in ({}, {"evaluations": []}):
            assert (await client.post(f"{AT}/evaluations", asked("alice", "read", "record-1") | empty)).json["decision"] is True
        for semantic, wanted in (
            ("deny_on_first_deny", [True, False]),
            ("permit_on_first_permit", [True]),
            ("execute_all", [True, False, True]),
        ):
            body = {
                "subject": {"type": "user", "id": "alice"}, "action": {"name": "write"}, "options": {"evaluations_semantic": semantic},
                "evaluations": [{"resource": {"type": "record", "id": name}} for name in ("record-1", "record-2", "record-3")],
            }  # fmt: skip
            answer = (await client.post(f"{AT}/evaluations", body)).json
            assert [one["decision"] for one in answer["evaluations"]] == wanted

    records().run(story)


def test_nothing_of_one_application_is_seen_by_another() -> None:
    stand = records()
    stand.evaluations.applications = {**stand.evaluations.applications, "todo": example()}

    async def story(client: Client) -> None:
        assert await client.evaluate(asked("alice", "read", "record-1"), "record")
        assert not await client.evaluate(asked("alice", "read", "record-1"), "todo")
        assert not await client.evaluate(asked("alice", "read", "record-1"))
        assert (await client.post("/applications/none/access/v1/evaluation", asked("alice", "read", "record-1"))).status == 404

    stand.run(story)

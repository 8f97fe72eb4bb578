"""vouchgate's own world over AuthZEN: who may ask, what is answered, what is found, what stands in the log, and when nobody is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from authzen_world import POINT, Client, Stand
from flows_world import ALICE, BOB, DIGITS, NIGHT, NOW, endpoint, registration, revoked

from vouchgate.flows.changes import EndpointPut, RegistrationPut
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.vouches import UnixMillis

AT = "/access/v1"


def asked(who: str = ALICE, action: str = "infer", what: str = DIGITS, **more: Any) -> dict[str, Any]:
    subject = {"type": "service", "id": who} | ({"properties": more.pop("properties")} if "properties" in more else {})
    return {"subject": subject, "action": {"name": action}, "resource": {"type": "endpoint", "id": what}} | more


def test_a_granted_and_a_refused_caller_with_what_is_missing() -> None:
    stand = Stand()

    async def story(client: Client) -> None:
        yes = (await client.post(f"{AT}/evaluation", asked())).json
        assert yes["decision"] is True
        assert "may infer" in yes["context"]["reason"]
        no = (await client.post(f"{AT}/evaluation", asked(action="train"))).json
        assert no["decision"] is False
        assert no["context"]["remedy"]

    stand.run(story)
    assert [one.effect for one in stand.decisions] == ["allow", "deny"]
    assert {who for _, who in stand.log} == {POINT}
    assert stand.log[0][0].action == "administer:evaluate"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (asked(who="spiffe://test.local/service/serve/stranger"), "is not registered"),
        (asked(who="spiffe://partner.example/service/serve/alice"), "is not registered"),
        (asked(who="alice"), "is not a principal"),
        (asked(what="vg://test.local/endpoint/nowhere"), "nothing is known of"),
        (asked(what="/etc/passwd"), "is not a resource"),
        (asked(action="FLY"), "is not an action"),
        (asked(action="fly"), "no policy knows the action"),
        (asked() | {"subject": {"type": "person", "id": ALICE}}, "is no `person`"),
        (asked() | {"resource": {"type": "artifact", "id": DIGITS}}, "is no `artifact`"),
        (asked(context={"source_ip": "not an address"}), "is not an address"),
        (asked(context={"method": 7}), "wrong type"),
        (asked(context={"path": "/" * 9_000}), "wrong type or length"),
        (asked(properties={"credential": {"a": 1}}), "no id of a credential"),
    ],
)
def test_a_question_about_nobody_or_nothing_is_false_and_recorded(body: dict[str, Any], wanted: str) -> None:
    stand = Stand()

    async def story(client: Client) -> None:
        answer = (await client.post(f"{AT}/evaluation", body)).json
        assert answer["decision"] is False
        assert wanted in answer["context"]["reason"], answer

    stand.run(story)
    assert [one.effect for one in stand.decisions] == ["deny"]


def test_the_point_cannot_tell_what_is_ours_to_know() -> None:
    stand = Stand()

    async def story(client: Client) -> None:
        assert await client.evaluate(
            asked(context={"hour": 3, "risk": 0, "authenticated": False, "delegated": True, "run": "x", "anything": [1.5, None]})
        )

    stand.run(story)


def test_a_revoked_caller_and_a_revoked_credential_are_false_at_once() -> None:
    stand = Stand(fresh=True)

    async def story(client: Client) -> None:
        one = asked(properties={"credential": "0c0ffee0"})
        assert await client.evaluate(one)
        assert stand.held.put(revoked("credential", "0c0ffee0"))
        assert not await client.evaluate(one)
        assert await client.evaluate(asked())
        assert stand.held.put(revoked("principal", ALICE, identity="r2"))
        assert not await client.evaluate(asked())

    stand.run(story)


@pytest.mark.parametrize("groups", [(), ("callers",), ("role:registrar",)])
def test_who_has_no_role_is_told_403_and_it_is_recorded_once(groups: tuple[str, ...]) -> None:
    stand = Stand(groups=groups)

    async def story(client: Client) -> None:
        for _ in range(5):
            for path in (f"{AT}/evaluation", f"{AT}/search/subject", "/nowhere"):
                assert (await client.post(path, asked())).status == 403
        assert (await client.get("/.well-known/authzen-configuration")).status == 403

    stand.run(story)
    assert [(one.action, one.effect) for one, _ in stand.log] == [("administer:evaluate", "deny")]


def test_a_uid_that_is_nobody_is_told_401() -> None:
    stand = Stand(fresh=True)
    stand.held.put(RegistrationPut(registration=registration(POINT, groups=("role:enforcement-point",), uid=4_000_000_000)))

    async def story(client: Client) -> None:
        answer = await client.post(f"{AT}/evaluation", asked())
        assert answer.status == 401
        assert "www-authenticate" in answer.headers
        assert answer.headers["content-type"].startswith("text/plain")

    stand.run(story)
    assert stand.log == []


def test_a_point_that_is_revoked_is_refused_with_its_next_request() -> None:
    stand = Stand(fresh=True)

    async def story(client: Client) -> None:
        assert await client.evaluate(asked())
        assert stand.held.put(revoked("principal", POINT))
        assert (await client.post(f"{AT}/evaluation", asked())).status == 403

    stand.run(story)


@pytest.mark.parametrize("how", ["lease", "alarm", "log"])
def test_without_control_plane_nobody_is_answered(how: str) -> None:
    stand = Stand()

    async def story(client: Client) -> None:
        assert await client.evaluate(asked())
        if how == "lease":
            stand.clock.at = stand.replica.lease_until
        elif how == "alarm":
            stand.replica.alarm = "the engines disagree"
        else:
            stand.broken = "the disk is full"
        for path in (f"{AT}/evaluation", f"{AT}/evaluations", f"{AT}/search/action"):
            answer = await client.post(path, asked())
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"

    stand.run(story)
    assert len(stand.decisions) == 1


def test_an_answer_waits_for_the_log() -> None:
    stand = Stand()

    async def story(client: Client) -> None:
        stand.gate = asyncio.Event()
        waiting = asyncio.ensure_future(client.post(f"{AT}/evaluation", asked()))
        for _ in range(20):
            await asyncio.sleep(0.002)
        assert not waiting.done()
        stand.gate.set()
        assert (await waiting).json["decision"] is True

    stand.run(story)


def test_the_metadata_names_every_endpoint_and_an_application_has_its_own() -> None:
    stand = Stand(applications={"todo": None})  # type: ignore[dict-item]  # never asked

    async def story(client: Client) -> None:
        said = (await client.get("/.well-known/authzen-configuration")).json
        assert said["policy_decision_point"] == stand.base
        assert len(said) == 6 and all(value.startswith(stand.base) for value in said.values())
        own = (await client.get("/.well-known/authzen-configuration/applications/todo")).json
        assert own["policy_decision_point"] == f"{stand.base}/applications/todo"
        assert own["search_action_endpoint"] == f"{stand.base}/applications/todo/access/v1/search/action"
        assert (await client.get("/.well-known/authzen-configuration/applications/none")).status == 404
        stand.desk._base = ""
        assert (await client.get("/.well-known/authzen-configuration")).status == 404

    stand.run(story)


def test_searches_find_exactly_what_evaluations_allow() -> None:
    stand = Stand()

    async def story(client: Client) -> None:
        found = (await client.post(f"{AT}/search/subject", asked() | {"subject": {"type": "Principal"}})).json["results"]
        allowed = [
            name
            for name in sorted([ALICE, BOB, NIGHT, POINT])
            if await client.evaluate(asked(name) | {"subject": {"type": "Principal", "id": name}})
        ]
        assert [one["id"] for one in found] == allowed
        assert allowed
        found = (await client.post(f"{AT}/search/resource", asked() | {"resource": {"type": "Endpoint"}})).json["results"]
        assert [one["id"] for one in found] == [
            name for name in sorted(stand.held.facts.endpoints) if await client.evaluate(asked(what=name))
        ]
        found = (await client.post(f"{AT}/search/action", asked())).json["results"]
        assert {"name": "infer"} in found
        for one in found:
            assert await client.evaluate(asked(action=one["name"]))

    stand.run(story)


MANY = 2_500


@pytest.fixture(scope="module")
def crowd() -> Stand:
    """Ten thousand entities would take long to register; the bounds of a page are met at a quarter."""
    people = [
        RegistrationPut(registration=registration(principal("test.local", "service", "serve", f"c{number:05d}"))) for number in range(MANY)
    ]
    return Stand(*people)


def test_a_search_over_thousands_is_paged_and_each_stands_in_one_page(crowd: Stand) -> None:
    async def story(client: Client) -> None:
        body, seen, pages = asked() | {"subject": {"type": "service"}, "page": {"limit": 450}}, [], 0
        while True:
            found = (await client.post(f"{AT}/search/subject", body)).json
            assert len(found["results"]) == found["page"]["count"] <= 450
            seen += [one["id"] for one in found["results"]]
            pages += 1
            if not found["page"]["next_token"]:
                break
            body["page"] = {"limit": 450, "token": found["page"]["next_token"]}
        assert seen == sorted(set(seen)) and len(seen) == MANY + 2
        assert pages == 6

    crowd.run(story, seconds=30)


def test_a_search_that_finds_nothing_ends_its_page_and_goes_on(crowd: Stand) -> None:
    async def story(client: Client) -> None:
        body, pages = asked(action="train") | {"subject": {"type": "service"}}, 0
        while True:
            found = (await client.post(f"{AT}/search/subject", body)).json
            assert found["results"] == []
            pages += 1
            if not found["page"]["next_token"]:
                break
            body["page"] = {"token": found["page"]["next_token"]}
        assert pages == 3

    crowd.run(story, seconds=60)


def test_a_page_token_is_good_for_its_caller_and_its_search_alone(crowd: Stand) -> None:
    async def story(client: Client) -> None:
        body = asked() | {"subject": {"type": "service"}, "page": {"limit": 2}}
        token = (await client.post(f"{AT}/search/subject", body)).json["page"]["next_token"]
        again = body | {"page": {"limit": 3, "token": token}}
        assert (await client.post(f"{AT}/search/subject", again)).status == 200
        assert (await client.post(f"{AT}/search/subject", again)).status == 200
        for other in (
            again | {"action": {"name": "describe"}},
            again | {"resource": {"type": "endpoint", "id": "vg://test.local/endpoint/chat"}},
            again | {"context": {"method": "GET"}},
            again | {"subject": {"type": "Principal"}},
            body | {"page": {"token": token[:-2] + ("AA" if token[-2:] != "AA" else "BB")}},
            body | {"page": {"token": "A" * 60}},
            body | {"page": {"token": "not base64 ☃"}},
        ):
            assert (await client.post(f"{AT}/search/subject", other)).status == 400
        assert (
            await client.post(f"{AT}/search/resource", asked() | {"resource": {"type": "endpoint"}, "page": {"token": token}})
        ).status == 400
        at = crowd.desk._monotonic
        crowd.desk._monotonic = lambda: at() + 601
        assert (await client.post(f"{AT}/search/subject", again)).status == 400

    crowd.run(story)


def test_observe_lets_through_and_says_so() -> None:
    stand = Stand(EndpointPut(endpoint=endpoint("lab-model", zone="lab")))

    async def story(client: Client) -> None:
        answer = (
            await client.post(
                f"{AT}/evaluation", asked(NIGHT, what="vg://test.local/endpoint/lab-model") | {"subject": {"type": "job", "id": NIGHT}}
            )
        ).json
        assert answer["decision"] is True
        assert answer["context"]["would_be"] == "deny"
        stand.clock.at = UnixMillis(NOW + 3_600_000)
        stand.replica.lease_until = UnixMillis(NOW + 7_200_000)
        answer = (
            await client.post(
                f"{AT}/evaluation", asked(NIGHT, what="vg://test.local/endpoint/lab-model") | {"subject": {"type": "job", "id": NIGHT}}
            )
        ).json
        assert answer["decision"] is False

    stand.run(story)

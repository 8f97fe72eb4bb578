"""Which data may go to which provider, as policies say it: by the provider's labels, the caller's zone and what its run does."""

from __future__ import annotations

import asyncio

from flows_world import ALICE, DIGITS, TD, endpoint, make_world, registration, running, zone

from vouchgate.flows.changes import Change, EndpointPut, RegistrationPut, ZonePut
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.places import Egress, Route

POLICY = (
    (
        "providers.cedar",
        """
@id("labelled-data-may-leave")
permit (principal, action == Action::"call", resource is Endpoint)
when { resource.outside && resource.labels.contains(principal.zone) };

@id("runs-that-evaluate-may-call")
permit (principal, action == Action::"call", resource is Endpoint)
when { resource.outside && resource.labels.contains("evaluation") && context has stage && context.stage == "evaluate" };
""",
    ),
)
ELSEWHERE = principal(TD, "service", "research", "erin")


def provider(*labels: str, outside: bool = True) -> Change:
    route = Route(method="POST", path="/v1/x", action="call")
    more = {"egress": Egress(secret="key"), "upstream": "https:api.example.com:443"} if outside else {}
    return EndpointPut(endpoint=endpoint(labels=labels, routes=(route,), **more))


def effects(change: Change) -> dict[str, str]:
    """What is decided ahead for a caller of each zone."""

    async def go() -> dict[str, str]:
        async with running(make_world(), publishing=False, policies=POLICY) as world:
            await world.put(ZonePut(zone=zone()), ZonePut(zone=zone("research")), change)
            await world.put(RegistrationPut(registration=registration(ALICE)), RegistrationPut(registration=registration(ELSEWHERE)))
            found = {}
            for who in (ALICE, ELSEWHERE):
                (made,) = world.facts.standing((DIGITS, who), world.clock.now())
                found[who.rpartition("/")[2]] = "ask" if made.residual else made.effect
            return found

    return asyncio.run(go())


def test_a_label_lets_its_zone_s_data_out() -> None:
    assert effects(provider("serve")) == {"alice": "allow", "erin": "deny"}
    assert effects(provider("serve", "research")) == {"alice": "allow", "erin": "allow"}


def test_what_a_run_does_is_asked_on_each_call() -> None:
    assert effects(provider("evaluation")) == {"alice": "ask", "erin": "ask"}


def test_without_a_label_nothing_leaves() -> None:
    assert effects(provider()) == {"alice": "deny", "erin": "deny"}
    assert effects(provider("Serve", "serv", "serve-")) == {"alice": "deny", "erin": "deny"}


def test_an_endpoint_of_ours_is_not_outside() -> None:
    assert effects(provider("serve", outside=False)) == {"alice": "deny", "erin": "deny"}

"""Tools of MCP servers in the facts: each with evidence and risk of its own, and decided anew when that changes."""

from __future__ import annotations

import asyncio
from typing import Any

from flows_world import ALICE, DIGITS, NOW, TD, World, endpoint, make_world, registration, revoked, running, vouched, zone

from vouchgate.flows.changes import EndpointPut, RegistrationPut, RiskSet, ZonePut
from vouchgate.vocabulary.decisions import Risk
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.mcp import MCP, tool_id
from vouchgate.vocabulary.places import Route
from vouchgate.vocabulary.vouches import Subject

SEARCH, WRITE = tool_id(DIGITS, "search"), tool_id(DIGITS, "write")
POLICY = (
    (
        "tools.cedar",
        """
@id("vouched-tools")
permit (principal in Group::"callers", action == Action::"call-tool", resource is Tool)
when { resource.vouches.contains("structure") && context.risk < 50 };

@id("speaking")
permit (principal in Group::"callers", action == Action::"describe", resource is Endpoint);
""",
    ),
)


def run(story: Any) -> None:
    async def go() -> None:
        async with running(make_world(), policies=POLICY) as world:
            await world.put(ZonePut(zone=zone()), EndpointPut(endpoint=server("search", "write")))
            await world.put(RegistrationPut(registration=registration()))
            await world.settled()
            await story(world)

    asyncio.run(go())


def server(*tools: str) -> Any:
    return endpoint(
        mcp=True, tools={tool: tool_id(DIGITS, tool) for tool in tools}, routes=(Route(method="POST", path="/mcp", action=MCP),)
    )


def proof(tool: str, **changes: Any) -> Any:
    return vouched("structure", [Subject(name=tool, digest=file_digest(b"tool"))], **changes)


def granted(world: World) -> set[tuple[str, str]]:
    return {(grant.action, grant.resource) for grant in world.points.grants.get(DIGITS, ()) if grant.principal == ALICE}


def test_a_tool_is_granted_once_its_own_evidence_is_there() -> None:
    async def story(world: World) -> None:
        assert granted(world) == {("describe", DIGITS)}
        await world.put(proof(SEARCH))
        await world.settled()
        assert granted(world) == {("describe", DIGITS), ("call-tool", SEARCH)}
        await world.put(proof(WRITE))
        await world.settled()
        assert granted(world) == {("describe", DIGITS), ("call-tool", SEARCH), ("call-tool", WRITE)}

    run(story)


def test_evidence_that_falls_takes_the_tool_with_it() -> None:
    async def story(world: World) -> None:
        made = proof(SEARCH)
        await world.put(made)
        await world.settled()
        await world.put(revoked("vouch", made.id))
        await world.settled()
        assert granted(world) == {("describe", DIGITS)}

    run(story)


def test_a_risk_of_a_tool_is_the_tool_s_alone() -> None:
    async def story(world: World) -> None:
        await world.put(proof(SEARCH), proof(WRITE))
        await world.put(RiskSet(subject=SEARCH, risk=Risk(value=70, reasons=("odd",))))
        await world.settled()
        assert granted(world) == {("describe", DIGITS), ("call-tool", WRITE)}

    run(story)


def test_a_tool_that_is_no_longer_offered_is_no_longer_granted() -> None:
    async def story(world: World) -> None:
        await world.put(proof(SEARCH), proof(WRITE))
        await world.put(EndpointPut(endpoint=server("search")))
        await world.settled()
        assert granted(world) == {("describe", DIGITS), ("call-tool", SEARCH)}
        assert world.clock.now() == NOW

    run(story)


def test_every_action_of_the_protocol_is_decided_ahead() -> None:
    async def story(world: World) -> None:
        made = world.facts.standing((DIGITS, ALICE), world.clock.now())
        assert {(one.action, one.resource) for one in made} == {
            ("call-tool", SEARCH),
            ("call-tool", WRITE),
            *((action, DIGITS) for action in ("complete", "describe", "get-prompt", "read-resource")),
        }
        assert f"vg://{TD}/tool/digits.search" == SEARCH

    run(story)

"""A real MCP server behind the gateway, used by a real MCP client: both generations of the streamable HTTP transport."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvicorn
from gateway_harness import EXTENSION_TYPE, TD, Harness, spiffe
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError

from vouchgate.vocabulary.mcp import MCP, tool_id
from vouchgate.vocabulary.places import Endpoint, Route

pytestmark = pytest.mark.gateway
TOOLS = f"vg://{TD}/endpoint/tools"
CALLED: list[str] = []


def server() -> MCPServer[Any]:
    made: MCPServer[Any] = MCPServer("tools")

    @made.tool()
    def search(q: str) -> str:
        """Find something."""
        CALLED.append("search")
        return f"found {q}"

    @made.tool()
    def delete(q: str) -> str:
        """Delete something."""
        CALLED.append("delete")
        return f"deleted {q}"

    @made.resource("notes://today")
    def today() -> str:
        CALLED.append("today")
        return "a note"

    return made


class Running(uvicorn.Server):
    """uvicorn in the harness's loop, without signals."""

    def install_signal_handlers(self) -> None:
        return


@pytest.fixture(scope="module")
def socket(shared_gateway: Harness) -> Iterator[str]:
    path = str(shared_gateway.dir / "mcp.up")
    safe = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server().streamable_http_app(transport_security=safe)
    running = Running(uvicorn.Config(app, uds=path, log_level="error", ws="none"))

    async def serve() -> None:
        running.task = asyncio.get_running_loop().create_task(running._serve())
        while not running.started:
            await asyncio.sleep(0.01)

    async def stop() -> None:
        running.should_exit = running.force_exit = True
        await running.task

    shared_gateway.do(serve())
    yield path
    shared_gateway.do(stop())


@pytest.fixture
def tools(gw: Harness, socket: str) -> Harness:
    CALLED.clear()
    routes = (
        Route(method="POST", path="/mcp", action=MCP, streams=True),
        Route(method="GET", path="/mcp", action="describe", streams=True),
        Route(method="DELETE", path="/mcp", action="describe"),
    )
    endpoint = Endpoint(
        id=TOOLS,
        trust_domain=TD,
        zone="serve",
        upstream=f"unix:{socket}",
        routes=routes,
        prefix="/t",
        bearer=True,
        mcp=True,
        tools={tool: tool_id(TOOLS, tool) for tool in ("search", "delete")},
    )

    def work() -> None:
        gw.view.set_endpoints([*gw.endpoints(), endpoint])
        grants = []
        for who, kind in (("alice", "x509"), ("bob", "jwt")):
            grants.append(gw.grant(who, TOOLS, action="describe", kind=kind))
            grants.append(gw.grant(who, tool_id(TOOLS, "search"), action="call-tool", kind=kind))
        gw.view.set_grants(TOOLS, grants)

    gw.do(work)
    gw.settled()
    gw.do(gw.ads.wait_acked(EXTENSION_TYPE, [f"map/{slot}" for slot in range(8)], timeout=3))
    return gw


def using(gw: Harness, mode: str, work: Any, *, who: str | None = "alice", token: str = "") -> Any:
    async def go() -> Any:
        context = gw.context(gw.identity(who) if who else None)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with httpx2.AsyncClient(verify=context, headers=headers, timeout=5) as http:
            transport = streamable_http_client(f"https://127.0.0.1:{gw.port}/t/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                return await work(client)

    return asyncio.run(go())


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_granted_tool_answers(tools: Harness, mode: str):
    async def work(client: Client) -> Any:
        listed = [tool.name for tool in (await client.list_tools()).tools]
        return listed, (await client.call_tool("search", {"q": "x"})).content[0].text

    assert using(tools, mode, work) == (["search", "delete"], "found x")
    assert using(tools, mode, work, who=None, token=tools.ca.token(spiffe("bob"), aud=TOOLS)) == (["search", "delete"], "found x")
    assert CALLED == ["search", "search"]
    assert tools.asked == []


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_tool_that_is_not_granted_is_never_called(tools: Harness, mode: str):
    async def work(client: Client) -> Any:
        return await client.call_tool("delete", {"q": "x"})

    with pytest.raises((MCPError, httpx2.HTTPError, ExceptionGroup)):
        using(tools, mode, work)
    assert CALLED == []
    assert [(asked.action, asked.tool) for asked in tools.asked] == [("call-tool", "delete")]


def test_a_resource_is_another_right_than_a_tool(tools: Harness):
    async def work(client: Client) -> Any:
        return await client.read_resource("notes://today")

    with pytest.raises((MCPError, httpx2.HTTPError, ExceptionGroup)):
        using(tools, "auto", work)
    assert CALLED == []
    assert [asked.action for asked in tools.asked] == ["read-resource"]


def test_a_stranger_does_not_even_shake_hands(tools: Harness):
    async def work(client: Client) -> Any:
        return await client.list_tools()

    with pytest.raises((MCPError, httpx2.HTTPError, ExceptionGroup)):
        using(tools, "legacy", work, who="mallory")
    assert {asked.action for asked in tools.asked} == {"describe"}

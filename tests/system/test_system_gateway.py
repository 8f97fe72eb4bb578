"""A provider outside and an MCP server behind the real tree: who may, what is counted, and that the PDP agrees with the gateway's maps."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import installation as parts
import pytest
from installation import Answer, Caller, Installation

sys.path.insert(0, str(Path(__file__).parents[1] / "edges" / "envoy"))

from gateway_harness import Authority

POLICY = """@id("callers-may-call-the-provider")
permit (principal in Group::"callers", action == Action::"call", resource is Endpoint)
when { resource.outside && resource.labels.contains(principal.zone) };

@id("callers-may-speak")
permit (principal in Group::"callers", action == Action::"describe", resource is Endpoint);

@id("callers-may-search")
permit (principal in Group::"callers", action == Action::"call-tool", resource == Tool::"vg://example.local/tool/tools.search");

@id("callers-may-write-by-get")
permit (principal in Group::"callers", action == Action::"call-tool", resource == Tool::"vg://example.local/tool/tools.write")
when { context has hour && context.hour >= 0 };
"""
MORE = """
[[policies]]
path = "{folder}/more.cedar"

[sts]
listen = "127.0.0.1:0"

[[egress]]
name = "provider"
zone = "serve"
upstream = "https://localhost:{port}"
prefix = "/provider"
ca_file = "{folder}/ca.pem"
routes = [{{ method = "POST", path = "/v1/chat/completions", action = "call" }}]
labels = ["serve"]
requests_per_day = 5

[[endpoints]]
name = "tools"
zone = "serve"
upstream = "tcp:127.0.0.1:{tools}"
prefix = "/tools"
bearer = true
mcp = true
tools = ["search", "write", "delete"]
"""
PROVIDER = "/provider/v1/chat/completions"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Echo(http.server.BaseHTTPRequestHandler):
    """Says what it got."""

    seen: list[tuple[str, dict[str, str]]] = []
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Echo.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        return


def serve(port: int, pem: Path | None = None) -> http.server.ThreadingHTTPServer:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", port), Echo)
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        made.socket = context.wrap_socket(made.socket, server_side=True)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return made


@pytest.fixture(scope="module")
def egress_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def house(egress_port: int) -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="vg", dir="/tmp") as made, pytest.MonkeyPatch.context() as patch:
        folder, ca = Path(made), Authority("provider.example")
        folder.chmod(0o755)
        (folder / "ca.pem").write_text(ca.pem)
        (folder / "provider.pem").write_text("".join(ca.issue(hosts=("localhost",))[:2]))
        (folder / "more.cedar").write_text(POLICY)
        servers = [serve(free_port(), folder / "provider.pem"), serve(free_port())]
        listen = f'plain_listen = "127.0.0.1:0"\negress_listen = "127.0.0.1:{egress_port}"\n'
        patch.setattr(parts, "SETTINGS", parts.SETTINGS.replace('plain_listen = "127.0.0.1:0"\n', listen, 1))
        more = MORE.format(folder=folder, port=servers[0].server_port, tools=servers[1].server_port)
        with Installation(more=more, folder=folder) as running:
            yield running
        for server in servers:
            server.shutdown()


def call(house: Installation, caller: Caller | None, port: int) -> Answer:
    kept, house.gateway = house.gateway, ("127.0.0.1", port)
    try:
        return house.call(caller, PROVIDER, body=b"{}")
    finally:
        house.gateway = kept


def speak(house: Installation, caller: Caller | None, method: str, tool: str = "") -> Answer:
    params = {"name": tool, "arguments": {}} if tool else {}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    return house.call(caller, "/tools/mcp", body=body, headers={"content-type": "application/json"})


def test_a_provider_is_called_until_the_day_s_budget_is_used_up(house: Installation, egress_port: int) -> None:
    spender, other = house.caller("spender"), house.caller("other")
    visitor = house.caller("visitor", ("visitors",))
    house.until(lambda: call(house, spender, egress_port).status == 200, 15, "the provider was not called")
    assert Echo.seen[-1][0] == "/v1/chat/completions"
    assert call(house, visitor, egress_port).status == 403
    statuses: list[int] = []

    def spent() -> bool:
        statuses.append(call(house, spender, egress_port).status)
        return statuses[-1] == 403

    house.until(spent, 15, "the budget had no end", pause=0.3)
    assert 3 <= statuses.count(200) <= 20
    refused = call(house, spender, egress_port)
    assert "budget" in refused.problem["detail"]
    assert call(house, other, egress_port).status == 200
    assert house.infer(spender).status == 200
    assert any("use-up-budget" in str(entry) for entry in house.entries())


def test_a_budget_survives_the_control_plane(house: Installation, egress_port: int) -> None:
    import signal

    spender = house.caller("spender")
    assert call(house, spender, egress_port).status == 403
    house.send("control", signal.SIGKILL)
    house.until(lambda: house.ready() and house.infer(spender).status == 200, 30, "the control plane did not come back")
    assert call(house, spender, egress_port).status == 403


def test_tools_are_granted_asked_and_refused_one_by_one(house: Installation) -> None:
    maker = house.caller("maker")
    house.until(lambda: speak(house, maker, "tools/call", "search").status == 200, 15, "the tool was not called")
    assert speak(house, maker, "tools/list").status == 200
    assert speak(house, maker, "tools/call", "write").status == 200, "asked on each call"
    refused = speak(house, maker, "tools/call", "delete")
    assert (refused.status, refused.problem["title"]) == (403, "denied")
    assert speak(house, maker, "tools/call", "unknown").problem["title"] == "not offered"
    assert speak(house, maker, "resources/read").status == 403
    assert speak(house, None, "tools/list").status == 401


def test_the_metadata_names_the_token_service(house: Installation) -> None:
    answer = house.call(None, "/.well-known/oauth-protected-resource/tools/mcp", method="GET", body=b"")
    said = json.loads(answer.body)
    assert answer.status == 200
    assert said["resource"] == f"https://localhost:{house.gateway[1]}/tools/mcp"
    (issuer,) = said["authorization_servers"]
    url = urlsplit(issuer)
    link = http.client.HTTPSConnection("127.0.0.1", url.port, context=house.tls(), timeout=5)
    link.request("GET", "/.well-known/oauth-authorization-server", headers={"host": url.netloc})
    assert json.loads(link.getresponse().read())["issuer"] == issuer
    link.close()
    assert "call-tool:tools/search" in said["scopes_supported"]

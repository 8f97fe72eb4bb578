"""MCP servers and providers in vouchgate.toml: what works together, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from vouchgate.flows.start import egress_of, endpoint_of
from vouchgate.vocabulary.errors import InvalidSettings
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.places import Budget, Egress
from vouchgate.vocabulary.settings_file import parse_settings

PATH = Path("/etc/vouchgate/vouchgate.toml")
GOOD = """\
trust_domain = "example.local"

[gateway]
listen = "127.0.0.1:8443"
federated_listen = "127.0.0.1:8444"
egress_listen = "127.0.0.1:8446"

[zones.serve]
[zones.old]
mode = "observe"

[[secrets]]
name = "provider-key"
rotator = "openai_service_account"

[[endpoints]]
name = "tools"
zone = "serve"
upstream = "tcp:127.0.0.1:9000"
prefix = "/t"
bearer = true
mcp = true
mcp_path = "/rpc"
tools = ["search", "writeFile"]
methods = { "tasks/get" = "describe" }
resource_uri = "https://tools.example.com/rpc"

[[endpoints]]
name = "digits"
zone = "serve"
upstream = "tcp:127.0.0.1:9001"
labels = ["serve"]
routes = [{ method = "POST", path = "/infer", action = "infer" }]

[[egress]]
name = "provider"
zone = "serve"
upstream = "https://api.example.com:8443"
prefix = "/provider"
routes = [{ method = "POST", path = "/v1/chat/completions", action = "call", streams = true }]
secret = "provider-key"
header = "x-api-key"
scheme = ""
labels = ["serve", "public"]
requests_per_day = 100
megabytes_per_day = 5
"""


def test_an_mcp_server_has_the_transport_s_routes_and_its_tools_as_resources() -> None:
    settings = parse_settings(GOOD, PATH)
    made = endpoint_of(settings, settings.endpoints[0], Layout(Path("/d")))
    assert [(route.method, route.path, route.action) for route in made.routes] == [
        ("POST", "/rpc", "mcp"),
        ("GET", "/rpc", "describe"),
        ("DELETE", "/rpc", "describe"),
    ]
    assert made.tools == {
        "search": "vg://example.local/tool/tools.search",
        "writeFile": "vg://example.local/tool/tools.writefile",
    }
    assert (made.mcp, made.methods, made.resource_uri) == (True, {"tasks/get": "describe"}, "https://tools.example.com/rpc")


def test_a_provider_is_an_endpoint_with_its_secret_s_name() -> None:
    settings = parse_settings(GOOD, PATH)
    made = egress_of(settings, settings.egress[0])
    assert made.id == "vg://example.local/endpoint/provider"
    assert made.upstream == "https:api.example.com:8443"
    assert made.egress == Egress(secret="provider-key", header="x-api-key", prefix="", budget=Budget(requests=100, bytes=5_000_000))
    assert made.labels == ("serve", "public")
    plain = parse_settings(GOOD.replace('scheme = ""\n', "").replace(':8443"\nprefix', '"\nprefix'), PATH)
    made = egress_of(plain, plain.egress[0])
    assert (made.upstream, made.egress and made.egress.prefix) == ("https:api.example.com:443", "Bearer ")


@pytest.mark.parametrize(
    ("find", "put", "word"),
    [
        ('"127.0.0.1:8444"', '"127.0.0.1:0"', "no port"),
        ('"127.0.0.1:8446"', '"127.0.0.1:0"', "no port"),
        ('"127.0.0.1:8446"', '""', "no egress listener"),
        ('"127.0.0.1:8446"', '"127.0.0.1:8443"', "8443"),
        ("mcp = true\n", 'routes = [{ method = "POST", path = "/x", action = "infer" }]\n', "mcp = true"),
        ("mcp = true\n", "mcp = true\nmodel_in_body = true\n", "model_in_body"),
        ("mcp = true\n", 'mcp = true\nroutes = [{ method = "POST", path = "/x", action = "infer" }]\n', "routes"),
        ('"search", "writeFile"', '"search", "Search"', "one resource"),
        ('"search", "writeFile"', '"search", ""', "tools"),
        ('"search", "writeFile"', '"a|b"', "tools"),
        ('"search", "writeFile"', '"a/b"', "tools"),
        ('"search", "writeFile"', f'"{"a" * 62}"', "shorten"),
        ('"https://tools.example.com/rpc"', '"http://tools.example.com/rpc"', "resource_uri"),
        ('"https://tools.example.com/rpc"', '"https://tools.example.com/rpc?x"', "resource_uri"),
        ('"https://tools.example.com/rpc"', '"https://tools.example.com/\\""', "resource_uri"),
        ('mcp_path = "/rpc"', 'mcp_path = "rpc"', "mcp_path"),
        ('"tasks/get" = "describe"', '"tasks/get" = "De scribe"', "methods"),
        ('name = "provider"', 'name = "digits"', "twice"),
        ('zone = "serve"\nupstream = "https', 'zone = "nowhere"\nupstream = "https', "nowhere"),
        ('zone = "serve"\nupstream = "https', 'zone = "old"\nupstream = "https', "observes"),
        ('secret = "provider-key"', 'secret = "other"', "other"),
        ('header = "x-api-key"', 'header = "host"', "carries no secret"),
        ('header = "x-api-key"', 'header = "x-vg-san"', "carries no secret"),
        ('header = "x-api-key"', 'header = "X-Api-Key"', "header"),
        ('header = "x-api-key"', 'header = "a\\nb"', "header"),
        ('scheme = ""', 'scheme = "Bearer "', "scheme"),
        ('prefix = "/provider"\n', "", "`host` or `prefix`"),
        ('"https://api.example.com:8443"', '"http://api.example.com"', "upstream"),
        ('"https://api.example.com:8443"', '"https://api.example.com/x"', "upstream"),
        ('"https://api.example.com:8443"', '"https://user@api.example.com"', "upstream"),
        ("requests_per_day = 100", "requests_per_day = -1", "requests_per_day"),
        ('routes = [{ method = "POST", path = "/v1/chat/completions", action = "call", streams = true }]\n', "", "routes"),
    ],
)
def test_a_contradiction_is_named(find: str, put: str, word: str) -> None:
    assert find in GOOD
    with pytest.raises(InvalidSettings) as caught:
        parse_settings(GOOD.replace(find, put, 1), PATH)
    assert word in f"{caught.value.reason} {caught.value.remedy}"


def test_two_endpoints_cannot_share_a_tool_s_name() -> None:
    second = GOOD.partition('[[endpoints]]\nname = "digits"')[0].partition("[[endpoints]]")[2]
    twin = second.replace('name = "tools"', 'name = "tools.search"').replace('prefix = "/t"', 'prefix = "/u"')
    text = GOOD + "\n[[endpoints]]" + twin.replace('tools = ["search", "writeFile"]', 'tools = ["x"]')
    parse_settings(text, PATH)
    clash = text.replace('tools = ["search", "writeFile"]', 'tools = ["search.x"]')
    with pytest.raises(InvalidSettings):
        parse_settings(clash, PATH)

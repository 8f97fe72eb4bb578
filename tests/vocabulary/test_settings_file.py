"""vouchgate.toml: what is accepted, what is refused, and that a refusal names file, line and the nearest key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.vocabulary.errors import InvalidInput, InvalidSettings
from vouchgate.vocabulary.settings import MAX_SETTINGS_BYTES, Settings, host_port, is_loopback
from vouchgate.vocabulary.settings_file import parse_settings
from vouchgate.vocabulary.settings_template import known_keys, settings_template

PATH = Path("/etc/vouchgate/vouchgate.toml")

DIGITS = """\
trust_domain = "example.local"
data_dir = "../../build/digits/data"
root_dir = "../../build/digits/root"
solo = true

[gateway]
listen = "127.0.0.1:0"
plain_listen = "127.0.0.1:0"
hosts = ["localhost", "127.0.0.1", "chat.example.local"]

[console]
listen = "127.0.0.1:0"

[zones.serve]
mode = "enforce"
lease_seconds = 10

[zones.wrapped]
mode = "observe"

[[endpoints]]
name = "digits"
zone = "serve"
command = ["{python}", "model_server.py", "--model", "{model}", "--fd", "{fd}"]
model = "build/digits.onnx"
bearer = true
routes = [
  { method = "GET", path = "/v2/models/{name}", action = "describe" },
  { method = "POST", path = "/v2/models/{name}/infer", action = "infer" },
]

[[endpoints]]
name = "chat"
zone = "serve"
command = ["{python}", "chat_server.py", "--fd", "{fd}"]
environment = { OMP_NUM_THREADS = "1" }
host = "chat.example.local"
model_in_body = true
models = { "tiny" = "tiny", "tiny-large" = "chat" }
routes = [{ method = "POST", path = "/v1/chat/completions", action = "chat", streams = true }]

[[endpoints]]
name = "tiny"
zone = "serve"
upstream = "server:chat"

[[endpoints]]
name = "legacy"
zone = "wrapped"
upstream = "tcp:127.0.0.1:9000"
prefix = "/legacy"
wrapped = true

[[identities]]
name = "shop"
kind = "service"
zone = "serve"
groups = ["callers"]

[[administrators]]
name = "operator"
uid = 0
roles = ["registrar", "responder", "auditor"]

[[policies]]
path = "policies/digits.cedar"

[audit]
max_lag_seconds = 5
disk_reserve_mib = 64

[limits]
import_mib = 512
"""


def refused(text: str) -> InvalidSettings:
    with pytest.raises(InvalidSettings) as caught:
        parse_settings(text, PATH)
    return caught.value


def test_the_example_is_understood() -> None:
    settings = parse_settings(DIGITS, PATH)
    assert settings.data_dir == "/etc/../build/digits/data".replace("/etc/..", "")
    assert settings.endpoints[0].model == "/etc/vouchgate/build/digits.onnx"
    assert settings.endpoints[0].folder == "/etc/vouchgate"
    assert settings.endpoints[2].model == ""
    assert settings.policies[0].path == "/etc/vouchgate/policies/digits.cedar"
    assert settings.endpoints[1].routes[0].streams is True
    assert settings.zones["wrapped"].lease_seconds == 10


def test_one_line_is_enough() -> None:
    settings = parse_settings('trust_domain = "a"', PATH)
    assert settings.gateway.listen == "127.0.0.1:8443"
    assert settings.data_dir == "/etc/vouchgate/data"


@pytest.mark.parametrize(
    ("find", "put", "line", "words"),
    [
        ("max_lag_seconds", "max_lag_second", "max_lag_second = 5", ["`audit.max_lag_second`", "`max_lag_seconds`"]),
        ("solo = true", "sole = true", "sole = true", ["`sole`", "`solo`"]),
        ("bearer", "beerer", "beerer = true", ["`endpoints[0].beerer`", "`bearer`"]),
        ("prefix =", "prefx =", "prefx =", ["`endpoints[3].prefx`", "`prefix`"]),
        ("streams", "stream", "stream = true", ["`endpoints[1].routes[0].stream`", "`streams`"]),
        ("lease_seconds", "lease", "lease = 10", ["`zones.serve.lease`", "`lease_seconds`"]),
        ("[audit]", "[adit]", "[adit]", ["`adit`", "`audit`"]),
        ("lease_seconds = 10", "lease_seconds = 901", "lease_seconds = 901", ["`zones.serve.lease_seconds`", "<= 900"]),
        ("lease_seconds = 10", 'lease_seconds = "10"', "lease_seconds =", ["`zones.serve.lease_seconds`"]),
        ("lease_seconds = 10", "lease_seconds = true", "lease_seconds =", ["`zones.serve.lease_seconds`"]),
        ('mode = "observe"', 'mode = "observed"', "observed", ["`zones.wrapped.mode`"]),
        ("[zones.wrapped]", "[zones.Wrapped]", "[zones.", ["Wrapped"]),
        ("[zones.wrapped]", "[[zones.wrapped]]", "[[zones.", ["zones.wrapped"]),
        ("max_lag_seconds = 5", "max_lag_seconds = 0", "max_lag_seconds = 0", [">= 1"]),
        ('listen = "127.0.0.1:0"', 'listen = "127.0.0.1"', 'listen = "127.0.0.1"', ["`gateway.listen`", "host:port"]),
        ('listen = "127.0.0.1:0"', 'listen = "127.0.0.1:99999"', "99999", ["`gateway.listen`"]),
        ('[console]\nlisten = "127.0.0.1:0"', '[console]\nlisten = "0.0.0.0:80"', "0.0.0.0", ["`console.listen`", "loopback"]),
        ('[console]\nlisten = "127.0.0.1:0"', '[console]\nlisten = "console.example:80"', "console.example", ["loopback"]),
        ('digits/root"', 'digits/data/root"', "root_dir", ["`root_dir`"]),
        ('digits/root"', 'x/../digits/data"', "root_dir", ["`root_dir`"]),
        ('trust_domain = "example.local"', 'trust_domain = "Example"', "Example", ["`Example`"]),
        ('name = "digits"\nzone = "serve"', 'name = "digits"\nzone = "sevre"', "sevre", ["`sevre`", "`serve`"]),
        ('name = "legacy"', 'name = "chat"', 'name = "chat"', ["twice"]),
        ('"tiny" = "tiny"', '"tiny" = "tyni"', "tyni", ["`tyni`", "`tiny`"]),
        ("model_in_body = true\n", "", "models =", ["model_in_body"]),
        ('upstream = "server:chat"', 'upstream = "server:none"', "server:none", ["`none`"]),
        ('upstream = "server:chat"', 'upstream = "server:legacy"', "server:legacy", ["`legacy`"]),
        ("tcp:127.0.0.1:9000", "http://127.0.0.1:9000", "http://", ["tcp:127.0.0.1:9000"]),
        ("tcp:127.0.0.1:9000", "tcp:127.0.0.1", "tcp:", ["tcp:127.0.0.1:9000"]),
        ("tcp:127.0.0.1:9000", "unix:relative", "unix:", ["absolute"]),
        ("tcp:127.0.0.1:9000", "unix:/" + "a" * 120, "unix:", ["107"]),
        ('upstream = "tcp:127.0.0.1:9000"', "", "[[endpoints]]", ["`endpoints[3]`", "`command` or `upstream`"]),
        ("wrapped = true", "", "[[endpoints]]", ["`endpoints[3]`", "`routes` is missing"]),
        ("wrapped = true", "wrapped = true\nroutes = [{ method = 'GET', path = '/', action = 'x' }]", "wrapped = true", ["no `routes`"]),
        ('zone = "wrapped"', 'zone = "serve"', "wrapped = true", ["observe"]),
        ("/v2/models/{name}/infer", "/v2/models/{na me}/infer", "{na me}", ["`endpoints[0].routes[1].path`"]),
        ("/v2/models/{name}/infer", "/v2//infer", "/v2//", ["template"]),
        ("/v2/models/{name}/infer", "/v2/../infer", "/../", ["template"]),
        ("/v2/models/{name}/infer", "v2/infer", '"v2/infer', ["path"]),
        ("/v2/models/{name}/infer", "/v2/%2e/infer", "%2e", ["path"]),
        ('method = "POST", path = "/v2', 'method = "CONNECT", path = "/v2', "CONNECT", ["method"]),
        ('kind = "service"', 'kind = "system"', 'kind = "system"', ["`system`"]),
        ('kind = "service"', 'kind = "servce"', "servce", ["`servce`"]),
        ("uid = 0\n", "uid = -5\n", "uid = -5", [">= 0"]),
        ('"responder", "auditor"', '"responder", "auditer"', "auditer", ["`auditer`", "`auditor`"]),
        ('hosts = ["localhost", "127.0.0.1", "chat.example.local"]', "hosts = []", "hosts = []", ["`gateway.hosts`"]),
        ("import_mib = 512", "import_mib = 512\nimport_mib = 3", "import_mib = 3", ["TOML"]),
        ("import_mib = 512", "import_mib = ", "import_mib = ", ["TOML"]),
    ],
)
def test_a_mistake_is_named_with_its_line(find: str, put: str, line: str, words: list[str]) -> None:
    assert find in DIGITS
    text = DIGITS.replace(find, put, 1)
    error = refused(text)
    told = f"{error.reason} | {error.remedy}"
    number = int(told.partition("vouchgate.toml, line ")[2].partition(":")[0])
    assert line in text.splitlines()[number - 1]
    for word in words:
        assert word in told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data_dir = 'x'",
        "trust_domain = 1",
        "trust_domain = []",
        "[trust_domain]",
        "trust_domain = ''",
        "\x00",
        "a" * 100,
        "[[[[",
        "x = " + "[" * 5000,
    ],
)
def test_what_is_no_settings_file_is_refused(text: str) -> None:
    assert refused(text).exit_code == 2


def test_a_huge_file_is_refused_unread() -> None:
    assert "larger than" in refused("#" * (MAX_SETTINGS_BYTES + 1)).reason


def test_two_routes_of_one_place_are_refused() -> None:
    again = '[[endpoints]]\nname = "twin"\nzone = "serve"\nupstream = "tcp:127.0.0.1:1"\nroutes = [{ method = "POST", path = "/v2/models/{m}/infer", action = "x" }]\n'
    assert "another route" in refused(DIGITS + again).reason
    assert parse_settings(DIGITS + again + 'prefix = "/twin"\n', PATH).endpoints[-1].prefix == "/twin"


@given(st.text(max_size=200))
def test_any_text_gives_settings_or_a_typed_error(text: str) -> None:
    try:
        assert isinstance(parse_settings(text, PATH), Settings)
    except InvalidSettings as error:
        assert error.remedy


_values = st.recursive(
    st.integers()
    | st.booleans()
    | st.text(max_size=8).map(lambda text: text.replace("\\", "").replace('"', ""))
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "path", "mode", "x"]), inner, max_size=3),
    max_leaves=6,
)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(character if character.isprintable() else "?" for character in value) + '"'
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(item)}' for key, item in value.items())} }}"
    return str(value) if isinstance(value, int) else f"{value:f}"


@given(st.sampled_from(list(Settings.__struct_fields__)), _values)
def test_any_value_for_a_key_gives_settings_or_a_typed_error(key: str, value: object) -> None:
    text = f"{key} = {_toml(value)}\n" + ("" if key == "trust_domain" else 'trust_domain = "a"\n')
    tomllib.loads(text)
    try:
        parse_settings(text, PATH)
    except InvalidSettings as error:
        assert str(PATH) in error.reason


# --- the commented file


def test_the_template_parses_and_says_every_key() -> None:
    text = settings_template(trust_domain="shop.test", solo=True)
    settings = parse_settings(text, PATH)
    assert (settings.trust_domain, settings.solo) == ("shop.test", True)
    for key in known_keys():
        assert key.meaning, f"{key.table}.{key.name} has no meaning"
        assert f"\n# {key.name} = " in text or f"\n{key.name} = " in text


def test_the_template_shows_the_defaults() -> None:
    """Commented keys of single tables, uncommented, change nothing."""
    plain, _, _ = settings_template().partition("\n# [zones.")
    lines = [
        line[2:] if line.startswith("# ") and " = " in line and line.split(" = ")[0][2:].isidentifier() else line
        for line in plain.splitlines()
    ]
    assert parse_settings("\n".join(lines), PATH) == parse_settings(settings_template(), PATH)


def test_the_examples_in_the_template_work_together() -> None:
    """Uncommented as a whole it is one working installation, but for keys that exclude each other, or need another one's default changed."""
    text = settings_template().replace("# command = []\n", "")
    head, authzen, rest = text.partition("[authzen]\n")
    text = head + authzen + rest.replace("# enabled = false\n", "# enabled = true\n", 1)
    lines = [
        line[2:]
        if line.startswith(("# [", "#  ")) or (line.startswith("# ") and line.split(" = ")[0][2:].isidentifier() and " = " in line)
        else line
        for line in text.splitlines()
    ]
    settings = parse_settings("\n".join(lines), PATH)
    assert settings.endpoints[0].routes[0].action == "infer"
    assert settings.administrators[0].roles == ("registrar", "responder")


@pytest.mark.parametrize("text", ["", ":", "host", "host:", ":80", "host:-1", "host:65536", "host:١", "host:080000", "host: 80", "host:8x"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidInput):
        host_port(text)


@pytest.mark.parametrize(
    ("text", "host", "port"), [("127.0.0.1:8443", "127.0.0.1", 8443), ("[::1]:0", "::1", 0), ("a.b:65535", "a.b", 65535)]
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert host_port(text) == (host, port)


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("127.9.9.9", True),
        ("0.0.0.0", False),
        ("::", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it

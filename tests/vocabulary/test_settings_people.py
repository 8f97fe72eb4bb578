"""[[oidc]] and [ssf]: what contradicts itself is refused with its place, and paths are made absolute."""

from __future__ import annotations

from pathlib import Path

import pytest

from vouchgate.vocabulary.errors import InvalidSettings
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.settings_file import parse_settings

HEAD = 'trust_domain = "example.local"\n[sts]\nlisten = "127.0.0.1:0"\nurl = "https://us.example"\n[zones.serve]\n'
OIDC = '[[oidc]]\nname = "staff"\nissuer = "https://idp.example"\nclient_id = "us"\n'
SSF = '[[ssf.transmitters]]\nname = "hr"\nprovider = "staff"\nissuer = "https://idp.example"\naudience = "us"\n'
OUT = '[[ssf.receivers]]\nname = "soc"\nurl = "https://soc.example/events"\naudience = "soc"\n'


def read(text: str) -> Settings:
    return parse_settings(text, Path("/etc/vg/vouchgate.toml"))


def test_providers_and_streams_are_read() -> None:
    found = read(
        f'{HEAD}{OIDC}client_auth = "basic"\nsecret_file = "keys/secret"\nca_file = "/ca.pem"\ngroups = {{ a = "callers", b = "role:auditor" }}\n{SSF}{OUT}'
    )
    assert found.oidc[0].secret_file == "/etc/vg/keys/secret"
    assert found.oidc[0].ca_file == "/ca.pem"
    assert found.oidc[0].groups == {"a": "callers", "b": "role:auditor"}
    assert found.ssf.transmitters[0].provider == "staff"
    assert found.ssf.receivers[0].token_file == ""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (OIDC + OIDC, "twice"),
        (OIDC.replace("staff", "admin"), "names other persons"),
        (OIDC.replace("staff", "unknown"), "names other persons"),
        (OIDC + '[[identities]]\nname = "x"\nkind = "person"\nzone = "staff"\n', "names other persons"),
        (OIDC.replace("staff", "Staff"), "name"),
        (OIDC.replace("https://idp.example", "http://idp.example"), "not an address"),
        (OIDC.replace("https://idp.example", "https://user@idp.example"), "not an address"),
        (OIDC.replace("https://idp.example", "https://idp.example?x=1"), "not an address"),
        (OIDC.replace("https://idp.example", ""), "missing"),
        (OIDC.replace('client_id = "us"', 'client_id = ""'), "client_id"),
        (OIDC + 'origins = ["file:///etc"]\n', "not an address"),
        (OIDC + 'client_auth = "basic"\n', "client_auth"),
        (OIDC + 'secret_file = "x"\n', "client_auth"),
        (OIDC + 'client_secret = "hush"\n', "unknown key"),
        (OIDC + 'algorithms = ["HS256"]\n', "algorithms"),
        (OIDC + 'algorithms = ["none"]\n', "algorithms"),
        (OIDC + "algorithms = []\n", "algorithms"),
        (OIDC + 'groups = { a = "role:owner" }\n', "not a group"),
        (OIDC + 'groups = { a = "Callers" }\n', "not a group"),
        (OIDC + 'groups = { a = "role:role:auditor" }\n', "not a group"),
        (OIDC + "session_minutes = 1\n", "session_minutes"),
        (SSF, "no [[oidc]]"),
        (OIDC + SSF + SSF, "twice"),
        (OIDC + SSF + 'keys_url = "http://idp.example/jwks"\n', "not an address"),
        (OIDC + OUT + OUT, "twice"),
        (OIDC + OUT.replace("https://soc.example/events", "ftp://soc.example"), "not an address"),
        (OIDC + OUT.replace("https://soc.example/events", ""), "missing"),
    ],
)
def test_what_contradicts_itself_is_refused(text: str, word: str) -> None:
    with pytest.raises(InvalidSettings) as told:
        read(HEAD + text)
    assert word in told.value.reason
    assert "hush" not in told.value.reason


def test_events_need_a_place_to_come_to_and_a_name_to_come_from() -> None:
    with pytest.raises(InvalidSettings, match="does not listen"):
        read(HEAD.replace('listen = "127.0.0.1:0"\n', "") + OIDC + SSF)
    with pytest.raises(InvalidSettings, match="need an issuer"):
        read(HEAD.replace('url = "https://us.example"\n', "") + OUT)

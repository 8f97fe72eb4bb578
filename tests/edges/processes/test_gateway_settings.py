"""What the gateway is told of its own addresses and of others'."""

from __future__ import annotations

from pathlib import Path

import pytest

from vouchgate.edges.envoy.settings import GatewaySettings
from vouchgate.edges.processes.gateway_settings import gateway_settings
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.settings_file import parse_settings

PATH = Path("/etc/vouchgate/vouchgate.toml")


def made(text: str = "", *, gateway: str = "127.0.0.1:8443", sts: str = "") -> GatewaySettings:
    settings = parse_settings(f'trust_domain = "example.local"\n{text}', PATH)
    return gateway_settings(settings, Layout(Path("/d")), gateway=gateway, plain="", sts=sts)


def test_without_more_there_is_one_listener_and_one_for_providers() -> None:
    told = made()
    assert (told.tls_address, told.plain_address, told.federated_address) == ("tcp:127.0.0.1:8443", "", "")
    assert told.egress_address == "tcp:127.0.0.1:8445"
    assert told.system_ca.startswith("/etc/")


@pytest.mark.parametrize(
    ("gateway", "authority"), [("127.0.0.1:8443", "api.example:8443"), ("127.0.0.1:443", "api.example"), ("[::1]:9", "api.example:9")]
)
def test_callers_know_the_gateway_by_its_first_host_and_the_port_that_was_taken(gateway: str, authority: str) -> None:
    assert made('[gateway]\nhosts = ["api.example", "localhost"]\n', gateway=gateway).authority == authority


@pytest.mark.parametrize(
    ("text", "sts", "issuer"),
    [
        ("", "", ""),
        ("", "127.0.0.1:9443", "https://localhost:9443"),
        ('[sts]\nurl = "https://tokens.example"\n', "127.0.0.1:9443", "https://tokens.example"),
        ('[sts]\nurl = "https://tokens.example/"\n', "", "https://tokens.example"),
        ('[sts]\nhosts = ["t.example"]\n', "[::1]:443", "https://t.example:443"),
    ],
)
def test_the_token_service_is_named_as_it_names_itself(text: str, sts: str, issuer: str) -> None:
    assert made(text, sts=sts).sts_issuer == issuer


def test_partners_listen_where_the_settings_say() -> None:
    assert made('[gateway]\nfederated_listen = "0.0.0.0:8444"\n').federated_address == "tcp:0.0.0.0:8444"

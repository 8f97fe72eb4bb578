"""What is tried is what there is: doors come from the product's own tables, and a sabotage still fits what it takes out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import access_api
import access_gateway
import access_null
import access_sockets
import access_sts
import pytest
from example import Listener

from vouchgate.edges.api.app import ACTS, READS
from vouchgate.edges.sts.app import ROUTES

SRC = Path(access_null.ROOT) / "src" / "vouchgate"
LISTENER = Listener("tls", ("127.0.0.1", 1), "tls")


def test_every_route_of_the_api_is_a_door() -> None:
    found = {str(way) for way in access_api.ways()}
    assert found >= {f"GET {path}" for path, *_ in READS} | {f"POST {path}" for path, *_ in ACTS}
    assert found >= {"PUT /api/v1/artifacts", "POST /api/v1/backup", "GET /metrics", "GET /api/v1/decisions/live"}
    assert set(access_api.PUBLIC) <= found, "what is said to be public is there"
    assert set(access_api.REGISTRAR) <= found
    assert not {"POST /api/v1/revoke", "PUT /api/v1/artifacts", "POST /api/v1/secrets/release"} & set(access_api.PUBLIC)


@pytest.mark.parametrize("kind", [kind for _, kind, *_ in (*READS, *ACTS)], ids=[path for path, *_ in (*READS, *ACTS)])
def test_the_least_body_is_well_formed(kind: type) -> None:
    import msgspec

    msgspec.convert(access_api.least(kind), kind, strict=False)


def test_every_line_of_the_token_services_table_is_a_door() -> None:
    assert {str(one) for one in access_sts.resources()} == {f"{method} {path}" for method, path, _ in ROUTES}
    public = access_sts.public(SimpleNamespace())  # type: ignore[arg-type]
    assert not [name for name in public if name.startswith("POST") or name in ("GET /authorize", "GET /login", "GET /login/callback")]


def line(**more: Any) -> dict[str, Any]:
    facts = {"endpoint": "vg://x/endpoint/digits", "action": "infer"}
    method = {"name": ":method", "string_match": {"exact": "POST"}}
    made = {"name": "n", "match": {"path": "/a", "headers": [method]}, "route": {}, "metadata": {"filter_metadata": {"vg": facts}}}
    return made | more


def test_a_line_of_the_gateways_table_is_a_route() -> None:
    made = access_gateway._route_of(LISTENER, "localhost", line())
    assert (str(made), made.scope, made.url) == ("tls localhost POST /a", "infer:digits", "https://localhost:1/a")
    templated = {"match": {"safe_regex": {"regex": "/v2/[A-Za-z0-9._-]{1,64}/infer"}}}
    assert access_gateway._route_of(LISTENER, "localhost", line(**templated)).path == "/v2/x/infer"


@pytest.mark.parametrize("more", [{"match": {}}, {"metadata": {}}, {"match": {"connect_matcher": {}}}])
def test_a_line_that_cannot_be_asked_is_an_error(more: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="not covered"):
        access_gateway._route_of(LISTENER, "localhost", line(**more))


def test_a_table_without_routes_is_an_error() -> None:
    with patch.object(access_gateway, "dump", return_value=[]), pytest.raises(RuntimeError, match="no routes"):
        access_gateway.routes(SimpleNamespace())  # type: ignore[arg-type]


def test_a_socket_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as link:
        link.bind(str(tmp_path / "new.sock"))
        house = SimpleNamespace(data=tmp_path, folder=tmp_path)
        with patch.object(access_sockets, "tables", return_value={}), pytest.raises(RuntimeError, match="not covered"):
            access_sockets.sockets(house)  # type: ignore[arg-type]


def test_every_method_has_one_process_that_may() -> None:
    place = access_sockets.Place
    for path, method, who in (
        ("control.sock", "sts.token", "sts"), ("control.sock", "workload.issue", "agent"), ("control.sock", "workload.rotate", "supervisor"),
        ("control.sock", "in_process.pull", "server"), ("control.sock", "reload", "supervisor"), ("signer.sock", "x509_svid", "control"),
        ("ads.sock", "", "gateway"), ("upstreams/chat/server.sock", "", "gateway"), ("supervisor.sock", "look", "control"),
    ):  # fmt: skip
        assert place(f"/d/{path}", method).rightful == who


def test_the_workload_apis_methods_are_doors() -> None:
    found = {place.method.rpartition("/")[2] for place in access_sockets.workload_methods()}
    assert found >= {"FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"}


@pytest.mark.parametrize("one", access_null.SABOTAGES, ids=lambda one: one.name)
def test_a_sabotage_takes_out_what_is_there(one: access_null.Sabotage) -> None:
    assert one.edits
    for file, old, new in one.edits:
        assert (SRC / file).read_text().count(old) == 1
        assert old != new

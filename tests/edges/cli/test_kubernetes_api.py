"""Policies of a cluster, read from a real HTTP server that answers as an API server does, and from files."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from vouchgate.edges.cli import kubernetes_api
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unavailable

NETWORK = "/apis/networking.k8s.io/v1/networkpolicies"


def policy(name: str) -> dict:
    return {"metadata": {"name": name, "namespace": "serve"}, "spec": {"podSelector": {}}}


class Server(http.server.ThreadingHTTPServer):
    """`answers`: path -> (status, pages); what it was asked is kept."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers: dict[str, tuple[int, list]] = {}
        self.asked: list[tuple[str, str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append((self.command, parts.path, self.headers.get("authorization", "")))
        status, pages = self.server.answers.get(parts.path, (404, [{"kind": "Status"}]))
        number = int(parse_qs(parts.query).get("continue", ["0"])[0])
        body = pages[number]
        if isinstance(body, dict) and number + 1 < len(pages):
            body = body | {"metadata": {"continue": str(number + 1)}}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("location", self.server.url)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_every_page_of_every_kind_is_read_and_named(server, tmp_path):
    server.answers = {
        NETWORK: (200, [{"kind": "NetworkPolicyList", "items": [policy("a")]}, {"kind": "NetworkPolicyList", "items": [policy("b")]}]),
        "/apis/security.istio.io/v1/peerauthentications": (200, [{"kind": "PeerAuthenticationList", "items": [policy("c")]}]),
    }
    token = tmp_path / "token"
    token.write_text("abc\n")
    found = kubernetes_api.read(server.url, token_file=str(token))
    assert [(one["kind"], one["metadata"]["name"]) for one in found] == [
        ("NetworkPolicy", "a"),
        ("NetworkPolicy", "b"),
        ("PeerAuthentication", "c"),
    ]
    assert {one[0] for one in server.asked} == {"GET"} and {one[2] for one in server.asked} == {"Bearer abc"}
    assert {one[1] for one in server.asked} == set(kubernetes_api.LISTS)


@pytest.mark.parametrize("status", [401, 403, 500, 302])
def test_half_a_reading_is_none(server, status):
    server.answers = {NETWORK: (status, [{"kind": "Status"}])}
    with pytest.raises(Unavailable):
        kubernetes_api.read(server.url)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"<html>", b"[" * 100_000])
def test_an_answer_that_is_no_list_is_refused(server, body):
    server.answers = {NETWORK: (200, [body])}
    with pytest.raises(InvalidInput):
        kubernetes_api.read(server.url)


def test_pages_without_an_end_are_bounded(server, monkeypatch):
    monkeypatch.setattr(kubernetes_api, "MAX_PAGES", 3)
    server.answers = {NETWORK: (200, [{"kind": "NetworkPolicyList", "items": []}] * 5)}
    with pytest.raises(LimitExceeded):
        kubernetes_api.read(server.url)


@pytest.mark.parametrize("place", ["http://10.0.0.1:1", "http://cluster.example", "http://[2001:db8::1]:80"])
def test_nothing_is_asked_in_the_clear_of_another_machine(place):
    with pytest.raises(InvalidInput):
        kubernetes_api.read(place)


def test_a_server_that_is_not_there_is_said(server):
    with pytest.raises(Unavailable):
        kubernetes_api.read("http://127.0.0.1:1")
    with pytest.raises(Unavailable):
        kubernetes_api.read(server.url.replace("http://", "https://"))


def test_a_file_is_read_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "live.json"
    path.write_text(json.dumps({"kind": "List", "items": [{"kind": "NetworkPolicy"} | policy("a"), 7]}))
    assert [one["kind"] for one in kubernetes_api.read(str(path))] == ["NetworkPolicy"]
    path.write_text(json.dumps({"kind": "NetworkPolicy"} | policy("b")))
    assert kubernetes_api.read(str(path))[0]["metadata"]["name"] == "b"
    with pytest.raises(Unavailable):
        kubernetes_api.read(str(tmp_path / "none.json"))
    monkeypatch.setattr(kubernetes_api, "MAX_BYTES", 10)
    with pytest.raises(LimitExceeded):
        kubernetes_api.read(str(path))

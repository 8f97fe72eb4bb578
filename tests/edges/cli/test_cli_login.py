"""`vouchgate login`, `logout`, `whoami`: the way back from the browser, and the file in which the token lies."""

from __future__ import annotations

import http.client
import json
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from surface_served import Served

from vouchgate.edges.cli import logins
from vouchgate.edges.cli.logins import Listener, read_answer
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import LoggedIn
from vouchgate.vocabulary.errors import NotPermitted, Unavailable
from vouchgate.vocabulary.names import PrincipalId

ADA = "spiffe://test.local/person/staff/ada"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(logins, "folder", lambda: tmp_path / "home" / "vouchgate")
    return tmp_path / "home" / "vouchgate"


@pytest.fixture
def vg(vg: Any, home: Path) -> Any:
    """With a home of its own."""
    return vg


def pasting(monkeypatch: pytest.MonkeyPatch, api: Served, query: str = "code=good&session_state=x") -> None:
    def ask(self: Session, question: str) -> str:
        state, (_, _, address) = next(iter(api.surface.begun.items()))
        return f"  {address}?state={state}&{query}\n"

    monkeypatch.setattr(Session, "ask", ask)


def test_a_person_logs_in_by_pasting_and_acts_as_themselves(api: Served, vg: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pasting(monkeypatch, api)
    assert ADA not in vg("whoami")[1]
    code, out, _ = vg("login", "--paste")
    assert code == 0
    assert ADA in out
    assert "https://idp.example/authorize?state=" in out
    kept = next(home.iterdir())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    token = json.loads(kept.read_text())["token"]
    assert token not in out
    assert "Ada" in out
    code, out, _ = vg("whoami")
    assert (code, "login" in out, ADA in out) == (0, True, True)
    vg("status")
    assert vg("logout")[0] == 0
    assert list(home.iterdir()) == []
    assert ADA not in vg("whoami")[1]
    assert "nobody" in vg("logout")[1]


def test_a_new_login_ends_the_one_of_before(api: Served, vg: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pasting(monkeypatch, api)
    vg("login", "--paste")
    first = next(home.iterdir()).read_text()
    vg("login", "--paste")
    assert next(home.iterdir()).read_text() != first
    next(home.iterdir()).write_text(first)
    assert vg("whoami")[0] == 1


def test_the_token_is_never_printed(api: Served, vg: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pasting(monkeypatch, api)
    _, out, err = vg("login", "--paste", "--json")
    token = json.loads(next(home.iterdir()).read_text())["token"]
    said = out + err + "".join(vg("whoami", "--json")[1:]) + "".join(vg("logout", "--json")[1:])
    assert token not in said


def test_a_person_logs_in_through_the_listener(api: Served, vg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []

    def browser() -> None:
        while not api.surface.begun:
            pass
        state, (_, _, address) = next(iter(api.surface.begun.items()))
        host = address.removeprefix("http://").removesuffix("/callback")
        for path, named in (
            ("/callback?state=wrong&code=evil", host),
            (f"/callback?state={state}&code=good", "evil.example"),
            ("/favicon.ico", host),
        ):
            answers.append(_get(host, path, named))
        answers.append(_get(host, f"/callback?state={state}&code=good&scope=openid", host))

    thread = threading.Thread(target=browser)
    thread.start()
    code, out, _ = vg("login", "--provider", "staff")
    thread.join(5)
    assert code == 0
    assert ADA in out
    assert answers == [400, 400, 400, 200]


def _get(host: str, path: str, named: str) -> int:
    for _ in range(200):
        try:
            connection = http.client.HTTPConnection(host, timeout=5)
            connection.request("GET", path, headers={"host": named})
            return connection.getresponse().status
        except ConnectionRefusedError:
            continue
        finally:
            connection.close()
    raise AssertionError("nobody listens")


def test_an_answer_of_another_login_is_not_taken(api: Served, vg: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "ask", lambda self, question: "http://127.0.0.1:1/callback?state=other&code=good")
    code, _, err = vg("login", "--paste")
    assert code == 2
    assert "does not answer this login" in err
    assert not home.exists()


def test_a_refused_login_keeps_nothing(api: Served, vg: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pasting(monkeypatch, api, "code=bad")
    assert vg("login", "--paste")[0] == 1
    assert not home.exists()


def test_an_ended_login_is_told_and_not_passed_over(api: Served, vg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pasting(monkeypatch, api)
    vg("login", "--paste")
    api.surface.out.add(ADA)
    code, _, err = vg("status")
    assert code == 1
    assert "ended" in err
    assert vg("logout")[0] == 0
    assert vg("whoami")[0] == 0


@pytest.mark.parametrize("spoil", ["wide", "link", "hard-link", "text", "folder"])
def test_a_file_that_others_could_touch_is_not_used(api: Served, vg: Any, home: Path, monkeypatch: pytest.MonkeyPatch, spoil: str) -> None:
    pasting(monkeypatch, api)
    vg("login", "--paste")
    kept = next(home.iterdir())
    if spoil == "wide":
        kept.chmod(0o644)
    if spoil == "link":
        kept.rename(home / "elsewhere")
        kept.symlink_to(home / "elsewhere")
    if spoil == "hard-link":
        (home / "second").hardlink_to(kept)
    if spoil == "text":
        kept.write_text("not a session")
    if spoil == "folder":
        home.chmod(0o755)
        with pytest.raises(NotPermitted):
            logins.keep(api.socket, LoggedIn(principal=PrincipalId(ADA), how="session", token="t"))
        return
    code, _, err = vg("whoami")
    assert code == 1
    assert "logout" in err


@pytest.mark.parametrize(
    "url",
    [
        "", "?state=s", "http://127.0.0.1:1/callback?code=x", "http://127.0.0.1:1/callback?state=S&code=x", "http://127.0.0.1:1/callback#state=right",
        "http://127.0.0.1:1/callback?state=right&state=right", "http://127.0.0.1:1/callback?state=right&code=a&code=b", "x?" + "a=b&" * 100,
    ],
)  # fmt: skip
def test_what_does_not_answer_is_not_read(url: str) -> None:
    assert read_answer(url, "right") is None


def test_the_listener_ends_after_its_time_and_bears_noise() -> None:
    listener = Listener()
    try:
        with pytest.raises(Unavailable):
            listener.wait("state", seconds=0.05)
        host, port = listener.address.removeprefix("http://").removesuffix("/callback").split(":")

        def noise() -> None:
            for data in (b"", b"\x16\x03\x01", b"POST /callback?state=state HTTP/1.1\r\nhost: x\r\n\r\n", b"x" * 20_000, b"GET\r\n\r\n"):
                with socket.create_connection((host, int(port))) as one:
                    one.sendall(data)
            with socket.create_connection((host, int(port))) as one:
                one.sendall(f"GET /callback?state=state&code=c HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
                one.recv(10)

        thread = threading.Thread(target=noise)
        thread.start()
        assert listener.wait("state", seconds=20) == {"state": "state", "code": "c"}
        thread.join(5)
    finally:
        listener.close()


def test_the_folder_is_the_password_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somebody-else")
    monkeypatch.setenv("XDG_STATE_HOME", "/somebody-else")
    assert not str(logins.folder()).startswith("/somebody-else")
    assert logins.folder().parts[-3:] == (".local", "state", "vouchgate")
    assert logins.folder().is_absolute()

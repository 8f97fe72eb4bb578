"""Logging in over HTTP: how a login is bound to its browser or its uid, and what no other page, user or token gets."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from typing import Any

import pytest
from surface_memory import MemorySurface
from surface_served import Served

ADA = "spiffe://test.local/person/staff/ada"


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Any) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


class Browser:
    """Keeps cookies by path, as a browser does, and says where a request comes from."""

    def __init__(self, api: Served) -> None:
        self.api, self.cookies, self.csrf = api, dict[str, tuple[str, str]](), ""
        self.origin = f"http://127.0.0.1:{api.port}"
        self.set: list[str] = []

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.api.port)
        sent = {"origin": self.origin, "sec-fetch-site": "same-origin", "content-type": "application/json", "x-csrf-token": self.csrf}
        mine = "; ".join(f"{name}={value}" for name, (value, where) in self.cookies.items() if path.startswith(where))
        sent |= ({"cookie": mine} if mine else {}) | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, json.dumps(body) if body is not None else None, sent)
        answer = connection.getresponse()
        self.set = answer.headers.get_all("set-cookie") or []
        for text in self.set:
            name, _, rest = text.partition("=")
            where = next(part.strip()[5:] for part in text.split(";") if part.strip().lower().startswith("path="))
            self.cookies[name] = (rest.split(";")[0], where)
            if "max-age=0" in text.lower():
                del self.cookies[name]
        data = answer.read()
        connection.close()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data

    def begin(self) -> str:
        status, said = self.ask("POST", "/api/v1/login/begin", {"provider": "staff"})
        assert status == 200
        assert set(said) == {"url"}
        return str(said["url"].partition("state=")[2])

    def log_in(self) -> tuple[int, Any]:
        status, said = self.ask("POST", "/api/v1/login/finish", {"state": self.begin(), "code": "good"})
        self.csrf = said.get("csrf", "") if isinstance(said, dict) else ""
        return status, said


def unix(api: Served, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> tuple[int, Any]:
    connection = Unix(api.socket)
    sent = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {}) | headers
    connection.request(method, path, json.dumps(body) if body is not None else None, sent)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data)


def cli_login(api: Served) -> str:
    status, begun = unix(api, "POST", "/api/v1/login/begin", {"provider": "staff", "redirect_uri": "http://127.0.0.1:4000/callback"})
    assert status == 200
    status, made = unix(api, "POST", "/api/v1/login/finish", {"state": begun["state"], "code": "good", "binding": begun["binding"]})
    assert (status, made["principal"], made["how"]) == (200, ADA, "session")
    return str(made["token"])


def test_a_browser_logs_in_and_out(api: Served) -> None:
    browser = Browser(api)
    assert browser.ask("GET", "/api/v1/login")[1] == [{"name": "staff", "title": "Staff <b>login</b>"}]
    status, said = browser.log_in()
    assert (status, said["principal"], said["shown"]) == (200, ADA, "Ada")
    assert "token" not in said or said["token"] == ""
    cookies = [text for text in browser.set if text.startswith("vg_session=")]
    assert all(part in cookies[0].lower() for part in ("httponly", "samesite=strict", "path=/"))
    assert "vg_login" not in browser.cookies
    assert browser.ask("GET", "/api/v1/session")[0] == 200
    assert browser.ask("DELETE", "/api/v1/session")[0] == 200
    assert browser.ask("GET", "/api/v1/status")[0] == 401


def test_the_binding_is_a_cookie_that_no_script_and_no_other_path_sees(api: Served) -> None:
    browser = Browser(api)
    browser.begin()
    text = next(one for one in browser.set if one.startswith("vg_login="))
    assert all(part in text.lower() for part in ("httponly", "samesite=strict", "path=/api/v1/login", "max-age=600"))


def test_another_browser_cannot_finish_it(api: Served) -> None:
    mine, other = Browser(api), Browser(api)
    state = mine.begin()
    other.begin()
    assert other.ask("POST", "/api/v1/login/finish", {"state": state, "code": "good"})[0] == 403
    assert Browser(api).ask("POST", "/api/v1/login/finish", {"state": state, "code": "good"})[0] == 403
    assert mine.ask("POST", "/api/v1/login/finish", {"state": state, "code": "good", "binding": "x"})[0] == 200


def test_another_page_cannot_begin_or_finish_a_login(api: Served) -> None:
    browser = Browser(api)
    state = browser.begin()
    for headers in (
        {"origin": "https://evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "null"},
    ):
        assert browser.ask("POST", "/api/v1/login/finish", {"state": state, "code": "good"}, **headers)[0] == 403
        assert browser.ask("POST", "/api/v1/login/begin", {"provider": "staff"}, **headers)[0] == 403
    assert browser.ask("POST", "/api/v1/login/begin", {"provider": "staff"}, content_type="text/plain")[0] == 400


def test_a_get_of_the_way_back_does_nothing(api: Served) -> None:
    browser = Browser(api)
    state = browser.begin()
    status, page = browser.ask("GET", f"/login/callback?state={state}&code=good", sec_fetch_site="cross-site")
    assert status == 200
    assert b"login.js" in page
    assert b"good" not in page
    assert "vg_session" not in browser.cookies
    assert browser.ask("POST", "/api/v1/login/finish", {"state": state, "code": "good"})[0] == 200


def test_nobody_chooses_a_session_or_where_it_goes(api: Served) -> None:
    browser = Browser(api)
    browser.cookies["vg_session"] = ("chosen-by-an-attacker", "/")
    browser.log_in()
    first = browser.cookies["vg_session"][0]
    assert first != "chosen-by-an-attacker"
    browser.log_in()
    assert browser.cookies["vg_session"][0] != first
    browser.cookies["vg_session"] = (first, "/")
    assert browser.ask("GET", "/api/v1/session")[0] == 401
    asked = {"provider": "staff", "redirect_uri": "https://evil.example/login/callback"}
    assert Browser(api).ask("POST", "/api/v1/login/begin", asked)[0] == 400
    assert api.surface.begun == {} or all("127.0.0.1" in one[2] for one in api.surface.begun.values())


def test_the_way_back_is_under_the_host_that_was_asked(api: Served) -> None:
    browser = Browser(api)
    browser.origin = f"http://localhost:{api.port}"
    browser.ask("POST", "/api/v1/login/begin", {"provider": "staff"}, host=f"localhost:{api.port}")
    assert {one[2] for one in api.surface.begun.values()} == {f"http://localhost:{api.port}/login/callback"}
    assert browser.ask("POST", "/api/v1/login/begin", {"provider": "staff"}, host="evil.example")[0] == 400


@pytest.mark.parametrize(
    "address",
    [
        "", "https://evil.example/callback", "http://evil.example:80/callback", "http://127.0.0.1.evil.example:1/callback", "http://127.0.0.1/callback",
        "http://127.0.0.1:0/callback", "http://127.0.0.1:70000/callback", "http://127.0.0.1:1/callback/../x", "http://127.0.0.1:1/callback?x=1",
        "http://localhost:1/callback", "http://user@127.0.0.1:1/callback", "http://127.0.0.1:1/callback\n", "http://127.1:1/callback",
    ],
)  # fmt: skip
def test_the_command_line_listens_on_this_machine_alone(api: Served, address: str) -> None:
    status, said = unix(api, "POST", "/api/v1/login/begin", {"provider": "staff", "redirect_uri": address})
    assert status == 400
    assert "command line" in said["detail"]


def test_a_token_is_good_for_its_uid_on_the_socket_alone(api: Served) -> None:
    token = cli_login(api)
    status, who = unix(api, "GET", "/api/v1/whoami", token=token)
    assert (status, who["principal"], who.get("token", "")) == (200, ADA, "")
    assert unix(api, "GET", "/api/v1/whoami")[1]["principal"] != ADA
    browser = Browser(api)
    browser.cookies["vg_session"] = (token, "/")
    assert browser.ask("GET", "/api/v1/session")[0] == 401
    assert browser.ask("GET", "/api/v1/session", authorization=f"Bearer {token}")[0] == 401
    assert unix(api, "DELETE", "/api/v1/session", token=token)[0] == 200
    assert unix(api, "GET", "/api/v1/whoami", token=token)[0] == 401


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as another uid")
def test_another_uid_cannot_use_the_token_or_finish_the_login(api: Served) -> None:
    token = cli_login(api)
    status, begun = unix(api, "POST", "/api/v1/login/begin", {"provider": "staff", "redirect_uri": "http://127.0.0.1:4000/callback"})
    assert status == 200
    api.folder.chmod(0o755)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            finish = {"state": begun["state"], "code": "good", "binding": begun["binding"]}
            told = [unix(api, "GET", "/api/v1/whoami", token=token)[0], unix(api, "POST", "/api/v1/login/finish", finish)[0]]
            os.write(write, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert json.loads(os.read(read, 100)) == [401, 403]
    os.close(read)


def test_a_cookie_is_not_a_token_on_the_socket(api: Served) -> None:
    browser = Browser(api)
    browser.log_in()
    cookie = browser.cookies["vg_session"][0]
    assert unix(api, "GET", "/api/v1/whoami", token=cookie)[0] == 401


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", "Basic eDp5", "Bearer  ", "x"])
def test_a_wrong_token_is_never_passed_over_for_the_uid(api: Served, header: str) -> None:
    assert unix(api, "GET", "/api/v1/status", authorization=header)[0] == 401


def test_whoever_is_out_is_out_at_the_next_request(api: Served) -> None:
    browser, token = Browser(api), cli_login(api)
    browser.log_in()
    assert browser.ask("GET", "/api/v1/status")[0] == 200
    api.surface.out.add(ADA)
    for path in ("/api/v1/status", "/api/v1/session", "/api/v1/whoami", "/metrics", "/api/v1/decisions/live"):
        assert browser.ask("GET", path)[0] in {401, 403}, path
        assert unix(api, "GET", path, token=token)[0] in {401, 403}, path
    assert browser.ask("POST", "/api/v1/login-code", {})[0] in {401, 403}


def test_an_open_stream_ends_when_its_reader_is_out(api: Served) -> None:
    browser = Browser(api)
    browser.log_in()
    connection = http.client.HTTPConnection("127.0.0.1", api.port)
    connection.request("GET", "/api/v1/decisions/live", headers={"cookie": f"vg_session={browser.cookies['vg_session'][0]}"})
    answer = connection.getresponse()
    assert answer.status == 200
    threading.Timer(0.1, lambda: api.surface.out.add(ADA)).start()
    began = time.monotonic()
    text = answer.read()
    assert b"event: end" in text
    assert time.monotonic() - began < 5
    connection.close()


def test_logins_have_a_rate() -> None:
    with Served(MemorySurface(), hurry=1.0) as api:
        browser = Browser(api)
        said = 200
        for _ in range(40):
            said = browser.ask("POST", "/api/v1/login/begin", {"provider": "staff"})[0]
            if said != 200:
                break
        assert said == 429


@pytest.mark.parametrize(
    "body", [{}, {"state": ""}, {"state": "x" * 5000}, {"state": "x", "other": "y"}, {"state": "x", "code": 7}, [], {"state": ["x"]}]
)
def test_an_answer_that_is_not_one_is_refused(api: Served, body: Any) -> None:
    assert Browser(api).ask("POST", "/api/v1/login/finish", body)[0] == 400

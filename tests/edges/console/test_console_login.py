"""Logging in with a provider on another site, in headless Chromium: cookies, redirects and the page's policy as a browser really treats them.

Needs Node.js, Debian's chromium and `npm install playwright-core` in the folder that VOUCHGATE_NODE names; skipped where they are missing.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from surface_memory import MemorySurface
from surface_served import Served

MODULES = os.environ.get("VOUCHGATE_NODE", "")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    not (MODULES and CHROMIUM and shutil.which("node") and (Path(MODULES) / "node_modules" / "playwright-core").is_dir()),
    reason="needs node, chromium, and VOUCHGATE_NODE naming a folder with playwright-core",
)


@pytest.fixture(scope="module")
def seen() -> Iterator[Any]:
    surface = MemorySurface()
    with Served(surface) as api:
        console = f"http://127.0.0.1:{api.port}"

        class Idp(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                path = urlsplit(self.path).path
                query = {
                    "/authorize": f"state={asked.get('state')}&code=good&session_state=x",
                    "/attack": "state=attackers&code=good",
                    "/refuse": "state=attackers&error=access_denied%3Cimg%20src%3Dx%3E",
                }.get(path)
                self.send_response(302 if query else 404)
                if query:
                    self.send_header("location", f"{console}/login/callback?{query}")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        # another site than 127.0.0.1, so that SameSite matters
        idp = http.server.ThreadingHTTPServer(("localhost", 0), Idp)
        threading.Thread(target=idp.serve_forever, daemon=True).start()
        surface.idp = f"http://localhost:{idp.server_address[1]}"
        script = str(Path(__file__).parent / "login.mjs")
        made = subprocess.run(
            ["node", script, MODULES, str(CHROMIUM), console, surface.idp], capture_output=True, text=True, timeout=90, check=False
        )
        idp.shutdown()
        assert made.returncode == 0, made.stderr
        yield json.loads(made.stdout)


def test_a_person_logs_in_by_a_click(seen: Any) -> None:
    assert seen["errors"] == []
    assert seen["session"] == "spiffe://test.local/person/staff/ada"


def test_the_providers_name_stays_text(seen: Any) -> None:
    assert seen["button"] == "Log in with Staff <b>login</b>"
    assert seen["markup"] == 0


def test_the_session_is_a_cookie_that_no_script_and_no_other_site_uses(seen: Any) -> None:
    assert seen["cookies"] == [{"name": "vg_session", "httpOnly": True, "sameSite": "Strict", "path": "/"}]
    assert seen["scripts"] == ""


def test_an_answer_that_another_site_sends_gives_nothing(seen: Any) -> None:
    assert "not begun here" in seen["attack"]
    assert seen["address"].endswith("/login")
    assert seen["victim"] == []
    assert "<img" not in seen["refused"]

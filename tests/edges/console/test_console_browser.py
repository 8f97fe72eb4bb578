"""The console in headless Chromium: what stands first, what arrives live, what hostile names do, and whether everybody can use it.

Needs Node.js, Debian's chromium and a folder with playwright-core (and axe-core, for accessibility): `npm install playwright-core axe-core`
in the folder that VOUCHGATE_NODE names. Skipped where they are missing; the pure checks in test_console_files.py always run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from surface_memory import DIGEST, TD, MemorySurface
from surface_served import Served

from vouchgate.vocabulary.answers import Need
from vouchgate.vocabulary.answers_decisions import CallerState, EndpointState
from vouchgate.vocabulary.places import Endpoint

HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>"\'><b>bold'
MODULES = os.environ.get("VOUCHGATE_NODE", "")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    not (MODULES and CHROMIUM and shutil.which("node") and (Path(MODULES) / "node_modules" / "playwright-core").is_dir()),
    reason="needs node, chromium, and VOUCHGATE_NODE naming a folder with playwright-core",
)


def busy_surface() -> MemorySurface:
    surface = MemorySurface()
    hostile = Endpoint(
        id=f"vg://{TD}/endpoint/{HOSTILE}",
        trust_domain=TD,
        zone=HOSTILE,
        upstream="",
        routes=(),
        model_digest=DIGEST,
        digest_tier="declared",
    )
    surface.extra_endpoints.append(EndpointState(endpoint=hostile, mode="enforce", verdict="refused", reason=HOSTILE))
    surface.extra_callers.append(
        CallerState(principal=f"spiffe://{TD}/person/office/{HOSTILE}", groups=(HOSTILE,), credential_kind="x509", authenticated=True)
    )
    surface.needs.append(
        Need(kind="policy", severity="note", subject=HOSTILE, title=HOSTILE, detail=HOSTILE, remedy=HOSTILE, command=HOSTILE)
    )
    alice, bob = f"spiffe://{TD}/person/office/alice", f"spiffe://{TD}/person/office/bob"
    for number in range(60):
        surface.now += 700
        if number % 9 == 4:
            surface.add(
                effect="deny",
                would_be="deny",
                principal=bob,
                status=403,
                reason="bob is revoked",
                remedy="ask a responder",
                decision_id=f"{number:032x}",
                grant_id="",
            )
        elif number % 7 == 3:
            surface.add(
                would_be="deny",
                mode="observe",
                principal=f"spiffe://{TD}/declared/lab/addr-10.0.0.7",
                authenticated=False,
                resource=f"vg://{TD}/endpoint/legacy",
                path="/predict",
                reason="it has no identity",
                duration_ms=18.4,
            )
        elif number % 5 == 1:
            surface.add(principal=alice, resource=f"vg://{TD}/endpoint/chat", path="/v1/chat/completions", duration_ms=212.9)
        elif number % 13 == 0:
            surface.add(
                effect="deny",
                would_be="deny",
                principal="",
                authenticated=False,
                status=401,
                reason="no certificate and no token",
                grant_id="",
                duration_ms=0.3,
            )
        else:
            surface.add(duration_ms=5.1 + number / 50)
    surface.add(
        path=f"/{HOSTILE}",
        principal=f"spiffe://{TD}/person/office/{HOSTILE}",
        reason=HOSTILE,
        effect="deny",
        would_be="deny",
        decision_id="h" * 32,
    )
    surface.add(path="/a\u202egpj.exe\x00", resource=f"vg://{TD}/endpoint/digits", waivers=(HOSTILE, "b1b47ac5"))
    return surface


@pytest.fixture(scope="module")
def seen() -> Any:
    surface = busy_surface()
    with Served(surface, live_clock=False) as api:
        surface.codes["the-code"] = surface.now + 100_000
        shots = os.environ.get("VOUCHGATE_SHOTS", "")
        process = subprocess.Popen(
            ["node", str(Path(__file__).parent / "drive.mjs"), MODULES, str(CHROMIUM), f"http://127.0.0.1:{api.port}/login#the-code", shots],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        errors: list[str] = []

        def watch() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                errors.append(line)
                if "ready for a call" in line:
                    for _ in range(3):
                        api.add(path="/live", reason="arrived", effect="deny", would_be="deny", decision_id="l" * 32)

        thread = threading.Thread(target=watch)
        thread.start()
        assert process.stdout is not None
        said = process.stdout.read()
        process.wait(60)
        thread.join()
        assert process.returncode == 0, "".join(errors)
        return json.loads(said) | {"asked": [list(one) for one in surface.asked if one[0] == "approve"]}


def test_nothing_is_asked_from_elsewhere_and_nothing_fails(seen: Any) -> None:
    assert seen["outside"] == []
    assert seen["errors"] == []


def test_the_code_leaves_the_address(seen: Any) -> None:
    assert "the-code" not in seen["address"]
    assert "used or expired" in seen["wrongCode"]
    assert seen["left"] is True


def test_what_needs_a_decision_stands_first(seen: Any) -> None:
    assert seen["firstHeading"].startswith("Needs you")
    assert seen["firstNeed"].startswith("chat is refused for everyone")


def test_hostile_names_stay_text(seen: Any) -> None:
    assert seen["dialogs"] == 0
    assert seen["markup"] == 0
    assert '<img src=x onerror="alert(1)">' in seen["text"]
    assert "\\u202e" in seen["text"]
    assert "\u202e" not in seen["text"]
    assert seen["trusted"] == "refused"


def test_filters_narrow_and_say_when_nothing_is_left(seen: Any) -> None:
    assert 0 < seen["denied"] < seen["rows"]
    assert "No decision matches" in seen["none"]


def test_a_decision_says_that_it_rests_on_waivers(seen: Any) -> None:
    assert seen["text"].count("rests on 2 waivers") == 1


def test_why_opens_by_keyboard_and_closes(seen: Any) -> None:
    for title in ("WHO", "WHAT", "BECAUSE OF", "PATH", "FIX"):
        assert title in seen["why"].upper()
    assert "verified" in seen["why"]
    assert seen["closed"] is True


def test_one_request_is_looked_at_whole_and_then_agreed_to(seen: Any) -> None:
    assert '{"to": "\\u202ebob"}' in seen["approval"]
    assert "app asks to call-tool" in seen["approval"]
    assert "left" in seen["approval"]
    assert seen["agreed"] is True
    assert seen["asked"] == [["approve", "00ab"]]


def test_decisions_arrive_without_a_reload(seen: Any) -> None:
    assert "/live" in seen["live"]


def test_a_narrow_window_does_not_scroll_sideways(seen: Any) -> None:
    assert seen["sideways"] <= 0, seen["wide"]


@pytest.mark.skipif(not (Path(MODULES or "/nowhere") / "node_modules" / "axe-core").is_dir(), reason="needs axe-core in VOUCHGATE_NODE")
def test_axe_finds_nothing(seen: Any) -> None:
    assert set(seen["violations"]) == {"login", "dark", "dark-full", "why", "approve", "light", "narrow"}
    assert {name: found for name, found in seen["violations"].items() if found} == {}

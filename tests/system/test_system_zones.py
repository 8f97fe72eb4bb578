"""Zones hold in a whole installation: crossings of the settings decide at the gateway, SIGHUP changes them, the commands of docs/zones.md run."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation

from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity
from vouchgate.vocabulary.answers_zones import AssetState, ZoneMap, ZoneProof

pytestmark = [pytest.mark.gateway, pytest.mark.system]
ROOT = Path(__file__).resolve().parents[2]
TO_AGENTS = '\n[[crossings]]\nfrom = "serve"\nto = "agents"\nactions = ["chat"]\n'
TO_SERVE = '\n[[crossings]]\nfrom = "agents"\nto = "serve"\nactions = ["infer", "describe"]\nvouches = ["scan", "serves@rederived"]\n'
HELPER = '\n[[identities]]\nname = "helper"\nkind = "agent"\nzone = "agents"\ngroups = ["callers"]\n'


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with Installation(isolate="off", more=HELPER + TO_AGENTS) as made:
        yield made


def command(house: Installation, line: str) -> subprocess.CompletedProcess[str]:
    words = [str(Path(sys.executable).with_name("vouchgate")), *line.split()[1:], "--socket", str(house.layout.api_socket)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, cwd=house.folder)


def test_a_model_that_the_settings_name_is_served_where_it_was_placed(house: Installation) -> None:
    (placed,) = house.client.get(tuple[AssetState, ...], "/api/v1/assets")
    assert placed.asset.zones == ("serve",) and "import" in placed.vouches
    alice = house.caller("alice")
    house.until(lambda: house.infer(alice).status == 200, 10, "nobody is served in his own zone")


def test_the_proof_the_gateway_and_a_reload_say_the_same(house: Installation) -> None:
    jwt = IdentityRequest(
        kind="agent", zone="agents", name="helper", groups=None, form="jwt", audience="vg://example.local/endpoint/digits"
    )
    token = house.client.post(IssuedIdentity, "/api/v1/identities", jwt).token

    def ask() -> int:
        return house.bearer(token).status

    def proof() -> ZoneProof:
        return house.client.get(ZoneProof, "/api/v1/zones/proof", source="agents", target="serve")

    assert ask() == 403
    before = house.settings.read_text()
    house.settings.write_text(before + TO_SERVE)
    house.send("supervisor", signal.SIGHUP)
    house.until(lambda: ask() == 200, 10, "the crossing was not taken in")
    path = proof().path
    assert path and path[0].source.startswith("spiffe://example.local/agent/agents/")
    house.settings.write_text(before)
    house.send("supervisor", signal.SIGHUP)
    house.until(lambda: ask() == 403, 10, "the crossing was not taken away")
    house.settings.write_text(before + TO_SERVE.replace('"agents"', '"nowhere"'))
    house.send("supervisor", signal.SIGHUP)
    house.until(lambda: "there is no zone `nowhere`" in house.said(), 10, "a mistake was not said")
    house.settings.write_text(before)
    assert ask() == 403
    shown = house.client.get(ZoneMap, "/api/v1/zones/map")
    assert shown.holds and {(one.source, one.target) for one in shown.passes if one.declared} == {("serve", "agents")}


def test_the_commands_of_the_page_run(house: Installation) -> None:
    text = (ROOT / "docs" / "zones.md").read_text("utf-8")
    lines = [line.removeprefix("$ ") for block in re.findall(r"```console\n(.*?)```", text, re.S) for line in block.splitlines()]
    assert len(lines) >= 8
    for line in lines:
        done = command(house, line)
        assert done.returncode in (0, 1), (line, done.stderr)
        assert done.stdout and "Traceback" not in done.stderr, line
    assert (house.folder / "zones.svg").read_text().startswith("<svg")
    why = command(house, "vouchgate why helper infer digits").stdout
    assert "no crossing is declared" in " ".join(why.split())
    moved = command(house, "vouchgate assets move digits-test --to agents --as export")
    assert moved.returncode == 1 and "stays in serve" in moved.stdout


def test_the_examples_crossings_can_be_taken_in() -> None:
    from vouchgate.vocabulary.settings_file import parse_settings

    path = ROOT / "examples" / "digits" / "vouchgate.toml"
    text = re.sub(r"^#~ ?", "", path.read_text("utf-8"), flags=re.M)
    assert len(parse_settings(text, path).crossings) == 3

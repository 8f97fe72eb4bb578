"""What is open in settings, by itself and beside those that they replace; what tightens is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vouchgate.edges.cli.main import main
from vouchgate.flows.check_settings import check_settings
from vouchgate.vocabulary.settings_file import parse_settings

GOOD = """trust_domain = "a.local"

[gateway]
plain_listen = "127.0.0.1:8480"

[zones.serve]
lease_seconds = 10

[zones.data]

[[endpoints]]
name = "digits"
zone = "serve"
upstream = "unix:/run/digits.sock"
approvals = true
routes = [{ method = "POST", path = "/infer", action = "infer" }]

[[assets]]
name = "ward"
kind = "dataset"
zones = ["data"]
labels = ["personal"]
purposes = ["triage"]

[[crossings]]
from = "serve"
to = "data"
actions = ["read"]
kinds = ["dataset"]
vouches = ["scan", "import"]

[[identities]]
name = "app"
kind = "service"
zone = "serve"
groups = ["callers"]
"""
WORSE = {
    "listener": ("127.0.0.1:8480", "0.0.0.0:8480", "open-listener", "plain_listen"),
    "any address of version 6": ("127.0.0.1:8480", "[::]:8480", "open-listener", "plain_listen"),
    "long lease": ("lease_seconds = 10", "lease_seconds = 900", "long-lease", "zones.serve"),
    "longer lease": ("lease_seconds = 10", "lease_seconds = 20", "lease-longer", "zones.serve"),
    "observe": ("[zones.serve]\n", '[zones.serve]\nmode = "observe"\n', "mode-loosened", "zones.serve"),
    "endpoint moved": ('name = "digits"\nzone = "serve"', 'name = "digits"\nzone = "data"', "endpoint-moved", "`digits`"),
    "approvals": ("approvals = true\n", "", "endpoint-loosened", "approvals"),
    "another action": ('action = "infer"', 'action = "describe"', "endpoint-loosened", "POST /infer"),
    "asset in one more": ('zones = ["data"]', 'zones = ["data", "serve"]', "asset-moved", "`ward`"),
    "label": ('labels = ["personal"]\n', "", "asset-loosened", "`personal`"),
    "purpose gone": ('purposes = ["triage"]\n', "", "asset-loosened", "`triage`"),
    "purpose more": ('["triage"]', '["triage", "sales"]', "asset-loosened", "`sales`"),
    "vouches": ('vouches = ["scan", "import"]', 'vouches = ["scan"]', "crossing-loosened", "`import`"),
    "no vouches": ('vouches = ["scan", "import"]\n', "", "crossing-loosened", "`scan`"),
    "action more": ('actions = ["read"]', 'actions = ["read", "train"]', "crossing-added", "`train`"),
    "every move": ('actions = ["read"]', 'actions = ["move"]', "crossing-added", "`export`"),
    "the other way": ('from = "serve"\nto = "data"', 'from = "data"\nto = "serve"', "crossing-added", "from `data` to `serve`"),
    "another kind": ('kinds = ["dataset"]', 'kinds = ["dataset", "model"]', "crossing-added", "`read`"),
    "group": ('groups = ["callers"]', 'groups = ["callers", "releasers"]', "identity-widened", "`releasers`"),
}
BETTER = {
    "nothing": ("", ""),
    "shorter lease": ("lease_seconds = 10", "lease_seconds = 5"),
    "one vouch more": ('vouches = ["scan", "import"]', 'vouches = ["scan", "import", "structure"]'),
    "one label more": ('labels = ["personal"]', 'labels = ["personal", "secret"]'),
    "no group": ('groups = ["callers"]', "groups = []"),
    "no listener": ('plain_listen = "127.0.0.1:8480"', 'plain_listen = ""'),
    "asset gone": ('[[assets]]\nname = "ward"\nkind = "dataset"\nzones = ["data"]\nlabels = ["personal"]\npurposes = ["triage"]\n', ""),
    "another asset": ('name = "ward"', 'name = "other"'),
    "why": ('kinds = ["dataset"]', 'kinds = ["dataset"]\nwhy = "it reads"'),
}


def parsed(text: str):
    return parse_settings(text, Path("v.toml"))


@pytest.mark.parametrize("name", WORSE)
def test_what_is_more_open_is_told_by_its_name(name):
    old, new, kind, word = WORSE[name]
    assert GOOD.count(old) == 1
    found = check_settings(parsed(GOOD.replace(old, new)), parsed(GOOD))
    assert [one.kind for one in found] == [kind]
    assert word in found[0].text and found[0].remedy and found[0].severity == "warning"


@pytest.mark.parametrize("name", BETTER)
def test_what_tightens_or_says_the_same_is_none(name):
    old, new = BETTER[name]
    changed = GOOD.replace(old, new) if old else GOOD
    assert check_settings(parsed(changed), parsed(GOOD)) == ()


def test_without_crossings_nothing_divides_zones_and_that_is_said_once():
    gone = GOOD[: GOOD.index("[[crossings]]")] + GOOD[GOOD.index("[[identities]]") :]
    assert [one.kind for one in check_settings(parsed(gone), parsed(GOOD))] == ["no-crossings"]
    assert check_settings(parsed(GOOD), parsed(gone)) == ()


def test_the_command_compares_and_fails_only_where_it_is_asked_to(tmp_path, capsys):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(GOOD)
    bad.write_text(GOOD.replace('vouches = ["scan", "import"]\n', ""))
    assert main(["config", "check", "--config", str(bad), "--against", str(good)]) == 0
    assert "crossing-loosened" in capsys.readouterr().out
    assert main(["config", "check", "--config", str(bad), "--against", str(good), "--strict", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["kind"] == "crossing-loosened"
    assert main(["config", "check", "--config", str(good), "--against", str(good), "--strict"]) == 0
    assert main(["config", "check", "--config", str(good), "--against", str(tmp_path / "gone.toml")]) == 2

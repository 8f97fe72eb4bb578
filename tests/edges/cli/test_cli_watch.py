"""Commands that look at enforcement points and ahead, against the in-memory surface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from surface_served import Served


def test_forecast_names_what_ends_whose_it_is_and_what_renews_it(vg: Any, api: Served) -> None:
    code, said, _ = vg("forecast")
    assert code == 1, "calls will be refused within a day"
    assert "scan lapses (digits); 2 cells refused, 7 calls" in said and "alice" in said and "$ vouchgate import FILE" in said
    code, said, _ = vg("forecast", "--json")
    assert code == 1 and json.loads(said)["refused"]["24h"] == 2


def test_drift_is_a_finding(vg: Any, api: Served) -> None:
    code, said, _ = vg("zones", "drift")
    assert code == 1 and "extra listener way-around" in said
    assert api.surface.asked[-1][-1] is True, "it is read now"
    code, said, _ = vg("zones", "drift", "--json")
    assert code == 1 and json.loads(said)["points"][0]["drifts"][0]["kind"] == "extra"


def test_drift_of_a_cluster_is_told_from_a_file(vg: Any, api: Served, tmp_path: Path) -> None:
    live = tmp_path / "live.json"
    live.write_text(json.dumps({"kind": "List", "items": []}))
    code, said, _ = vg("zones", "drift", "--kubernetes", str(live))
    assert code == 0 and "kubernetes enforces what is meant" in said
    live.write_text(json.dumps({"kind": "List", "items": [{"kind": "AdminNetworkPolicy", "spec": {"ingress": [{"action": "Allow"}]}}]}))
    assert vg("zones", "drift", "--kubernetes", str(live))[0] == 0, "nothing of ours is there to go past"
    assert vg("zones", "drift", "--kubernetes", str(tmp_path / "none.json"))[0] == 3


def test_export_writes_and_compares(vg: Any, api: Served, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, _ = vg(
        "zones", "export", "--to", "kubernetes", "-o", str(out), "--label", "app=gateway", "--account", "train=a", "--account", "train=b"
    )
    assert code == 0 and "zone lab is in observe" in said and (out / "network-policies.json").exists()
    asked = api.surface.asked[-1][-1]
    assert asked.labels == {"app": "gateway"} and asked.service_accounts == {"train": ("a", "b")}
    assert vg("zones", "export", "--to", "kubernetes", "--diff", str(out))[0] == 0
    (out / "network-policies.json").write_text("{}\n")
    (out / "more.json").write_text("{}\n")
    code, said, _ = vg("zones", "export", "--to", "kubernetes", "--diff", str(out))
    assert code == 1 and "more.json" in said and '+{"items": []}' in said


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--to", "kubernetes"),
        ("--to", "helm", "-o", "x"),
        ("--to", "istio", "-o", "x", "--diff", "y"),
        ("--to", "istio", "-o", "x", "--label", "a"),
    ],
)
def test_export_says_what_it_needs(vg: Any, api: Served, words: tuple[str, ...]) -> None:
    assert vg("zones", "export", *words)[0] == 2


def test_adopt_without_a_zone_says_which_is_next(vg: Any, api: Served) -> None:
    code, said, _ = vg("adopt")
    assert code == 0 and "lab" in said and "$ vouchgate adopt lab --plan" in said
    assert vg("adopt", "--enforce")[0] == 2

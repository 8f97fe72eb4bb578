"""`vouchgate assets ...` and `vouchgate zones map|prove|blast|surface` against the in-memory surface."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from vouchgate.segmentation.picture import MAX_DRAWN, html_page, svg
from vouchgate.vocabulary.answers_zones import CrossingSeen, ZoneContents, ZoneMap


@pytest.mark.parametrize(
    "words",
    [
        ("assets", "put", "house", "x"), ("assets", "move", "x"), ("assets", "move", "x", "--to", "y", "--as", "steal"),
        ("zones", "prove", "a"), ("zones", "blast"), ("assets", "place"), ("zones", "maps"),
    ],
)  # fmt: skip
def test_what_is_no_command(vg: Any, words: tuple[str, ...]) -> None:
    assert vg(*words)[0] == 2


def test_what_is_not_there_is_said(vg: Any, tmp_path: Path) -> None:
    assert vg("assets", "move", "gone", "--to", "serve")[0] == 2
    assert vg("assets", "remove", "gone")[0] == 2
    assert vg("zones", "blast", "nobody")[0] == 2
    code, _, said = vg("zones", "map", "--svg", str(tmp_path / "no" / "map.svg"))
    assert code == 3 and "cannot be written" in said


def test_assets_are_placed_moved_and_forgotten(vg: Any) -> None:
    assert "train" in vg("assets", "list")[1]
    assert vg("assets", "put", "model", "m", "--zone", "train", "--label", "personal")[0] == 0
    name = "vg://test.local/model/m"
    code, out, _ = vg("assets", "move", name, "--to", "serve", "--reason", "it is ready")
    assert code == 0 and "lies in serve" in out
    code, out, _ = vg("assets", "move", name, "--to", "agents")
    assert code == 1 and "no crossing covers it" in out and "declare one" in out
    assert json.loads(vg("assets", "move", name, "--to", "agents", "--json")[1])["moved"] is False
    assert vg("assets", "remove", name)[0] == 0 and "nothing was placed in serve" in vg("assets", "list", "--zone", "serve")[1]


def test_a_proof_is_an_exit_code(vg: Any) -> None:
    code, out, _ = vg("zones", "prove", "serve", "agents")
    assert code == 0 and "nothing gets from serve to agents" in out and "nothing else listens" in out
    code, out, _ = vg("zones", "prove", "agents", "serve")
    assert code == 1 and "helper → digits: may infer" in out and "agents-may" in out


def test_blast_and_surface(vg: Any) -> None:
    code, out, _ = vg("zones", "blast", "alice")
    assert code == 0 and "1 endpoints" in out and "endpoint digits in serve" in out and "3 calls" in out
    code, out, _ = vg("zones", "surface")
    assert code == 0 and "4 of 16" in out and "4 times fewer" in out


def test_the_map_as_text_and_as_a_picture(vg: Any, tmp_path: Path) -> None:
    out = vg("zones", "map")[1]
    assert "→ serve  infer on endpoint with scan: 41 passed" in out and "not declared: 0 passed, 3 refused" in out
    drawn, page = tmp_path / "map.svg", tmp_path / "map.html"
    assert vg("zones", "map", "--svg", str(drawn), "--html", str(page))[0] == 0
    tree = ET.fromstring(drawn.read_text())
    assert tree.tag.endswith("svg") and "<b>odd" not in drawn.read_text() and "&lt;b&gt;odd" in drawn.read_text()
    text = page.read_text()
    assert "default-src 'none'" in text and "<script" not in text and "agents ask the classifier" in text


@pytest.mark.parametrize("count", [0, 1, 2, 7, 300])
def test_a_picture_of_any_number_of_zones_is_one(count: int) -> None:
    zones = tuple(ZoneContents(name=f"z{number}", declared=True) for number in range(count))
    passes = tuple(CrossingSeen(source=f"z{n}", target=f"z{(n + 1) % count}", denied=n * 100_000) for n in range(count))
    found = ZoneMap(trust_domain='a"<&', holds=False, zones=zones, passes=passes)
    drawn = ET.fromstring(svg(found))
    assert len(drawn.findall(".//{*}rect")) == min(count, MAX_DRAWN)
    assert ("are not drawn" in svg(found)) == (count > MAX_DRAWN)
    assert html_page(found).count("<tr>") == count + 1

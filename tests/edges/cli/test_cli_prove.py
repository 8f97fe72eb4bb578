"""`policy prove` and `policy check`: over files without a control plane, and over what is in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from surface_served import Served

GOOD = """@id("a")
permit (principal in Group::"a", action == Action::"export", resource is Dataset in Zone::"prepare")
when { resource.vouches.contains("scan@verified") && context.risk < 40 };
"""
NEVER = 'permit (principal, action == Action::"export", resource) unless { resource.vouches.contains("scan") };'


def test_proved_refuted_and_again(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text(GOOD)
    (tmp_path / "b.cedar").write_text(GOOD.replace("scan@verified", "sbom"))
    code, said, _ = vg("policy", "prove", "--never", NEVER, "--policies", "a.cedar")
    assert code == 0 and "proved" in said
    code, said, _ = vg("policy", "prove", "--never", NEVER, "--policies", "b.cedar", "--save", "case")
    assert code == 1 and "not so. This is allowed" in said and "policy vectors case" in said
    assert vg("policy", "vectors", "case")[1].endswith("agreed 1 of 1\n")
    code, said, _ = vg("policy", "prove", "--equivalent", "a.cedar", "b.cedar", "--json")
    answer = json.loads(said)
    assert code == 1 and answer["counterexample"]["permitted_by"] == ["a"] and answer["counterexample"]["entities"]
    assert vg("policy", "prove", "--nothing-new", "a.cedar", "a.cedar")[0] == 0


def test_the_policy_in_force(vg: Any, api: Served) -> None:
    code, said, _ = vg("policy", "prove", "--never", NEVER)
    assert code == 1 and "does `infer`" in said
    verb, request = api.surface.asked[-1]
    assert verb == "analyse" and request.never == NEVER and request.policies == ()


def test_what_is_no_question(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text(GOOD)
    for words in (
        ("--never", "permit (", "--policies", "a.cedar"),
        ("--never", "@none.cedar", "--policies", "a.cedar"),
        ("--never", NEVER, "--policies", "none.cedar"),
        ("--never", NEVER, "--equivalent", "a.cedar", "a.cedar"),
        ("--equivalent", "a.cedar"),
        ("--nothing-new", "a.cedar", "a.cedar", "--policies", "a.cedar"),
        ("--never", NEVER, "--policies", "a.cedar", "--seconds", "0"),
        ("--never", NEVER, "--policies", "a.cedar", "--seconds", "nan"),
        (),
    ):
        assert vg("policy", "prove", *words)[0] == 2, words


def test_check_without_a_control_plane(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "a.cedar").write_text(GOOD)
    (tmp_path / "b.cedar").write_text(GOOD.replace('resource.vouches.contains("scan@verified") && ', ""))
    assert vg("policy", "check", "--offline", "a.cedar") == (
        0,
        "✓ 21 policies hold\n".replace("21", vg("policy", "check", "--offline", "a.cedar")[1].split()[1]),
        "",
    )
    code, said, _ = vg("policy", "check", "--offline", "b.cedar", "--against", "a.cedar")
    assert code == 0
    assert "asks-for-no-vouch: `a` b.cedar line 1: it asks for no vouch" in said
    assert "grants-more" in said and "shown by" in said and "fix" in said
    assert vg("policy", "check", "--offline", "b.cedar", "--strict")[0] == 1
    assert vg("policy", "check", "--offline")[0] == 2
    assert vg("policy", "check", "b.cedar", "--against", "a.cedar")[0] == 2
    (tmp_path / "big.cedar").write_text("// x\n" * 2_000_000)
    assert vg("policy", "check", "--offline", "big.cedar")[0] == 1


def test_check_of_what_is_in_force(vg: Any) -> None:
    code, said, _ = vg("policy", "check")
    assert code == 0
    assert "no-crossings" in said and "1 allowed, 0 asked each time, 2 denied" in said

"""`vouchgate approve ...`: what waits, what exactly is asked for, and the answer."""

from __future__ import annotations


def test_what_waits_is_listed_and_told_by_the_exit_code(vg):
    code, out, _ = vg("approve", "list")
    assert code == 1
    assert "00ab" in out
    assert "app: call-tool on tools.pay (pay)" in out.replace("tool/", "")
    assert "00ac" not in out
    assert "vouchgate approve show 00ab" in out
    assert "00ac" in vg("approve", "list", "--all")[1]


def test_the_whole_of_it_is_shown_before_anybody_agrees(vg):
    code, out, _ = vg("approve", "show", "00ab")
    assert code == 0
    assert '{"to": "\\u202ebob"}' in out
    assert "POST /mcp" in out
    assert "vouchgate approve give 00ab" in out
    assert "vouchgate approve give" not in vg("approve", "show", "00ac")[1]
    code, _, err = vg("approve", "show", "none")
    assert code == 2
    assert "no approval" in err


def test_agreeing_and_refusing(vg, shared):
    code, out, _ = vg("approve", "give", "00ab")
    assert code == 0
    assert "passes once" in out
    assert "approved" in vg("approve", "give", "00ab", "--json")[1]
    assert vg("approve", "give", "none")[0] == 2
    assert vg("approve", "refuse", "00ab", "--reason", "not today")[0] == 0
    assert ("00ab", "not today") in [asked for verb, asked in shared.surface.asked if verb == "approve"]
    assert vg("approve", "give")[0] == 2

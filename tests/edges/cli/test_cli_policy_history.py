"""`vouchgate policy history | diff | replay | suggest | privilege | export-log` against the real server around the in-memory surface, and on files."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from policy_memory import DIGITS, TEXT, caller_name
from surface_served import Served

from vouchgate.edges.cli import main as cli
from vouchgate.policy.catalog import load
from vouchgate.policy.load import Source

HEAD = 'permit (\n  principal in Group::"callers",\n  action in [Action::"infer"'
NARROW = TEXT.replace(HEAD, HEAD.replace('in Group::"callers"', f'== Principal::"{caller_name("ann")}"'))


@pytest.fixture
def narrow(tmp_path: Path) -> str:
    assert NARROW != TEXT
    path = tmp_path / "narrow.cedar"
    path.write_text(NARROW)
    return str(path)


@pytest.fixture
def exported(vg: Any, tmp_path: Path) -> Path:
    code, out, _ = vg("policy", "export-log", str(tmp_path / "log.jsonl"))
    assert (code, "29 recorded decisions" in out, "3 that no policy decided: anonymous" in out) == (0, True, True)
    return tmp_path / "log.jsonl"


def offline(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main([*words, "--socket", "/nowhere/api.sock"])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_replay_shows_who_loses(vg: Any, narrow: str) -> None:
    code, out, _ = vg("policy", "replay", narrow, "--since", "4w")
    assert code == 1
    assert "29 recorded decisions" in out
    assert "15 would be denied that are allowed" in out
    assert "no longer permitted by `callers-may-infer`" in out
    assert "3 were decided by no policy and are left out: anonymous" in out


def test_replay_of_the_same_policy_is_quiet(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "same.cedar").write_text(TEXT)
    code, out, _ = vg("policy", "replay", str(tmp_path / "same.cedar"), "--since", "4w", "--json")
    answer = json.loads(out)
    assert (code, answer["same"], answer["records"]) == (0, 29, 29)


def test_a_shorter_time_is_less(vg: Any, narrow: str) -> None:
    assert json.loads(vg("policy", "replay", narrow, "--since", "2d", "--json")[1])["records"] < 6


def test_files_are_private_and_say_the_same_without_a_control_plane(
    vg: Any, exported: Path, narrow: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (exported, exported.with_name("log.jsonl.entities")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not exported.with_name("log.jsonl.part").exists()
    code, out, _ = offline(capsys, "policy", "replay", narrow, "--log", str(exported), "--json")
    live = json.loads(vg("policy", "replay", narrow, "--since", "4w", "--json")[1])
    filed = json.loads(out)
    assert code == 1
    assert {**filed, "seconds": 0} == {**live, "seconds": 0}


def test_a_log_that_was_cut_off_says_so(exported: Path, narrow: str, capsys: pytest.CaptureFixture[str]) -> None:
    exported.write_bytes(exported.read_bytes()[:-150])
    code, out, _ = offline(capsys, "policy", "replay", narrow, "--log", str(exported))
    assert code == 1
    assert "this is not all" in out


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.with_name("log.jsonl.entities").unlink(), "cannot be read"),
        (lambda path: path.with_name("log.jsonl.entities").write_text("{}"), "snapshot of the entities"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":9', 1)), "version 9"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"example.local", b"another.local", 1)), "another.local"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"resource"', b'"rexource"', 1)), "line 2"),
        (lambda path: path.write_bytes(b""), "no recorded decisions"),
    ],
)
def test_a_log_that_cannot_be_used_is_refused(
    exported: Path, narrow: str, capsys: pytest.CaptureFixture[str], spoil: Any, said: str
) -> None:
    spoil(exported)
    code, _, err = offline(capsys, "policy", "replay", narrow, "--log", str(exported))
    assert code in (2, 3)
    assert said in err
    assert "fix" in err


def test_a_new_policy_that_does_not_load_is_refused(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.cedar").write_text("permit (")
    code, _, err = vg("policy", "replay", str(tmp_path / "bad.cedar"))
    assert code == 2
    assert "cannot be read" in err


@pytest.mark.parametrize("time", ["", "7", "d", "-1d", "7 d", "7y", "99999d", "0d"])
def test_a_time_that_is_none_is_usage(vg: Any, narrow: str, time: str) -> None:
    assert vg("policy", "replay", narrow, f"--since={time}")[0] == 2


def test_suggest_prints_a_policy_that_loads(vg: Any, tmp_path: Path) -> None:
    code, out, _ = vg("policy", "suggest", "--since", "4w")
    assert 'principal in Group::"callers"' in out
    assert f'unless {{ principal in [Principal::"{caller_name("dan")}"] }}' in out
    assert "// learned from the first part alone it would have denied 0 of" in out
    assert load([Source("out.cedar", out)]).policies
    assert code in (0, 1)
    path = tmp_path / "s.cedar"
    _, told, _ = vg("policy", "suggest", "--since", "4w", "--out", str(path))
    assert "written to" in told
    assert load([Source("s.cedar", path.read_text())]).policies


def test_suggest_says_where_nothing_was_seen(vg: Any) -> None:
    code, _, err = vg("policy", "suggest", "--since", "1h")
    assert code == 2
    assert "no allowed request was recorded" in err


def test_privilege_lists_the_largest_excess_first(vg: Any) -> None:
    code, out, _ = vg("policy", "privilege", "--since", "4w")
    assert code == 0
    assert out.index("dan") < out.index("ann")
    one = vg("policy", "privilege", "dan", "--since", "4w")[1]
    assert "callers-may-describe" in one
    assert vg("policy", "privilege", "nobody")[0] == 2


def test_history_shows_versions_signatures_and_what_waits(vg: Any) -> None:
    code, out, _ = vg("policy", "history")
    assert code == 0
    assert "waits for a second person" in out
    assert "\x1b" not in out
    assert "version 2" in out
    assert "in force" in out
    assert TEXT.splitlines()[0] in vg("policy", "history", "--show", "1")[1]
    assert vg("policy", "history", "--show", "9")[0] == 2


def test_diff_compares_versions_and_files_and_what_it_means(vg: Any, narrow: str) -> None:
    assert vg("policy", "diff", "1", "2")[0] == 0
    code, out, _ = vg("policy", "diff", "2", narrow, "--since", "4w")
    assert code == 1
    assert "changed permit `callers-may-infer`" in out
    assert "15 would be denied" in out


def test_an_old_version_is_applied_as_a_new_one(vg: Any, api: Served) -> None:
    code, out, _ = vg("policy", "apply", "--version", "1", "--reason", "back", "--yes")
    assert code == 1
    assert "waits for" in out
    assert ("policy-apply", (TEXT, "back")) in api.surface.asked


@pytest.mark.parametrize("words", [("policy", "apply", "--reason", "x"), ("policy", "apply", "f.cedar", "--version", "1", "--reason", "x")])
def test_apply_takes_files_or_a_version(vg: Any, words: tuple[str, ...]) -> None:
    assert vg(*words)[0] == 2


def test_the_things_behind_the_names(exported: Path) -> None:
    assert DIGITS in exported.read_text()

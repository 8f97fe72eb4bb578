"""Figures: what is printed is what is kept, and volatile disks, nulls and sabotages are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.rows import VOLATILE, Row, emit, exit_code, filesystem, line, machine, median_interval

from benchmarks import audit
from vouchgate.storage.opening import open_memory, open_sqlite

ROW = Row(name="a", value=12_345.678, unit="us", goal="< 1", met=False, n=3, interval=(1.0, 2.0), note="2 of 3")


def test_rows_are_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emit("some", [ROW, Row(name="b", value=1.0, unit="s")], folder=tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "name | value | unit | goal | met | n | interval"
    assert printed[1] == line(ROW) == "a | 1.235e+04 | us | < 1 | NO | 3 | 1..2 | 2 of 3"
    kept = [json.loads(text) for text in (tmp_path / "some.jsonl").read_text().splitlines()]
    assert [row["name"] for row in kept] == ["a", "b"]
    assert kept[0]["interval"] == [1.0, 2.0]
    assert kept[0]["benchmark"] == "some"
    assert kept[0]["machine"]["cores"] == machine().cores
    assert kept[0]["measured_at"]


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one name"):
        emit("some", [ROW, ROW], folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missed_goal_fails_the_run_and_a_row_without_one_does_not() -> None:
    assert exit_code([ROW]) == 1
    assert exit_code([Row(name="b", value=1.0, unit="s"), Row(name="c", value=1.0, unit="s", met=True)]) == 0


def test_filesystems_are_named() -> None:
    assert filesystem(Path("/proc/self")) == "proc"
    assert filesystem(Path("/proc/none/such/thing")) == "proc"
    if filesystem(Path("/dev/shm")) != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs here")
    assert filesystem(Path("/dev/shm/x")) in VOLATILE
    assert audit.main(["--dir", "/dev/shm/vg-bench"]) == 2
    assert not Path("/dev/shm/vg-bench").exists()


def test_the_interval_holds_the_median_and_narrows() -> None:
    few, many = [float(at) for at in range(10)], [float(at % 10) for at in range(1_000)]
    low, high = median_interval(few)
    assert low <= 4.5 <= high
    assert median_interval(many)[1] - median_interval(many)[0] < high - low


def test_only_a_synced_store_on_a_disk_is_durable(tmp_path: Path) -> None:
    store = open_sqlite(tmp_path / "s.db", audit.TD)
    if filesystem(tmp_path) not in VOLATILE:
        assert audit.not_durable(store, tmp_path) == []
    assert audit.not_durable(store, Path("/dev/shm")) or filesystem(Path("/dev/shm")) not in VOLATILE
    store.engine._writing.execute("PRAGMA synchronous = NORMAL")  # type: ignore[attr-defined]
    assert "not synced" in audit.not_durable(store, tmp_path)[0]
    store.close()
    assert audit.not_durable(open_memory(audit.TD), tmp_path)


def test_flips_are_found_by_the_verification_and_not_by_the_sabotaged_one() -> None:
    rows = audit.entries(40)
    assert audit.found_row("real", audit.flips_found(audit.honest, rows, 2)).met is True
    blind = audit.flips_found(audit.blind, rows, 2)
    assert audit.found_row("sabotage", blind, sabotaged=True).met is True
    assert audit.found_row("sabotage", audit.FLIPS, sabotaged=True).met is False
    assert audit.found_row("one missed", audit.FLIPS - 1).met is False

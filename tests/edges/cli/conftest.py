"""The command line, run in this process against the in-memory surface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from surface_served import Served

from vouchgate.edges.cli import main as cli


@pytest.fixture
def vg(api: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`vg("status")` gives (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        before = words[: words.index("--")] if "--" in words else words
        code = cli.main([*before, "--socket", str(api.socket), *words[len(before) :]])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run

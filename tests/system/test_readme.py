"""README.md and the demo, as a stranger runs them: every command of the two console blocks, in order, against a running example."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vouchgate.identity.dpop import SKEW_SECONDS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
IDENTITY = (ROOT / "docs/identity.md").read_text(encoding="utf-8")
DENIED = 1
"""Exit code of a command whose answer is no."""
ANSWERS_NO = ("vouchgate why bob", "vouchgate policy suggest", "vouchgate zones prove agents serve")
"""Commands of the page whose answer in a young example without crossings is no, as the page says."""


def _demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples/digits/demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(after: str) -> list[str]:
    """The `vouchgate` and `python` lines of the first console block after a text."""
    block = re.search(r"```console\n(.*?)```", README[README.index(after) :], re.S)
    assert block is not None
    lines = [line.partition("  #")[0].strip() for line in block[1].splitlines()]
    return [line for line in lines if line.startswith(("vouchgate ", "python "))]


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    here = _demo().Installation()
    try:
        here.wait_ready()
        shutil.copy(ROOT / "examples/digits/client.py", here.folder)
        here.ready = time.monotonic()
        yield here
    finally:
        here.end()


def _run(example: Any, line: str, **changes: str) -> subprocess.CompletedProcess[str]:
    for old, new in {"127.0.0.1:8443": example.gateway, **changes}.items():
        line = line.replace(old, new)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(shlex.split(line), cwd=example.folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_commands_that_make_run_is_followed_by(example: Any) -> None:
    lines = commands("In another terminal")
    assert len(lines) >= 6
    for line in lines:
        done = _run(example, line)
        assert done.returncode == (DENIED if line.startswith(ANSWERS_NO) else 0), f"{line}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip()


def test_what_decides_and_proves(example: Any) -> None:
    """After the first calls, as on the page."""
    for name in ("digits.cedar", "digits.vectors.toml"):
        shutil.copy(ROOT / "examples/digits" / name, example.folder)
    lines = commands("## Decide and prove")
    assert len(lines) >= 12
    for line in lines:
        done = _run(example, line)
        assert done.returncode == (DENIED if line.startswith(ANSWERS_NO) else 0), f"{line}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip()


def test_why_answers_as_the_first_screen_shows(example: Any) -> None:
    _run(example, "vouchgate identity issue service serve walter --group callers")
    done = _run(example, "vouchgate why walter infer digits")
    for word in ("who", "what", "because", "evidence", "path", "callers-may-infer", "supervisor", "scanner"):
        assert word in README and word in done.stdout


def test_adopting_a_legacy_server_takes_four_commands(example: Any) -> None:
    page = example.folder / "www"
    page.mkdir()
    (page / "hello.txt").write_text("hello", encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", str(page)], stdout=subprocess.PIPE, text=True
    ) as legacy:
        try:
            assert legacy.stdout is not None
            os.set_blocking(legacy.stdout.fileno(), True)
            port = re.search(r"port (\d+)", legacy.stdout.readline() or "port 0")
            assert port is not None and port[1] != "0"
            for line in commands("Adopt it"):
                done = _run(example, line, **{"127.0.0.1:9000": f"127.0.0.1:{port[1]}"})
                assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        finally:
            legacy.terminate()


def test_the_commands_of_the_page_on_identities(example: Any) -> None:
    """Each block that says `runs` is one shell script, in order, in one folder."""
    blocks = re.findall(r"<!-- runs -->\n```sh\n(.*?)```", IDENTITY, re.S)
    assert len(blocks) >= 6
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    time.sleep(max(0.0, example.ready + SKEW_SECONDS + 1 - time.monotonic()))
    for block in blocks:
        script = block.replace("unix:uid=1000", f"unix:uid={os.getuid()}").replace(
            "localhost:8443", f"localhost:{example.gateway.rpartition(':')[2]}"
        )
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=example.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def test_every_scene_of_the_demo_ends_as_it_should() -> None:
    if os.geteuid() != 0:
        pytest.skip("four scenes need another uid, and so root")
    done = subprocess.run([sys.executable, str(ROOT / "examples/digits/demo.py")], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok ") >= 16

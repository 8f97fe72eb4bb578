"""Other scanners over the same files, each as its documentation says to call it. Runs in an environment of its own (build/scan/peers).

    python scan_peers.py NAME FILES-LIST > VERDICTS

One line a file: true (flagged), false (not flagged) or null (it failed, or took over `SECONDS`). A folder is flagged if any of its files is.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import NoReturn

SECONDS = 20
TOTAL_SECONDS = 600
"""For all files; what a peer did not get to by then is null."""


def picklescan(path: Path) -> bool:
    from picklescan.scanner import scan_directory_path, scan_file_path

    found = scan_directory_path(path) if path.is_dir() else scan_file_path(path)
    return bool(found.issues_count or found.scan_err)


def modelscan(path: Path) -> bool:
    from modelscan.modelscan import ModelScan

    found = ModelScan().scan(path)
    return bool(found["summary"]["total_issues"] or found["errors"])


def fickling(path: Path) -> bool:
    from fickling.analysis import Severity, check_safety
    from fickling.fickle import Pickled, StackedPickle

    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    flagged = False
    for file in files:
        with file.open("rb") as stream:
            try:
                stack = StackedPickle.load(stream, fail_on_decode_error=False)
            except Exception:
                continue
        flagged |= any(isinstance(one, Pickled) and check_safety(one).severity > Severity.LIKELY_SAFE for one in stack)
    return flagged


def hayward(path: Path) -> bool:
    from hayward.cli import main

    with redirect_stdout(io.StringIO()):
        return main(["scan", str(path)]) != 0


PEERS: dict[str, Callable[[Path], bool]] = {"picklescan": picklescan, "modelscan": modelscan, "fickling": fickling, "hayward": hayward}


def verdict(peer: Callable[[Path], bool], path: Path) -> bool | None:
    """Its word, from a child of its own: a peer that loops in compiled code is ended too."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _speak(peer, path, write)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], SECONDS)
        said = os.read(read, 1) if ready else b""
        if not ready:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(read)
        os.waitpid(child, 0)
    return {b"1": True, b"0": False}.get(said)


def _speak(peer: Callable[[Path], bool], path: Path, write: int) -> NoReturn:
    try:
        os.write(write, b"1" if peer(path) else b"0")
    except BaseException as error:
        print(f"{path}: {type(error).__name__}: {error}"[:300], file=sys.stderr)
    finally:
        os._exit(0)


def main() -> None:
    peer = PEERS[sys.argv[1]]
    out, sys.stdout = sys.stdout, sys.stderr
    with contextlib.suppress(BaseException):
        peer(Path(__file__))  # its imports, once for every child
    ends = time.monotonic() + TOTAL_SECONDS
    for line in Path(sys.argv[2]).read_text().splitlines():
        said = verdict(peer, Path(line)) if time.monotonic() < ends else None
        out.write(json.dumps(said) + "\n")
        out.flush()


if __name__ == "__main__":
    main()

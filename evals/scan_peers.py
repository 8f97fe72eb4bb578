"""Other scanners over the same files, each as its documentation says to call it. Runs in an environment of its own (build/scan/peers).

    python scan_peers.py NAME FILES-LIST > VERDICTS

One line a file: true (flagged), false (not flagged) or null (it failed, or took over `SECONDS`). A folder is flagged if any of its files is.
"""

from __future__ import annotations

import io
import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

SECONDS = 20
TOTAL_SECONDS = 300
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


class Late(BaseException):
    """No `Exception`, which a scanner would catch and go on."""


def _late(*_: object) -> None:
    raise Late


def main() -> None:
    peer = PEERS[sys.argv[1]]
    signal.signal(signal.SIGALRM, _late)
    out = sys.stdout
    sys.stdout = sys.stderr
    ends = time.monotonic() + TOTAL_SECONDS
    for line in Path(sys.argv[2]).read_text().splitlines():
        if time.monotonic() > ends:
            out.write("null\n")
            continue
        signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)
        try:
            said: bool | None = peer(Path(line))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            said = None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        out.write(json.dumps(said) + "\n")
        out.flush()


if __name__ == "__main__":
    main()

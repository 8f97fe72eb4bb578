"""`make_reachable`: another uid reaches what is wanted and nothing else, and what is written to kept folders stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vouchgate.ports.isolate import MAX_ENTRIES, closed_ancestors, make_reachable
from vouchgate.vocabulary.errors import Unsupported

NOBODY = 58_999
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has other uids and mount namespaces")
PROGRAM = """
import os, sys
from pathlib import Path
from vouchgate.ports.isolate import make_reachable
home = Path(sys.argv[1])
make_reachable([Path(one) for one in sys.argv[2].split(",") if one], kept=[Path(one) for one in sys.argv[3].split(",") if one])
for text in sys.argv[4].split(","):
    who, path = text.split(":")
    child = os.fork()
    if not child:
        if who == "other":
            os.setgroups([]); os.setgid({uid}); os.setuid({uid})
        try:
            Path(path).write_text("new") if who == "write" else Path(path).stat() if Path(path).is_dir() else Path(path).read_text()
        except OSError:
            os._exit(1)
        os._exit(0)
    print(text, "no" if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) else "yes")
""".replace("{uid}", str(NOBODY))


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vg", dir="/tmp") as folder:
        made = Path(folder) / "home"
        for name, mode in {"": 0o700, "data": 0o711, "root": 0o700, "private": 0o700, "private/models": 0o755}.items():
            (made / name).mkdir()
            (made / name).chmod(mode)
        for name in ("secret", "server.py", "data/file", "root/key", "private/models/m", "private/diary"):
            (made / name).write_text("x")
            (made / name).chmod(0o644)
        (made / "link").symlink_to("server.py")
        yield made


def asked(home: Path, wanted: list[str], kept: list[str], *questions: str) -> dict[str, bool]:
    names = [",".join(str(home / one) for one in group) for group in (wanted, kept)]
    asks = ",".join(f"{who}:{home / path}" for who, path in (one.split(":") for one in questions))
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(home), *names, asks], capture_output=True, text=True, check=True, cwd="/")
    lines = [line.rpartition(" ") for line in done.stdout.splitlines()]
    return {question: verdict == "yes" for question, (_, _, verdict) in zip(questions, lines, strict=True)}


def test_a_closed_home_shows_another_uid_what_is_wanted_and_nothing_else(home: Path) -> None:
    found = asked(home, ["data"], [], "other:data/file", "other:secret", "own:secret", "other:server.py")
    assert found == {"other:data/file": True, "other:secret": False, "own:secret": False, "other:server.py": False}


def test_a_wanted_folder_that_is_closed_itself_stands_for_what_it_holds(home: Path) -> None:
    found = asked(home, ["", "data"], ["root"], "other:server.py", "other:link", "other:data/file", "other:root/key", "other:private/diary")
    assert found["other:server.py"] and found["other:link"] and found["other:data/file"]
    assert not found["other:root/key"] and not found["other:private/diary"]


def test_a_wanted_folder_behind_two_closed_ones_is_reached_alone(home: Path) -> None:
    found = asked(home, ["", "private/models"], [], "other:private/models/m", "other:private/diary", "other:server.py")
    assert found == {"other:private/models/m": True, "other:private/diary": False, "other:server.py": True}


def test_what_is_written_to_a_kept_folder_outlives_the_namespace_and_other_writes_are_refused(home: Path) -> None:
    assert asked(home, ["data"], ["root"], "write:root/new", "write:stray") == {"write:root/new": True, "write:stray": False}
    assert (home / "root" / "new").read_text() == "new"
    assert not (home / "stray").exists()


def test_nothing_changes_outside(home: Path) -> None:
    asked(home, ["", "data"], ["root"], "own:data/file")
    assert (home / "secret").read_text() == "x"
    assert str(home) not in Path("/proc/self/mounts").read_text()


def test_open_folders_need_no_namespace() -> None:
    assert closed_ancestors([Path("/usr/bin")]) == []
    assert make_reachable([Path("/usr/bin")]) == []


def test_too_many_entries_are_refused_with_a_remedy(home: Path) -> None:
    for number in range(MAX_ENTRIES + 1):
        (home / f"n{number}").touch()
    with pytest.raises(Unsupported, match="closed to other users") as refused:
        make_reachable([home])
    assert "chmod" in refused.value.remedy

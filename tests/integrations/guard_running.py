"""Programs under the guard, each in a process of its own, for the tests of the libraries."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from guard_control import Control

HEAD = """
import os, sys, hashlib, io
from pathlib import Path
import vouchgate.integrations.guard as guard
from vouchgate.integrations.guard_asking import LoadRefused
guard.install()
good, evil = sys.argv[1:3]

def refused(call, *says):
    try:
        call()
    except LoadRefused as error:
        for one in ("missing `scan`", "vouchgate import", *says):
            assert one in str(error), str(error)
        return
    raise AssertionError("it was loaded")

def descriptors():
    return len(os.listdir("/proc/self/fd"))
"""


def digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def needs(*libraries: str) -> None:
    for one in libraries:
        if importlib.util.find_spec(one) is None:
            pytest.skip(f"`{one}` is not installed here")


def make(script: str, *arguments: object, python: str = sys.executable) -> None:
    """Files of a library, made by the library."""
    subprocess.run([python, "-c", textwrap.dedent(script), *map(str, arguments)], check=True, timeout=300)


def guarded(control: Control, script: str, *arguments: object, head: str = HEAD, python: str = sys.executable, **environment: str) -> str:
    """Run it guarded; what it printed. Another interpreter has vouchgate itself."""
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} if python == sys.executable else {}
    done = subprocess.run(
        [python, "-c", head + textwrap.dedent(script), *map(str, arguments)],
        env={
            **os.environ,
            "VOUCHGATE_GUARD_SOCKET": str(control.path),
            **paths,
            **environment,
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tree(folder: Path) -> str:
    from vouchgate.vocabulary.digests import file_digest, tree_digest

    files = [path for path in folder.rglob("*") if path.is_file()]
    return tree_digest((bytes(path.relative_to(folder)), file_digest(path.read_bytes())) for path in files).text

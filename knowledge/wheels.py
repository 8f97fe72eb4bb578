"""Wheels: pinned by hash, fetched by hash, read as zips. Nothing of them is installed, imported or run.

Rules
1. A wheel whose bytes are not the pinned ones is an error, wherever it came from.
2. Only `.py` members are unpacked, one at a time, each within `MAX_SOURCE_BYTES`; of native modules only the name is kept.
3. Tests, examples and modules that rules.toml leaves out are not read: what is not read is not known.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from knowledge.places import CACHE, PINS
from knowledge.source import MAX_SOURCE_BYTES, summarise
from knowledge.summary import Module
from knowledge.summary import Wheel as Read
from vouchgate.scanning.knowledge.parts import Wheel

_SKIPPED = re.compile(r"(?:^|\.)(?:tests?|conftest|_?testing|benchmarks?|examples?|setup|docs?)(?:\.|$)")
_NATIVE = re.compile(r"(\.cpython-\d+[^.]*|\.abi3|\.cp\d+-[^.]*|\.pypy\d+[^.]*)?\.(so|pyd|dylib)\Z")
_READER = ("summary.py", "source.py", "picking.py", "wheels.py")


class Wrong(ValueError):
    """A pin that does not hold."""


def pins() -> list[Wheel]:
    """What is pinned, in the file's order: for each distribution oldest first."""
    if not PINS.exists():
        return []
    return [Wheel(**row) for row in tomllib.loads(PINS.read_text())["wheel"]]


def fetch(wheel: Wheel) -> Path:
    """The wheel's file, downloaded if it is not there; its hash is checked every time it is read (rule 1)."""
    path = CACHE / "wheels" / wheel.file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _, _, python, abi, platforms = wheel.file.removesuffix(".whl").split("-")[-5:]
        given = [word for platform in platforms.split(".") for word in ("--platform", platform)]
        version = re.search(r"3(\d+)", python)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--ignore-requires-python",
            "--dest",
            str(path.parent),
            *given,
        ]
        command += ["--python-version", f"3.{version[1]}" if version else "3.11", "--implementation", "cp"]
        command += [word for tag in {abi, "abi3", "none"} for word in ("--abi", tag)]
        subprocess.run([*command, f"{wheel.distribution}=={wheel.version}"], check=True)
    if hashlib.sha256(path.read_bytes()).hexdigest() != wheel.sha256:
        raise Wrong(f"{wheel.file} is not the pinned one")
    return path


def read(wheel: Wheel, left_out: re.Pattern[str]) -> Read:
    """What the wheel holds, from the cache where this reader read it before."""
    cached = CACHE / "read" / f"{wheel.sha256[:24]}-{_reader_digest(left_out)}.msgpack"
    if cached.exists():
        return msgspec.msgpack.decode(cached.read_bytes(), type=Read)
    found = _read(fetch(wheel), left_out)
    cached.parent.mkdir(parents=True, exist_ok=True)
    part = cached.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(msgspec.msgpack.encode(found))
    part.rename(cached)
    return found


def _read(path: Path, left_out: re.Pattern[str]) -> Read:
    modules: dict[str, Module] = {}
    natives: list[str] = []
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            native = _NATIVE.search(info.filename)
            if native:
                natives.append(info.filename[: native.start()].replace("/", "."))
                continue
            name, package = module_of(info.filename)
            if not name or info.file_size > MAX_SOURCE_BYTES or _SKIPPED.search(name) or left_out.match(name):
                continue
            summary = summarise(archive.read(info), name, package=package)
            if summary is not None:
                modules[name] = summary
    return Read(modules=modules, natives=tuple(sorted(natives)))


def module_of(filename: str) -> tuple[str, bool]:
    """The module that a member is, and whether it is a package; no name for what is none."""
    path = PurePosixPath(filename)
    parts = list(path.parts)
    if path.suffix != ".py" or parts[0].endswith((".data", ".dist-info")):
        return "", False
    parts[-1] = path.stem
    package = parts[-1] == "__init__"
    parts = parts[:-1] if package else parts
    return (".".join(parts), package) if parts and all(part.isidentifier() for part in parts) else ("", False)


def _reader_digest(left_out: re.Pattern[str]) -> str:
    digest = hashlib.sha256(left_out.pattern.encode())
    for name in _READER:
        digest.update(meaning(Path(__file__).parent / name))
    return digest.hexdigest()[:12]


def meaning(path: Path) -> bytes:
    """A source file without its layout and comments: what a cache may depend on."""
    return ast.dump(ast.parse(path.read_bytes())).encode()


def pin(folder: Path) -> Iterator[Wheel]:
    """Rows for every wheel in a folder."""
    for path in sorted(folder.glob("*.whl")):
        distribution, version = path.name.split("-")[:2]
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        yield Wheel(distribution=distribution.lower().replace("_", "-"), version=version, file=path.name, sha256=sha256)

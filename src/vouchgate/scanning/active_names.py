"""Members whose name alone makes a program run them: content that reads as harmless is then harmless only where nothing unpacks it.

A name only ever tightens a verdict. It never says what content is, and no member is let through for its name.

Rules
1. Python runs `*.py`, imports `*.pyc` and native modules, and runs the lines of a `*.pth` path file at its start; shells, other interpreters and
   systems run what is listed. Content that is read as data under such a name is put up for review; native and compiled code is never data.
2. A `*.pth` that is text is refused: PyTorch's files of that name are not text.
"""

from __future__ import annotations

from vouchgate.scanning.verdict import Reason

_DATA = frozenset({"text", "csv", "json", "yaml", "xml", "empty", "notebook"})
"""What is read as data."""
_RUN = frozenset({
    "py", "pyw", "pyi", "pyx", "pyc", "pyo", "pyd", "so", "dll", "dylib", "exe", "com", "scr", "msi", "sh", "bash", "zsh", "ksh", "csh", "fish", "command",
    "bat", "cmd", "ps1", "psm1", "vbs", "vbe", "js", "mjs", "cjs", "jse", "wsf", "hta", "lnk", "desktop", "jar", "rb", "pl", "lua", "php", "r", "jl",
    "reg", "scpt", "applescript", "service",
})  # fmt: skip
_RUN_NAMES = frozenset({
    "makefile", "dockerfile", "jenkinsfile", ".bashrc", ".bash_profile", ".profile", ".zshrc", ".vimrc", ".envrc", ".pre-commit-config.yaml",
    "conftest", "setup.cfg", "pyproject.toml", "tox.ini", "package.json", ".npmrc", "pip.conf", "pip.ini",
})  # fmt: skip
_REMEDY = "read it, take it out of the archive, or have a person accept it"


def tightened(name: str, kind: str) -> Reason | None:
    """What speaks against a member of this name that was read as `kind`; None if its name adds nothing."""
    last = name.rpartition("/")[2].lower().rstrip(". ")
    extension = last.rpartition(".")[2] if "." in last else ""
    if extension == "pth" and (kind in _DATA or kind == "python-source"):
        return Reason(
            rule="names:path-file",
            where="its name",
            why="it is a text named `*.pth`: Python runs such a file's lines at its next start, if it is unpacked where packages lie",
            remedy="rename it, or take it out of the archive",
        )
    if kind in _DATA and (extension in _RUN or last in _RUN_NAMES) and not (kind == "empty" and last == "__init__.py"):
        return Reason(
            rule="names:runs",
            where="its name",
            why="programs run a file of this name, whatever its content looks like",
            remedy=_REMEDY,
            weight="review",
        )
    return None

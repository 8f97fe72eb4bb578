"""Takes a notebook cell apart into Python and what IPython does besides: shell escapes, magics, help.

Rules (IPython's input transformation, `IPython/core/inputtransformer2.py`)
1. A cell whose first line begins with `%%` is that magic's as a whole; a few magics run the rest as Python.
2. Elsewhere `!`, `%`, `?` and `a = !x` count only at the beginning of a logical line: never inside a string, bracket or continued line. The
   tokens of the lines before decide, as in IPython; were a line of a string taken for a magic, what is code and what is string would shift.
3. A magic's line becomes `pass`, so that the rest can be parsed; what it does is judged by word: a list of magics that only show or time, and
   of programs that only print. Everything else acts.
"""

from __future__ import annotations

import io
import tokenize
from dataclasses import dataclass

from vouchgate.scanning.python_code import Found, Unparsable, parse
from vouchgate.scanning.python_names import SETTABLE, words
from vouchgate.scanning.verdict import Weight

MAX_READ_AGAIN = 8 * 1024**2
"""Characters of a cell that are read again, all its magics together: each has the lines before it looked at for open strings."""
MAX_CELL = 256 * 1024
"""Characters of one cell."""
_SHOWING = words(
    """matplotlib pylab time timeit capture autoreload precision who whos who_ls pwd hist history lsmagic quickref pinfo pdoc psource cd
    tensorboard reset reset_selective config doctest_mode colors xmode latex markdown memit"""
)
"""Magics that show, time or set up display."""
_PYTHON_CELLS = frozenset(("time", "timeit", "capture", "prun", "memit"))
"""Cell magics whose body is Python."""
_TEXT_CELLS = frozenset(("markdown", "latex"))
_EXTENSIONS = frozenset(
    ("autoreload", "tensorboard", "memory_profiler", "line_profiler", "watermark", "google.colab.data_table", "nb_black", "lab_black")
)
_PRINTING = words("ls pwd nvidia-smi lscpu free df date whoami uname nproc wc head tail du tree cat")
"""Programs that only print what is there."""
_STEERING = frozenset("|;&<>$`{}\\\n(")


@dataclass(frozen=True)
class Cell:
    """A cell taken apart."""

    python: str
    found: tuple[Found, ...]
    """What its escapes do; lines counted from 1."""
    markup: str = ""
    """The page of an `%%html` or `%%svg` cell."""


def take_apart(source: str) -> Cell:
    """Raises `Unparsable` for a cell over the bounds."""
    if len(source) > MAX_CELL:
        raise Unparsable(f"it is over {MAX_CELL} characters")
    lines = source.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if lines[first].startswith("%%"):
        return _whole(lines, first)
    return _lines(source, lines)


def _whole(lines: list[str], first: int) -> Cell:
    """Rule 1."""
    name, _, arguments = lines[first][2:].strip().partition(" ")
    body = "\n" * (first + 1) + "\n".join(lines[first + 1 :])
    if name in _PYTHON_CELLS:
        inner = _lines(body, body.split("\n"))
        stated = _statement(arguments) if name in ("time", "timeit", "prun", "memit") else ""
        return Cell(f"{stated}{inner.python}" if not stated else f"{stated}\n{inner.python}", inner.found)
    if name in _TEXT_CELLS:
        return Cell("", ())
    if name in ("html", "HTML", "svg", "SVG"):
        return Cell("", (), markup=body)
    return Cell("", (Found(first + 1, "magic", f"the magic `%%{_shown(name)}` runs or writes what stands in the cell", "refused"),))


def _lines(source: str, lines: list[str]) -> Cell:
    """Rules 2 and 3."""
    if not any(_may_escape(line) for line in lines):
        return Cell(source, ())
    try:
        parse(source)
    except Unparsable:
        pass
    else:
        return Cell(source, ())  # all of it is Python as it stands, so IPython changes nothing
    made: list[str] = []
    found: list[Found] = []
    number = again = 0
    while number < len(lines):
        line = lines[number]
        before = "\n".join(made) if _may_escape(line) else ""
        again += len(before)
        if again > MAX_READ_AGAIN:
            raise Unparsable("too many of its lines are magics")
        if _may_escape(line) and not _inside(before):
            last = number
            while lines[last].endswith("\\") and last + 1 < len(lines):
                last += 1
            whole = " ".join(one.removesuffix("\\").strip() for one in lines[number : last + 1])
            indent = line[: len(line) - len(line.lstrip())]
            python, what = _escape(whole, number + 1)
            found.extend(what)
            made.append(indent + python)
            made.extend("" for _ in range(last - number))
            number = last + 1
            continue
        made.append(line)
        number += 1
    return Cell("\n".join(made), tuple(found))


def _may_escape(line: str) -> bool:
    text = line.strip()
    return (
        text[:1] in ("!", "%", "?", ",", ";", "/") or text.endswith("?") or "= !" in text or "=!" in text or "= %" in text or "=%" in text
    )


def _inside(before: str) -> bool:
    """Whether the lines before leave a string, a bracket or a continued line open."""
    if before.endswith("\\"):
        return True
    try:
        for _ in tokenize.generate_tokens(io.StringIO(before + "\n").readline):
            pass
    except tokenize.TokenError:
        return True
    except (IndentationError, SyntaxError):
        return False
    return False


def _escape(line: str, number: int) -> tuple[str, list[Found]]:
    """The Python that stands for the line, and what it does."""
    if line.startswith("!"):
        return "pass", _shell(line.lstrip("!"), number)
    if line.startswith("%"):
        return _magic(line.lstrip("%"), number)
    if line.startswith("?") or _helped(line):
        return "pass", []
    target, _, right = line.partition("=")
    right = right.strip()
    if right[:1] == "!" and target.replace(",", " ").replace("_", "a").replace(" ", "").isalnum():
        return f"{target}= None", _shell(right.lstrip("!"), number)
    if right[:1] == "%" and target.replace(",", " ").replace("_", "a").replace(" ", "").isalnum():
        return f"{target}= None", _magic(right.lstrip("%"), number)[1]
    if line[:1] in ",;/":
        return "pass", [Found(number, "magic", "the line is called as a function by IPython", "refused")]
    return line, []


def _helped(line: str) -> bool:
    """`name?` or `a.b??`, and nothing else on the line: a remark that ends in `?` takes no code with it."""
    name = line.removesuffix("?").removesuffix("?").replace(".", "_").replace("*", "_")
    return line.endswith("?") and name.isidentifier()


def _shell(command: str, number: int) -> list[Found]:
    words = command.split()
    if not words:
        return []
    if words[0] in ("pip", "pip3") or words[:3] == ["python", "-m", "pip"]:
        return _pip(words[1:] if words[0] != "python" else words[3:], number)
    plain = not set(command) & _STEERING and all(
        not word.startswith(("/etc", "/root", "/home", "~", "/proc")) and ".." not in word for word in words
    )
    if words[0] in _PRINTING and plain:
        return []
    return [Found(number, "shell", f"it runs the program `{_shown(command)}`", "refused")]


def _pip(words: list[str], number: int) -> list[Found]:
    """Packages by name come from the index that the reader has set: a person looks; from anywhere else it is a download of code."""
    if words[:1] in (["list"], ["show"], ["freeze"], ["--version"], ["check"]):
        return []
    plain = all(
        word in ("-q", "-qq", "-qqq", "-U", "--upgrade", "--quiet", "--user", "--no-cache-dir") or word[:1].isalnum() for word in words[1:]
    )
    named = (
        words[:1] == ["install"] and plain and not any("/" in word or ":" in word or set(word) & _STEERING - {">", "<"} for word in words)
    )
    weight: Weight = "review" if named else "refused"
    return [Found(number, "installs", f"it installs packages (`pip {_shown(' '.join(words))}`), whose code runs", weight)]


def _magic(text: str, number: int) -> tuple[str, list[Found]]:
    name, _, arguments = text.strip().partition(" ")
    if name in ("time", "timeit", "prun", "memit"):
        return _statement(arguments) or "pass", []
    if name == "pip":
        return "pass", _pip(arguments.split(), number)
    if name in ("load_ext", "reload_ext"):
        known = arguments.strip() in _EXTENSIONS
        return "pass", [] if known else [Found(number, "magic", f"it loads the extension `{_shown(arguments)}`", "review")]
    if name == "ls":
        return "pass", _shell(f"{name} {arguments}", number)
    if name in ("env", "set_env") and arguments.replace("=", " ").split()[:1][:1] and arguments.replace("=", " ").split()[0] in SETTABLE:
        return "pass", []
    if name in _SHOWING:
        return "pass", []
    return "pass", [Found(number, "magic", f"the magic `%{_shown(name)}` runs code or other programs", "refused")]


def _statement(arguments: str) -> str:
    """The Python behind `%time` and `%timeit`, options left out."""
    words = arguments.split()
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in ("-n", "-r", "-t", "-p", "-s", "-l", "-T", "-D") and words:
            words.pop(0)
    return " ".join(words)


def _shown(text: str) -> str:
    return text[:100].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'").replace("\n", "\\n")

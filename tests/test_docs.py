"""The documentation is true: generated pages are fresh, links and paths lead somewhere, commands and targets exist."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vouchgate.edges.cli.arguments import Parser, Usage, common
from vouchgate.edges.cli.main import DAILY, NOUNS, OTHER

ROOT = Path(__file__).parents[1]
GENERATE = ROOT / "docs" / "generate.py"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(?:\$ |# )?(vouchgate(?: .*)?)$")
SHELL = {"", "console", "sh", "shell", "bash"}
PLACEHOLDER = re.compile(r"[<>…]|\.\.\.|\b[A-Z][A-Z_]+\b")
"""Words that stand for what a person puts there."""


def fenced(page: Path) -> Iterator[str]:
    for language, block in FENCE.findall(page.read_text("utf-8")):
        if language in SHELL:
            yield from block.replace("\\\n", " ").splitlines()


def inline(page: Path) -> list[str]:
    return INLINE.findall(FENCE.sub("", page.read_text("utf-8")))


def shell_words(line: str) -> list[str]:
    """The words of the first command of a line."""
    words: list[str] = []
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    for word in lexer:
        if set(word) <= set("|&;<>"):
            break
        words.append(word)
    return words


def parser_of(words: list[str]) -> tuple[Parser | None, list[str]]:
    """The parser of the command that the words begin with, and the words after it; none for help. Raises `AssertionError`."""
    if not words or words[0] in {"--help", "--version", "help"}:
        return None, []
    count = 2 if words[0] in NOUNS else 1
    name = " ".join(words[:count])
    if words[0] in NOUNS:
        if len(words) == 1 or words[1] == "--help":
            return None, []
        assert words[1] in NOUNS[words[0]], f"there is no `vouchgate {name}`"
    else:
        assert name in DAILY or name in OTHER, f"there is no `vouchgate {name}`"
    file = {"import": "import_artifact"}.get(name, name.replace(" ", "_").replace("-", "_"))
    module = importlib.import_module(f"vouchgate.edges.cli.commands.{file}")
    parser = Parser(prog=f"vouchgate {name}")
    module.arguments(parser)
    common(parser)
    return parser, words[count:]


def parse(words: list[str]) -> argparse.Namespace | None:
    """The command line as the program parses it, nothing run. Raises `Usage`, `AssertionError`."""
    parser, rest = parser_of(words)
    return parser.parse_args(rest) if parser and "--help" not in rest else None


def test_the_generated_pages_are_fresh():
    told = subprocess.run([sys.executable, str(GENERATE), "--check"], capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", GENERATE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("change", ["another line\n", None], ids=["changed", "missing"])
def test_a_stale_page_is_found(tmp_path, monkeypatch, capsys, change):
    made = generator()
    monkeypatch.setattr(made, "DOCS", tmp_path)
    assert made.main([]) == 0 and made.main(["--check"]) == 0
    page = tmp_path / "catalog.md"
    if change is None:
        page.unlink()
    else:
        page.write_text(page.read_text("utf-8") + change, "utf-8")
    assert made.main(["--check"]) == 1
    told = capsys.readouterr().out
    assert "docs/catalog.md" in told and "make docs" in told


def test_an_argument_that_the_generator_does_not_know_is_refused(tmp_path, monkeypatch):
    made = generator()
    monkeypatch.setattr(made, "DOCS", tmp_path)
    assert made.main(["--chekc"]) == 2 and not list(tmp_path.iterdir())


@every_page
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text("utf-8"))
    broken = []
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        aim = (page.parent / target).resolve() if target else page
        if not aim.exists() or (anchor and aim.suffix == ".md" and anchor not in anchors(aim)) or ROOT not in (aim, *aim.parents):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@every_page
def test_files_that_are_named_exist(page):
    """A path in backticks that ends like a file of this repository; it may count from the repository, the package or the page."""
    named = {span for span in inline(page) if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)+\.(?:py|md|lua|cedar)", span)}
    bases = (ROOT, ROOT / "src" / "vouchgate", page.parent)
    assert {one for one in named if not any((base / one).exists() for base in bases)} == set()


@every_page
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"run", "test", "check"} <= targets
    said = "\n".join([*fenced(page), *inline(page)])
    assert set(re.findall(r"(?:^|&& |; )(?:\$ )?make ([a-z][a-z-]*)", said, re.MULTILINE)) - targets == set()


@every_page
def test_commands_in_blocks_parse(page):
    for line in fenced(page):
        found = COMMAND.match(line.strip())
        if not found:
            continue
        try:
            parse(shell_words(found[1])[1:])
        except Usage as error:
            pytest.fail(f"`{line.strip()}`: {error.reason}")


def test_the_first_page_shows_commands():
    shown = [line for line in fenced(ROOT / "README.md") if COMMAND.match(line.strip())]
    assert len(shown) >= 4


@every_page
def test_commands_in_the_text_exist(page):
    """Without placeholders the whole line parses; with them the command is at least there."""
    for span in inline(page):
        if span.startswith("vouchgate "):
            known(span)


def known(span: str) -> None:
    try:
        parse(shell_words(span)[1:])
    except Usage as error:
        # A command is often named without its arguments.
        assert "are required" in error.reason or PLACEHOLDER.search(span), f"{span}: {error.reason}"


SOURCES = sorted(path for kind in ("*.py", "*.js", "*.html", "*.toml") for path in (ROOT / "src").rglob(kind))


def test_commands_that_the_program_itself_names_exist():
    """A remedy that names a command which is not there helps nobody."""
    wrong = []
    for path in SOURCES:
        for span in re.findall(r"`(vouchgate [a-z][^`\n]*)`", path.read_text("utf-8").replace("\\`", "`")):
            words = [word.strip(",;") for word in span.split()[1:]]
            try:
                parser, rest = parser_of(words[:1] if len(words) > 1 and not words[1][0].isalpha() and words[0] in NOUNS else words)
            except AssertionError as error:
                wrong.append(f"{path.relative_to(ROOT)}: {error}")
                continue
            options = {option for action in parser._actions for option in action.option_strings} if parser else set()
            unknown = [word for word in rest if word.startswith("--") and word != "--" and word.split("=")[0] not in options]
            wrong += [f"{path.relative_to(ROOT)}: `{span}` has no {word}" for word in unknown]
    assert wrong == []


@pytest.mark.parametrize(
    "line", ["vouchgate revok x", "vouchgate audit verfy", "vouchgate status --jsn", "vouchgate wrap", "vouchgate adopt serve --enforc"]
)
def test_a_command_that_is_wrong_is_found(line):
    with pytest.raises((Usage, AssertionError)):
        parse(shell_words(line)[1:])


@pytest.mark.parametrize(("line", "words"), [
    ("vouchgate audit show --json | head -3", ["vouchgate", "audit", "show", "--json"]),
    ("vouchgate status   # what waits", ["vouchgate", "status"]),
    ("vouchgate backup f.tar && ls", ["vouchgate", "backup", "f.tar"]),
    ('vouchgate revoke x --reason "laptop lost; gone"', ["vouchgate", "revoke", "x", "--reason", "laptop lost; gone"]),
])  # fmt: skip
def test_the_words_of_a_line(line, words):
    assert shell_words(line) == words

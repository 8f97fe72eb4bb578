"""The console's files as they lie in the wheel: nothing from elsewhere, nothing that parses text as markup, nothing missing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vouchgate.edges.console import assets

FILES = sorted(path for path in assets.FOLDER.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
PAGES = [path for path in FILES if path.suffix == ".html"]
MAX_BYTES = 96 * 1024
"""All files together: the first page stays instant over a slow tunnel."""


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_every_file_is_served_and_all_are_small() -> None:
    assert {path.suffix for path in FILES} <= set(assets.MEDIA_TYPES)
    assert sum(path.stat().st_size for path in FILES) < MAX_BYTES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]{2,}/|@import|url\(", text)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_parses_text_as_markup_or_code(path: Path) -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|createContextualFragment|setHTML|srcdoc|setTimeout\(\s*[\"'`]"
    assert not re.search(forbidden, path.read_text())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_hold_no_inline_script_or_style(path: Path) -> None:
    for tag, attributes in Tags(path.read_text()).found:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "script":
            assert attributes["src"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_everything_a_page_names_is_there_and_labelled(path: Path) -> None:
    found = Tags(path.read_text()).found
    names = {file.name for file in FILES}
    ids = [attributes["id"] for _, attributes in found if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in found:
        for reference in (attributes.get("src"), attributes.get("href") if tag == "link" else None):
            if reference:
                assert reference.removeprefix("/assets/") in names
        for name in ("aria-labelledby", "for"):
            if attributes.get(name):
                assert attributes[name] in ids
        if tag == "img":
            assert "alt" in attributes
        if tag == "input":
            assert attributes.get("aria-label") or attributes["id"] in [other.get("for") for _, other in found]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_import_and_element_is_there(path: Path) -> None:
    text = path.read_text()
    names = {file.name for file in FILES}
    for imported in re.findall(r'from "\./([^"]+)"|^import "\./([^"]+)"', text, re.MULTILINE):
        assert (imported[0] or imported[1]) in names
    pages = "".join(page.read_text() for page in PAGES) + "".join(script.read_text() for script in SCRIPTS)
    for element in re.findall(r'\bat\("([^"]+)"\)', text):
        assert f'id="{element}"' in pages or f'id: "{element}"' in pages

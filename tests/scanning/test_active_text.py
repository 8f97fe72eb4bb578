"""Text that would act: what a quick look may never pass over, in letters that fold to others, at ends, and in pieces."""

from __future__ import annotations

import random

import pytest

from vouchgate.scanning import active_text
from vouchgate.scanning.active_text import first_active

ACTS = (
    "<script", "<SCRIPT>", "</script", "<ScRiPt\n", "a<b<script<c", "<iframe/", "<img onload=x", "<a\tONERROR =x>", "<a 'onclick=x", '<p "x"onclick=x',
    "<p x='>' onclick=x", "javascript:a()", "JaVaScRiPt:a(1)", "java\nscript:a()", "java\0script:a()", "j&#97;vascript:a()", "javascript&colon;a()",
    "vb\u017fcript:a()", "livescript:[", "{{ a() }}", "${jndi:x}", "<% import x %>", "{{ x.__class__ }}",
)  # fmt: skip
MIGHT = (
    "<META x", "</body>", "<!--", "<?xml", "a<link<b", "{{ a }}", "javascript:a", "vb\u017fcript:x", "DATA:text/html,x", "data:image/svg+xml",
    "x.__init__", "__import__(", "eval(", "\x07", "\u202e",
)  # fmt: skip
PLAIN = (
    "", "a < b", "<p>text</p>", "<lora:x:1>", "scripted: no", "<scripts>", "<bodyguard", "transcript: a", "metadata: text", "an evaluation (of it)",
    "${model.width}", "one on one = two", "postscript:", "__all__",
)  # fmt: skip


@pytest.mark.parametrize("text", ACTS)
def test_what_acts_is_refused_wherever_it_stands(text: str) -> None:
    for whole in (text, f"some words {text}", f"{text} more", "<" * 20 + text, "&" + text):
        found = first_active({"key": whole})
        assert found is not None, whole
        assert found.weight == "refused", whole
    key = first_active({text: "value"})
    assert key is not None


@pytest.mark.parametrize("text", MIGHT)
def test_what_might_act_waits_for_a_person(text: str) -> None:
    found = first_active({"key": text})
    assert found is not None
    assert found.weight == "review"


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_plain_is_plain(text: str) -> None:
    assert first_active({"key": text}) is None


def test_a_quick_look_finds_all_that_a_slow_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks at the whole text only ever spare work."""

    class Anything:
        def search(self, text: str) -> str:
            return text

    drawn = random.Random(11)
    parts = [
        "<", "</", ">", "script", "ScRipt", "META", "body", "!", "?", "/", " ", "\n", "\0", '"', "'", "on", "onload", "ONLOAD", "=", "java",
        "javascript:", "vb\u017fcript:", "scr\tipt:", "&#106;", "&colon;", "data:", "text/html", "\u017f", "\u212a", "\u0130", "a", "x(", "{{",
        "}}", "${", "}", "__", "eval(", ".__a__", "\u202e", "(", "[", "\ufb05", "\u03a3",
    ]  # fmt: skip
    texts = ["".join(drawn.choices(parts, k=drawn.randrange(1, 9))) for _ in range(4_000)]
    quick = [first_active({"key": text}) for text in texts]
    monkeypatch.setattr(active_text, "_MAY_ACT", Anything())
    monkeypatch.setattr(active_text, "_MAY_LOAD", Anything())
    monkeypatch.setattr(active_text, "_SCRIPT_END", "")
    assert [first_active({"key": text}) for text in texts] == quick
    assert sum(one is not None for one in quick) > 1_000

"""Scopes: one grammar, one spelling, and narrowing that never widens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.identity.scopes import MAX_SCOPES, covers, parse_scopes, read_scopes, within, write_scopes
from vouchgate.vocabulary.errors import InvalidInput

BAD = [
    "", " ", "infer ", " infer", "infer  chat", "infer\tchat", "infer\nchat", "infer,chat", "INFER", "infer:", ":digits", "infer:digits:more",
    "infer:Digits", "infer:..", "infer:.", "infer:*", "*", "infer:digits/x", "call-tool:digits/", "call-tool:digits/a/b", "call-tool:/x",
    "administer", "administer:revoke", "exchange", "exchange:digits", "use", "move", "admit", "import", "sign", "approve", "promote", "release-key",
    "infer infer", "1infer", "-infer", "infer\x00", "ïnfer", "infer:" + "x" * 65, "a" * 65, '"infer"', "infer\\", "call-tool:x/..",
    " ".join(f"a{n}" for n in range(MAX_SCOPES + 1)), "a" * 2_000,
]  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_is_no_scope_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_scopes(text)
    assert read_scopes(text) is None


@pytest.mark.parametrize("claim", [None, 1, [], ["infer"], {}, True, "infer chat:x describe"])
def test_a_claim_in_another_spelling_is_none(claim: object) -> None:
    assert read_scopes(claim) is None


def test_scopes_are_read_as_they_are_written() -> None:
    asked = parse_scopes("infer:digits call-tool:mcp/draw.line chat")
    assert asked == ("call-tool:mcp/draw.line", "chat", "infer:digits")
    assert read_scopes(write_scopes(asked)) == asked


@pytest.mark.parametrize(
    ("scopes", "action", "names", "tool", "wanted"),
    [
        (("infer",), "infer", {"digits"}, "", True), (("infer:digits",), "infer", {"digits"}, "", True),
        (("infer:digits",), "infer", {"chat"}, "", False), (("infer:digits",), "describe", {"digits"}, "", False),
        (("infer",), "infer2", {"digits"}, "", False), ((), "infer", {"digits"}, "", False), (("infer:digits",), "infer", set(), "", False),
        (("call-tool:mcp/a",), "call-tool", {"mcp"}, "a", True), (("call-tool:mcp/a",), "call-tool", {"mcp"}, "b", False),
        (("call-tool:mcp/a",), "call-tool", {"mcp"}, "", False), (("call-tool:mcp",), "call-tool", {"mcp"}, "b", True),
        (("call-tool:mcp/a",), "call-tool", {"other"}, "a", False),
    ],
)  # fmt: skip
def test_a_scope_covers_what_it_names_and_nothing_else(
    scopes: tuple[str, ...], action: str, names: set[str], tool: str, wanted: bool
) -> None:
    assert covers(scopes, action, names, tool) is wanted


NAMES = st.sampled_from(["digits", "chat", "mcp"])
SCOPES = st.one_of(
    st.sampled_from(["infer", "chat", "call-tool"]),
    st.builds("{}:{}".format, st.sampled_from(["infer", "chat", "call-tool"]), NAMES),
    st.builds("call-tool:{}/{}".format, NAMES, st.sampled_from(["a", "b"])),
)


@given(
    st.sets(SCOPES, max_size=5),
    st.sets(SCOPES, max_size=5),
    st.sampled_from(["infer", "chat", "call-tool"]),
    NAMES,
    st.sampled_from(["", "a", "b"]),
)
def test_what_lies_within_covers_nothing_more(narrow: set[str], wide: set[str], action: str, name: str, tool: str) -> None:
    if within(narrow, wide) and covers(narrow, action, {name}, tool):
        assert covers(wide, action, {name}, tool)
    assert within(narrow, None)
    assert within((), wide)

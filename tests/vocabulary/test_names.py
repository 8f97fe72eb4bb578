"""Names: what is accepted is exactly one spelling of one thing; everything that looks alike is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.vocabulary.errors import InvalidInput, InvalidName
from vouchgate.vocabulary.names import (
    PRINCIPAL_KINDS,
    principal,
    principal_id,
    principal_parts,
    resource,
    resource_id,
    resource_parts,
    trust_domain,
)

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789._-"
SEGMENT = st.text(CHARACTERS, min_size=1, max_size=64).filter(lambda text: text not in {".", ".."})
DOMAIN = st.text(CHARACTERS, min_size=1, max_size=255)


@given(DOMAIN, st.sampled_from(sorted(PRINCIPAL_KINDS)), SEGMENT, SEGMENT)
def test_a_principal_read_and_written_is_the_same(td: str, kind: str, zone: str, name: str) -> None:
    made = principal(td, kind, zone, name)
    parts = principal_parts(made)
    assert (parts.trust_domain, parts.kind, parts.zone, parts.name) == (td, kind, zone, name)
    assert principal(*(parts.trust_domain, parts.kind, parts.zone, parts.name)) == made == principal_id(made)


@given(DOMAIN, SEGMENT.filter(lambda kind: kind != "artifact"), SEGMENT)
def test_a_thing_read_and_written_is_the_same(td: str, kind: str, name: str) -> None:
    made = resource(td, kind, name)
    parts = resource_parts(made)
    assert (parts.trust_domain, parts.kind, parts.name) == (td, kind, name)
    assert resource_id(made) == made


@given(st.sampled_from(["", "-tree", "-manifest", "-composite"]), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_content_is_named_by_its_digest_alone(kind: str, value: str) -> None:
    made = resource("td", "artifact", f"sha256{kind}:{value}")
    assert resource_parts(made).name == f"sha256{kind}:{value}"
    with pytest.raises(InvalidName):
        resource("td", "endpoint", f"sha256{kind}:{value}")
    with pytest.raises(InvalidName):
        resource("td", "artifact", "a-name")


GOOD = "spiffe://test.local/service/serve/alice"
LOOKALIKES = [
    GOOD + "\n", GOOD + "\r", GOOD + " ", " " + GOOD, GOOD + "/", GOOD + "/x", GOOD + "?a", GOOD + "#a", GOOD + "\x00", GOOD + "%00",
    GOOD.upper(), "SPIFFE" + GOOD[6:], GOOD.replace("alice", "Alice"), GOOD.replace("alice", "%61lice"), GOOD.replace("alice", ""),
    GOOD.replace("alice", "."), GOOD.replace("alice", ".."), GOOD.replace("serve", "."), GOOD.replace("serve", ".."),
    GOOD.replace("service", ".."), GOOD.replace("serve/", ""), GOOD.replace("//", "/"), GOOD.replace("://", ":///"),
    GOOD.replace("test.local", ""), GOOD.replace("test.local", "test.local:443"), GOOD.replace("test.local", "user@test.local"),
    GOOD.replace("test.local", "a" * 256), GOOD.replace("alice", "a" * 65), GOOD.replace("service", "robot"),
    GOOD.replace("a", "\u0430"), GOOD.replace("i", "\u0131"), GOOD.replace("alice", "\uff41lice"), GOOD.replace("alice", "a\u0301lice"),
    GOOD.replace("alice", "al\u200bice"), GOOD.replace("/", "\u2215"), GOOD.replace("alice", "\u0661"), GOOD.replace("alice", "ali\\ce"),
    GOOD.replace("alice", "ali;ce"), GOOD.replace("alice", "ali|ce"), GOOD.replace("alice", "ali,ce"), GOOD + "," + GOOD, "", "spiffe://",
    "vg://test.local/service/serve/alice", "spiffe://test.local/service/alice", "spiffe:/test.local/service/serve/alice",
]  # fmt: skip


@pytest.mark.parametrize("text", LOOKALIKES, ids=range(len(LOOKALIKES)))
def test_what_only_looks_like_a_principal_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(InvalidName) as caught:
        principal_id(text)
    assert caught.value.remedy
    assert len(caught.value.reason) < 400


THING = "vg://test.local/endpoint/digits"
THINGS = [
    THING + "\n", THING + "/", THING + "/x", THING + "?", THING + "#", THING.upper(), THING.replace("digits", "Digits"), THING + "%2e",
    THING.replace("digits", ".."), THING.replace("digits", "."), THING.replace("endpoint", ".."), THING.replace("digits", ""),
    THING.replace("//", "/"), THING.replace("test.local", "test.local:1"), THING.replace("i", "\u0456"), THING.replace("digits", "d" * 65),
    "vg://test.local/artifact/sha256:" + "g" * 64, "vg://test.local/artifact/sha256:" + "A" * 64, "vg://test.local/artifact/sha256:" + "a" * 63,
    "vg://test.local/artifact/sha256:" + "a" * 65, "vg://test.local/artifact/sha512:" + "a" * 64, "vg://test.local/artifact/sha256:" + "a" * 64 + "\n",
    "vg://test.local/artifact/../endpoint/x", "vg://test.local/endpoint/sha256:" + "a" * 64, GOOD, "",
]  # fmt: skip


@pytest.mark.parametrize("text", THINGS, ids=range(len(THINGS)))
def test_what_only_looks_like_a_thing_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        resource_id(text)


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_a_typed_no(text: str) -> None:
    for read in (principal_id, resource_id, trust_domain):
        try:
            made = read(text)
        except InvalidInput:
            continue
        assert made == text
        assert text.isascii()
        assert text == text.strip().lower()


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_a_part_never_smuggles_another_part_in(kind: str, zone: str, name: str) -> None:
    try:
        made = principal("test.local", kind, zone, name)
    except InvalidName:
        return
    parts = principal_parts(made)
    assert (parts.kind, parts.zone, parts.name) == (kind, zone, name)


@pytest.mark.parametrize("text", ["", "A", "a b", "a/b", "a\n", "\u0430", "a" * 256, "a:1", "a%"])
def test_a_trust_domain_that_is_none(text: str) -> None:
    with pytest.raises(InvalidName):
        trust_domain(text)

"""The exporter catalog: listed from its folder, no name twice, entries verbatim."""

from __future__ import annotations

import pytest

from vouchgate.audit.catalog import exporter, exporters
from vouchgate.audit.hashing import leaf_hash
from vouchgate.vocabulary.errors import InvalidInput, NotFound


def test_jsonl_is_listed() -> None:
    assert exporters()["jsonl"].suffix == ".jsonl"
    assert exporters()["jsonl"].summary


def test_an_unknown_exporter_names_the_known_ones() -> None:
    with pytest.raises(NotFound) as caught:
        exporter("splunk")
    assert "jsonl" in caught.value.remedy


def test_lines_are_the_entries_themselves() -> None:
    entries = [b'{"a":1}', b'{"b":"\\n"}']
    lines = b"".join(exporter("jsonl").render(index, entry) for index, entry in enumerate(entries)).splitlines()
    assert [leaf_hash(line) for line in lines] == [leaf_hash(entry) for entry in entries]


@pytest.mark.parametrize("entry", [b"{}\n{}", b"{}\r"])
def test_an_entry_with_a_line_break_is_refused(entry: bytes) -> None:
    with pytest.raises(InvalidInput, match="entry 7"):
        exporter("jsonl").render(7, entry)

"""Messages of a protocol written as rows of text, for the wire reader.

A row is a message's name, then its fields, each `number name kind`, parted by `;` (`*` behind the kind: repeated). A row that goes on is indented;
a message without fields has `-`.
"""

from __future__ import annotations

import re

from vouchgate.scanning.protobuf_wire import Field, Schema


def schema(rows: str) -> Schema:
    """The table that the rows say."""
    found: dict[str, dict[int, Field]] = {}
    for row in re.split(r"\n(?=\S)", rows.strip()):
        message, cells = row.split(maxsplit=1)
        parsed = [cell.split() for cell in cells.split(";") if cell.strip() != "-"]
        found[message] = {int(number): Field(name=name, kind=kind.rstrip("*"), many=kind.endswith("*")) for number, name, kind in parsed}
    return found

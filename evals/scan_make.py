"""Writes the attacks into a folder, with labels.jsonl beside them.

    python scan_make.py FOLDER [--seed N]

Runs in the evaluation's own environment (h5py, pyarrow). `rewritten` are the same programs renamed, padded and wrapped, by the seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import scan_containers
import scan_formats
import scan_pickles
from scan_assembler import Item


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    first = [*scan_pickles.items(), *scan_containers.items(), *scan_formats.items()]
    again = [
        other
        for index, item in enumerate(first)
        if item.family == "pickle" and isinstance(item.content, bytes)
        for other in scan_pickles.rewritten(item, options.seed + index)
    ]
    rows = [_write(options.folder, index, item, rewritten=index >= len(first)) for index, item in enumerate([*first, *again])]
    (options.folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(len(first), "attacks,", len(again), "rewritten")


def _write(folder: Path, index: int, item: Item, *, rewritten: bool) -> dict[str, object]:
    place = folder / f"{index:05d}"
    place.mkdir(parents=True)
    if isinstance(item.content, bytes):
        (place / item.name).write_bytes(item.content)
    for name, content in item.content.items() if isinstance(item.content, dict) else ():
        path = place / item.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    path = f"{index:05d}/{item.name}"
    return {"path": path, "format": item.family, "technique": item.technique, "pickled": item.pickled, "rewritten": rewritten}


if __name__ == "__main__":
    main()

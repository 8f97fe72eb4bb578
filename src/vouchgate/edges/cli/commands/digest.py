"""`vouchgate digest`: name a file or folder by its content, and tell what changed since a manifest. Works without a control plane."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session

if TYPE_CHECKING:
    from vouchgate.evidence.merkle import Change, Manifest

SUMMARY = "name a file or folder by its content, and tell what changed since a manifest"
DETAIL = """A manifest has a digest of every chunk of every file and, for safetensors, of every tensor:
`vouchgate digest model --manifest model.json`, later `vouchgate digest model --against model.json`, or one tensor of it:
`vouchgate digest model --against model.json --only model.safetensors --tensor lm_head.weight`"""
SHOWN = 40
"""Differences listed on a terminal; all of them come with --json."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", help="a file or a folder")
    parser.add_argument("--tree", action="store_true", help="list files and tensors with their Merkle roots")
    parser.add_argument("--manifest", metavar="OUT", help="write the manifest there")
    parser.add_argument("--against", metavar="MANIFEST", help="tell what is different from a manifest; exit code 1 if anything is")
    parser.add_argument("--only", metavar="FILE", help="with --against: read one file alone (its path inside the folder)")
    parser.add_argument("--tensor", metavar="NAME", help="with --against: read one tensor alone")
    parser.add_argument("--stamps", action="store_true", help="write sizes, times and inodes into the manifest")
    parser.add_argument(
        "--believe-stamps", action="store_true", help="with --against: do not read files whose size, times and inode are as written down"
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where the content is not what the manifest says."""
    from vouchgate import wiring
    from vouchgate.evidence.merkle import read_manifest

    if (options.only is not None or options.tensor is not None or options.believe_stamps) and not options.against:
        raise Usage("--only, --tensor and --believe-stamps need a manifest", remedy="name it with --against")
    older = read_manifest(_read(options.against)) if options.against else None
    with closing(wiring.local_place(options.path)) as place:
        if older is not None and (options.only is not None or options.tensor is not None):
            return _one(session, options, place, older)
        return _all(session, options, place, older)


def _one(session: Session, options: argparse.Namespace, place: Any, older: Manifest) -> int:
    from vouchgate.flows.measure import remeasure

    if options.manifest or options.tree or options.stamps or options.believe_stamps:
        raise Usage("one file or tensor alone makes no manifest", remedy="leave out --only and --tensor")
    if place.is_folder == (not options.only):
        raise Usage("--only names a file inside a folder", remedy="name the path inside the folder, and only for a folder")
    changes = remeasure(place, older, options.only or "", options.tensor)
    what = " of ".join(one for one in (options.tensor, options.only or options.path) if one)
    if not session.json({"path": options.path, "only": what, "changes": changes}):
        _tell(session, changes, f"{what} is as the manifest says; nothing else was read")
    return 1 if changes else 0


def _all(session: Session, options: argparse.Namespace, place: Any, older: Manifest | None) -> int:
    from vouchgate.evidence.merkle import CHUNK_BYTES, compare, content_digest, file_root, manifest_digest, part_root, write_manifest
    from vouchgate.flows.measure import Measuring, measure

    now = measure(
        place,
        Measuring(
            chunk_bytes=older.chunk_bytes if older else CHUNK_BYTES,
            stamps=options.stamps,
            believed=older if options.believe_stamps else None,
        ),
    )
    changes = compare(older, now) if older else ()
    content, name = content_digest(now), manifest_digest(now)
    if options.manifest:
        Path(options.manifest).write_bytes(write_manifest(now))
    answer = {"path": options.path, "digest": content.text, "size": content.size, "manifest": name.text, "changes": changes}
    if session.json(answer):
        return 1 if changes else 0
    session.printer.line(f"{content.text}  {options.path}")
    session.printer.field("manifest", name.text, options.manifest or "")
    for file in now.files if options.tree else ():
        session.printer.line(f"  {file_root(file).hex()}  {file.path or options.path}  {file.size}")
        for part in file.parts:
            if part.name:
                session.printer.line(f"    {part_root(part).hex()}  {part.name}  {part.end - part.begin}")
    if older:
        _tell(session, changes, "nothing changed")
    return 1 if changes else 0


def _tell(session: Session, changes: tuple[Change, ...], same: str) -> None:
    if not changes:
        session.printer.marked("good", same)
    for one in changes[:SHOWN]:
        where = f"{one.path}{f', tensor {one.part}' if one.part else ''}"
        session.printer.marked("bad", f"{one.kind}: {where}{f', bytes {one.begin} to {one.end}' if one.end else ''}")
    if len(changes) > SHOWN:
        session.printer.line(f"  and {len(changes) - SHOWN} more; --json lists all of them")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Usage(f"`{path}` cannot be read: {error.strerror}", remedy="name the file") from None

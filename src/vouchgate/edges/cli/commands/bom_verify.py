"""`vouchgate bom verify`: hold a bill of materials to its schema, signature and files. Works without a control plane; --control asks one."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.commands.bom_make import asking
from vouchgate.edges.cli.session import Session
from vouchgate.edges.cli.signing_files import content, verifying_key

if TYPE_CHECKING:
    from vouchgate.evidence.bom.read import ReadBom
    from vouchgate.flows.describe_artifact import Difference

SUMMARY = "hold a bill of materials to its schema, signature and files"
DETAIL = """Every file is hashed again: what differs, was added or is missing is told. Without --key anybody may have written the document.
`vouchgate bom verify model.cdx.json model --key key.pub --python venv`"""
SIGNED = ".intoto.json"
SHOWN = 40
"""Differences listed on a terminal; all of them come with --json."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("bom", help="a CycloneDX document (JSON)")
    parser.add_argument("path", nargs="?", default="", help="the model, to be measured again")
    parser.add_argument("--python", metavar="FOLDER", help="the virtual environment, to be measured again")
    parser.add_argument("--wheels", metavar="FOLDER", help="the wheels, to be hashed again")
    parser.add_argument("--control", action="store_true", help="ask the running control plane whether what it vouched for still stands")
    parser.add_argument("--key", metavar="FILE", help="the signer's public key (PEM)")
    parser.add_argument("--signature", metavar="FILE", help=f"with --key: the signed statement (default: BOM{SIGNED})")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 0 where everything that was asked for holds, else 1."""
    if options.signature and not options.key:
        raise Usage("--signature needs --key", remedy="name the signer's public key")
    bom = read_signed(options.bom, options.key or "", options.signature or "")
    found = [] if bom.faults else _differences(session, bom, options)
    holds = not bom.faults and not found
    answer = {"bom": options.bom, "holds": holds, "signed": bool(options.key), "spec": bom.spec, "serial": bom.serial, "faults": bom.faults}
    if not session.json(answer | {"differences": found, "components": len(bom.components)}):
        _tell(session, options, bom, found)
    return 0 if holds else 1


def read_signed(path: str, key: str, signature: str = "") -> ReadBom:
    """The document, and with a key only if it is the very one that was signed. Raises `Unverified`, `InvalidInput`, `Usage`."""
    from vouchgate.evidence.bom.read import MAX_BOM_BYTES, read_bom
    from vouchgate.evidence.bom.signed import same, verify_bom
    from vouchgate.evidence.strict_documents import parse
    from vouchgate.vocabulary.errors import Unverified

    data = content(path)
    if not key:
        return read_bom(data)
    signed = verify_bom(content(signature or path + SIGNED), verifying_key(key))
    if not same(signed, parse(data, limit=MAX_BOM_BYTES, what="bill of materials")):
        raise Unverified("the document is not the signed one", remedy="take the document out of the signed statement, or ask for it again")
    return signed


def _differences(session: Session, bom: ReadBom, options: argparse.Namespace) -> list[Difference]:
    from vouchgate import wiring
    from vouchgate.flows.describe_artifact import compare_environment, compare_files, compare_wheels
    from vouchgate.flows.describe_lineage import compare_lineage
    from vouchgate.flows.describe_wheels import read_wheels
    from vouchgate.flows.measure import Measuring, measure
    from vouchgate.flows.python_environment import read_environment

    path, python = options.path, options.python or ""
    if (path or python or options.wheels or options.control) and not bom.is_ours:
        raise Usage("the document was not made by vouchgate, so its layout is not known", remedy="leave out the path and --control")
    found: list[Difference] = []
    if options.control:
        found += compare_lineage(bom, asking(session))
    if path:
        with closing(wiring.local_place(path)) as place:
            found += compare_files(bom, measure(place, Measuring(tensors=False)), Path(path).absolute().name)
    if python:
        with closing(wiring.local_place(python)) as place:
            found += compare_environment(bom, read_environment(place))
    if options.wheels:
        with closing(wiring.local_place(options.wheels)) as place:
            found += compare_wheels(bom, read_wheels(place))
    return found


def _tell(session: Session, options: argparse.Namespace, bom: ReadBom, found: list[Difference]) -> None:
    printer = session.printer
    for fault in bom.faults[:SHOWN]:
        printer.marked("bad", fault)
    for one in found[:SHOWN]:
        printer.marked("bad", f"{one.kind}: {one.what} {one.name}{f' ({one.told})' if one.told else ''}")
    if len(found) > SHOWN:
        printer.line(f"  and {len(found) - SHOWN} more; --json lists all of them")
    if bom.faults or found:
        return
    held = [
        what
        for what, asked in (
            ("its signature", options.key),
            ("every file", options.path),
            ("the environment", options.python),
            ("every wheel", options.wheels),
            ("every vouch", options.control),
        )
        if asked
    ]
    printer.marked(
        "good", f"a sound CycloneDX {bom.spec} document of {len(bom.components)} components; holds: {', '.join(['schema', *held])}"
    )
    if not options.key:
        printer.marked("warn", "its signature was not asked about: anybody may have written it", 2)
    if not (options.path or options.python or options.wheels):
        printer.marked("warn", "no file was measured: name the model", 2)

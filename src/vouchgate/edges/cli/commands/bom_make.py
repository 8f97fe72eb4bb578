"""`vouchgate bom make`: write a bill of materials of a model, and sign it. Works without a control plane; --control asks one."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session
from vouchgate.edges.cli.signing_files import signing_key
from vouchgate.vocabulary.answers import VouchState

if TYPE_CHECKING:
    from vouchgate.evidence.bom.document import Model
    from vouchgate.evidence.bom.python import Environment
    from vouchgate.evidence.bom.wheels import Wheel
    from vouchgate.flows.describe_lineage import Ask

SUMMARY = "write a bill of materials of a model (CycloneDX), and sign it"
DETAIL = """Scans the model without running it, and says what was seen apart from what its files claim. With --python every installed file is hashed and held to
its RECORD; nothing is imported. `vouchgate bom make model --python venv -o model.cdx.json --key key.pem`"""
SIGNED = ".intoto.json"
"""What a signed document's name ends with, beside the document."""
SHOWN = 20
"""Distributions listed on a terminal."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", help="a model: a file or a folder")
    parser.add_argument("--python", metavar="FOLDER", help="the virtual environment that it runs in")
    parser.add_argument(
        "--wheels", metavar="FOLDER", help="the wheels that it was installed from, or is to be: each is hashed and held to its RECORD"
    )
    parser.add_argument(
        "--control", action="store_true", help="ask the running control plane what is vouched for of the model and of what it was made from"
    )
    parser.add_argument("--spec", default="1.6", choices=("1.6", "1.7"), help="version of CycloneDX (default: 1.6)")
    parser.add_argument("--name", default="", help="what the model is called (default: its file's or folder's name)")
    parser.add_argument("--release", default="", help="its version")
    parser.add_argument("--at", default="", metavar="TIME", help="the document's time (default: now), such as 2026-01-31T12:00:00.000Z")
    parser.add_argument("--key", metavar="FILE", help=f"sign with this private key (Ed25519 or P-256 to P-521, PEM) into OUT{SIGNED}")
    parser.add_argument("-o", "--out", metavar="FILE", help="where it goes (default: PATH.cdx.json, beside the model)")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 0 where it was written, whatever the scan said: that stands in it."""
    from vouchgate import __version__, wiring
    from vouchgate.evidence.bom.document import write_bom
    from vouchgate.evidence.bom.read import read_bom
    from vouchgate.evidence.bom.signed import sign_bom
    from vouchgate.evidence.statement import read_time, write_time
    from vouchgate.flows.describe_artifact import Scanner, describe
    from vouchgate.flows.describe_lineage import with_lineage
    from vouchgate.flows.describe_wheels import read_wheels
    from vouchgate.flows.python_environment import read_environment

    at = read_time(options.at) if options.at else wiring.clock().now()
    out = Path(options.out or str(options.path).rstrip("/") + ".cdx.json")
    _outside(out, Path(options.path))
    key = signing_key(options.key) if options.key else None
    environment = None
    if options.python:
        with closing(wiring.local_place(options.python)) as place:
            environment = read_environment(place, rows=bool(options.wheels))
    wheels: tuple[Wheel, ...] = ()
    if options.wheels:
        with closing(wiring.local_place(options.wheels)) as place:
            wheels = read_wheels(place)
    with closing(wiring.warm_scanner()) as reader, closing(wiring.local_place(options.path)) as place:
        model = describe(place, Scanner(reader, wiring.folder_file), name=options.name, release=options.release)
    if options.control:
        model = with_lineage(model, asking(session))
    document = write_bom(model, environment, spec=options.spec, timestamp=write_time(at), version=__version__, wheels=wheels)
    bom = read_bom(document)
    signed = sign_bom(bom, key) if key else b""
    wiring.write_report(out, document)
    if signed:
        wiring.write_report(Path(f"{out}{SIGNED}"), signed)
    answer = {"bom": str(out), "signed": f"{out}{SIGNED}" if signed else "", "serial": bom.serial, "digest": model.digest}
    if not session.json(answer | {"verdict": model.scan.outcome, "components": len(bom.components), "faults": bom.faults}):
        _tell(session, model, environment, answer)
        _tell_wheels(session, wheels, environment)
    return 0


def _outside(out: Path, model: Path) -> None:
    """A document inside the model would change what it describes."""
    if model.is_dir() and model.resolve() in (out.absolute().parent.resolve() / out.name).parents:
        raise Usage(f"`{out}` lies inside of the model that it describes", remedy="name a file beside it with --out")


def asking(session: Session) -> Ask:
    """Asks the control plane what is vouched for of a digest."""
    return lambda digest: session.client.get(tuple[VouchState, ...], "/api/v1/vouches", about=digest)


def _tell(session: Session, model: Model, environment: Environment | None, answer: dict[str, str]) -> None:
    from vouchgate.evidence.bom.lineage import AGAINST, HELD

    printer = session.printer
    printer.marked("good", f"described {len(model.files)} files as {model.digest}")
    printer.field("bom", answer["bom"], answer["signed"])
    printer.marked("good" if model.scan.outcome == "clean" else "bad", f"the scan says {model.scan.outcome}: {model.scan.format}", 2)
    for reason in model.scan.reasons[:5]:
        printer.field("why", reason)
    if model.weights:
        parameters, tensors = sum(one.parameters for one in model.weights), sum(one.tensors for one in model.weights)
        printer.field("seen", f"{parameters:,} parameters in {tensors:,} tensors")
    printer.field("claimed", model.claims.license or model.claims.license_text, *(f"built on {name}" for name in model.claims.base_models))
    printer.field("note", *model.claims.notes)
    if model.asked:
        held = sorted({one.predicate for one in model.vouches if one.standing == HELD})
        printer.field("vouched", f"{len(model.vouches)} vouches, of them hold: {', '.join(held) or 'none'}")
        for vouch in [one for one in model.vouches if one.standing == AGAINST][:SHOWN]:
            printer.marked("bad", f"{vouch.predicate} of {vouch.about[:30]}: {vouch.told}", 2)
    if environment:
        altered = [one for one in environment.distributions if one.altered]
        printer.field("python", f"{len(environment.distributions)} distributions, {environment.compiled} compiled files without a hash")
        for one in altered[:SHOWN]:
            printer.marked("bad", f"{one.metadata.name}: {one.faults[0].path}: {one.faults[0].why}, {one.altered} in all", 2)
        for path in environment.unowned[:SHOWN]:
            printer.marked("warn", f"{path} belongs to no distribution", 2)


def _tell_wheels(session: Session, wheels: tuple[Wheel, ...], environment: Environment | None) -> None:
    from vouchgate.evidence.bom.packages import installed

    if not wheels:
        return
    found = installed(wheels, environment)
    whole = sum(not one.fault for one in found.values())
    printer = session.printer
    printer.field("wheels", f"{len(wheels)} archives; {whole} distributions are installed as their wheel has them")
    told = [(one.file, one.fault) for one in wheels if one.fault] + [(one.wheel.file, one.fault) for one in found.values() if one.fault]
    for file, fault in told[:SHOWN]:
        printer.marked("bad", f"{file}: {fault}", 2)

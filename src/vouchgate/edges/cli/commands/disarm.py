"""`vouchgate disarm`: rebuild a model from its tensors and plain values, without running anything of it. Works without a control plane."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.printing import Printer, short_digest
from vouchgate.edges.cli.session import Session

if TYPE_CHECKING:
    from vouchgate.flows.disarm_artifact import Rebuilding
    from vouchgate.scanning.disarm.report import Disturbance

SUMMARY = "rebuild a model file from its tensors and plain values, without running it"
DETAIL = (
    "Takes a model apart without importing, unpickling or running anything of it, and writes what it holds as safetensors (or ONNX): every tensor bit "
    "for bit, read back and compared. Plain values, tied weights, strides and everything that was dropped stand in OUT.json."
)
SHOWN_DROPS = 12
"""Dropped things listed on a terminal; all of them are in the report."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", help="the model file, or a folder with a TensorFlow SavedModel or checkpoint")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the safetensors file to write; OUT.json beside it where needed"
    )
    parser.add_argument(
        "--as",
        dest="target",
        choices=("onnx", "safetensors"),
        default="",
        help="onnx: write a scikit-learn model of trees or linear ones as a graph; safetensors: only the tensors of an ONNX model",
    )
    parser.add_argument("--report", metavar="FILE", help="also write the report there, as JSON")
    parser.add_argument(
        "--disrupt-steganography",
        type=int,
        default=0,
        metavar="BITS",
        help="replace the lowest BITS bits of each floating point weight by random ones, and say what that changes",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 0 where it was rebuilt, 1 where nothing could be recovered."""
    answer = installation().disarm(
        Path(options.path).absolute(),
        Path(options.output).absolute(),
        bits=options.disrupt_steganography,
        target=options.target,
        report=Path(options.report).absolute() if options.report else None,
    )
    if not session.json(answer):
        _show(session.printer, answer)
    return 0


def _show(show: Printer, answer: Rebuilding) -> None:
    report = answer.report
    what = f"{report.tensors} tensors, {report.bytes} bytes" if report.format == "safetensors" else f"a model of {answer.output_size} bytes"
    show.marked("good", f"{Path(answer.path).name} was rebuilt: {what}, read back and identical")
    show.field("from", f"{short_digest(answer.digest)}, {answer.size} bytes, {report.container}")
    show.field(
        "to",
        answer.output,
        f"{short_digest(answer.output_digest)}, {answer.output_size} bytes, {report.format}, scan {answer.output_verdict}",
    )
    show.field("beside", answer.sidecar)
    unusual = ((report.tied, "tied"), (report.strided, "strided"), (report.renamed, "of a dtype that safetensors lacks"))
    show.field("tensors", ", ".join(f"{count} {what}" for count, what in unusual if count))
    if report.disturbance is not None:
        show.field("disturbed", _disturbed(report.disturbance))
    for one in report.dropped[:SHOWN_DROPS]:
        show.marked("warn", f"dropped {one.kind} `{one.what}` at {one.where}: {one.why}", indent=2)
    if report.drops > min(len(report.dropped), SHOWN_DROPS):
        show.field("", f"{report.drops} things were dropped in all; they are listed in {answer.sidecar or 'the report'}")


def _disturbed(told: Disturbance) -> str:
    return (
        f"the low {told.bits} bits of {told.tensors} tensors: weights moved by at most {told.largest_relative:.1e} of themselves, "
        f"products with random vectors by {told.output_relative:.1e} ({told.sampled} numbers measured)"
    )

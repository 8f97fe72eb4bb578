"""`vouchgate policy prove`: a statement about every request there can be, over the policy in force or over files."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import msgspec

from vouchgate import wiring
from vouchgate.edges.cli.commands.policy_check import texts
from vouchgate.edges.cli.printing import Printer
from vouchgate.edges.cli.session import Session
from vouchgate.flows.prove import job_of
from vouchgate.policy.catalog import load
from vouchgate.policy.compile import CompiledPolicies, compile_policies
from vouchgate.policy.load import Source
from vouchgate.policy.prove import DEFAULT_SECONDS, MAX_SECONDS
from vouchgate.policy.telling import case_of
from vouchgate.vocabulary.answers_policy import PolicyText, Proof, ProofRequest
from vouchgate.vocabulary.errors import InvalidInput, NotFound

SUMMARY = "prove a statement about every request there can be, or show one that refutes it"
DETAIL = """CEDAR is a policy as a question: what it permits is what must never be allowed, for example
`permit (principal, action == Action::"export", resource) unless { resource.vouches.contains("scan") };`, or @FILE. OLD, NEW and FILE are
Cedar files or packs, and are proved about without a control plane; `in-force` stands for the policy in force. Exit codes: 0 proved, 1 refuted
(the request is shown, and both engines answered it so), 3 not decided (a bound or a construct is named)."""
IN_FORCE = "in-force"
UNDECIDED = 3
"""Exit code where neither was reached."""
MORE_SECONDS = 30.0
"""Over the question's own, until the control plane is not waited for."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument("--never", metavar="CEDAR", default="", help="nothing that this permits is allowed")
    question.add_argument("--nothing-new", nargs=2, metavar=("OLD", "NEW"), help="NEW allows nothing that OLD does not")
    question.add_argument("--equivalent", nargs=2, metavar=("OLD", "NEW"), help="both allow the same")
    parser.add_argument("--policies", nargs="+", default=[], metavar="FILE", help="with --never: these, not the policy in force")
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_SECONDS, metavar="N", help=f"for the whole question (default {DEFAULT_SECONDS:g})"
    )
    parser.add_argument("--save", metavar="DIR", default="", help="write the counterexample as a case for `policy vectors DIR`; files only")


def run(session: Session, options: argparse.Namespace) -> int:
    """0 proved, 1 refuted, 3 unknown."""
    if not 0 < options.seconds <= MAX_SECONDS:
        raise InvalidInput(f"a question has up to {MAX_SECONDS:g} seconds", remedy="give fewer with --seconds")
    request = _request(options)
    here = options.policies or (options.never == "" and IN_FORCE not in (options.nothing_new or options.equivalent))
    policies = _load(request.policies) if here else None
    if policies is not None:
        started = time.monotonic()
        found = wiring.prover().prove(job_of(request, policies, _load(request.old) if request.old else None))
        proof = msgspec.structs.replace(found, seconds=round(time.monotonic() - started, 3))
    else:
        proof = session.client.post(Proof, "/api/v1/policy/prove", request, timeout=options.seconds + MORE_SECONDS)
    if options.save:
        _save(Path(options.save), proof, policies)
    if not session.json(proof):
        _show(session.printer, proof, options.save)
    return {"proved": 0, "refuted": 1}.get(proof.verdict, UNDECIDED)


def _request(options: argparse.Namespace) -> ProofRequest:
    if options.never:
        return ProofRequest(question="never", never=_question(options.never), policies=texts(options.policies), seconds=options.seconds)
    if options.policies:
        raise InvalidInput("--policies goes with --never", remedy="name both sides: `--nothing-new OLD NEW`")
    old, new = (() if name == IN_FORCE else texts([name]) for name in options.nothing_new or options.equivalent)
    kind = "nothing-new" if options.nothing_new else "equivalent"
    return ProofRequest(question="nothing-new" if kind == "nothing-new" else "equivalent", policies=new, old=old, seconds=options.seconds)


def _question(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"the question cannot be read: {error}", remedy="name a Cedar file in UTF-8") from None


def _load(files: tuple[PolicyText, ...]) -> CompiledPolicies:
    return compile_policies(load([Source(one.name, one.text) for one in files]))


def _save(folder: Path, proof: Proof, policies: CompiledPolicies | None) -> None:
    """The counterexample as a case file. Raises `InvalidInput`."""
    if policies is None:
        raise InvalidInput("--save goes with files", remedy="save the policy in force with `vouchgate policy show`, and name that file")
    if proof.counterexample is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "counterexample.json").write_text(json.dumps(case_of(policies, proof.counterexample), indent=1), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"the counterexample cannot be written: {error}", remedy="name a folder that may be written") from None


def _show(show: Printer, proof: Proof, saved: str) -> None:
    mark = {"proved": "good", "refuted": "bad"}.get(proof.verdict, "warn")
    show.marked("good" if mark == "good" else "bad" if mark == "bad" else "warn", f"{proof.verdict}: {proof.sentence}")
    for text in proof.why[1:]:
        show.marked("note", text, indent=2)
    shown = proof.counterexample
    if shown is not None:
        show.field("caller", shown.principal)
        show.field("act", shown.action)
        show.field("on", shown.resource)
        show.field("facts", json.dumps(shown.request.get("context", {}), sort_keys=True))
        if saved:
            show.field("again", f"vouchgate policy vectors {saved}")
        else:
            show.field(
                "again", "the same with --json shows every entity; with --policies and --save DIR a case for `vouchgate policy vectors DIR`"
            )
    show.marked("note", f"{proof.kinds} kinds of requests, {proof.seconds:.1f} s", indent=2)

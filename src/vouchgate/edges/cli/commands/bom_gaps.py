"""`vouchgate bom gaps`: how much of a bill of materials has verified provenance, and what is vulnerable. Works without a control plane or network."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.commands.bom_verify import read_signed
from vouchgate.edges.cli.session import Session
from vouchgate.edges.cli.signing_files import content

if TYPE_CHECKING:
    from vouchgate.evidence.bom.gaps import Answer
    from vouchgate.evidence.bom.read import ReadBom
    from vouchgate.vocabulary.vouches import UnixMillis

SUMMARY = "how much of it has verified provenance, and what is vulnerable: can it ship"
DETAIL = """Everything is looked up in folders that you name; nothing is fetched. What nobody looked at speaks against shipping.
`vouchgate bom gaps model.cdx.json --lock pylock.toml --attestations folder --trusted-root trusted_root.json --osv folder --vex folder`"""
SHOWN = 15
"""Packages and findings listed on a terminal; all of them come with --json."""
MEANS = {
    "attested": "publisher verified, and the one you named",
    "locked": "archive bound by hash",
    "recorded": "files as recorded, origin unknown",
    "nothing": "nothing verified",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("bom", help="a CycloneDX document (JSON)")
    parser.add_argument("--key", metavar="FILE", default="", help="the document's signer (PEM); its signed statement lies beside it")
    parser.add_argument(
        "--lock", action="append", default=[], metavar="FILE", help="pylock.toml, uv.lock, poetry.lock, requirements with hashes"
    )
    parser.add_argument("--attestations", metavar="FOLDER", help="attestations of archives (PEP 740)")
    parser.add_argument("--trusted-root", metavar="FILE", help="with --attestations: Sigstore's trusted_root.json, as you pin it")
    parser.add_argument(
        "--publisher",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="with --attestations: the repository that publishes a package, such as numpy=https://github.com/numpy/numpy-release",
    )
    parser.add_argument("--osv", metavar="FOLDER", help="records about vulnerabilities (OSV, one JSON file each)")
    parser.add_argument("--vex", metavar="FOLDER", help="with --osv: statements about exploitability (OpenVEX)")
    parser.add_argument(
        "--demand", default="recorded", choices=tuple(MEANS)[:3], help="the least that every package needs (default: recorded)"
    )
    parser.add_argument(
        "--vouch", metavar="FILE", help="with --key: write what was found as a vouch about the model, for `vouchgate vouch add`"
    )
    parser.add_argument("--sign", metavar="FILE", help="with --vouch: a reviewer's private key (Ed25519, PEM)")
    parser.add_argument("--days", type=int, default=7, help="with --vouch: how long it holds, 1 to 30 (default: 7)")
    parser.add_argument("--trust-domain", default="", metavar="NAME", help="with --vouch: default is the settings'")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 0 where it can ship, else 1."""
    from vouchgate import wiring
    from vouchgate.evidence import pep740
    from vouchgate.evidence.sigstore.root import read_trusted_root
    from vouchgate.flows.describe_gaps import Asked, look_up

    if bool(options.attestations) != bool(options.trusted_root):
        raise Usage(
            "--attestations and --trusted-root belong together", remedy="name both: an attestation holds only under a root that you pin"
        )
    if options.vex and not options.osv:
        raise Usage("--vex needs --osv", remedy="name the records that the statements are about")
    if bool(options.vouch) != bool(options.sign):
        raise Usage("--vouch and --sign belong together", remedy="name the file and a reviewer's key")
    now = wiring.clock().now()
    bom = read_signed(options.bom, options.key)
    root = read_trusted_root(content(options.trusted_root)) if options.trusted_root else None
    with ExitStack() as stack:

        def place(path: str | None) -> Any:
            return stack.enter_context(closing(wiring.local_place(path))) if path else None

        asked = Asked(
            locks=tuple(content(path) for path in options.lock),
            pins=tuple(_pin(text) for text in options.publisher),
            attestations=place(options.attestations),
            verify=partial(pep740.verify, root=root, now=now) if root else None,
            osv=place(options.osv),
            vex=place(options.vex),
            demand=options.demand,
            signed=bool(options.key),
        )
        found = look_up(bom, options.bom, asked, now)
    if options.vouch:
        _vouch(session, options, bom, found, now)
    if not session.json(found):
        _tell(session, found)
    return 0 if found.ships else 1


def _vouch(session: Session, options: argparse.Namespace, bom: ReadBom, found: Answer, now: UnixMillis) -> None:
    from vouchgate import __version__, wiring
    from vouchgate.flows.initialise import load_root_key
    from vouchgate.flows.vouch_bom import vouch_for
    from vouchgate.vocabulary.names import trust_domain

    domain = trust_domain(options.trust_domain or session.settings.trust_domain)
    key = load_root_key(content(options.sign))
    made = vouch_for(bom, found, demand=options.demand, domain=domain, key=key, now=now, days=options.days, version=__version__)
    wiring.write_report(Path(options.vouch), made.envelope)


def _pin(text: str) -> tuple[str, dict[str, str]]:
    from vouchgate.evidence.bom.locks import identity_of
    from vouchgate.evidence.bom.python import normalised

    name, _, url = text.partition("=")
    return normalised(name), identity_of(url)


def _tell(session: Session, found: Answer) -> None:
    printer = session.printer
    printer.marked("good" if found.ships else "bad", "it can ship" if found.ships else f"it cannot ship: {len(found.against)} reasons")
    for reason in found.against:
        printer.marked("bad", reason, 2)
    total = len(found.packages)
    if total:
        share = found.classes["attested"] / total
        printer.line(f"\n  verified provenance: {found.classes['attested']} of {total} packages ({share:.0%})")
        printer.table(("class", "packages", "means"), [(name, str(found.classes[name]), MEANS[name]) for name in MEANS], 2)
    printer.field("model", f"{found.files} files hashed, the scan said {found.verdict or 'nothing'}")
    printer.field("document", "signed, and its signature holds" if found.signed else "its signature was not asked about (--key)")
    weak = [one for one in found.packages if one.provenance in ("nothing", "recorded")]
    if weak:
        printer.line()
        printer.table(("package", "version", "class", "why"), [(one.name, one.version, one.provenance, one.why) for one in weak[:SHOWN]], 2)
    if len(weak) > SHOWN:
        printer.line(f"  and {len(weak) - SHOWN} more; --json lists all of them")
    _vulnerabilities(session, found)
    for note in found.notes[:SHOWN]:
        printer.marked("note", note, 2)


def _vulnerabilities(session: Session, found: Answer) -> None:
    printer, looked = session.printer, found.looked
    if looked is None:
        return
    printer.line(
        f"\n  {len(found.findings)} known vulnerabilities, by {looked.records:,} records, the newest {looked.newest or 'without a date'}"
    )
    rows = [
        (one.package.name, one.package.version, one.id, one.severity, one.state, one.because or _mend(one.fixed) or one.untold)
        for one in found.findings
    ]
    printer.table(("package", "version", "id", "severity", "state", "because, or mended in"), rows[:SHOWN], 2)
    if len(rows) > SHOWN:
        printer.line(f"  and {len(rows) - SHOWN} more; --json lists all of them")
    for note in looked.notes[:SHOWN]:
        printer.marked("note", note, 2)


def _mend(fixed: tuple[str, ...]) -> str:
    return f"mended in {', '.join(fixed)}" if fixed else ""

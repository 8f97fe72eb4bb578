"""`vouchgate knowledge allow`: answer for one class in one artifact, for a time; signed with one's own key, nothing is sent."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.vouches import UnixMillis

SUMMARY = "answer for a class of your own in one artifact, 90 days at most"
DETAIL = """the artifact's own author cannot: an allowance by a key that signed anything else about the artifact does not count. Give it to
`vouchgate scan --allow FILE`, or hand it in: `vouchgate vouch add FILE`. The key is delegated once, as role `reviewer`: `vouchgate admin renew-trust --producer reviewer=PUBLIC.pem`"""
ROLE = "reviewer"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("name", help="module and class, as in acme.features.Scaler; module:Outer.Inner for a class in a class")
    parser.add_argument("--for", dest="digest", required=True, metavar="DIGEST", help="the artifact, as in sha256:...")
    parser.add_argument("--why", required=True, help="what it does, and why that is harmless")
    parser.add_argument("--days", type=int, required=True, help="how long it holds, 1 to 90")
    parser.add_argument("--key", required=True, metavar="FILE", help="your private key (Ed25519, PEM)")
    parser.add_argument("--callable", dest="shape", default="", metavar="RULE", help="let it be called, with arguments of this rule")
    parser.add_argument("--state", default="", metavar="RULE", help="the rule its state must fit (default: plain attributes)")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the envelope goes")


def run(session: Session, options: argparse.Namespace) -> int:
    """The signer's own clock counts: it is their statement."""
    from vouchgate import wiring
    from vouchgate.evidence.catalog import check_fits, predicates
    from vouchgate.evidence.dsse import spki_of
    from vouchgate.evidence.statement import sign_vouch
    from vouchgate.flows.initialise import load_root_key
    from vouchgate.scanning.knowledge.overlay import ALLOW, DAY_MS, MAX_DAYS
    from vouchgate.vocabulary.digests import parse_digest
    from vouchgate.vocabulary.names import resource
    from vouchgate.vocabulary.names import trust_domain as checked
    from vouchgate.vocabulary.trust import key_id
    from vouchgate.vocabulary.vouches import Method, Subject, Vouch

    claims = _claims(options)
    if not 1 <= options.days <= MAX_DAYS:
        raise Usage(f"an allowance lives 1 to {MAX_DAYS} days, not {options.days}", remedy="choose fewer, and look again when it ends")
    digest = parse_digest(options.digest)
    try:
        key = load_root_key(Path(options.key).read_bytes())
    except OSError as error:
        raise Usage(f"`{options.key}` cannot be read: {error.strerror}", remedy="name your key's file") from None
    now = wiring.clock().now()
    domain = checked(session.settings.trust_domain)
    vouch = Vouch(
        id="",
        trust_domain=domain,
        predicate_type=ALLOW,
        predicate_version=predicates()[ALLOW].version,
        subjects=(Subject(name=resource(domain, "artifact", digest.text), digest=digest),),
        outcome="pass",
        issuer_key=key_id(spki_of(key)),
        issuer_role=ROLE,
        issued_at=now,
        not_before=now,
        expires_at=UnixMillis(now + options.days * DAY_MS),
        tier="declared",
        method=Method(tool="vouchgate-knowledge", version="1"),
        claims=claims,
    )
    check_fits(vouch)
    Path(options.out).write_bytes(sign_vouch(vouch, key).envelope)
    if not session.json(vouch):
        session.printer.marked("good", f"you answer for {claims['module']}.{claims['name']} in {digest.text[:20]} for {options.days} days")
        session.printer.command("hand it in", f"vouchgate vouch add {options.out}")
    return 0


def _claims(options: argparse.Namespace) -> dict[str, str]:
    from vouchgate.scanning.knowledge.entries import Use
    from vouchgate.scanning.knowledge.overlay import fault_of
    from vouchgate.scanning.pickles.shapes import ARGUMENTS, STATES

    module, _, name = options.name.partition(":") if ":" in options.name else options.name.rpartition(".")
    _check_rule(options.shape, ARGUMENTS, "arguments")
    _check_rule(options.state.partition("+")[0], STATES, "a state")
    use: Use = "callable" if options.shape else "constructible"
    fault = fault_of(module, name, use, options.shape)
    if fault:
        raise Usage(fault, remedy="allow one class of your own: `acme.features.Scaler`")
    if not options.why.strip():
        raise Usage("an allowance needs a reason", remedy="say what the class does, and why that is harmless")
    claims = {"module": module, "name": name, "use": use, "why": options.why.strip()}
    return claims | {key: value for key, value in (("arguments", options.shape), ("state", options.state)) if value}


def _check_rule(name: str, known: Collection[str], what: str) -> None:
    if name and name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.0)
        raise Usage(f"no rule for {what} is called `{name[:80]}`", remedy=f"did you mean `{near[0]}`?" if near else "see docs/knowledge.md")

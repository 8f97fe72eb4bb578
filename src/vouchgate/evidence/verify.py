"""Whether a signed vouch is evidence: the only module that constructs a `VerifiedVouch`. A test walks the source tree and holds that.

Steps, in this order; the first that fails refuses
1. The envelope is a canonical DSSE envelope with one signature over a canonical statement of this trust domain.
2. The signing key is in the TrustRoot, is the issuer that the statement names, and the signature holds.
3. The key is delegated, now, this role x predicate x zone, at a tier no stronger than the delegation's highest.
4. The predicate is known, the role may sign it, the claims fit.
5. The window: issued at a time that is not in the future, begun, not expired.
6. Nothing that stands revokes the vouch, its key (from the revocation's log index on), its run, its content or its subjects.
7. Every vouch it rests on is known and does not stand revoked; a pass rests on no fail.
Left to others: the log's inclusion proof (audit), the policy that asks for the vouch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vouchgate.evidence.catalog import check_fits
from vouchgate.evidence.dsse import PAYLOAD_TYPE, Envelope, holds, parse_envelope
from vouchgate.evidence.statement import read_payload
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Refused
from vouchgate.vocabulary.trust import Delegation, TrustRoot
from vouchgate.vocabulary.vouches import TIERS, UnixMillis, VerifiedVouch, Vouch

SKEW_MS = 2_000
"""Milliseconds by which `issued_at` may lie ahead: the signer's clock and ours may differ by what the clock rule allows."""
Revoked = Callable[[Vouch], str]
"""Id of the standing revocation under which a vouch falls, or nothing; `Lineage.revoked` is one."""


def nothing_revoked(_: Vouch) -> str:
    """For a vouch of whose trust domain no revocation is known."""
    return ""


def verify(
    envelope: bytes,
    trust_root: TrustRoot,
    now: UnixMillis,
    *,
    known: Mapping[str, Vouch],
    revoked: Revoked,
    zone: str = "",
) -> VerifiedVouch | Refused:
    """`known` are the verified vouches it may rest on, by id; `zone` is where it is to count (empty: only keys of all zones).

    A vouch that comes in is verified at the present with `Lineage.revoked`. One that is read back from the log is verified at the time of
    its entry with `nothing_revoked`, and then added to the lineage, which knows what has fallen and what has expired since; refusing it
    here would lose what an undo restores, and the old fail that beats a pass.
    """
    try:
        parsed = parse_envelope(envelope)  # 1
        vouch = read_payload(parsed.payload)
    except InvalidInput as error:
        return Refused(why="unverified", reason=error.reason, remedy=error.remedy)
    if vouch.trust_domain != trust_root.trust_domain:
        return _unverified(f"the vouch is of trust domain `{vouch.trust_domain}`", "import it through a federated trust domain")
    refused = (
        _signer(parsed, vouch, trust_root)  # 2
        or _delegated(vouch, trust_root, zone, now)  # 3
        or _fits(vouch)  # 4
        or _window(vouch, now)  # 5
        or _standing(vouch, revoked)  # 6
        or _supports(vouch, known, revoked)  # 7
    )
    if refused:
        return refused
    return VerifiedVouch(vouch=vouch, verified_at=now, trust_root_version=trust_root.version)


def _signer(envelope: Envelope, vouch: Vouch, trust_root: TrustRoot) -> Refused | None:
    if len(envelope.signatures) != 1 or envelope.signatures[0].key_id != vouch.issuer_key:
        return _unverified("the vouch is not signed by the one key that it names", "let its issuer sign it")
    spki = next((key.spki for key in trust_root.keys if key.key_id == vouch.issuer_key), None)
    if spki is None:
        return _unverified(f"the TrustRoot does not know the key `{vouch.issuer_key[:16]}`", "delegate the key in a new TrustRoot")
    if not holds(PAYLOAD_TYPE, envelope.payload, envelope.signatures[0].signature, spki):
        return _unverified("the vouch's signature does not hold", "produce the vouch again")
    return None


def _delegated(vouch: Vouch, trust_root: TrustRoot, zone: str, now: UnixMillis) -> Refused | None:
    mine = [one for one in trust_root.delegations if one.key_id == vouch.issuer_key and one.role == vouch.issuer_role]
    fit = [one for one in mine if vouch.predicate_type in one.predicates and _covers(one, zone)]
    if not fit:
        return _unverified(
            f"the key is not delegated to sign `{vouch.predicate_type}` as `{vouch.issuer_role[:40]}` here",
            "delegate it in a new TrustRoot, or let the delegated key sign",
        )
    if all(now >= one.expires_at for one in fit):
        return Refused(why="expired", reason="the key's delegation has expired", remedy="renew the delegation in a new TrustRoot")
    if all(now >= one.expires_at or TIERS.index(vouch.tier) < TIERS.index(one.highest_tier) for one in fit):
        return Refused(why="tier", reason=f"the key may not state anything as `{vouch.tier}`", remedy="state it at the delegated tier")
    return None


def _covers(one: Delegation, zone: str) -> bool:
    return "*" in one.zones or (zone != "" and zone in one.zones)


def _fits(vouch: Vouch) -> Refused | None:
    try:
        check_fits(vouch)
    except InvalidInput as error:
        return _unverified(error.reason, error.remedy)
    return None


def _window(vouch: Vouch, now: UnixMillis) -> Refused | None:
    if vouch.issued_at > now + SKEW_MS:
        return _unverified("the vouch was issued in the future", "set the issuer's clock right")
    if now >= vouch.expires_at:
        return Refused(why="expired", reason=f"the `{vouch.predicate_type}` vouch has expired", remedy="produce it again")
    if now < vouch.not_before:
        return _unverified(f"the `{vouch.predicate_type}` vouch has not begun", "wait until it begins")
    return None


def _standing(vouch: Vouch, revoked: Revoked) -> Refused | None:
    by = revoked(vouch)
    if by:
        return Refused(why="revoked", reason=f"the revocation `{by[:64]}` stands against it", remedy="produce it again from sound content")
    return None


def _supports(vouch: Vouch, known: Mapping[str, Vouch], revoked: Revoked) -> Refused | None:
    for identity in vouch.rests_on:
        support = known.get(identity)
        if support is None:
            return Refused(why="absent", reason=f"it rests on `{identity[:16]}`, which is not known", remedy="send that vouch first")
        if revoked(support):
            return Refused(
                why="revoked", reason=f"it rests on `{identity[:16]}`, which is revoked", remedy="produce it again on new evidence"
            )
        if vouch.outcome == "pass" and support.outcome != "pass":
            return Refused(why="failed", reason=f"it rests on `{identity[:16]}`, which did not pass", remedy="rest it on passes alone")
    return None


def _unverified(reason: str, remedy: str) -> Refused:
    return Refused(why="unverified", reason=reason, remedy=remedy)

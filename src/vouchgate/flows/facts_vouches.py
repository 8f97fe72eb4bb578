"""What is vouched for and what was withdrawn; the part of `Facts` that keeps the lineage.

Rules
1. A stored vouch is verified as of the time at which it could last be taken in, so that an expired fail goes on beating an older pass.
2. Under a new TrustRoot every vouch has to verify anew: a delegation that is gone takes its vouches with it.
3. A revocation stands until it is withdrawn, and is made or withdrawn once.
"""

from __future__ import annotations

from vouchgate.evidence import lineage as lineages
from vouchgate.evidence.statement import read_vouch
from vouchgate.evidence.verify import nothing_revoked, verify
from vouchgate.evidence.waivers import WAIVER
from vouchgate.flows.changes import VouchAdded
from vouchgate.flows.facts_world import Derived
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.outcomes import Refused
from vouchgate.vocabulary.trust import TrustRoot
from vouchgate.vocabulary.vouches import Revocation, UnixMillis, Vouch


class Vouched(Derived):
    """See the module's text. `Facts` fills what is named here."""

    trust_root: TrustRoot | None
    revocations: dict[str, Revocation]
    _standing: dict[tuple[str, str], dict[str, Revocation]]
    """Kind and target -> revocations that stand, by id."""
    waivers: dict[str, Vouch]
    """Every waiver in the lineage, ended ones included."""
    refused_vouches: int
    _envelopes: dict[str, tuple[VouchAdded, int]]
    """Every vouch in the lineage as it came, in log order."""

    def envelope_of(self, vouch_id: str) -> bytes | None:
        """A vouch of the lineage as it was signed."""
        kept = self._envelopes.get(vouch_id)
        return kept[0].envelope if kept is not None else None

    def _add_vouch(self, added: VouchAdded, log_index: int, now: UnixMillis) -> None:
        if self.trust_root is None:
            self.refused_vouches += 1
            return
        try:
            said = read_vouch(added.envelope).vouch
        except InvalidInput:
            self.refused_vouches += 1
            return
        at = UnixMillis(max(said.not_before, min(now, said.expires_at - 1)))
        verified = verify(added.envelope, self.trust_root, at, known=self.lineage.vouches, revoked=nothing_revoked)
        if isinstance(verified, Refused):
            self.refused_vouches += 1
            return
        if added.id in self.lineage.vouches:
            return
        self.lineage.add(verified, added.log_index or log_index)
        if said.predicate_type == WAIVER:
            self.waivers[added.id] = said
        self._envelopes[added.id] = (added, log_index)
        self._renew_subjects({subject.name for subject in verified.vouch.subjects}, now)

    def _verify_again(self, now: UnixMillis) -> None:
        """Under a new TrustRoot every vouch has to verify anew: a delegation that is gone takes its vouches with it."""
        kept, self._envelopes = list(self._envelopes.values()), {}
        standing = [one for one in self.revocations.values() if not one.withdrawn_by]
        subjects = {subject.name for vouch in self.lineage.vouches.values() for subject in vouch.subjects}
        self.lineage, self.waivers = self._new_lineage(), {}
        for added, log_index in kept:
            self._add_vouch(added, log_index, now)
        for revocation in standing:
            self.lineage.revoke(revocation)
        self._renew_subjects(subjects, now)

    def _revoke(self, revocation: Revocation, now: UnixMillis) -> None:
        self.revocations[revocation.id] = revocation
        target = (revocation.target_kind, revocation.target)
        if revocation.withdrawn_by:
            self._standing.get(target, {}).pop(revocation.id, None)
        else:
            self._standing.setdefault(target, {})[revocation.id] = revocation
        if revocation.withdrawn_by:
            affected = self.lineage.withdraw(revocation.id) if revocation.id in self.lineage.revocations else None
        elif revocation.id in self.lineage.revocations:
            affected = None
        else:
            affected = self.lineage.revoke(revocation)
        if affected is not None:
            names = set(affected.subjects) | {resource(self.trust_domain, "artifact", digest) for digest in affected.digests}
            self._renew_subjects(names, now)

    def _check_revocation(self, revocation: Revocation) -> None:
        known = self.revocations.get(revocation.id)
        if revocation.withdrawn_by and (known is None or known.withdrawn_by):
            raise NotFound(f"no standing revocation has the id `{revocation.id}`", remedy="list them: `vouchgate status`")
        if not revocation.withdrawn_by and known is not None:
            raise Conflict(f"the revocation `{revocation.id}` was made before", remedy="make a new one")

    def _new_lineage(self) -> lineages.Lineage:
        """Empty; another for facts whose time is put forward (forecast.py)."""
        return lineages.Lineage()

"""What the Workload API's look at a process says of its identity, as evidence that ages: `attested`, where a policy asks for it.

1. Only where a policy in force names `attested`, and the TrustRoot lets our own look be vouched for: nobody else pays for it.
2. When a workload was given a credential, and the newest such vouch of its identity has less than half of its life left, another is signed. It
   lives as long as a certificate of that identity, `MIN_HOURS` at least; a workload that follows its stream is looked at twice in that time.
3. It says what was seen: which facts the kernel gave. Nothing of the disk, the patches, or the other processes of the host; that is `posture`,
   which who manages the device tells. The two are apart, so that our look at a process never clears what a device's manager found.
4. Made beside the answer: a workload does not wait for it, and one that cannot be made is made with the next credential.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from vouchgate.audit import ocsf
from vouchgate.evidence.statement import read_vouch
from vouchgate.flows.changes import VouchAdded
from vouchgate.flows.context import Context
from vouchgate.policy.compile import CompiledPolicies
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.principals import Registration, Selector
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import Method, Subject, Vouch
from vouchgate.vocabulary.wire import to_plain

PREDICATE = "attested"
MIN_HOURS = 2
"""Hours that one lives at least: twelve a day for each identity, however short its certificates are."""
MAX_HOURS = 24
MAX_SELECTORS = 64
MAX_TEXT = 512
HOUR_MS = 3_600_000

log = logging.getLogger("vouchgate.workload")


class Attesting:
    """See the module's text. One for a control plane."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asked: tuple[CompiledPolicies | None, bool] = (None, False)
        self._making: set[str] = set()

    def saw(self, registration: Registration, selectors: Iterable[Selector]) -> None:
        """A process of this identity was looked at just now."""
        name = registration.principal
        if self._is_asked_for() and name not in self._making and not self._is_fresh(name):
            self._making.add(name)
            self._context.spawn(self._vouch(registration, sorted(selectors, key=lambda one: (one.type, one.value))))

    def _is_asked_for(self) -> bool:
        """Rule 1."""
        facts = self._context.facts
        policies, asked = self._asked
        if policies is not facts.policies:
            texts = (one.text for one in facts.policies.source.policies) if facts.policies else ()
            asked = any(f'"{PREDICATE}"' in text or f'"{PREDICATE}@' in text for text in texts)
            self._asked = (facts.policies, asked)
        delegations = facts.trust_root.delegations if facts.trust_root and asked else ()
        return any(one.role == "supervisor" and PREDICATE in one.predicates for one in delegations)

    def _is_fresh(self, name: str) -> bool:
        now, lineage = self._context.clock.now(), self._context.facts.lineage
        mine = [one for one in lineage.about(name) if one.predicate_type == PREDICATE and not lineage.revoked(one)]
        newest: Vouch | None = max(mine, key=lambda one: one.expires_at, default=None)
        return newest is not None and newest.expires_at - now > (newest.expires_at - newest.not_before) // 2

    async def _vouch(self, registration: Registration, selectors: list[Selector]) -> None:
        context, name = self._context, registration.principal
        now, life = context.clock.now(), min(MAX_HOURS * HOUR_MS, max(MIN_HOURS * HOUR_MS, 1000 * registration.svid_ttl_seconds))
        try:
            signed = await context.signer.call(
                "vouch",
                role="supervisor",
                predicate_type=PREDICATE,
                predicate_version=1,
                subjects=[to_plain(Subject(name=name))],
                outcome="pass",
                not_before=now,
                expires_at=now + life,
                tier="verified",
                method=to_plain(Method(tool="vouchgate-agent", version="1")),
                claims={
                    "checked": sorted({one.type for one in selectors})[:MAX_SELECTORS],
                    "selectors": [f"{one.type}={one.value}"[:MAX_TEXT] for one in selectors[:MAX_SELECTORS]],
                },
            )
            vouch = read_vouch(signed["envelope"]).vouch
            entry = Append(entry=ocsf.vouch(vouch, now=now), label=vouch.id)
            await context.sequencer.submit("workload:agent", [VouchAdded(id=vouch.id, envelope=signed["envelope"])], [entry])
        except VouchgateError as error:
            log.error("that `%s` was attested could not be vouched for: %s", name, error.reason)
        finally:
            self._making.discard(name)

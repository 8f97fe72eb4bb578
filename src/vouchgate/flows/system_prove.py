"""The part of the control plane's surface that is about proofs. Nothing happens here but handing over."""

from __future__ import annotations

from vouchgate.flows import check_policy, prove
from vouchgate.flows.context import Context
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_policy import CheckReport, CheckRequest, Proof, ProofRequest
from vouchgate.vocabulary.errors import Unsupported


class ProvingSystem:
    """See the module's text."""

    context: Context
    prover: prove.Prover | None = None
    """Set by whoever starts processes."""

    def _prover(self) -> prove.Prover:
        if self.prover is None:
            raise Unsupported("nothing can be proved here", remedy="ask with files: `vouchgate policy prove --policies FILE`")
        return self.prover

    async def policy_prove(self, caller: Caller, request: ProofRequest) -> Proof:
        return await prove.ask(self.context, caller, request, self._prover())

    async def policy_examine(self, caller: Caller, request: CheckRequest) -> CheckReport:
        return await check_policy.check_here(self.context, caller, request, self._prover())

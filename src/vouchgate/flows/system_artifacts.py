"""What the API offers of artifacts: taking them in, with what was signed about them, and scanning them again."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from vouchgate.flows import rescan, take_signature
from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.admit_artifact import admit_artifact
from vouchgate.flows.assets import place_imported
from vouchgate.flows.import_desk import Copy, desk_of
from vouchgate.flows.stored_place import StagedContent
from vouchgate.flows.system_signatures import SignatureSystem
from vouchgate.vocabulary import answers
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_approvals import VouchTaken
from vouchgate.vocabulary.errors import LimitExceeded, VouchgateError


class ArtifactSystem(SignatureSystem):
    """Part of `System`."""

    _scan: Any
    open_tree: Callable[[Path], Any]
    """Opens a staged folder by its manifest (wiring.stored_tree)."""
    rescanning = answers.RescanState()
    """Where the newest run of `rescan` stands."""

    async def import_artifact(self, caller: Caller, request: answers.ImportRequest) -> answers.ImportOutcome:
        await authorise(self.context, caller, "import")
        source = os.open(request.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            evidence = partial(self._hold, caller, request)
            desk = desk_of(self.context, caller, artifacts=self._artifacts, scan=self._scan, zone=request.zone, evidence=evidence)
            outcome = await admit_artifact(desk, source, name=request.name, zone=request.zone, tree=request.tree)
            if outcome.admitted:
                await place_imported(self.context, caller, outcome.resource, request.zone)
            return outcome
        finally:
            os.close(source)

    async def _hold(self, caller: Caller, request: answers.ImportRequest, staged: Copy) -> VouchTaken | None:
        """What came with the artifact, held against the copy; the first that does not hold."""
        content = StagedContent(staged.descriptor, staged.path, self.open_tree)
        for predicate, bundle in ((take_signature.SIGNATURE, request.signature), (take_signature.PROVENANCE, request.provenance)):
            if len(bundle) > take_signature.MAX_BUNDLE_BYTES:
                raise LimitExceeded(f"the {predicate} has {len(bundle)} bytes", remedy=f"{take_signature.MAX_BUNDLE_BYTES} at most")
            if bundle:
                made = await take_signature.vouch_for(self.context, caller, content, self.signer_files, staged.digest, bundle, predicate)
                if not made.taken:
                    return made
        return None

    async def rescan(self, caller: Caller) -> answers.RescanState:
        """Begin to scan everything again that a weaker scanner passed; one at a time. Where it stands."""
        await authorise(self.context, caller, "rescan")
        if not self.rescanning.running:
            self.rescanning = answers.RescanState(running=True)
            entry = act_entry(self.context, caller, "rescan", "", "done", {})
            await self.context.sequencer.submit(caller.principal.principal.id, (), [entry])
            self.context.spawn(self.rescan_all(caller))
        return self.rescanning

    async def rescan_state(self, caller: Caller) -> answers.RescanState:
        await authorise(self.context, caller, "read")
        return self.rescanning

    async def rescan_all(self, caller: Caller) -> None:
        """Run it to its end; what stops it is told by the state."""

        def tell(state: answers.RescanState) -> None:
            self.rescanning = state

        desk = desk_of(self.context, caller, artifacts=self._artifacts, scan=self._scan)
        try:
            tell(replace(self.rescanning, running=True, trouble=""))
            await rescan.rescan(self.context, desk, tell)
        except VouchgateError as error:
            tell(replace(self.rescanning, running=False, trouble=error.reason))
        except BaseException:
            tell(replace(self.rescanning, running=False, trouble="it was ended by a fault"))
            raise

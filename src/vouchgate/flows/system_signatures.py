"""What the API offers of signatures and provenance (flows/take_signature.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouchgate.flows import take_signature
from vouchgate.flows.context import Context
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_approvals import VouchTaken


class SignatureSystem:
    """Part of `System`."""

    context: Context
    _artifacts: Any
    signer_files: Mapping[str, bytes] = {}
    """Files that [[signers]] and [[builders]] name, as they were read with the settings."""

    async def vouch_signature(self, caller: Caller, digest: str, bundle: bytes, by: str) -> VouchTaken:
        """Hold a model's signature against what is kept, and vouch for who signed it; a refusal is an answer."""
        return await take_signature.take_signature(self.context, caller, self._artifacts, self.signer_files, digest, bundle, by)

    async def vouch_provenance(self, caller: Caller, digest: str, bundle: bytes, by: str) -> VouchTaken:
        """Hold a builder's provenance against what is kept, and vouch for where it comes from; a refusal is an answer."""
        return await take_signature.take_provenance(self.context, caller, self._artifacts, self.signer_files, digest, bundle, by)

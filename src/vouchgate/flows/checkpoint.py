"""Sign a checkpoint whenever the log has grown, and have the witness cosign it.

1. Size and root of the log as one value. 2. The signer signs it, or refuses what does not continue. 3. The witness gets the note with a
proof of consistency from the size it knows. 4. The note, cosigned where the witness answered, is kept. A witness that is away is a warning,
not a stop: the next checkpoint carries a proof from where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from vouchgate.audit.checkpoints import add_cosignature, read_checkpoint, witness_verifier
from vouchgate.audit.proofs import consistency_proof
from vouchgate.flows.context import Context
from vouchgate.vocabulary.errors import Conflict, VouchgateError


class Checkpoints:
    """The newest checkpoint, and who stands behind it."""

    def __init__(self, context: Context, origin: str, *, witness_name: str, witness_key: bytes) -> None:
        self._context, self._origin = context, origin
        self._witness = witness_verifier(witness_name, witness_key) if witness_key else None
        self._witnessed = 0
        self.signed_size = 0
        self.cosigned_size = 0
        self.cosigned_at = 0
        self.trouble = ""

    async def run(self, seconds: float) -> None:
        """A checkpoint every so often while there is something new."""
        while True:
            try:
                await self.make()
            except VouchgateError as error:
                self.trouble = error.reason
            await asyncio.sleep(seconds)

    async def make(self) -> None:
        """Steps 1 to 4, if the log has grown or was not cosigned."""
        store = self._context.store
        size, root = await asyncio.to_thread(store.root)  # 1
        if size == 0 or (size == self.signed_size and (self._witness is None or size == self.cosigned_size)):
            return
        note = (await self._context.signer.call("checkpoint", origin=self._origin, size=size, root_hash=root)).encode()  # 2
        cosigned = await self._cosigned(note, size)
        await asyncio.to_thread(store.put_checkpoint, cosigned)  # 4
        self.signed_size = size

    async def _cosigned(self, note: bytes, size: int) -> bytes:
        if self._witness is None:
            self.trouble = ""
            return note
        for _ in range(2):
            if self._witnessed > size:
                break
            proof = await asyncio.to_thread(consistency_proof, self._witnessed, size, self._context.store.tile) if self._witnessed else []
            try:
                line: Any = await self._context.witness.call(
                    "add_checkpoint", old_size=self._witnessed, checkpoint=note, consistency_proof=proof
                )
            except Conflict:
                await self._ask_witness()
                continue
            except VouchgateError as error:
                self.trouble = error.reason
                return note
            self.trouble = ""
            self._witnessed = self.cosigned_size = size
            self.cosigned_at = self._context.clock.now()
            return add_cosignature(note, str(line), self._witness)
        self.trouble = "the witness holds a checkpoint that this log does not continue"
        return note

    async def _ask_witness(self) -> None:
        """How far the witness is; where it does not say, as far as it was."""
        with contextlib.suppress(VouchgateError):
            latest = await self._context.witness.call("latest")
            self._witnessed = read_checkpoint(latest).size if latest else 0

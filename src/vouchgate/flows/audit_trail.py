"""Read the audit log: entries, the newest checkpoint, a proof for one entry, and a check of everything."""

from __future__ import annotations

import asyncio
import time

from vouchgate.audit import ocsf
from vouchgate.audit.checkpoints import log_verifier, open_checkpoint, read_checkpoint, witness_verifier
from vouchgate.audit.notes import Verifier, parse_note
from vouchgate.audit.proofs import inclusion_proof
from vouchgate.audit.tlog_proof import write_proof
from vouchgate.audit.verify import LogBroken, verify_log
from vouchgate.flows.context import Context
from vouchgate.flows.needs import OWN_MACHINE
from vouchgate.vocabulary.answers import AuditCheckpoint, AuditEntry, AuditPage, AuditProof, AuditReport
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unavailable, VouchgateError
from vouchgate.vocabulary.vouches import UnixMillis

MAX_PAGE = 1_000
"""Entries of one page."""
PROOF_SECONDS = 3.0
"""How long a proof of the newest entry waits for the checkpoint that covers it."""


class Trail:
    """The log with the keys that verify it."""

    def __init__(self, context: Context, *, origin: str, log_key: bytes, witness_name: str, witness_key: bytes) -> None:
        self._context = context
        self.log = log_verifier(origin, log_key)
        self.witnesses: tuple[Verifier, ...] = (witness_verifier(witness_name, witness_key),) if witness_key else ()

    def entries(self, start: int, count: int) -> AuditPage:
        """Entries in log order; `start` below zero counts from the end."""
        store = self._context.store
        size = store.size()
        first = max(0, size + start) if start < 0 else start
        rows = store.entries(first, min(count, MAX_PAGE)) if first < size else []
        return AuditPage(entries=tuple(_entry(first + number, entry) for number, entry in enumerate(rows)), size=size)

    def checkpoint(self) -> AuditCheckpoint:
        """The newest one. Raises `Unavailable` before there is any."""
        note = self._note()
        head = read_checkpoint(note)
        signers = tuple(one.name for one in parse_note(note).signatures)
        return AuditCheckpoint(note=note.decode(), size=head.size, root=head.root.hex(), at=self._context.clock.now(), signers=signers)

    def _note(self) -> bytes:
        note = self._context.store.latest_checkpoint()
        if note is None:
            raise Unavailable("there is no checkpoint yet", remedy="wait a second; if it lasts, see `vouchgate status`")
        return note

    async def proof(self, of: str) -> AuditProof:
        """A tlog-proof for an index, a request id or a decision id. Raises `NotFound`."""
        index = self._index(of)
        end = time.monotonic() + PROOF_SECONDS
        while read_checkpoint(self._note()).size <= index:
            if time.monotonic() > end:
                raise Unavailable(f"entry {index} is not under a checkpoint yet", remedy="try again in a second")
            await asyncio.sleep(0.05)
        note = self._note()
        size = read_checkpoint(note).size
        path = await asyncio.to_thread(inclusion_proof, index, size, self._context.store.tile)
        return AuditProof(index=index, text=write_proof(index, path, note).decode())

    def _index(self, of: str) -> int:
        found = self._context.store.find_entries(of)
        if found:
            return found[-1]
        if of.isdigit() and len(of) < 19 and int(of) < self._context.store.size():
            return int(of)
        raise NotFound(f"nothing in the log is called `{of[:80]}`", remedy="give a log index, a request id or a decision id")

    async def verify(self, against: str) -> AuditReport:
        """Recompute everything, off the event loop."""
        return await asyncio.to_thread(self._verify, against)

    def _verify(self, against: str) -> AuditReport:
        started = time.monotonic()
        store = self._context.store
        note = self._note()
        cosigned = tuple(one for one in self.witnesses if any(by.name == one.name for by in parse_note(note).signatures))
        try:
            older = [against.encode()] if against else []
            if older:
                open_checkpoint(older[0], self.log)
            found = verify_log(store, note, self.log, witnesses=cosigned, against=older)
        except InvalidInput:
            raise
        except VouchgateError as error:
            return AuditReport(ok=False, size=store.size(), root="", checked=0, problems=(error.reason,), statement=OWN_MACHINE)
        took = round((time.monotonic() - started) * 1000, 1)
        if isinstance(found, LogBroken):
            reason = f"{found.reason} (entries {found.first_bad} to {found.last_bad})"
            return AuditReport(
                ok=False,
                size=store.size(),
                root="",
                checked=found.first_bad,
                problems=(reason,),
                first_bad=found.first_bad,
                duration_ms=took,
            )
        return AuditReport(
            ok=True,
            size=found.size,
            root=found.root.hex(),
            checked=found.size,
            witnesses=tuple(one.name for one in cosigned),
            statement=OWN_MACHINE,
            duration_ms=took,
        )


def _entry(index: int, entry: bytes) -> AuditEntry:
    said = ocsf.summary(entry)
    return AuditEntry(
        index=index, at=UnixMillis(said.time), kind=said.kind, actor=said.who, summary=said.message, body=ocsf.plain_of(entry)
    )

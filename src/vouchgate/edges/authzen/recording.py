"""Decisions made for others, recorded before they are told: many in one message, few messages at once.

Rules
1. What is put waits until the control plane has it in the log; then `done("")` is called, in the order in which it was put.
2. If it could not be recorded in time, `done(why)` is called, and nothing of it is told.
3. At most `MAX_BATCH` decisions are in one message and `MAX_MESSAGES` on their way, so that the gateway's own decisions never stand behind
   more than that; at most `MAX_WAITING` wait, further ones are refused at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from vouchgate.vocabulary import wire
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import VouchgateError

MAX_BATCH = 256
"""Decisions of one message: about 200 KiB, and 5 ms of the control plane."""
MAX_MESSAGES = 2
"""Messages on their way: while one is written to disk, the next is read."""
MAX_WAITING = 8_192
"""Decisions that wait to be recorded; half a second's worth."""

Send = Callable[[list[bytes], list[str]], Any]
"""Decisions, and who asked for each; an awaitable that ends when they are in the log."""
Done = Callable[[str], None]
Put = tuple[Sequence[Decision], str, Done]

log = logging.getLogger("vouchgate.authzen")


class Recorder:
    """See the module's text."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: deque[Put] = deque()
        self._count = 0
        self._on_way = 0
        self._due = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def full(self) -> bool:
        """Rule 3."""
        return self._count >= MAX_WAITING

    def put(self, decisions: Sequence[Decision], asked_by: str, done: Done) -> None:
        """Record these; `done` is told what came of it. With nothing to record it is told so in its turn."""
        self._waiting.append((decisions, asked_by, done))
        self._count += len(decisions)
        if not self._due and self._on_way < MAX_MESSAGES:
            # what else is decided in this turn of the loop goes along
            self._due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._due = False
        while self._waiting and self._on_way < MAX_MESSAGES:
            batch: list[Put] = []
            count = 0
            while self._waiting and (not batch or count + len(self._waiting[0][0]) <= MAX_BATCH):
                one = self._waiting.popleft()
                batch.append(one)
                count += len(one[0])
            self._count -= count
            self._on_way += 1
            task = asyncio.get_running_loop().create_task(self._record(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _record(self, batch: list[Put]) -> None:
        why = ""
        try:
            await self._send(
                [wire.encode(one) for decisions, _, _ in batch for one in decisions],
                [who for decisions, who, _ in batch for _ in decisions],
            )
        except VouchgateError as error:
            why = error.reason
        except Exception as error:
            log.error("decisions could not be recorded: %s", type(error).__name__)
            why = "the decision could not be recorded"
        self._on_way -= 1
        for _, _, done in batch:
            done(why)
        self._flush()

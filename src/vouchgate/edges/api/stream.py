"""Live decisions as server-sent events (HTML, section 9.2).

Rules
1. `id` is the log index, so a reader sees a gap and asks for the page instead.
2. A comment every `HEARTBEAT_SECONDS` keeps the connection and finds readers that are gone.
3. Streams are bounded, in all and for each caller.
4. Whether the reader still stands is asked every `STANDING_SECONDS` and before each line: whoever is revoked reads nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.errors import LimitExceeded, VouchgateError
from vouchgate.vocabulary.wire import encode

HEARTBEAT_SECONDS = 15.0
"""Below the 30 s after which usual proxies cut an idle answer."""
STANDING_SECONDS = 0.25
"""Within the second in which a revocation holds everywhere."""
RETRY_MILLISECONDS = 1000
"""How long a browser waits before it connects again."""
MAX_STREAMS = 64
"""Streams at once; a team's open pages."""
MAX_STREAMS_A_CALLER = 8
"""One person's open pages."""


class Streams:
    """Counts the open streams."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def admit(self, who: str) -> None:
        """Raises `LimitExceeded`; pair it with `leave`."""
        if self._open.total() >= MAX_STREAMS or self._open[who] >= MAX_STREAMS_A_CALLER:
            raise LimitExceeded("too many live streams are open", remedy="close other console pages")
        self._open[who] += 1

    def leave(self, who: str) -> None:
        """A stream of `who` ended."""
        self._open[who] -= 1
        self._open += Counter()


async def events(
    decisions: AsyncIterator[DecisionLine], *, heartbeat: float = HEARTBEAT_SECONDS, still: Callable[[], None] = lambda: None
) -> AsyncIterator[bytes]:
    """The body of the stream. Ends with an `end` event when the source fails or `still` raises, so that the page can say so."""
    silent = 0.0
    yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    upcoming: asyncio.Task[DecisionLine] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(_next(decisions))
            pause = min(heartbeat, STANDING_SECONDS)
            done, _ = await asyncio.wait({upcoming}, timeout=pause)
            still()
            silent = 0.0 if done else silent + pause
            if not done:
                if silent >= heartbeat:
                    silent = 0.0
                    yield b": heartbeat\n\n"
                continue
            line, upcoming = upcoming.result(), None
            yield b"id: %d\nevent: decision\ndata: %s\n\n" % (line.seq, encode(line))
    except (StopAsyncIteration, VouchgateError):
        yield b"event: end\ndata: {}\n\n"
    finally:
        if upcoming is not None:
            upcoming.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, VouchgateError):
                await upcoming
        close = getattr(decisions, "aclose", None)
        if close is not None:
            await close()


class _Ended(VouchgateError):
    """A StopAsyncIteration may not leave a task."""


async def _next(decisions: AsyncIterator[DecisionLine]) -> DecisionLine:
    try:
        return await anext(decisions)
    except StopAsyncIteration:
        raise _Ended("the stream ended", remedy="connect again") from None

"""The agent's questions to the control plane: gathered into batches, answered by bytes that the caller may have, or by a status.

1. While nothing is under way a question goes at once; while something is, later ones gather, so that a burst shares one batch and one commit.
   A batch takes from each uid in turn: who asks a thousand times delays nobody who asks once.
2. What the control plane refuses becomes the status that the standard names (SPIFFE Workload API, section 4.4 and 5): no identity is
   PermissionDenied, a malformed request InvalidArgument, a control plane that is away Unavailable; a client retries the first and the last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Protocol

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from vouchgate.vocabulary.errors import VouchgateError

MAX_BATCH = 32
"""Questions of one batch: about 7 ms of the signer, so that the first answers leave while others are signed."""
MAX_AT_ONCE = 4
"""Batches under way: one signs while another is committed and a third is answered."""
MAX_WAITING = 8_192
"""Questions that may wait; beyond it callers are told to come back."""
INVALID = frozenset({"audience", "invalid-input", "invalid-name"})
"""Codes that the caller's own request earns."""
LATER = frozenset({"unavailable", "limit-exceeded", "conflict", "error", "gone", "no-bundle"})
"""Codes that say nothing about the caller."""


_Question = tuple[dict[str, Any], asyncio.Future[dict[str, Any]]]


class Control(Protocol):
    """The control plane's frames socket."""

    async def call(self, method: str, /, **params: Any) -> Any:
        """One request. Raises the peer's typed error, or `Unavailable`."""


class Questions:
    """See the module's text. Belongs to one event loop."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._waiting: OrderedDict[int, deque[_Question]] = OrderedDict()
        self._count = 0
        self._gone: list[str] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The control plane's answer; `spki`, where there is one, is called for the key. Raises `GRPCError`."""
        if self._count >= MAX_WAITING:
            raise GRPCError(Status.UNAVAILABLE, "too many requests wait")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(question["uid"], deque()).append((question, answer))
        self._count += 1
        self._start()
        said = await answer
        if said["ok"]:
            return said
        raise GRPCError(status_of(said["code"]), f"{said['reason']} ({said['remedy']})")

    async def validate(self, token: str, audience: str) -> dict[str, Any]:
        """What the control plane says of a token. Raises `VouchgateError`."""
        return dict(await self._control.call("workload.validate", token=token, audience=audience))

    async def tell_refused(self, refused: list[dict[str, Any]]) -> None:
        """What was refused here, for the log. Raises `VouchgateError`."""
        await self._control.call("workload.refused", refused=refused)

    def gone(self, connection: str) -> None:
        """The control plane may forget this connection, at the next occasion."""
        if len(self._gone) < MAX_WAITING:
            self._gone.append(connection)

    def _start(self) -> None:
        if self._waiting and len(self._under_way) < MAX_AT_ONCE:
            task = asyncio.create_task(self._batch())
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._start()

    async def _batch(self) -> None:
        # what becomes ready in the same turn of the loop goes along
        await asyncio.sleep(0)
        taken = self._take()
        gone, self._gone = self._gone, []
        if not taken:
            self._gone = gone + self._gone
            return
        if self._waiting:
            self._start()
        try:
            answers = await self._control.call("workload.issue", requests=[_ready(question) for question, _ in taken], gone=gone)
        except VouchgateError as error:
            answers = [{"ok": False, "code": error.code, "reason": error.reason, "remedy": error.remedy}] * len(taken)
        for (_, waiting), answer in zip(taken, answers, strict=True):
            if not waiting.done():
                waiting.set_result(answer)

    def _take(self) -> list[_Question]:
        taken: list[_Question] = []
        while self._waiting and len(taken) < MAX_BATCH:
            uid, lane = self._waiting.popitem(last=False)
            question = lane.popleft()
            self._count -= 1
            if lane:
                self._waiting[uid] = lane
            if not question[1].done():
                taken.append(question)
        return taken


def _ready(question: dict[str, Any]) -> dict[str, Any]:
    """A key is made only now, so that those of the first batch wait for no other's."""
    make = question.get("spki")
    return question if make is None else {**question, "spki": make()}


def status_of(code: str) -> Status:
    """Rule 2."""
    if code in INVALID:
        return Status.INVALID_ARGUMENT
    return Status.UNAVAILABLE if code in LATER else Status.PERMISSION_DENIED


class Known:
    """Bundles and revocation lists, fetched when they are asked for and after the control plane said that they changed."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._state: dict[str, Any] | None = None
        self._fetching: asyncio.Task[dict[str, Any]] | None = None
        self.version = 0
        self.on_change: Callable[[], None] = lambda: None

    async def get(self) -> dict[str, Any]:
        """The state as it is known. Raises `GRPCError` where none was ever fetched."""
        if self._state is None:
            await self._fetch()
        assert self._state is not None
        return self._state

    async def renew(self) -> None:
        """Fetch it anew, and say so if it differs. What cannot be fetched stays as it is."""
        before = self.version
        self._fetching = None
        with contextlib.suppress(GRPCError):
            await self._fetch()
        if self.version != before:
            self.on_change()

    async def _fetch(self) -> None:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._control.call("workload.state"))
        fetching = self._fetching
        try:
            made = await asyncio.shield(fetching)
        except VouchgateError as error:
            raise GRPCError(Status.UNAVAILABLE, error.reason) from None
        finally:
            if fetching.done() and self._fetching is fetching:
                self._fetching = None
        if made != self._state:
            self._state = made
            self.version += 1

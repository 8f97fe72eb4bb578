"""The desk of the AuthZEN edge: what waits, in which order it is decided, and what is answered.

Rules
1. Requests wait in a lane of each caller and are served in turn, so that one who sends a thousand a second delays no other's.
2. After `SLICE_SECONDS` of deciding, the event loop gets a turn: the gateway's own questions (ext_authz) and the lease stand in it.
3. A caller that may not ask is told 403 (10.1.2), one that proved nothing 401, one that floods 503; each refusal of a known caller is recorded.
4. An answer leaves after every decision in it is in the log; if it cannot be recorded, the answer is 503.
5. A page token is ours (HMAC), for this caller and exactly this search, for `TOKEN_SECONDS`; any other is 400.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import msgspec

from vouchgate.edges.authzen import bodies
from vouchgate.edges.authzen.bodies import Batch, Kind
from vouchgate.edges.authzen.recording import Recorder
from vouchgate.flows.evaluate_for import MAX_RESULTS, Evaluations
from vouchgate.vocabulary.authzen import Evaluated, Found, Question
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unavailable, VouchgateError
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import VerifiedPrincipal

SLICE_SECONDS = 0.002
"""Seconds of deciding between two turns of the event loop: what the gateway's question waits for at most, beside one search step."""
MAX_LANE = 256
"""Requests of one caller that may wait; more is 503 at once."""
MAX_WAITING = 2_048
"""Requests of everybody that may wait."""
DEFAULT_RESULTS = 100
"""Results of a page whose size was not asked for."""
TOKEN_SECONDS = 600.0
"""A page token is good for this long."""
WELL_KNOWN = "/.well-known/authzen-configuration"
APPLICATIONS = "/applications/"

Reply = Callable[[int, bytes], None]
"""Status and body; a text of 4xx and 5xx is plain (section 10.1.2)."""
Caller = Callable[[], VerifiedPrincipal | Denied]
"""Who is at the other end, asked anew for each request."""

log = logging.getLogger("vouchgate.authzen")


class Asked(msgspec.Struct, frozen=True):
    """One request that waits."""

    method: str
    path: str
    body: bytes
    caller: VerifiedPrincipal
    reply: Reply


class Desk:
    """See the module's text."""

    def __init__(
        self,
        evaluations: Evaluations,
        recorder: Recorder,
        *,
        soon: Callable[[Callable[[], None]], Any],
        monotonic: Callable[[], float],
        base: str,
        per_second: int,
    ) -> None:
        self._evaluations, self._recorder, self._soon, self._monotonic, self._base = evaluations, recorder, soon, monotonic, base
        self._per_second = float(per_second)
        self._lanes: OrderedDict[str, deque[Asked | Iterator[None]]] = OrderedDict()
        self._waiting = 0
        self._due = False
        self._rates: dict[str, tuple[float, float]] = {}
        self._secret = secrets.token_bytes(32)
        self._told_no: dict[str, float] = {}
        self._let_in: dict[str, Decision] = {}

    def ask(self, method: str, path: str, body: bytes, caller: Caller, reply: Reply) -> None:
        """Take one request in."""
        try:
            found = caller()
        except VouchgateError as error:
            return reply(503, _words(error.reason))
        if isinstance(found, Denied):
            return reply(401, _words(found.reason))
        name = str(found.principal.id)
        if not self._within(name):
            return reply(503, b"too many requests of this caller")
        lane = self._lanes.setdefault(name, deque())
        if len(lane) >= MAX_LANE or self._waiting >= MAX_WAITING or self._recorder.full:
            return reply(503, b"too many requests wait")
        lane.append(Asked(method, path, body, found, reply))
        self._waiting += 1
        self._wake()
        return None

    def _wake(self) -> None:
        if not self._due:
            self._due = True
            self._soon(self._serve)

    def _serve(self) -> None:
        """Rules 1 and 2."""
        self._due = False
        until = self._monotonic() + SLICE_SECONDS
        while self._lanes:
            name, lane = next(iter(self._lanes.items()))
            again = self._step(lane.popleft())
            if again is not None:
                lane.appendleft(again)
            else:
                self._waiting -= 1
            if lane:
                self._lanes.move_to_end(name)
            else:
                del self._lanes[name]
            if self._monotonic() >= until:
                break
        if self._lanes:
            self._wake()

    def _step(self, one: Asked | Iterator[None]) -> Iterator[None] | None:
        """Decide a request, or go on with a search; what is left of it."""
        if isinstance(one, Asked):
            steps = self._begin(one)
            if steps is None:
                return None
            one = steps
        return one if next(one, "over") is None else None

    def _begin(self, one: Asked) -> Iterator[None] | None:
        try:
            return self._route(one)
        except NotFound as error:
            one.reply(404, _words(error.reason))
        except Unavailable as error:
            one.reply(503, _words(error.reason))
        except InvalidInput as error:
            one.reply(400, _words(error.reason))
        except Exception as error:
            # a text could hold a secret: the class alone is logged
            log.error("an evaluation failed: %s", type(error).__name__)
            one.reply(500, b"the evaluation failed inside")
        return None

    def _route(self, one: Asked) -> Iterator[None] | None:
        application, path = _split(one.path)
        may = self._evaluations.may_ask(one.caller)
        if may.effect != "allow":
            self._refuse(one, may)
            return None
        name = str(one.caller.principal.id)
        if self._let_in.get(name) is not may:
            # that it may ask was decided anew: it stands in the log before what it asked
            self._let_in[name] = may
            self._recorder.put((may,), name, lambda why: None)
        if application and application not in self._evaluations.applications:
            raise NotFound(f"there is no application `{application[:64]}`", remedy="name one of [[applications]]")
        if path == WELL_KNOWN:
            self._metadata(one, application)
            return None
        handler = _PATHS.get(path)
        if handler is None:
            raise NotFound("there is nothing here", remedy="see the metadata")
        if one.method != "POST":
            one.reply(405, b"use POST")
            return None
        said = bodies.read_object(one.body)
        if handler == "evaluation":
            self._answer_one(one, bodies.read_evaluation(said), application)
            return None
        if handler == "evaluations":
            asked = bodies.read_evaluations(said)
            if isinstance(asked, Question):
                self._answer_one(one, asked, application)
                return None
            return self._answer_many(one, asked, application)
        return self._search(one, cast(Kind, handler), bodies.read_search(said, cast(Kind, handler)), application)

    def _refuse(self, one: Asked, may: Decision) -> None:
        """Rule 3. The same refusal is recorded once a second: a flood of refused requests fills no log."""
        name, now = str(one.caller.principal.id), self._monotonic()
        if now - self._told_no.get(name, -1.0) < 1.0:
            return one.reply(403, _words(may.reason))
        if len(self._told_no) > 1_024:
            self._told_no.clear()
        self._told_no[name] = now
        self._record(one, 403, _words(may.reason), (may,))
        return None

    def _metadata(self, one: Asked, application: str) -> None:
        """Section 9.2."""
        if one.method != "GET":
            return one.reply(405, b"use GET")
        if not self._base:
            raise NotFound("this decision point has no address for others", remedy="set `[authzen] listen` or `url`")
        base = f"{self._base}{APPLICATIONS}{application}" if application else self._base
        return one.reply(200, bodies.write(bodies.metadata(base)))

    # -- evaluations

    def _answer_one(self, one: Asked, question: Question, application: str) -> None:
        made = self._evaluations.evaluate(question, application)
        self._record(one, 200, bodies.write(bodies.told(made)), (made.decision,))

    def _answer_many(self, one: Asked, batch: Batch, application: str) -> Iterator[None]:
        """Section 7.1.2.1, each as a step of its own."""
        return self._guarded(one, self._many(one, batch, application))

    def _many(self, one: Asked, batch: Batch, application: str) -> Iterator[None]:
        answers: list[dict[str, Any]] = []
        made: list[Decision] = []
        for question in batch.questions:
            if isinstance(question, str):
                answers.append(bodies.not_whole(question))
            else:
                found: Evaluated = self._evaluations.evaluate(question, application)
                made.append(found.decision)
                answers.append(bodies.told(found))
            yes = answers[-1]["decision"]
            if (batch.semantic == "deny_on_first_deny" and not yes) or (batch.semantic == "permit_on_first_permit" and yes):
                break
            if len(answers) % 16 == 0:
                yield None
        self._record(one, 200, bodies.write({"evaluations": answers}), made)

    def _guarded(self, one: Asked, steps: Iterator[None]) -> Iterator[None]:
        """A later step that fails is answered as the first one would be."""
        try:
            yield from steps
        except Unavailable as error:
            one.reply(503, _words(error.reason))
        except VouchgateError as error:
            one.reply(400, _words(error.reason))
        except Exception as error:
            log.error("an evaluation failed: %s", type(error).__name__)
            one.reply(500, b"the evaluation failed inside")

    # -- searches

    def _search(self, one: Asked, kind: Kind, search: bodies.Search, application: str) -> Iterator[None]:
        bound = self._bound(one.caller, kind, search.question, application)
        after = self._open(search.token, bound) if search.token else ""
        return self._guarded(one, self._page(one, kind, search, (application, after, bound)))

    def _page(self, one: Asked, kind: Kind, search: bodies.Search, where: tuple[str, str, bytes]) -> Iterator[None]:
        application, after, bound = where
        limit = min(search.limit or DEFAULT_RESULTS, MAX_RESULTS)
        found: Found | None = None
        for found in self._evaluations.searching(kind, search.question, application, after, limit):
            if found is None:
                yield None
        assert found is not None
        token = self._seal(found.last, bound) if found.last else ""
        may = self._evaluations.may_ask(one.caller)
        act = _search_decision(may, kind, search.question, found, application)
        self._record(one, 200, bodies.write(bodies.page(kind, search.question, found.results, token)), (act,))

    def _bound(self, caller: VerifiedPrincipal, kind: str, question: Question, application: str) -> bytes:
        """What a token is good for: this caller and this search."""
        asked = [str(caller.principal.id), kind, application, msgspec.to_builtins(question)]
        return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).digest()

    def _seal(self, last: str, bound: bytes) -> str:
        """Rule 5."""
        until = int(self._monotonic() + TOKEN_SECONDS).to_bytes(8, "big")
        payload = until + last.encode()
        mac = hmac.digest(self._secret, bound + payload, "sha256")
        return base64.urlsafe_b64encode(mac + payload).decode().rstrip("=")

    def _open(self, token: str, bound: bytes) -> str:
        try:
            data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            data = b""
        mac, payload = data[:32], data[32:]
        whole = len(payload) > 8 and hmac.compare_digest(mac, hmac.digest(self._secret, bound + payload, "sha256"))
        if not whole or int.from_bytes(payload[:8], "big") < self._monotonic():
            raise InvalidInput("the page token is not one of this search, or has expired", remedy="search again from the first page")
        return payload[8:].decode()

    # -- what leaves

    def _record(self, one: Asked, status: int, body: bytes, decisions: Sequence[Decision]) -> None:
        """Rule 4."""

        def done(why: str) -> None:
            if why:
                one.reply(503, _words(why))
            else:
                one.reply(status, body)

        self._recorder.put(decisions, str(one.caller.principal.id), done)

    def _within(self, name: str) -> bool:
        """A bucket of one second of each caller."""
        now = self._monotonic()
        left, at = self._rates.get(name, (self._per_second, now))
        left = min(self._per_second, left + (now - at) * self._per_second)
        if len(self._rates) > 4_096:
            self._rates.clear()
        self._rates[name] = (max(left - 1.0, 0.0), now)
        return left >= 1.0


_PATHS = {
    "/access/v1/evaluation": "evaluation",
    "/access/v1/evaluations": "evaluations",
    "/access/v1/search/subject": "subject",
    "/access/v1/search/resource": "resource",
    "/access/v1/search/action": "action",
}


def _split(path: str) -> tuple[str, str]:
    """(application, path within it); the well-known name stands before an application's path (section 9.2, RFC 8615)."""
    path = path.partition("?")[0]
    if path.startswith(WELL_KNOWN + APPLICATIONS):
        return path[len(WELL_KNOWN + APPLICATIONS) :], WELL_KNOWN
    if path.startswith(APPLICATIONS):
        name, slash, rest = path[len(APPLICATIONS) :].partition("/")
        return (name, slash + rest) if name else ("-", path)
    return "", path


def _words(reason: str) -> bytes:
    return reason.encode("utf-8", "replace")


def _search_decision(may: Decision, kind: str, question: Question, found: Found, application: str) -> Decision:
    """One entry for a page: who searched for what, and how much was found. What was found is decided again when it is used."""
    looked = {"subject": question.resource.id, "resource": question.subject.id, "action": f"{question.subject.id} {question.resource.id}"}
    reason = f"searched for each {kind}{f' of {application}' if application else ''}, `{question.action}` `{looked[kind][:256]}`: "
    return msgspec.structs.replace(
        may, id=secrets.token_hex(16), reason=f"{reason}{len(found.results)} of {found.examined} candidates", missing=()
    )

"""Console sessions: a one-time code becomes a cookie and a CSRF token, kept in memory only.

Rules
1. The cookie's value is 256 random bits and kept here as its SHA-256; a copy of this process's memory opens no session.
2. A session ends after its time, at logout, and with the process. It carries who the caller is, never what the caller may do: every act
   is decided again, so revoking the person takes effect at once.
3. At most `MAX_SESSIONS`, and `MAX_SESSIONS_OF_ONE` of one person; a further one ends the oldest.
4. A session of the command line is a bearer token, good on the unix socket alone, for the uid that logged in alone; a cookie is never good
   there, nor the token in a browser.
5. It never outlives what the caller's own proof says (`not_after`), and a login always makes a new one: none is taken over.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from hmac import compare_digest

import msgspec

from vouchgate.vocabulary.answers import Caller

COOKIE = "vg_session"
CSRF_HEADER = "x-csrf-token"
MAX_SESSIONS = 1_024
"""Sessions at once: an organisation's people, at about 1 KiB each."""
MAX_SESSIONS_OF_ONE = 16
"""Sessions of one person; a further one ends their own oldest, so that nobody's logins end another's."""
TOKEN_BYTES = 32
BROWSER = -1
"""In the place of a uid: a browser's session."""


class Session(msgspec.Struct, frozen=True):
    """One browser that was let in."""

    caller: Caller
    csrf: str
    ends_at: int
    """Milliseconds since 1970."""
    uid: int = BROWSER
    """The uid that alone may show it, on the unix socket; `BROWSER` for a cookie."""
    shown: str = ""
    """The caller's name, for people to read."""


class Sessions:
    """All sessions of this process; `now` gives milliseconds since 1970."""

    def __init__(self, now: Callable[[], int], minutes: int) -> None:
        self._now, self._life = now, minutes * 60_000
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def open(self, caller: Caller, *, uid: int = BROWSER, shown: str = "") -> tuple[str, Session]:
        """A new session and the value of its cookie, or its token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        ends_at = min(self._now() + self._life, caller.principal.not_after) if uid == BROWSER else caller.principal.not_after
        session = Session(caller, secrets.token_urlsafe(TOKEN_BYTES), ends_at, uid, shown)
        own = [key for key, one in self._sessions.items() if one.caller.principal.principal.id == caller.principal.principal.id]
        if len(own) >= MAX_SESSIONS_OF_ONE:
            del self._sessions[own[0]]
        self._sessions[_digest(token)] = session
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return token, session

    def find(self, token: str, *, uid: int = BROWSER) -> Session | None:
        """The session of a cookie's value, or of the token that `uid` shows, or None."""
        key = _digest(token)
        session = self._sessions.get(key)
        if session is not None and session.uid != uid:
            return None
        if session is not None and session.ends_at <= self._now():
            del self._sessions[key]
            return None
        return session

    def close(self, token: str) -> None:
        """End a session; unknown ones are passed over."""
        self._sessions.pop(_digest(token), None)


def csrf_holds(session: Session, header: str) -> bool:
    """Whether the request carries the session's CSRF token; compared in constant time."""
    return compare_digest(session.csrf.encode(), header.encode("utf-8", "replace"))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()

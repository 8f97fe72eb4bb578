"""One file per rotator: how a credential of somebody else's system is made, proved, retired, and shown to be dead.

A file here defines `ROTATOR = Rotator(...)`, and nothing else needs to change.

Rules
1. A rotator does no I/O: each of its four stories is a generator that yields an `Ask` and is sent the `Answer` (PEP 342). Whoever drives it
   (flows/rotate_secret.py) may stop between any two asks, so every story can be begun again from its start.
2. `make` first takes away what an interrupted `make` left at the owner, so that no forgotten credential stays alive.
3. `prove` uses the new credential as its users will, for something harmless. `prove_retired` shows that the old one is refused.
4. What a person must do is raised as `Assist`; a refusal of the owner as `Unavailable` (try again) or `InvalidInput` (it will not help).
5. A credential is a map of named texts. Its text form shows names alone; no ask, answer or error is ever logged.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from vouchgate.vocabulary.errors import InvalidInput, Unavailable, VouchgateError
from vouchgate.vocabulary.fields import FieldKind, Fields


class Assist(VouchgateError):
    """A person must act at the owner; the rotation waits and looks again."""

    code = "assist"


@dataclass(frozen=True)
class Credential:
    """What opens the owner's door."""

    parts: Mapping[str, str] = field(repr=False)

    def __getitem__(self, name: str) -> str:
        """One part. Raises `InvalidInput` naming what is lacking."""
        try:
            return self.parts[name]
        except KeyError:
            raise InvalidInput(f"the credential lacks `{name}`", remedy="bring it again: `vouchgate secrets put`") from None


@dataclass(frozen=True)
class SqlAsk:
    """One statement over a connection of its own (PostgreSQL)."""

    host: str
    """Folder of a unix socket, or a host name."""
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    statement: str = field(repr=False)
    parameters: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class HttpAsk:
    """One request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


Ask = SqlAsk | HttpAsk
REACHED: dict[str, FieldKind] = {"ca_file": "text", "private": "text"}
"""Settings of every owner that is asked over HTTPS: its own authorities' PEM file, and `yes` where it has a private address."""


@dataclass(frozen=True)
class SqlAnswer:
    """Rows as text, or why the server refused."""

    rows: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    sqlstate: str = ""
    """SQLSTATE of a refusal (PostgreSQL, appendix A), empty where the statement ran."""


@dataclass(frozen=True)
class HttpAnswer:
    """Status and body."""

    status: int
    body: bytes = field(default=b"", repr=False)


Answer = SqlAnswer | HttpAnswer
Story = Generator[Ask, Answer, Credential]
Proof = Generator[Ask, Answer, None]
Config = Mapping[str, str]


@dataclass(frozen=True)
class Fresh:
    """What a rotator may not make up itself: randomness and the time."""

    random: bytes = field(repr=False)
    """32 random bytes, the same when the story is begun again."""
    now: int
    """Milliseconds since 1970."""
    number: int
    """Of the version that is being made."""


@dataclass(frozen=True)
class Rotator:
    """How one owner's credentials are rotated."""

    name: str
    version: int
    summary: str
    config: Fields
    """Settings it takes, all text."""
    admin_parts: tuple[str, ...]
    """Parts of the administrative credential."""
    parts: tuple[str, ...]
    """Parts of the credential."""
    injected: str
    """The part that the gateway puts into a request; empty where none is."""
    make: Callable[[Config, Credential, Credential | None, Fresh], Story]
    """`(config, admin, current, fresh)`; `current` is None for the first one."""
    prove: Callable[[Config, Credential, Fresh], Proof]
    retire: Callable[[Config, Credential, Credential, Fresh], Proof]
    """`(config, admin, the credential to retire, fresh)`."""
    prove_retired: Callable[[Config, Credential, Fresh], Proof]


def http(answer: Answer, *expected: int, doing: str, gone: tuple[int, ...] = ()) -> bytes:
    """The body of an answer with an expected status. Raises `Unavailable` for what may pass, `InvalidInput` for what will not."""
    assert isinstance(answer, HttpAnswer)
    if answer.status in expected or answer.status in gone:
        return answer.body
    if answer.status in {401, 403}:
        raise InvalidInput(f"the owner refused {doing}: the administrative credential is not accepted ({answer.status})", remedy=_ADMIN)
    if answer.status in {400, 404, 405, 422}:
        raise InvalidInput(f"the owner does not know what was asked while {doing} ({answer.status})", remedy="check [[secrets]] `config`")
    raise Unavailable(f"the owner answered {answer.status} while {doing}", remedy="it is tried again by itself")


def said(body: bytes) -> dict[str, Any]:
    """A JSON object; empty where it is another value. Raises `Unavailable`."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise Unavailable("the owner's answer is not JSON", remedy="it is tried again by itself") from None
    return found if isinstance(found, dict) else {}


_ADMIN = "bring a new one: `vouchgate secrets put NAME --admin`"


def not_accepted(doing: str) -> Unavailable:
    """The new credential does not open the door (yet): tried again, then rolled back."""
    return Unavailable(f"the owner does not accept the new credential: {doing}", remedy="it is tried again; after that it is rolled back")


def still_accepted(doing: str) -> Unavailable:
    """The old credential still opens the door."""
    return Unavailable(f"the owner still accepts the retired credential: {doing}", remedy="it is retired again by itself")

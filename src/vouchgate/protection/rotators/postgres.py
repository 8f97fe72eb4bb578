"""A PostgreSQL login: two roles take turns, so that both passwords hold during the overlap.

Rules
1. `role_a` and `role_b` exist and are members of the role that owns the rights; the one that is not in use gets the new password.
2. The server is given a SCRAM-SHA-256 verifier (RFC 5803; PostgreSQL, "CREATE ROLE", PASSWORD), never the password: no statement log, no
   `pg_stat_activity` and no replica sees it.
3. Retiring takes LOGIN and the password away and ends the sessions that still run.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from vouchgate.protection.rotators import (
    Answer,
    Config,
    Credential,
    Fresh,
    Proof,
    Rotator,
    SqlAnswer,
    SqlAsk,
    Story,
    not_accepted,
    still_accepted,
)
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.fields import Fields

ITERATIONS = 4096
"""PostgreSQL's own default (`scram_iterations`); the password has 256 random bits, so stretching adds nothing."""
SALT_BYTES = 16
_ROLE = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_REFUSED_LOGIN = frozenset({"28P01", "28000"})
"""invalid_password, invalid_authorization_specification."""


def scram_verifier(password: str, salt: bytes) -> str:
    """What the server keeps of a password (RFC 5802, section 3; RFC 7677)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt64}${stored64}:{server64}"


def _make(config: Config, admin: Credential, current: Credential | None, fresh: Fresh) -> Story:
    roles = _roles(config)
    role = roles[1] if current is not None and current["user"] == roles[0] else roles[0]
    password = base64.urlsafe_b64encode(fresh.random).rstrip(b"=").decode()
    verifier = scram_verifier(password, hashlib.sha256(b"salt" + fresh.random).digest()[:SALT_BYTES])
    _ran((yield _as_admin(config, admin, f"ALTER ROLE {role} WITH LOGIN PASSWORD '{verifier}'")), f"setting the password of `{role}`")
    return Credential({"user": role, "password": password})


def _prove(config: Config, credential: Credential, fresh: Fresh) -> Proof:
    answer = yield _as_user(config, credential)
    assert isinstance(answer, SqlAnswer)
    if answer.sqlstate in _REFUSED_LOGIN:
        raise not_accepted(f"`{credential['user']}` cannot log in")
    if _ran(answer, "logging in") != ((credential["user"],),):
        raise not_accepted(f"`{credential['user']}` is somebody else there")


def _retire(config: Config, admin: Credential, old: Credential, fresh: Fresh) -> Proof:
    role = old["user"]
    if role not in _roles(config):
        raise InvalidInput("the login to retire is neither `role_a` nor `role_b`", remedy="retire it by hand, then bring a new one")
    _ran((yield _as_admin(config, admin, f"ALTER ROLE {role} WITH NOLOGIN PASSWORD NULL")), f"taking the login from `{role}`")
    end = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity WHERE usename = $1"
    _ran((yield _as_admin(config, admin, end, role)), f"ending the sessions of `{role}`")


def _prove_retired(config: Config, old: Credential, fresh: Fresh) -> Proof:
    answer = yield _as_user(config, old)
    assert isinstance(answer, SqlAnswer)
    if not answer.sqlstate:
        raise still_accepted(f"`{old['user']}` can log in")
    if answer.sqlstate not in _REFUSED_LOGIN:
        raise Unavailable(f"the database answered {answer.sqlstate}", remedy="it is tried again by itself")


def _roles(config: Config) -> tuple[str, str]:
    """The two roles; checked, because a role's name cannot be a parameter of a statement."""
    roles = (config["role_a"], config["role_b"])
    if not all(_ROLE.match(role) for role in roles) or roles[0] == roles[1]:
        raise InvalidInput("`role_a` and `role_b` are not two plain role names", remedy="use lower-case letters, digits and _")
    return roles


def _as_admin(config: Config, admin: Credential, statement: str, *parameters: str) -> SqlAsk:
    return SqlAsk(config["host"], _port(config), config["database"], config["admin_user"], admin["password"], statement, parameters)


def _as_user(config: Config, credential: Credential) -> SqlAsk:
    return SqlAsk(
        config["host"], _port(config), config["database"], credential["user"], credential["password"], "SELECT current_user::text"
    )


def _port(config: Config) -> int:
    text = config.get("port", "5432")
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise InvalidInput(f"`{text[:16]}` is not a port", remedy="correct `port` in [[secrets]] `config`")
    return int(text)


def _ran(answer: Answer, doing: str) -> tuple[tuple[str, ...], ...]:
    assert isinstance(answer, SqlAnswer)
    if answer.sqlstate in _REFUSED_LOGIN:
        raise InvalidInput(f"the database refused {doing}: the administrator's password is not accepted", remedy="bring it again")
    if answer.sqlstate in {"42704", "42501"}:
        raise InvalidInput(f"the database refused {doing}: no such role, or no right to alter it", remedy="create it, grant ADMIN on it")
    if answer.sqlstate:
        raise Unavailable(f"the database answered {answer.sqlstate} while {doing}", remedy="it is tried again by itself")
    return answer.rows


ROTATOR = Rotator(
    name="postgres",
    version=1,
    summary="a PostgreSQL login: two roles take turns; the server is given a SCRAM verifier, never the password",
    config=Fields(
        required={"host": "text", "database": "text", "admin_user": "text", "role_a": "text", "role_b": "text"}, optional={"port": "text"}
    ),
    admin_parts=("password",),
    parts=("user", "password"),
    injected="",
    make=_make,
    prove=_prove,
    retire=_retire,
    prove_retired=_prove_retired,
)

"""The secret-id of an AppRole of OpenBao or Vault: what a service shows to be given its database passwords and keys.

Rules
1. Before a new secret-id is made, every secret-id of the role but the one in use is destroyed: an interrupted turn leaves none behind.
2. The proof is a login; the token that it gives is revoked by itself at once.
3. A retired secret-id is destroyed by its accessor, and shown to be refused.
"""

from __future__ import annotations

import re
from collections.abc import Generator

import msgspec

from vouchgate.protection.rotators import (
    REACHED,
    Answer,
    Ask,
    Config,
    Credential,
    Fresh,
    HttpAnswer,
    HttpAsk,
    Proof,
    Rotator,
    Story,
    http,
    not_accepted,
    said,
    still_accepted,
)
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.fields import Fields

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
MAX_KNOWN = 256
"""Secret-ids of one role that are looked at; an AppRole that hands out more is not ours to rotate."""


def _make(config: Config, admin: Credential, current: Credential | None, fresh: Fresh) -> Story:
    role = _role(config)
    keep = current["accessor"] if current is not None else ""
    for accessor in (yield from _accessors(config, admin)):
        if accessor != keep:
            yield from _destroy(config, admin, accessor, "tidying up")
    made = said(http((yield _ask(config, admin, "POST", f"{role}/secret-id", b"{}")), 200, doing="making a secret-id")).get("data", {})
    role_id = said(http((yield _ask(config, admin, "GET", f"{role}/role-id")), 200, doing="reading the role-id")).get("data", {})
    try:
        return Credential(
            {"role_id": str(role_id["role_id"]), "secret_id": str(made["secret_id"]), "accessor": str(made["secret_id_accessor"])}
        )
    except (KeyError, TypeError):
        raise Unavailable("the owner's answer holds no secret-id", remedy="it is tried again by itself") from None


def _prove(config: Config, credential: Credential, fresh: Fresh) -> Proof:
    answer = yield _login(config, credential)
    assert isinstance(answer, HttpAnswer)
    if answer.status in {400, 401, 403}:
        raise not_accepted("the login was refused")
    token = said(http(answer, 200, doing="logging in")).get("auth", {}).get("client_token", "")
    if not token:
        raise not_accepted("the login gave no token")
    http((yield HttpAsk("POST", f"{_base(config)}/v1/auth/token/revoke-self", {"x-vault-token": str(token)})), 200, 204, doing="tidying up")


def _retire(config: Config, admin: Credential, old: Credential, fresh: Fresh) -> Proof:
    listed = yield from _accessors(config, admin)
    if old["accessor"] in listed:
        yield from _destroy(config, admin, old["accessor"], "destroying the secret-id")


def _accessors(config: Config, admin: Credential) -> Generator[Ask, Answer, list[str]]:
    """Of every secret-id of the role. One that is not listed cannot be destroyed: the server answers 500 for it."""
    listed = http((yield _ask(config, admin, "LIST", f"{_role(config)}/secret-id")), 200, gone=(404,), doing="listing secret-ids")
    found = said(listed).get("data", {}).get("keys", []) if listed else []
    if not isinstance(found, list) or len(found) > MAX_KNOWN:
        raise InvalidInput("the role has more secret-ids than one service needs", remedy="give the service a role of its own")
    return [str(one) for one in found]


def _destroy(config: Config, admin: Credential, accessor: str, doing: str) -> Proof:
    body = msgspec.json.encode({"secret_id_accessor": accessor})
    ask = _ask(config, admin, "POST", f"{_role(config)}/secret-id-accessor/destroy", body)
    http((yield ask), 200, 204, gone=(404,), doing=doing)


def _prove_retired(config: Config, old: Credential, fresh: Fresh) -> Proof:
    answer = yield _login(config, old)
    assert isinstance(answer, HttpAnswer)
    if answer.status == 200:
        raise still_accepted("the login is let in")
    if answer.status not in {400, 401, 403}:
        raise Unavailable(f"the owner answered {answer.status}", remedy="it is tried again by itself")


def _login(config: Config, credential: Credential) -> HttpAsk:
    body = msgspec.json.encode({"role_id": credential["role_id"], "secret_id": credential["secret_id"]})
    return HttpAsk("POST", f"{_base(config)}/v1/auth/{_mount(config)}/login", {"content-type": "application/json"}, body)


def _ask(config: Config, admin: Credential, method: str, path: str, body: bytes = b"") -> HttpAsk:
    headers = {"x-vault-token": admin["token"], **({"content-type": "application/json"} if body else {})}
    return HttpAsk(method, f"{_base(config)}/v1/auth/{_mount(config)}/{path}", headers, body)


def _base(config: Config) -> str:
    return config["url"].rstrip("/")


def _mount(config: Config) -> str:
    return _named(config.get("mount", "approle"), "mount")


def _role(config: Config) -> str:
    return f"role/{_named(config['role'], 'role')}"


def _named(text: str, what: str) -> str:
    if not _NAME.match(text):
        raise InvalidInput(f"`{text[:64]}` is not a {what}", remedy="correct it in [[secrets]] `config`")
    return text


ROTATOR = Rotator(
    name="openbao-approle",
    version=1,
    summary="the secret-id of an OpenBao or Vault AppRole; proved by a login, destroyed by its accessor",
    config=Fields(required={"url": "text", "role": "text"}, optional={"mount": "text", **REACHED}),
    admin_parts=("token",),
    parts=("role_id", "secret_id", "accessor"),
    injected="",
    make=_make,
    prove=_prove,
    retire=_retire,
    prove_retired=_prove_retired,
)

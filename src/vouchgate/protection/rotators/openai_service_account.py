"""An LLM provider's key, by the administration API that OpenAI documents: a service account of a project, which comes with one key.

    POST   {url}/v1/organization/projects/{project}/service_accounts          {"name"} -> {"id", "api_key": {"value"}}
    GET    {url}/v1/organization/projects/{project}/service_accounts          -> {"data": [{"id", "name"}]}
    DELETE {url}/v1/organization/projects/{project}/service_accounts/{id}
    GET    {url}/v1/models                                                    what the proof asks

Rules
1. The accounts are named `{prefix}-{number}`; those of the prefix but the one in use are deleted before a new one is made.
2. Deleting the account ends its key.
"""

from __future__ import annotations

import re

import msgspec

from vouchgate.protection.rotators import (
    REACHED,
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

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
PAGE = 100
"""Accounts that are looked at; a project of its own has one or two."""


def _make(config: Config, admin: Credential, current: Credential | None, fresh: Fresh) -> Story:
    keep, prefix = (current["account"] if current is not None else ""), _checked(config.get("prefix", "vouchgate"))
    listed = said(http((yield _ask(config, admin, "GET", f"?limit={PAGE}")), 200, doing="listing service accounts"))
    for one in listed.get("data", []):
        if isinstance(one, dict) and str(one.get("name", "")).startswith(f"{prefix}-") and one.get("id") != keep:
            http((yield _ask(config, admin, "DELETE", f"/{_checked(str(one.get('id')))}")), 200, gone=(404,), doing="tidying up")
    body = msgspec.json.encode({"name": f"{prefix}-{fresh.number}"})
    made = said(http((yield _ask(config, admin, "POST", "", body)), 200, 201, doing="making a service account"))
    try:
        return Credential({"account": _checked(str(made["id"])), "api_key": str(made["api_key"]["value"])})
    except (KeyError, TypeError):
        raise Unavailable("the owner's answer holds no key", remedy="it is tried again by itself") from None


def _prove(config: Config, credential: Credential, fresh: Fresh) -> Proof:
    answer = yield _models(config, credential)
    assert isinstance(answer, HttpAnswer)
    if answer.status in {401, 403}:
        raise not_accepted("the list of models is refused")
    http(answer, 200, doing="asking for the list of models")


def _retire(config: Config, admin: Credential, old: Credential, fresh: Fresh) -> Proof:
    http((yield _ask(config, admin, "DELETE", f"/{_checked(old['account'])}")), 200, gone=(404,), doing="deleting the service account")


def _prove_retired(config: Config, old: Credential, fresh: Fresh) -> Proof:
    answer = yield _models(config, old)
    assert isinstance(answer, HttpAnswer)
    if answer.status == 200:
        raise still_accepted("the list of models is given")
    if answer.status not in {401, 403}:
        raise Unavailable(f"the provider answered {answer.status}", remedy="it is tried again by itself")


def _models(config: Config, credential: Credential) -> HttpAsk:
    return HttpAsk("GET", f"{config['url'].rstrip('/')}/v1/models", {"authorization": f"Bearer {credential['api_key']}"})


def _ask(config: Config, admin: Credential, method: str, path: str, body: bytes = b"") -> HttpAsk:
    base = f"{config['url'].rstrip('/')}/v1/organization/projects/{_checked(config['project'])}/service_accounts"
    headers = {"authorization": f"Bearer {admin['api_key']}", **({"content-type": "application/json"} if body else {})}
    return HttpAsk(method, base + path, headers, body)


def _checked(text: str) -> str:
    if not _ID.match(text):
        raise InvalidInput(f"`{text[:64]}` is not an id of the provider", remedy="correct [[secrets]] `config`")
    return text


ROTATOR = Rotator(
    name="openai-service-account",
    version=1,
    summary="an LLM provider's key by OpenAI's administration API: one service account a key, proved by the list of models",
    config=Fields(required={"url": "text", "project": "text"}, optional={"prefix": "text", **REACHED}),
    admin_parts=("api_key",),
    parts=("account", "api_key"),
    injected="api_key",
    make=_make,
    prove=_prove,
    retire=_retire,
    prove_retired=_prove_retired,
)

"""A Hugging Face access token. The Hub has no documented call that makes or deletes one, so a person does that, and everything else is ours.

    GET {url}/api/whoami-v2      with the token: whose it is and what it may do

Rules
1. `make` asks a person for the new token (`vouchgate secrets put NAME`); the proof is that the Hub knows it, that it belongs to the named
   account, and that it is a fine-grained or read token: one that may write is refused, unless the settings say so.
2. Retiring asks a person to delete the old token on the Hub; the secret stays in view until the Hub refuses it.
"""

from __future__ import annotations

from vouchgate.protection.rotators import (
    REACHED,
    Assist,
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
)
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.fields import Fields

_HUB = "https://huggingface.co"


def _make(config: Config, admin: Credential, current: Credential | None, fresh: Fresh) -> Story:
    raise Assist(
        "a person makes the new token on the Hub: Settings, Access Tokens, fine-grained, for this account alone",
        remedy="then bring it: `vouchgate secrets put NAME`",
    )
    yield  # this makes it a story like the others


def _prove(config: Config, credential: Credential, fresh: Fresh) -> Proof:
    answer = yield _whoami(config, credential)
    assert isinstance(answer, HttpAnswer)
    if answer.status in {401, 403}:
        raise not_accepted("the Hub does not know the token")
    found = said(http(answer, 200, doing="asking whose token it is"))
    if found.get("name") != config["account"]:
        raise InvalidInput(f"the token is not of the account `{config['account'][:64]}`", remedy="make it while logged in to that account")
    token = found.get("auth", {}).get("accessToken", {}) if isinstance(found.get("auth"), dict) else {}
    role = token.get("role") if isinstance(token, dict) else None
    if role not in {"read", "fineGrained"} and config.get("allow_write", "no") != "yes":
        raise InvalidInput(
            f"the token's role is `{str(role)[:32]}`, wider than reading", remedy="make a fine-grained token with read rights"
        )


def _retire(config: Config, admin: Credential, old: Credential, fresh: Fresh) -> Proof:
    answer = yield _whoami(config, old)
    assert isinstance(answer, HttpAnswer)
    if answer.status == 200:
        raise Assist(
            "a person deletes the old token on the Hub: Settings, Access Tokens", remedy="delete it; it is looked at again by itself"
        )


def _prove_retired(config: Config, old: Credential, fresh: Fresh) -> Proof:
    answer = yield _whoami(config, old)
    assert isinstance(answer, HttpAnswer)
    if answer.status == 200:
        raise Assist("the Hub still accepts the old token", remedy="delete it there: Settings, Access Tokens")
    if answer.status not in {401, 403}:
        raise Unavailable(f"the Hub answered {answer.status}", remedy="it is tried again by itself")


def _whoami(config: Config, credential: Credential) -> HttpAsk:
    url = config.get("url", _HUB).rstrip("/")
    return HttpAsk("GET", f"{url}/api/whoami-v2", {"authorization": f"Bearer {credential['token']}"})


ROTATOR = Rotator(
    name="hugging-face-token",
    version=1,
    summary="a Hugging Face token: a person makes and deletes it, vouchgate proves whose it is, what it may, and that the old one is dead",
    config=Fields(required={"account": "text"}, optional={"url": "text", "allow_write": "text", **REACHED}),
    admin_parts=(),
    parts=("token",),
    injected="token",
    make=_make,
    prove=_prove,
    retire=_retire,
    prove_retired=_prove_retired,
)

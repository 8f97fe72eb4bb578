"""`out.*`: what the control plane has the token service fetch or send outside. It carries; the control plane verifies what comes back.

Methods (params -> answer; all plain MessagePack)
    out.get    {to, url, accept, max_bytes, bearer}   -> {status, headers, body}   a GET, with a bearer token where one is given
    out.token  {to: "oidc:<name>", url, form}         -> {status, headers, body}   a POST to a token endpoint, with the client's own proof added
    out.bundle {to: "federation:<name>", authorities} -> {status, headers, body}   a partner's bundle; `authorities` verify an https_spiffe endpoint
    out.push   {to: "ssf-receiver:<name>", body}      -> {status, headers, body}   a security event to a receiver's URL (RFC 8935)

Rules
1. `to` names an entry of the settings, and only its origins are asked: the control plane itself cannot send this process elsewhere.
2. A client's secret is read from its file for each use, goes to its own provider's token endpoint alone, and into no answer and no log.
3. A bearer token goes to the origin that gave it, never after a redirect to another (ports/http.py).
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

from vouchgate import wiring
from vouchgate.edges.processes.rpc_server import Handler, Peer
from vouchgate.identity.foreign_bundle import MAX_BUNDLE_BYTES
from vouchgate.identity.oidc import client_assertion
from vouchgate.identity.sets import MEDIA
from vouchgate.vocabulary.errors import InvalidInput, NotFound
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.settings_people import OidcSettings, ReceiverSettings
from vouchgate.vocabulary.vouches import UnixMillis

MAX_ANSWER_BYTES = 1024 * 1024
"""The most that any caller may ask for."""
MAX_TOKEN_ANSWER_BYTES = 128 * 1024
FORM = "application/x-www-form-urlencoded"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523, section 2.2."""


class Outbound:
    """One process's way out."""

    def __init__(self, settings: Callable[[], Settings], now: Callable[[], UnixMillis]) -> None:
        self._settings, self._now = settings, now
        self._clients: dict[str, tuple[Any, Any]] = {}

    def handlers(self) -> dict[str, Handler]:
        """The methods."""
        return {"out.get": self.get, "out.token": self.token, "out.bundle": self.bundle, "out.push": self.push}

    async def get(self, _: Peer, params: Mapping[str, Any]) -> dict[str, Any]:
        """See the module's text."""
        headers = {"accept": str(params.get("accept", "*/*"))}
        if params.get("bearer"):
            headers["authorization"] = f"Bearer {params['bearer']}"
        bound = min(int(params.get("max_bytes", MAX_ANSWER_BYTES)), MAX_ANSWER_BYTES)
        return _plain(await self._client(str(params["to"])).get(str(params["url"]), headers=headers, max_bytes=bound))

    async def token(self, _: Peer, params: Mapping[str, Any]) -> dict[str, Any]:
        """See the module's text."""
        kind, _sep, name = str(params["to"]).partition(":")
        provider = next((one for one in self._settings().oidc if one.name == name), None)
        if kind != "oidc" or provider is None:
            raise NotFound(f"there is no provider `{name[:64]}`", remedy="name it in [[oidc]]")
        form = {str(key): str(value) for key, value in dict(params["form"]).items()}
        headers = {"accept": "application/json", **self._proof(provider, str(params["url"]), form)}
        answer = await self._client(f"oidc:{name}").post(
            str(params["url"]), urlencode(form).encode(), content_type=FORM, headers=headers, max_bytes=MAX_TOKEN_ANSWER_BYTES
        )
        return _plain(answer)

    async def bundle(self, _: Peer, params: Mapping[str, Any]) -> dict[str, Any]:
        """See the module's text."""
        kind, _sep, name = str(params["to"]).partition(":")
        partner = next((one for one in self._settings().federation if one.name == name), None)
        if kind != "federation" or partner is None:
            raise NotFound(f"there is no partner `{name[:64]}`", remedy="name it in [[federation]]")
        spiffe = (list(params["authorities"]), partner.spiffe_id) if partner.profile == "https_spiffe" else None
        client = wiring.http_client([(partner.url, partner.ca_file, partner.private_network)], spiffe=spiffe)
        return _plain(await client.get(partner.url, headers={"accept": "application/json"}, max_bytes=MAX_BUNDLE_BYTES))

    async def push(self, _: Peer, params: Mapping[str, Any]) -> dict[str, Any]:
        """See the module's text."""
        receiver = self._receiver(str(params["to"]))
        headers = {"accept": "application/json"}
        if receiver.token_file:
            headers["authorization"] = f"Bearer {_text(wiring.read_secret(Path(receiver.token_file)))}"
        client = self._client(str(params["to"]))
        return _plain(await client.post(receiver.url, bytes(params["body"]), content_type=MEDIA, headers=headers, max_bytes=64 * 1024))

    def _proof(self, provider: OidcSettings, url: str, form: dict[str, str]) -> dict[str, str]:
        """Rule 2: into the header or the form (RFC 6749, section 2.3.1)."""
        if provider.client_auth == "none":
            return {}
        secret = wiring.read_secret(Path(provider.secret_file))
        if provider.client_auth == "basic":
            pair = f"{quote_plus(provider.client_id)}:{quote_plus(_text(secret))}"
            return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        if provider.client_auth == "post":
            form["client_secret"] = _text(secret)
        else:
            form["client_assertion_type"] = ASSERTION
            form["client_assertion"] = client_assertion(secret, provider.client_id, url, jti=secrets.token_hex(16), now=self._now())
        return {}

    def _receiver(self, to: str) -> ReceiverSettings:
        kind, _, name = to.partition(":")
        found = next((one for one in self._settings().ssf.receivers if one.name == name), None)
        if kind != "ssf-receiver" or found is None:
            raise NotFound(f"there is no receiver `{name[:64]}`", remedy="name it in [[ssf.receivers]]")
        return found

    def _client(self, to: str) -> Any:
        """Rule 1: a client for one entry's origins; made anew when the entry changed."""
        origins, entry = _origins(self._settings(), to)
        known = self._clients.get(to)
        if known is None or known[0] != entry:
            made = wiring.http_client([(origin, entry.ca_file, entry.private_network) for origin in origins])
            known = self._clients[to] = (entry, made)
        return known[1]


def _origins(settings: Settings, to: str) -> tuple[tuple[str, ...], Any]:
    kind, _, name = to.partition(":")
    if kind == "oidc":
        for one in settings.oidc:
            if one.name == name:
                return (one.issuer, *one.origins), one
    if kind == "ssf":
        for transmitter in settings.ssf.transmitters:
            if transmitter.name == name and transmitter.keys_url:
                return (transmitter.keys_url,), transmitter
    if kind == "source":
        for source in settings.sts.sources:
            if source.name == name and source.keys_url:
                return (source.keys_url,), source
    if kind == "ssf-receiver":
        for receiver in settings.ssf.receivers:
            if receiver.name == name:
                return (receiver.url,), receiver
    raise NotFound(f"`{to[:80]}` is not in the settings", remedy="name it in vouchgate.toml")


def _plain(answer: Any) -> dict[str, Any]:
    return {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}


def _text(secret: bytes) -> str:
    try:
        text = secret.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        raise InvalidInput("the secret is not printable ASCII", remedy="write the secret into its file, and nothing else")
    return text

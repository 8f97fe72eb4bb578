"""Who stands outside, played: the owner of a secret, and a provider with which people log in, which lies on request.

A code of this provider is `<what its ID token says>.<nonce>`: `good`, or one of `LIES`.
"""

from __future__ import annotations

import http.server
import json
import time
from typing import Any
from urllib.parse import parse_qs

import defects
from cryptography.hazmat.primitives.asymmetric import ec

CLIENT = "vouchgate"
LIES: dict[str, tuple[str, dict[str, Any]]] = {
    "an ID token for another client": ("wrong audience", {"aud": "another"}),
    "an ID token of another issuer": ("wrong domain", {"iss": "https://evil.example"}),
    "an ID token for another login": ("replayed", {"nonce": "another"}),
    "an expired ID token": ("expired", {"exp": 1, "iat": 0}),
    "an ID token signed by a stranger": ("self-signed", {}),
}


class Hub:
    """What both say; `origin` is where they listen."""

    def __init__(self) -> None:
        self.key, self.origin = ec.generate_private_key(ec.SECP256R1()), ""

    def document(self, path: str) -> dict[str, Any]:
        """GET"""
        if path == "/.well-known/openid-configuration":
            made = {name: f"{self.origin}/{name}" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
            return {**made, "issuer": self.origin, "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"]}
        if path == "/jwks_uri":
            return {"keys": [defects.public_jwk(self.key) | {"kid": "1", "use": "sig", "alg": "ES256"}]}
        return {"name": "example", "auth": {"accessToken": {"role": "read"}}}

    def token(self, form: dict[str, list[str]]) -> dict[str, Any]:
        """POST token_endpoint"""
        said, _, nonce = form["code"][0].partition(".")
        name = next((name for name in LIES if _word(name) == said), "")
        now = int(time.time())
        claims = {"iss": self.origin, "sub": "ada", "aud": CLIENT, "nonce": nonce, "iat": now, "exp": now + 300, "groups": ["team"]}
        key = ec.generate_private_key(ec.SECP256R1()) if name.endswith("stranger") else self.key
        id_token = defects.signed({"alg": "ES256", "kid": "1", "typ": "JWT"}, claims | (LIES[name][1] if name else {}), key)
        return {"access_token": "a" * 32, "token_type": "Bearer", "id_token": id_token}


def _word(name: str) -> str:
    return name.replace(" ", "-")


def code(name: str, nonce: str) -> str:
    """What the provider gives to a browser; `name` is `good` or one of `LIES`."""
    return f"{_word(name)}.{nonce}"


def handler(hub: Hub) -> type[http.server.BaseHTTPRequestHandler]:
    """The HTTP of it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(hub.document(self.path.partition("?")[0]))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            self._answer(hub.token(parse_qs(body.decode())))

        def _answer(self, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    return Handler

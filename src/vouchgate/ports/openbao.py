"""OpenBao's (and Vault's) PKI engine as a CA above ours: `root/sign-intermediate`, and nothing else.

Rules
1. What it is asked for: a CA with path length 0, the request's own names, a bounded life. What it returns is checked as any chain is
   (identity/upstream.py); a root in its answer is trusted only by the fingerprint that a person gave.
2. The token is a person's, for this one call; it is in no message, and nothing keeps it.
Left to others: the bounds of HTTP (ports/http.py), asking the signer for the request and handing it the chain (the command).
"""

from __future__ import annotations

import json
import re
from typing import Any

from vouchgate.ports.http import HttpClient
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted, Unavailable

MAX_TOKEN = 4_096
"""Characters of a token."""
MAX_HOURS = 10 * 366 * 24
"""Hours that are asked for at most."""
_MOUNT = re.compile(r"[A-Za-z0-9_-]{1,64}(?:/[A-Za-z0-9_-]{1,64}){0,7}\Z")
_TOKEN = re.compile(r"[!-~]{1,4096}\Z")


async def sign_intermediate(client: HttpClient, url: str, *, mount: str, token: str, csr_pem: str, hours: int, namespace: str = "") -> str:
    """PEM: our certificate, those between, the root. Raises `NotPermitted`, `InvalidInput`, `Unavailable`."""
    if not _MOUNT.match(mount) or not 1 <= hours <= MAX_HOURS or not _TOKEN.match(token) or (namespace and not _MOUNT.match(namespace)):
        raise InvalidInput("mount, namespace, token or life is malformed", remedy="name the PKI engine's mount, for example `pki`")
    body = {"csr": csr_pem, "use_csr_values": True, "max_path_length": 0, "ttl": f"{hours}h", "format": "pem"}
    headers = {"x-vault-token": token, "x-vault-request": "true", **({"x-vault-namespace": namespace} if namespace else {})}
    answer = await client.post(
        f"{url.rstrip('/')}/v1/{mount}/root/sign-intermediate", json.dumps(body).encode(), content_type="application/json", headers=headers
    )
    if answer.status in (401, 403):
        raise NotPermitted("OpenBao did not permit it", remedy=f"use a token whose policy allows update on {mount}/root/sign-intermediate")
    said = _object(answer.body, refused=answer.status != 200)
    if answer.status != 200:
        raise Unavailable(f"OpenBao refused: {_errors(said)}", remedy="see the mount's default issuer and its maximal life")
    data = said.get("data")
    return _chain(data if isinstance(data, dict) else {})


def _chain(data: dict[str, Any]) -> str:
    """Rule 1: each certificate once, ours first, then upwards as OpenBao orders them."""
    above = data.get("ca_chain") or [data.get("issuing_ca")]
    parts = [data.get("certificate"), *(above if isinstance(above, list) else [None])]
    if not all(isinstance(part, str) and part.startswith("-----BEGIN CERTIFICATE-----") for part in parts):
        raise Unavailable("OpenBao's answer holds no certificates", remedy="see whether the mount is a PKI engine with an issuer")
    return "".join(f"{part.strip()}\n" for part in dict.fromkeys(str(part) for part in parts))


def _object(body: bytes, *, refused: bool) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if said is None and refused:
        return {}
    if not isinstance(said, dict):
        raise Unavailable("OpenBao's answer is not a JSON object", remedy="see whether the address is OpenBao's")
    return said


def _errors(said: dict[str, Any]) -> str:
    errors = said.get("errors")
    text = "; ".join(str(one) for one in errors[:3]) if isinstance(errors, list) else ""
    return "".join(character if character.isprintable() else " " for character in text)[:300] or "it did not say why"

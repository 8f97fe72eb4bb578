"""The policies of a cluster: from a file that `kubectl get -o json` wrote, or from its API server.

Rules
1. Reads alone. https is verified; http is for this machine alone (`kubectl proxy`). Redirects are not followed.
2. A kind that the cluster does not serve (404) has no objects. Any other refusal is an error: half a reading would look like all was well.
3. Sizes, pages and times are bounded.
"""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unavailable
from vouchgate.vocabulary.settings import is_loopback

MAX_BYTES = 64 * 1024 * 1024
"""Of a file or one page."""
MAX_PAGES = 200
"""Of one kind, 500 objects each."""
SECONDS = 15.0
LISTS = (
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/apis/policy.networking.k8s.io/v1alpha1/adminnetworkpolicies",
    "/apis/policy.networking.k8s.io/v1alpha1/baselineadminnetworkpolicies",
    "/apis/security.istio.io/v1/authorizationpolicies",
    "/apis/security.istio.io/v1/peerauthentications",
    "/apis/security.istio.io/v1/requestauthentications",
)


def read(place: str, *, token_file: str = "", ca_file: str = "") -> list[dict[str, Any]]:
    """Every policy there is. Raises `InvalidInput`, `Unavailable`, `LimitExceeded`."""
    if place.startswith(("https://", "http://")):
        token = Path(token_file).read_text(encoding="ascii").strip() if token_file else ""
        return [item for path in LISTS for item in _listed(place, path, token, ca_file)]
    try:
        with Path(place).open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"`{place[:160]}` cannot be read: {error.strerror}", remedy="name a file or the URL of an API server") from None
    return _items(data, place)


def _items(data: bytes, what: str) -> list[dict[str, Any]]:
    """The objects of a List, each with its kind; a List of one kind leaves it out."""
    found = _parsed(data, what)
    if not isinstance(found.get("items"), list):
        return [found]
    kind = str(found.get("kind", "")).removesuffix("List")
    return [{"kind": kind, **item} if kind else item for item in found["items"] if isinstance(item, dict)]


def _parsed(data: bytes, what: str) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise LimitExceeded(f"`{what[:160]}` has over {MAX_BYTES} bytes", remedy="read fewer namespaces at once")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"`{what[:160]}` is no JSON object", remedy="write it with `kubectl get networkpolicies -A -o json`")
    return found


def _listed(place: str, path: str, token: str, ca_file: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    after = ""
    for _ in range(MAX_PAGES):
        status, data = _get(place, f"{path}?limit=500" + (f"&continue={quote(after)}" if after else ""), token, ca_file)
        if status == 404:
            return []
        if status != 200:
            raise Unavailable(
                f"the API server answers {path} with {status}", remedy="use an account that may list policies in all namespaces"
            )
        items += _items(data, path)
        after = str((_parsed(data, path).get("metadata") or {}).get("continue") or "")
        if not after:
            return items
    raise LimitExceeded(f"{path} has over {500 * MAX_PAGES} objects", remedy="compare a file of your namespaces instead")


def _get(place: str, path: str, token: str, ca_file: str) -> tuple[int, bytes]:
    parts = urlsplit(place)
    host = parts.hostname or ""
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidInput(f"`{place[:160]}` is not encrypted", remedy="use https, or `kubectl proxy` on this machine")
    made: http.client.HTTPConnection
    if parts.scheme == "https":
        made = http.client.HTTPSConnection(
            host, parts.port or 443, timeout=SECONDS, context=ssl.create_default_context(cafile=ca_file or None)
        )
    else:
        made = http.client.HTTPConnection(host, parts.port or 80, timeout=SECONDS)
    headers = {"accept": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    try:
        made.request("GET", parts.path.rstrip("/") + path, headers=headers)
        answer = made.getresponse()
        return answer.status, answer.read(MAX_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            f"the API server cannot be asked: {type(error).__name__}", remedy="see its address, --ca-file and --token-file"
        ) from None
    finally:
        made.close()

"""AWS Signature Version 4 for one request with a body in hand (AWS, "Signature Version 4 signing process").

Rules
1. Signed are the host, the date, the content's hash and every header given here; nothing is left out of what is sent.
2. Path segments and query parameters are encoded once more, as services other than S3 want it; for S3 they are taken as they stand, encoded
   once by the caller (`encoded`). The queries used here have no repeated names.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Mapping

ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


def signed_headers(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    access_key: str,
    secret_key: str,
    region: str,
    service: str,
    now: int,
    hash_header: bool = True,
) -> dict[str, str]:
    """`headers` with `x-amz-date`, `x-amz-content-sha256` and `authorization` added; `now` in milliseconds since 1970."""
    at = datetime.datetime.fromtimestamp(now // 1000, tz=datetime.UTC)
    stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    host, path, pairs = _apart(url)
    given = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    given |= {"host": host, "x-amz-date": stamp, **({"x-amz-content-sha256": digest} if hash_header else {})}
    names = ";".join(sorted(given))
    if service != "s3":
        path, pairs = encoded(path, keep=b"/"), [(encoded(name), encoded(value)) for name, value in pairs]
    query = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    canonical = "\n".join([method, path, query, *(f"{name}:{given[name]}" for name in sorted(given)), "", names, digest])
    scope = f"{day}/{region}/{service}/aws4_request"
    to_sign = "\n".join([ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + secret_key.encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return {**given, "authorization": f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"}


def encoded(text: str, *, keep: bytes = b"") -> str:
    """Percent-encoded but for the unreserved characters (RFC 3986, section 2.3) and `keep`."""
    return "".join(chr(byte) if byte in _UNRESERVED or byte in keep else f"%{byte:02X}" for byte in text.encode())


def _apart(url: str) -> tuple[str, str, list[tuple[str, str]]]:
    """(host with port, path, query parameters) of a URL, nothing decoded."""
    rest, _, query = url.partition("://")[2].partition("?")
    host, slash, path = rest.partition("/")
    pairs = [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)]
    return host, slash + path or "/", pairs

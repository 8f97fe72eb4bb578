"""Call the digits model through the gateway. Standard library only.

    python examples/digits/client.py --url https://127.0.0.1:8443 --cert alice.crt --key alice.key --bundle bundle.pem
    python examples/digits/client.py --url https://127.0.0.1:8443 --bundle bundle.pem --token-file alice.jwt

Exit codes: 0 answered, 1 refused (the reason and the remedy are printed), 2 usage, 3 no connection.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ZERO = (
    0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0,
    0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0,
)  # fmt: skip
"""The first picture of the data set: a nought, 8 rows of 8, each 0 (white) to 16 (black)."""
TIMEOUT_SECONDS = 30.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024


def connection(url: str, options: argparse.Namespace) -> tuple[http.client.HTTPConnection, str]:
    """A connection to the gateway, and the prefix of its paths."""
    parts = urlsplit(url)
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TIMEOUT_SECONDS), parts.path.rstrip("/")
    context = ssl.create_default_context(cafile=options.bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A SPIFFE certificate names a URI, not a host (X509-SVID, section 2): the bundle alone says who the gateway is.
    context.check_hostname = False
    if options.cert:
        context.load_cert_chain(options.cert, options.key)
    return http.client.HTTPSConnection(
        parts.hostname or "", parts.port or 443, timeout=TIMEOUT_SECONDS, context=context
    ), parts.path.rstrip("/")


def infer(options: argparse.Namespace, pixels: tuple[int, ...] = ZERO) -> tuple[int, dict[str, Any]]:
    """Status and document of one inference."""
    link, prefix = connection(options.url, options)
    body = {"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": list(pixels)}]}
    headers = {"content-type": "application/json"}
    if options.token_file:
        headers["authorization"] = f"Bearer {Path(options.token_file).read_text(encoding='ascii').strip()}"
    if options.host:
        headers["host"] = options.host
    try:
        link.request("POST", f"{prefix}/v2/models/{options.model}/infer", json.dumps(body), headers)
        answer = link.getresponse()
        content = answer.read(MAX_ANSWER_BYTES)
    finally:
        link.close()
    try:
        document = json.loads(content)
    except ValueError:
        document = {"detail": content[:300].decode("utf-8", "replace")}
    return answer.status, document if isinstance(document, dict) else {"detail": document}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="ask the digits model which digit a picture shows")
    parser.add_argument("--url", required=True, help="the gateway, for example https://127.0.0.1:8443")
    parser.add_argument("--model", default="digits")
    parser.add_argument("--cert", help="certificate chain of the caller (PEM)")
    parser.add_argument("--key", help="its private key (PEM)")
    parser.add_argument("--bundle", help="trust bundle of the gateway (PEM)")
    parser.add_argument("--token-file", help="file that holds a JWT-SVID; a token on the command line could be read by others")
    parser.add_argument("--host", help="Host header, where the gateway tells endpoints apart by name")
    parser.add_argument("--json", action="store_true", help="print the whole answer")
    options = parser.parse_args()
    if bool(options.cert) != bool(options.key):
        parser.error("--cert and --key belong together")
    try:
        status, document = infer(options)
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer from {options.url}: {error}", file=sys.stderr)
        return 3
    if options.json:
        print(json.dumps(document, indent=2))
    elif status == 200:
        outputs = {output["name"]: output["data"] for output in document["outputs"]}
        print(f"digit {outputs['label'][0]} (probability {max(outputs['probabilities']):.3f})")
    else:
        print(f"refused ({status}): {document.get('detail') or document.get('error') or document.get('title')}")
        if document.get("remedy"):
            print(f"to get in: {document['remedy']}")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())

"""Writes recorded/: one file for each attestor that verifies evidence, in the provider's published form, signed with keys made here.

    python tests/identity/attestors/make_recorded.py

No real recording of a cloud or a forge can be had without network and an account there. So these files pin our reading of the published
forms: a change of the code that no longer takes them is noticed. The private keys are thrown away.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from attestor_world import (
    AUDIENCE,
    CLUSTER,
    NONCE,
    NOW,
    OURS,
    SECONDS,
    as_aws,
    attested,
    certificate,
    cms,
    der,
    document,
    ec_key,
    gcp,
    github,
    gitlab,
    jwk,
    jwks,
    jwt,
    kubernetes,
    pem,
    rsa_key,
    standard,
    trust,
)  # fmt: skip
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from vouchgate.identity.attestors import Attested, Trust
from vouchgate.identity.catalog import attest
from vouchgate.identity.join_tokens import make_join_token
from vouchgate.identity.possession import challenge, prove
from vouchgate.vocabulary.wire import encode, to_plain

FOLDER = Path(__file__).parent / "recorded"
OIDC, PARTNER, DIGITS = "https://login.corp.example/tenant", "partner.example", "1234567890"


def aws() -> tuple[dict[str, str], Trust]:
    key = rsa_key("aws")
    region = certificate("us-west-2", key, ekus=None, end=SECONDS + 10**8)
    signed = as_aws(cms(json.dumps(document(), indent=2).encode(), region, key, options=(pkcs7.PKCS7Options.NoCerts,)))
    return {"rsa2048": base64.encodebytes(signed).decode()}, Trust(name="aws", trust_domain=OURS, authorities=(der(region),))


def azure() -> tuple[dict[str, str], Trust]:
    root = certificate("Test Global Root G2", rsa_key("root"), ca=True, end=SECONDS + 10**8)
    middle = certificate("Test Azure RSA TLS Issuing CA", rsa_key("middle"), (root, rsa_key("root")), ca=True, path_length=0)
    leaf = certificate(
        "eastus.metadata.azure.com", rsa_key("leaf"), (middle, rsa_key("middle")), sans=(x509.DNSName("eastus.metadata.azure.com"),)
    )
    signed = cms(json.dumps(attested(DIGITS)).encode(), leaf, rsa_key("leaf"))
    source = Trust(name="azure", trust_domain=OURS, authorities=(der(root), der(middle)))
    return {"encoding": "pkcs7", "signature": base64.b64encode(signed).decode()}, source


def possession() -> tuple[dict[str, str], Trust]:
    root = certificate("SPIRE", ec_key("root"), ca=True, end=SECONDS + 10**8)
    uri = x509.UniformResourceIdentifier(f"spiffe://{PARTNER}/ns/train/sa/trainer")
    leaf = certificate("leaf", ec_key("leaf"), (root, ec_key("root")), sans=(uri,), names=x509.Name.from_rfc4514_string("O=SPIRE,C=US"))
    signature = base64.b64encode(prove(ec_key("leaf"), challenge(OURS, NONCE, der(leaf)))).decode()
    source = Trust(name="x509pop", trust_domain=OURS, issuer=PARTNER, authorities=(der(root),))
    return {"certificates": pem(leaf), "signature": signature}, source


def cases() -> dict[str, tuple[dict[str, str], Trust, str]]:
    token, kept = make_join_token(b"recorded recorded recorded recor", NOW, 600)
    svid = {"sub": f"spiffe://{PARTNER}/agent/planner", "aud": [AUDIENCE], "exp": SECONDS + 300, "iat": SECONDS}
    bundle = jwks(jwk(ec_key(), "ec-1", use="jwt-svid"))
    named = trust("corp", OIDC, required=("team",), optional=("env",), ignored=("noise",))
    return {
        "github-actions": ({"token": jwt(github())}, trust("github", github()["iss"]), ""),
        "gitlab-ci": ({"token": jwt(gitlab())}, trust("gitlab", gitlab()["iss"]), ""),
        "kubernetes-token": ({"token": jwt(kubernetes())}, trust("k8s", CLUSTER), ""),
        "gcp-instance": ({"token": jwt(gcp())}, trust("gcp", gcp()["iss"]), ""),
        "oidc": ({"token": jwt(standard(OIDC, team="ml", env="prod"), algorithm="ES256")}, named, ""),
        "spiffe-jwt": ({"token": jwt(svid, algorithm="ES256")}, trust("spiffe", PARTNER, keys=bundle), ""),
        "join-token": ({"token": token}, Trust(name="join", join_tokens=(kept,)), ""),
        "aws-instance": (*aws(), ""),
        "azure-instance": (*azure(), DIGITS),
        "x509-pop": (*possession(), NONCE),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, (given, source, nonce) in cases().items():
        answer = attest(name, given, source, NOW, nonce)
        assert isinstance(answer, Attested), answer
        said: dict[str, Any] = {
            "made_by": "make_recorded.py with own keys, in the published form", "now": NOW, "nonce": nonce, "given": given,
            "trust": json.loads(encode(source)), "selectors": to_plain(answer.selectors),
        }  # fmt: skip
        (FOLDER / f"{name}.json").write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()

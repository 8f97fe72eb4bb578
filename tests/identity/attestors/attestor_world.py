"""Providers with own keys that speak exactly the published forms: tokens, certificates, signed documents."""

from __future__ import annotations

import base64
import datetime
import json
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vouchgate.identity.attestors import Trust

NOW = 1_800_000_000_000
SECONDS = NOW // 1000
AUDIENCE, OURS, NONCE = "vouchgate://test.local", "test.local", "bm9uY2Utb2YtdGhpcy1hdHRlbXB0"


@cache
def rsa_key(name: str = "provider", bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name: str = "provider", curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int, size: int = 0) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"kty": "RSA", "kid": kid, "n": number(numbers.n), "e": number(numbers.e)} | more
    return {"kty": "EC", "kid": kid, "crv": "P-256", "x": number(numbers.x, 32), "y": number(numbers.y, 32)} | more


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def provider_keys() -> bytes:
    return jwks(jwk(rsa_key(), "rsa-1", use="sig", alg="RS256"), jwk(ec_key(), "ec-1", use="sig"), jwk(rsa_key(), "rsa-pss"))


def trust(name: str, issuer: str, **more: Any) -> Trust:
    return Trust(**({"name": name, "trust_domain": OURS, "issuer": issuer, "audience": AUDIENCE, "keys": provider_keys()} | more))


def sign(message: bytes, algorithm: str, key: Any) -> bytes:
    if algorithm == "RS256":
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    if algorithm == "PS256":
        return key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    if algorithm == "ES256":
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return b""


def jwt(claims: Any, *, head: Any = None, key: Any = None, algorithm: str = "RS256") -> str:
    """A token signed whatever it says."""
    header = (
        {"alg": algorithm, "kid": {"RS256": "rsa-1", "PS256": "rsa-pss"}.get(algorithm, "ec-1"), "typ": "JWT"} if head is None else head
    )
    parts = [b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims)]
    signer = key or (ec_key() if algorithm.startswith("E") else rsa_key())
    return ".".join([*parts, b64(sign(".".join(parts).encode(), algorithm, signer))])


def standard(issuer: str, **changes: Any) -> dict[str, Any]:
    said = {
        "iss": issuer, "aud": AUDIENCE, "sub": "subject", "iat": SECONDS - 10, "nbf": SECONDS - 10, "exp": SECONDS + 290, "jti": "jti-0001",
    }  # fmt: skip
    return merged(said, changes)


def merged(said: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """With changes; None takes a claim out."""
    return {name: value for name, value in (said | changes).items() if value is not None}


def github(**changes: Any) -> dict[str, Any]:
    return standard("https://token.actions.githubusercontent.com", **({
        "sub": "repo:octo-org/octo-repo:environment:prod", "environment": "prod", "ref": "refs/heads/main", "ref_type": "branch",
        "ref_protected": "true", "sha": "a" * 40, "repository": "octo-org/octo-repo", "repository_id": "74", "repository_owner": "octo-org",
        "repository_owner_id": "65", "repository_visibility": "private", "actor": "octocat", "actor_id": "12", "workflow": "train",
        "workflow_ref": "octo-org/octo-repo/.github/workflows/train.yml@refs/heads/main", "workflow_sha": "a" * 40,
        "job_workflow_ref": "octo-org/automation/.github/workflows/oidc.yml@refs/heads/main", "job_workflow_sha": "b" * 40,
        "run_id": "1234", "run_number": "10", "run_attempt": "2", "runner_environment": "github-hosted", "head_ref": "", "base_ref": "",
        "event_name": "push",
    } | changes))  # fmt: skip


def gitlab(**changes: Any) -> dict[str, Any]:
    return standard("https://gitlab.example", **({
        "sub": "project_path:my-group/my-project:ref_type:branch:ref:main", "namespace_id": "72", "namespace_path": "my-group",
        "project_id": "20", "project_path": "my-group/my-project", "user_id": "1", "user_login": "sample-user",
        "user_email": "sample-user@example.com", "user_identities": [{"provider": "github", "extern_uid": "2435223452345"}],
        "user_access_level": "developer", "pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "main",
        "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true", "groups_direct": ["my-group"], "environment": "prod",
        "environment_protected": "false", "deployment_tier": "production", "environment_action": "start", "runner_id": 1,
        "runner_environment": "self-hosted", "sha": "a" * 40, "project_visibility": "private",
        "ci_config_ref_uri": "gitlab.example/my-group/my-project//.gitlab-ci.yml@refs/heads/main", "ci_config_sha": "a" * 40,
        "job_project_id": "20", "job_project_path": "my-group/my-project", "job_namespace_id": "72", "job_namespace_path": "my-group",
    } | changes))  # fmt: skip


POD, ACCOUNT, NODE = "eb0a5a6b-4d21-4a3e-9a1c-0c7c1c3b2f10", "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798", "5fe34a3a-01d9-4d09-8b4d-f4a0e5f5b8f1"
CLUSTER = "https://kubernetes.default.svc.cluster.local"


def kubernetes(bound: Any = None, **changes: Any) -> dict[str, Any]:
    claim = {
        "namespace": "train", "node": {"name": "node-1", "uid": NODE}, "pod": {"name": "worker-0", "uid": POD},
        "serviceaccount": {"name": "trainer", "uid": ACCOUNT}, "warnafter": SECONDS + 3607,
    } | (bound or {})  # fmt: skip
    return standard(CLUSTER, **({
        "aud": [AUDIENCE], "sub": "system:serviceaccount:train:trainer", "kubernetes.io": merged(claim, {}), "exp": SECONDS + 3600,
    } | changes))  # fmt: skip


def gcp(engine: Any = None, **changes: Any) -> dict[str, Any]:
    said = {
        "project_id": "vouch-test", "project_number": 1071284184436, "zone": "us-central1-c", "instance_id": "4570452845155348778",
        "instance_name": "train-1", "instance_creation_timestamp": SECONDS - 9999, "instance_confidentiality": 1, "license_id": ["1", "2"],
    } | (engine or {})  # fmt: skip
    return standard("https://accounts.google.com", **({
        "azp": "112179062720391305885", "sub": "112179062720391305885", "email": "sa@vouch-test.iam.gserviceaccount.com",
        "email_verified": True, "google": {"compute_engine": merged(said, {})}, "exp": SECONDS + 3590, "jti": None, "nbf": None,
    } | changes))  # fmt: skip


def instant(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Corp"), x509.NameAttribute(NameOID.COMMON_NAME, common)])


def certificate(
    subject: str, key: Any, issuer: tuple[x509.Certificate, Any] | None = None, *, ca: bool = False, sans: tuple[x509.GeneralName, ...] = (),
    ekus: tuple[Any, ...] | None = (ExtendedKeyUsageOID.CLIENT_AUTH,), begin: int = SECONDS - 1000, end: int = SECONDS + 100_000,
    path_length: int | None = None, signing: bool | None = None, names: x509.Name | None = None, extra: tuple[tuple[Any, bool], ...] = (),
    serial: int | None = None,
) -> x509.Certificate:  # fmt: skip
    """A certificate of an ordinary corporate CA."""
    above, above_key = issuer or (None, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(names or name(subject))
        .issuer_name(above.subject if above else names or name(subject))
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(instant(begin))
        .not_valid_after(instant(end))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not ca if signing is None else signing, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
    )  # fmt: skip
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    if ekus and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(ekus), critical=False)
    for value, critical in extra:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(above_key, None if isinstance(above_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def der(one: x509.Certificate) -> bytes:
    return one.public_bytes(Encoding.DER)


def pem(*chain: x509.Certificate) -> str:
    return b"".join(one.public_bytes(Encoding.PEM) for one in chain).decode()


def cms(
    content: bytes, signer: x509.Certificate, key: Any, *others: x509.Certificate, options: tuple[Any, ...] = (), digest: Any = None
) -> bytes:
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content).add_signer(signer, key, digest or hashes.SHA256())
    for one in others:
        builder = builder.add_certificate(one)
    return builder.sign(Encoding.DER, [pkcs7.PKCS7Options.Binary, *options])


def document(**changes: Any) -> dict[str, Any]:
    """An EC2 instance identity document."""
    return {
        "accountId": "123456789012", "architecture": "x86_64", "availabilityZone": "us-west-2b", "billingProducts": None,
        "devpayProductCodes": None, "marketplaceProductCodes": ["1abc2defghijklm3nopqrs4tu"], "imageId": "ami-5fb8c835",
        "instanceId": "i-1234567890abcdef0", "instanceType": "t2.micro", "kernelId": None,
        "pendingTime": instant(SECONDS - 120).strftime("%Y-%m-%dT%H:%M:%SZ"), "privateIp": "10.158.112.84", "ramdiskId": None,
        "region": "us-west-2", "version": "2017-09-30",
    } | changes  # fmt: skip


def attested(nonce: str, **changes: Any) -> dict[str, Any]:
    """What an Azure attested document holds."""
    form = "%m/%d/%y %H:%M:%S -0000"
    return {
        "licenseType": "", "nonce": nonce, "plan": {"name": "", "product": "", "publisher": ""}, "sku": "22_04-lts",
        "subscriptionId": "8d10da13-8125-4ba9-a717-bf7490507b3d",
        "timeStamp": {"createdOn": instant(SECONDS - 5).strftime(form), "expiresOn": instant(SECONDS + 21_595).strftime(form)},
        "vmId": "d3e0e374-fda6-4649-bbc9-7f20dc379f34",
    } | changes  # fmt: skip


def length(size: int) -> bytes:
    if size < 128:
        return bytes([size])
    raw = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(raw)]) + raw


def value(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes([tag]) + length(len(body)) + body


def open_ended(tag: int, *parts: bytes) -> bytes:
    return bytes([tag, 0x80]) + b"".join(parts) + b"\0\0"


def taken_apart(raw: bytes) -> list[bytes]:
    """The values inside of one with definite lengths."""
    found, at = [], raw_head(raw)
    while at < len(raw):
        size = raw_head(raw[at:]) + raw_size(raw[at:])
        found.append(raw[at : at + size])
        at += size
    return found


def raw_head(raw: bytes) -> int:
    return 2 if raw[1] < 128 else 2 + (raw[1] & 0x7F)


def raw_size(raw: bytes) -> int:
    return raw[1] if raw[1] < 128 else int.from_bytes(raw[2 : 2 + (raw[1] & 0x7F)], "big")


def as_aws(signed: bytes) -> bytes:
    """The same with the indefinite lengths, and the content in pieces, that AWS writes."""
    kind, wrapped = taken_apart(signed)
    version, digests, content, *rest = taken_apart(taken_apart(wrapped)[0])
    content_kind, octets = taken_apart(content)
    body = taken_apart(octets)[0][raw_head(taken_apart(octets)[0]) :]
    half = len(body) // 2
    pieces = open_ended(0x24, value(0x04, body[:half]), value(0x04, body[half:]))
    inner = open_ended(0x30, content_kind, open_ended(0xA0, pieces))
    return open_ended(0x30, kind, open_ended(0xA0, open_ended(0x30, version, digests, inner, *rest)))

"""A Sigstore instance of the tests' own: certificate authority, certificate log, signature logs of both generations, timestamp authority.

Everything is made with the real formats, so that the library of the Sigstore project reads it as well; every part of a bundle can be made wrong alone.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

NOW = 1_790_000_000
"""Seconds: when everything is signed."""
IDENTITY = "https://github.com/example/model/.github/workflows/release.yml@refs/tags/v1"
ISSUER = "https://token.actions.githubusercontent.com"
CLAIMS = {12: "https://github.com/example/model", 13: "ab" * 20, 14: "refs/tags/v1"}
PAYLOAD_TYPE = "application/vnd.in-toto+json"
SCT = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


def when(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def oid(text: str) -> bytes:
    first, second, *rest = (int(part) for part in text.split("."))
    out = b""
    for number in (40 * first + second, *rest):
        groups = [number & 127]
        while number := number >> 7:
            groups.append(number & 127 | 128)
        out += bytes(reversed(groups))
    return tlv(6, out)


def number(value: int) -> bytes:
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def spki(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pae(payload: bytes, kind: str = PAYLOAD_TYPE) -> bytes:
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)


def leaf_hash(body: bytes) -> bytes:
    return hashlib.sha256(b"\0" + body).digest()


def tree_root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_root(leaves[:half]) + tree_root(leaves[half:])).digest()


def tree_path(leaves: list[bytes], index: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if index < half:
        return [*tree_path(leaves[:half], index), tree_root(leaves[half:])]
    return [*tree_path(leaves[half:], index - half), tree_root(leaves[:half])]


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sigstore.test"), x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Issuing:
    """A chain of two: a root and what issues below it."""

    purpose: Any
    start: int = NOW - 10_000_000
    root_key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))

    def __post_init__(self) -> None:
        self.root = self._make("root", self.root_key, self.root_key, "root", 1, True, None)
        self.middle = self._make("issuer", self.key, self.root_key, "root", 0, True, self.purpose)

    def _make(self, subject: str, key: Any, by: Any, issuer: str, depth: int | None, authority: bool, purpose: Any) -> x509.Certificate:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
        )
        made = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(when(self.start))
            .not_valid_after(when(NOW + 100_000_000))
            .add_extension(x509.BasicConstraints(authority, depth), critical=True)
            .add_extension(x509.KeyUsage(not authority, key_cert_sign=authority, crl_sign=authority, **usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        )
        if purpose is not None:
            made = made.add_extension(x509.ExtendedKeyUsage([purpose]), critical=not authority)
        return made.sign(by, hashes.SHA384())

    def chain(self) -> list[x509.Certificate]:
        return [self.middle, self.root]


@dataclass
class CertificateLog:
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def id(self) -> bytes:
        return hashlib.sha256(spki(self.key)).digest()

    def stamp(self, precertificate: bytes, issuer: bytes, at: int) -> bytes:
        millis = (at * 1000).to_bytes(8, "big")
        entry = hashlib.sha256(issuer).digest() + len(precertificate).to_bytes(3, "big") + precertificate
        signature = self.key.sign(b"\0\0" + millis + b"\0\1" + entry + b"\0\0", ec.ECDSA(hashes.SHA256()))
        one = b"\0" + self.id + millis + b"\0\0" + b"\4\3" + len(signature).to_bytes(2, "big") + signature
        return len(one).to_bytes(2, "big") + one


@dataclass
class Rekor:
    """A log: of generation 1 with promises, of generation 2 without."""

    generation: int = 1
    host: str = "rekor.test"
    key: Any = None

    def __post_init__(self) -> None:
        self.key = self.key or (ec.generate_private_key(ec.SECP256R1()) if self.generation == 1 else ed25519.Ed25519PrivateKey.generate())
        self.leaves = [leaf_hash(b"entry %d" % index) for index in range(5)]

    @property
    def id(self) -> bytes:
        if self.generation == 1:
            return hashlib.sha256(spki(self.key)).digest()
        return hashlib.sha256(f"{self.host}\n\1".encode() + spki(self.key)[-32:]).digest()

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data, ec.ECDSA(hashes.SHA256())) if self.generation == 1 else self.key.sign(data)

    def checkpoint(self, size: int, root: bytes) -> str:
        origin = f"{self.host} - 77" if self.generation == 1 else self.host
        text = f"{origin}\n{size}\n{b64(root)}\n"
        return f"{text}\n\u2014 {self.host} {b64(self.id[:4] + self.sign(text.encode()))}\n"

    def take(self, body: bytes, kind: str, version: str, at: int = NOW) -> dict[str, Any]:
        index = len(self.leaves)
        self.leaves += [leaf_hash(body), *(leaf_hash(b"later %d" % one) for one in range(3))]
        root = tree_root(self.leaves)
        entry: dict[str, Any] = {
            "logIndex": str(index + 1000 if self.generation == 1 else index),
            "logId": {"keyId": b64(self.id)},
            "kindVersion": {"kind": kind, "version": version},
            "canonicalizedBody": b64(body),
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": b64(root),
                "treeSize": str(len(self.leaves)),
                "hashes": [b64(one) for one in tree_path(self.leaves, index)],
                "checkpoint": {"envelope": self.checkpoint(len(self.leaves), root)},
            },
        }
        if self.generation == 1:
            entry["integratedTime"] = str(at)
            entry["inclusionPromise"] = {"signedEntryTimestamp": b64(self.promise(entry))}
        return entry

    def promise(self, entry: dict[str, Any]) -> bytes:
        said = {
            "body": entry["canonicalizedBody"],
            "integratedTime": int(entry["integratedTime"]),
            "logID": base64.b64decode(entry["logId"]["keyId"]).hex(),
            "logIndex": int(entry["logIndex"]),
        }
        return self.sign(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())


@dataclass
class Stamping:
    """A timestamp authority; every field of a token can be changed."""

    def __post_init__(self) -> None:
        self.authority = Issuing(ExtendedKeyUsageOID.TIME_STAMPING)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.own = self.certificate()

    def certificate(self, purpose: Any = ExtendedKeyUsageOID.TIME_STAMPING) -> x509.Certificate:
        return self.authority._make("tsa", self.key, self.authority.key, "issuer", None, False, purpose)

    def chain(self) -> list[x509.Certificate]:
        return [self.own, *self.authority.chain()]

    def stamp(
        self,
        message: bytes,
        at: int = NOW + 1,
        *,
        status: int = 0,
        key: Any = None,
        own: x509.Certificate | None = None,
        named: bytes | None = None,
        over: bytes | None = None,
        extensions: bytes = b"",
        attribute_type: str = "1.2.840.113549.1.9.16.1.4",
        signers: int = 1,
        time: bytes | None = None,
    ) -> bytes:
        own, key = own or self.own, key or self.key
        sha256 = tlv(0x30, oid("2.16.840.1.101.3.4.2.1"))
        imprint = tlv(0x30, sha256, tlv(4, hashlib.sha256(message).digest()))
        clock = tlv(0x18, time or when(at).strftime("%Y%m%d%H%M%SZ").encode())
        info = tlv(0x30, number(1), oid("1.3.6.1.4.1.57264.2"), imprint, number(4711), clock, extensions)
        listed = named or hashlib.sha256(own.public_bytes(Encoding.DER)).digest()
        attributes = sorted(
            (
                tlv(0x30, oid("1.2.840.113549.1.9.3"), tlv(0x31, oid(attribute_type))),
                tlv(0x30, oid("1.2.840.113549.1.9.4"), tlv(0x31, tlv(4, hashlib.sha256(over or info).digest()))),
                tlv(0x30, oid("1.2.840.113549.1.9.16.2.47"), tlv(0x31, tlv(0x30, tlv(0x30, tlv(0x30, tlv(4, listed)))))),
            )
        )
        signature = key.sign(tlv(0x31, *attributes), ec.ECDSA(hashes.SHA256()))
        who = tlv(0x30, own.issuer.public_bytes(), number(own.serial_number))
        signer = tlv(0x30, number(1), who, sha256, tlv(0xA0, *attributes), tlv(0x30, oid("1.2.840.10045.4.3.2")), tlv(4, signature))
        content = tlv(0x30, oid("1.2.840.113549.1.9.16.1.4"), tlv(0xA0, tlv(4, info)))
        data = tlv(0x30, number(3), tlv(0x31, sha256), content, tlv(0xA0, own.public_bytes(Encoding.DER)), tlv(0x31, *([signer] * signers)))
        return tlv(0x30, tlv(0x30, number(status)), tlv(0x30, oid("1.2.840.113549.1.7.2"), tlv(0xA0, data)))


class World:
    """All of it, and bundles of it."""

    def __init__(self) -> None:
        self.fulcio, self.ct = Issuing(ExtendedKeyUsageOID.CODE_SIGNING), CertificateLog()
        self.rekor, self.rekor2, self.tsa = Rekor(), Rekor(2, "log2.rekor.test"), Stamping()
        self.signer = ec.generate_private_key(ec.SECP256R1())

    def leaf(
        self,
        *,
        identity: str = IDENTITY,
        issuer: str | None = ISSUER,
        at: int = NOW - 60,
        key: Any = None,
        by: Issuing | None = None,
        log: CertificateLog | None = None,
        stamps: int = 1,
        stamp_of: bytes | None = None,
        stamp_at: int | None = None,
        purpose: Any = ExtendedKeyUsageOID.CODE_SIGNING,
        signs: bool = True,
        names: list[x509.GeneralName] | None = None,
        claims: dict[int, str] | None = None,
        raw: dict[int, bytes] | None = None,
    ) -> bytes:
        """A signer's certificate of ten minutes, DER."""
        by, log, key = by or self.fulcio, log or self.ct, key or self.signer
        plain = x509.UniformResourceIdentifier(identity) if "://" in identity else x509.RFC822Name(identity)
        usage = dict.fromkeys(
            ("key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False
        )
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(name("issuer"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(when(at))
            .not_valid_after(when(at + 600))
            .add_extension(x509.KeyUsage(digital_signature=signs, content_commitment=not signs, **usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName(names or [plain]), critical=True)
        )
        texts = {one: tlv(0x0C, text.encode()) for one, text in (CLAIMS if claims is None else claims).items()}
        if issuer is not None:
            texts |= {8: tlv(0x0C, issuer.encode()), 1: issuer.encode()}
        for last, value in sorted((texts | (raw or {})).items()):
            made = made.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{last}"), value), critical=False)
        bare = made.sign(by.key, hashes.SHA384())
        if not stamps:
            return bare.public_bytes(Encoding.DER)
        one = log.stamp(stamp_of or bare.tbs_certificate_bytes, spki(by.key), at if stamp_at is None else stamp_at)
        listed = one * stamps
        value = tlv(4, len(listed).to_bytes(2, "big") + listed)
        return (
            made.add_extension(x509.UnrecognizedExtension(SCT, value), critical=False)
            .sign(by.key, hashes.SHA384())
            .public_bytes(Encoding.DER)
        )

    def bundle(
        self,
        payload: bytes = b'{"_type":"x"}',
        *,
        file: bytes | None = None,
        generation: int = 1,
        leaf: bytes | None = None,
        key: Any = None,
        kind: str = "",
        at: int = NOW,
        log: Rekor | None = None,
        logged: dict[str, Any] | None = None,
        tokens: list[bytes] | None = None,
        signature: bytes | None = None,
    ) -> dict[str, Any]:
        """A bundle of version 0.3; `logged` replaces parts of what the log wrote down."""
        leaf, key = leaf or self.leaf(), key or self.signer
        said = file if file is not None else pae(payload)
        signature = signature or key.sign(said, ec.ECDSA(hashes.SHA256()))
        kind = kind or ("hashedrekord" if file is not None or generation == 2 else "dsse")
        parts = {"leaf": leaf, "signature": signature, "payload": payload, "said": said} | (logged or {})
        version, spec = self._spec(kind, generation, parts)
        body = json.dumps({"apiVersion": version, "kind": kind, "spec": spec}, sort_keys=True, separators=(",", ":")).encode()
        entry = (log or (self.rekor if generation == 1 else self.rekor2)).take(body, kind, version, at)
        material: dict[str, Any] = {"certificate": {"rawBytes": b64(leaf)}, "tlogEntries": [entry]}
        tokens = [self.tsa.stamp(signature)] if tokens is None and generation == 2 else tokens or []
        material["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": b64(one)} for one in tokens]}
        made = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": material}
        if file is not None:
            digest = {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(file).digest())}
            return made | {"messageSignature": {"messageDigest": digest, "signature": b64(signature)}}
        return made | {"dsseEnvelope": {"payload": b64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": b64(signature)}]}}

    def _spec(self, kind: str, generation: int, parts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        pem = x509.load_der_x509_certificate(parts["leaf"]).public_bytes(Encoding.PEM)
        said = hashlib.sha256(parts["said"]).digest()
        payload = {"algorithm": "sha256", "value": hashlib.sha256(parts["payload"]).hexdigest()}
        if generation == 2:
            verifier = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": b64(parts["leaf"])}}
            signature = {"content": b64(parts["signature"]), "verifier": verifier}
            if kind == "dsse":
                hashed = {"algorithm": "SHA2_256", "digest": b64(bytes.fromhex(payload["value"]))}
                return "0.0.2", {"dsseV002": {"payloadHash": hashed, "signatures": [signature]}}
            return "0.0.2", {"hashedRekordV002": {"data": {"algorithm": "SHA2_256", "digest": b64(said)}, "signature": signature}}
        if kind == "hashedrekord":
            data = {"hash": {"algorithm": "sha256", "value": said.hex()}}
            return "0.0.1", {"data": data, "signature": {"content": b64(parts["signature"]), "publicKey": {"content": b64(pem)}}}
        if kind == "intoto":
            one = {"publicKey": b64(pem), "sig": b64(b64(parts["signature"]).encode())}
            envelope = {"payloadType": PAYLOAD_TYPE, "signatures": [one]}
            return "0.0.2", {"content": {"envelope": envelope, "hash": payload, "payloadHash": payload}}
        one = {"signature": b64(parts["signature"]), "verifier": b64(pem)}
        return "0.0.1", {"envelopeHash": {"algorithm": "sha256", "value": "0" * 64}, "payloadHash": payload, "signatures": [one]}

    def root(self, **changes: Any) -> dict[str, Any]:
        """trusted_root.json."""
        since = {"start": "2020-01-01T00:00:00Z"}

        def log(of: Any, address: str, details: str) -> dict[str, Any]:
            key = {"rawBytes": b64(spki(of.key)), "keyDetails": details, "validFor": dict(since)}
            return {"baseUrl": f"https://{address}", "hashAlgorithm": "SHA2_256", "publicKey": key, "logId": {"keyId": b64(of.id)}}

        def authority(chain: list[x509.Certificate], address: str) -> dict[str, Any]:
            wires = [{"rawBytes": b64(one.public_bytes(Encoding.DER))} for one in chain]
            subject = {"organization": "sigstore.test", "commonName": "sigstore"}
            return {"subject": subject, "uri": f"https://{address}", "certChain": {"certificates": wires}, "validFor": dict(since)}

        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [
                log(self.rekor, self.rekor.host, "PKIX_ECDSA_P256_SHA_256"),
                log(self.rekor2, self.rekor2.host, "PKIX_ED25519"),
            ],
            "certificateAuthorities": [authority(self.fulcio.chain(), "fulcio.test")],
            "ctlogs": [log(self.ct, "ct.test", "PKIX_ECDSA_P256_SHA_256")],
            "timestampAuthorities": [authority(self.tsa.chain(), "tsa.test")],
        } | changes


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()

"""Make x509.json, jwt.json and bundle.json: one failure a vector, named after the clause it breaks; fixed keys, so that anybody can remake them.

    .venv/bin/python tests/identity/vectors/make_vectors.py [FOLDER]

Certificates are put together from DER by hand: what a library refuses to write is exactly what a reader must refuse to read. Signatures are
deterministic (RFC 6979), and those of leaves have s in the lower half, since ours have no other spelling.
Each X.509 vector: `chain` (base64 DER, leaf first), `clause` that the checker must name ("" for one that conforms), `code` that
`read_x509` must answer ("" where it accepts), `bundle`: which authorities it is read against.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vouchgate.identity.binding import write_binding
from vouchgate.identity.der import write
from vouchgate.vocabulary.principals import Binding
from vouchgate.vocabulary.trust import key_id

TD = "vectors.test"
NOW = 1_790_000_000_000
ID = f"spiffe://{TD}/service/prod/scorer"
AUDIENCE = f"vg://{TD}/endpoint/digits"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SHA256_ECDSA = bytes.fromhex("300a06082a8648ce3d040302")
SHA384_ECDSA = bytes.fromhex("300a06082a8648ce3d040303")
SHA1_ECDSA = bytes.fromhex("300906072a8648ce3d0401")
OIDS = {"san": "551d11", "basic": "551d13", "usage": "551d0f", "eku": "551d25", "aki": "551d23", "ski": "551d0e", "nc": "551d1e",
        "attributes": "551d09", "unknown": "2b0601040183b1710163"}  # fmt: skip
CRITICAL = {"san", "basic", "usage", "nc"}


def key(label: str, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    """A key that anybody can make again."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(label.encode()).digest(), "big") % (ORDER - 1) + 1, curve())


def spki(of: Any) -> bytes:
    public = of.public_key() if hasattr(of, "public_key") else of
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_identifier(of: Any) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(of.public_key()).digest


def name(text: str) -> bytes:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else []).public_bytes()


def time(at: int) -> bytes:
    moment = datetime.datetime.fromtimestamp(at // 1000, tz=datetime.UTC)
    return write(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def usage(*bits: str) -> bytes:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
             "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{one: one in bits for one in names}).public_bytes()


def san(*names: Any) -> bytes:
    return x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(one) if isinstance(one, str) else one for one in names]
    ).public_bytes()


def raw_uri(data: bytes) -> bytes:
    """A SAN whose URI is any bytes."""
    return write(0x30, write(0x86, data))


def basic(ca: bool, length: int | None = None) -> bytes:
    return x509.BasicConstraints(ca=ca, path_length=length).public_bytes()


def eku(*purposes: Any) -> bytes:
    return x509.ExtendedKeyUsage(purposes or (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)).public_bytes()


def aki(of: Any) -> bytes:
    return x509.AuthorityKeyIdentifier(key_identifier(of), None, None).public_bytes()


def extension(which: str, value: bytes, critical: bool | None = None, flag: bytes = b"\xff") -> bytes:
    marked = write(0x01, flag) if (which in CRITICAL if critical is None else critical) else b""
    return write(0x30, write(0x06, bytes.fromhex(OIDS[which])) + marked + write(0x04, value))


def certificate(*, subject: str, issuer: str, by: Any, public: bytes, extensions: list[bytes], serial: bytes, begin: int = NOW - 60_000,
                end: int = NOW + 3_600_000, version: bytes = bytes.fromhex("a003020102"), inner: bytes = SHA256_ECDSA, outer: bytes = b"",
                digest: Any = None, high: bool = False, tail: bytes = b"", unused: bytes = b"\x00") -> bytes:  # fmt: skip
    """Any certificate, faulty or not, signed by `by`."""
    held = write(0xA3, write(0x30, b"".join(extensions))) if extensions else b""
    dates = write(0x30, time(begin) + time(end))
    tbs = write(0x30, version + write(0x02, serial) + inner + name(issuer) + dates + name(subject) + public + held)
    r, s = decode_dss_signature(by.sign(tbs, ec.ECDSA(digest or hashes.SHA256(), deterministic_signing=True)))
    if isinstance(by.curve, ec.SECP256R1) and (s > ORDER // 2) != high:
        s = ORDER - s
    return write(0x30, tbs + (outer or inner) + write(0x03, unused + encode_dss_signature(r, s))) + tail


ROOT, ISSUER, LEAF, OTHER, CORPORATE, SIBLING = (key(label) for label in ("root", "issuer", "leaf", "other", "corporate", "sibling"))
P384 = key("p384", ec.SECP384R1)
CA_USAGE = usage("key_cert_sign", "crl_sign")
LEAF_USAGE = usage("digital_signature")


def ca(subject: str = "issuer", of: Any = ISSUER, *, issuer: str = "root", by: Any = ROOT, length: int | None = 0, serial: bytes = b"\x11",
       replace: dict[str, bytes | None] | None = None, add: list[bytes] | None = None, **more: Any) -> bytes:  # fmt: skip
    parts = {"san": extension("san", san(f"spiffe://{TD}"), False), "basic": extension("basic", basic(True, length)),
             "usage": extension("usage", CA_USAGE), "ski": extension("ski", x509.SubjectKeyIdentifier(key_identifier(of)).public_bytes()),
             "aki": extension("aki", aki(by))} | (replace or {})  # fmt: skip
    more = {"begin": NOW - 86_400_000, "end": NOW + 86_400_000} | more
    held = [one for one in parts.values() if one is not None] + (add or [])
    return certificate(subject=subject, issuer=issuer, by=by, public=spki(of), extensions=held, serial=serial, **more)


def leaf(*, issuer: str = "issuer", by: Any = ISSUER, subject: str = "", public: bytes = b"", serial: bytes = b"\x21\x22",
         replace: dict[str, bytes | None] | None = None, add: list[bytes] | None = None, **more: Any) -> bytes:  # fmt: skip
    parts = {"san": extension("san", san(ID)), "basic": extension("basic", basic(False)), "usage": extension("usage", LEAF_USAGE),
             "eku": extension("eku", eku()), "aki": extension("aki", aki(by))} | (replace or {})  # fmt: skip
    held = [one for one in parts.values() if one is not None] + (add or [])
    return certificate(subject=subject, issuer=issuer, by=by, public=public or spki(LEAF), extensions=held, serial=serial, **more)


ROOT_DER = ca("root", ROOT, issuer="root", by=ROOT, length=1, serial=b"\x01")
NARROW_ROOT = ca("root", ROOT, issuer="root", by=ROOT, length=0, serial=b"\x02")
ISSUER_DER = ca()
CORPORATE_ROOT = ca("corporate", CORPORATE, issuer="corporate", by=CORPORATE, length=None, serial=b"\x03", replace={"san": None})
OURS_BELOW = ca("ours", OTHER, issuer="corporate", by=CORPORATE, serial=b"\x04")
SIBLING_CA = ca("sibling", SIBLING, issuer="corporate", by=CORPORATE, serial=b"\x05", replace={"san": None})
UNTRUSTED, NOT, MALFORMED, BOUNDS, EXPIRED = "x509-untrusted", "x509-not-an-svid", "x509-malformed", "x509-bounds", "x509-expired"
ROOTS = {"root": [ROOT_DER], "narrow root": [NARROW_ROOT], "ours below a corporate CA": [OURS_BELOW], "none": []}


def rsa_spki(bits: int) -> bytes:
    """A modulus of that size that nobody can factor or use; only its size matters here."""
    digits = b"".join(hashlib.sha256(f"{bits}/{number}".encode()).digest() for number in range(bits // 256))
    n = int.from_bytes(digits, "big") | (1 << (bits - 1)) | 1
    return spki_of_numbers(rsa.RSAPublicNumbers(65537, n))


def spki_of_numbers(numbers: rsa.RSAPublicNumbers) -> bytes:
    return numbers.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def respell_lengths(data: bytes) -> bytes:
    """The outer length with a byte more than it needs."""
    return data[:1] + b"\x83\x00" + data[2:] if data[1] == 0x82 else data


def x509_vectors() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []

    def add(what: str, clause: str, code: str, *chain: bytes, bundle: str = "root") -> None:
        made.append(
            {"name": what, "clause": clause, "code": code, "bundle": bundle, "chain": [base64.b64encode(one).decode() for one in chain]}
        )

    def faulty(what: str, clause: str, code: str, **changes: Any) -> None:
        add(what, clause, code, leaf(**changes), ISSUER_DER)

    def under(what: str, clause: str, code: str, **changes: Any) -> None:
        add(what, clause, code, leaf(), ca(**changes))

    bound = Binding(run="run-0123456789abcdef", zone="train", inputs="ab" * 32)
    attributes = extension("attributes", write_binding(bound))
    # what conforms
    add("a leaf and its issuer", "", "", leaf(), ISSUER_DER)
    add("a leaf of the root itself", "", "", leaf(issuer="root", by=ROOT))
    add("the root sent along", "", "", leaf(), ISSUER_DER, ROOT_DER)
    add(
        "a subject and a name that is not critical",
        "",
        "",
        leaf(subject="x", replace={"san": extension("san", san(ID), False)}),
        ISSUER_DER,
    )
    add("a DNS name beside the SPIFFE id", "", "", leaf(replace={"san": extension("san", san(ID, x509.DNSName("localhost")))}), ISSUER_DER)
    add("a composite binding", "", "", leaf(add=[attributes]), ISSUER_DER)
    add("an issuer without a SPIFFE id", "", "", leaf(), ca(replace={"san": None}))
    add("an issuer with both purposes", "", "", leaf(), ca(add=[extension("eku", eku())]))
    add("a serial of 20 bytes", "", "", leaf(serial=b"\x7f" + b"\xff" * 19), ISSUER_DER)
    add("an unrelated certificate sent along", "", "", leaf(), ISSUER_DER, CORPORATE_ROOT)
    add("certificates that sign each other in a circle, sent along", "", "", leaf(), ISSUER_DER,
        ca("a", SIBLING, issuer="b", by=OTHER), ca("b", OTHER, issuer="a", by=SIBLING))  # fmt: skip
    add("a second certificate of the issuer, signed by somebody else, first", "", "", leaf(), ca(issuer="other", by=OTHER), ISSUER_DER)
    add(
        "our CA below a corporate one",
        "",
        "",
        leaf(issuer="ours", by=OTHER),
        OURS_BELOW,
        CORPORATE_ROOT,
        bundle="ours below a corporate CA",
    )
    # X509-SVID 2
    faulty("two SPIFFE ids", "X509-SVID 2", NOT, replace={"san": extension("san", san(ID, f"spiffe://{TD}/service/prod/other"))})
    faulty("one SPIFFE id twice", "X509-SVID 2", NOT, replace={"san": extension("san", san(ID, ID))})
    faulty("a web address beside the SPIFFE id", "X509-SVID 2", NOT, replace={"san": extension("san", san(ID, "https://a.test/"))})
    faulty("no URI name", "X509-SVID 2", NOT, replace={"san": extension("san", san(x509.DNSName("a.test")))})
    faulty("no names at all", "X509-SVID 2", NOT, replace={"san": None})
    under("an issuer with two SPIFFE ids", "X509-SVID 2", UNTRUSTED,
          replace={"san": extension("san", san(f"spiffe://{TD}", "spiffe://partner.test"), False)})  # fmt: skip
    # SPIFFE-ID 2
    for what, text in (("another scheme", f"https://{TD}/service/prod/a"), ("a scheme in capitals", f"SPIFFE://{TD}/service/prod/a"),
                       ("percent encoding", f"spiffe://{TD}/service/prod/%61"), ("a query", f"spiffe://{TD}/service/prod/a?b"),
                       ("a fragment", f"spiffe://{TD}/service/prod/a#b"), ("a port", f"spiffe://{TD}:8443/service/prod/a"),
                       ("a user", f"spiffe://me@{TD}/service/prod/a"), ("dots for a segment", f"spiffe://{TD}/service/../a"),
                       ("an empty segment", f"spiffe://{TD}/service//a"), ("a slash at the end", f"spiffe://{TD}/service/prod/a/"),
                       ("a trust domain in capitals", f"spiffe://{TD.upper()}/service/prod/a")):  # fmt: skip
        faulty(f"a SPIFFE id with {what}", "SPIFFE-ID 2", NOT, replace={"san": extension("san", san(text))})
    nul = extension("san", raw_uri(ID.encode() + b"\x00.evil"))
    faulty("a SPIFFE id with a zero byte", "SPIFFE-ID 2", NOT, replace={"san": nul})
    # X509-SVID 3
    faulty("a leaf without a path", "X509-SVID 3.1", NOT, replace={"san": extension("san", san(f"spiffe://{TD}"))})
    faulty("an empty subject, a name that is not critical", "X509-SVID 3.1", NOT, replace={"san": extension("san", san(ID), False)})
    under("an issuer with a path", "X509-SVID 3.2", UNTRUSTED, replace={"san": extension("san", san(ID), False)})
    add("a CA as a leaf", "X509-SVID 5.2", NOT, ISSUER_DER)
    # X509-SVID 4
    faulty("a leaf with cA", "X509-SVID 3.2", NOT, replace={"basic": extension("basic", basic(True))})
    faulty(
        "a leaf with keyCertSign", "X509-SVID 4.1", NOT, replace={"usage": extension("usage", usage("digital_signature", "key_cert_sign"))}
    )
    faulty("a leaf with cRLSign", "X509-SVID 4.3", NOT, replace={"usage": extension("usage", usage("digital_signature", "crl_sign"))})
    faulty("a leaf without digitalSignature", "X509-SVID 4.3", NOT, replace={"usage": extension("usage", usage("key_agreement"))})
    faulty("a leaf without key usage", "X509-SVID 4.3", NOT, replace={"usage": None})
    faulty("a key usage that is not critical", "X509-SVID 4.3", NOT, replace={"usage": extension("usage", LEAF_USAGE, False)})
    faulty("a leaf for servers alone", "X509-SVID 4.4", NOT, replace={"eku": extension("eku", eku(ExtendedKeyUsageOID.SERVER_AUTH))})
    faulty("a leaf for clients alone", "X509-SVID 4.4", NOT, replace={"eku": extension("eku", eku(ExtendedKeyUsageOID.CLIENT_AUTH))})
    under("an issuer without keyCertSign", "X509-SVID 4.3", UNTRUSTED, replace={"usage": extension("usage", usage("crl_sign"))})
    under("an issuer without cA", "X509-SVID 4.1", UNTRUSTED, replace={"basic": extension("basic", basic(False))})
    under("an issuer without key usage", "X509-SVID 4.3", UNTRUSTED, replace={"usage": None})
    under("an issuer whose basic constraints are not critical", "RFC 5280 4.2.1.9", UNTRUSTED,
          replace={"basic": extension("basic", basic(True, 0), False)})  # fmt: skip
    under("an issuer without basic constraints", "X509-SVID 4.1", UNTRUSTED, replace={"basic": None})
    # RFC 5280: fields
    faulty("version 1", "RFC 5280 4.1.2.1", UNTRUSTED, version=b"")
    faulty("version 2", "RFC 5280 4.1.2.1", MALFORMED, version=bytes.fromhex("a003020101"))
    faulty("version 4", "RFC 5280 4.1.2.1", MALFORMED, version=bytes.fromhex("a003020103"))
    faulty("a negative serial", "RFC 5280 4.1.2.2", NOT, serial=b"\xff\x01")
    faulty("a serial of zero", "RFC 5280 4.1.2.2", NOT, serial=b"\x00")
    faulty("a serial of 21 bytes", "RFC 5280 4.1.2.2", NOT, serial=b"\x01" + b"\x00" * 20)
    faulty("a serial that is not minimal", "RFC 5280 4.1", MALFORMED, serial=b"\x00\x21")
    faulty("an algorithm inside that differs", "RFC 5280 4.1.1.2", UNTRUSTED, inner=SHA384_ECDSA, outer=SHA256_ECDSA)
    faulty("SHA-1", "SP 800-131A 9", UNTRUSTED, inner=SHA1_ECDSA, digest=hashes.SHA1())
    faulty("an end before the beginning", "RFC 5280 4.1.2.5", EXPIRED, begin=NOW - 60_000, end=NOW - 120_000)
    faulty("an expired leaf", "RFC 5280 6.1.3", EXPIRED, end=NOW - 1_000)
    faulty("a leaf of tomorrow", "RFC 5280 6.1.3", UNTRUSTED, begin=NOW + 3_600_000, end=NOW + 7_200_000)
    faulty("an RSA key of 1,024 bits", "SP 800-57 5.6.1", NOT, public=rsa_spki(1024))
    # RFC 5280: extensions
    faulty("an unknown critical extension", "RFC 5280 4.2", UNTRUSTED, add=[extension("unknown", b"\x05\x00", True)])
    faulty("an extension twice", "RFC 5280 4.2", MALFORMED, add=[extension("eku", eku())])
    faulty("two alternative names", "RFC 5280 4.2", MALFORMED, add=[extension("san", san(f"spiffe://{TD}/service/prod/other"))])
    faulty("no authority key id", "RFC 5280 4.2.1.1", UNTRUSTED, replace={"aki": None})
    faulty("another key's id as authority", "RFC 5280 4.2.1.1", UNTRUSTED, replace={"aki": extension("aki", aki(OTHER))})
    faulty("a critical authority key id", "RFC 5280 4.2.1.1", UNTRUSTED, replace={"aki": extension("aki", aki(ISSUER), True)})
    permitted = x509.NameConstraints([x509.UniformResourceIdentifier(TD)], None).public_bytes()
    foreign = x509.NameConstraints([x509.UniformResourceIdentifier("partner.test")], None).public_bytes()
    excluded = x509.NameConstraints(None, [x509.UniformResourceIdentifier(TD)]).public_bytes()
    faulty("name constraints in a leaf", "RFC 5280 4.2.1.10", UNTRUSTED, add=[extension("nc", permitted)])
    under("an issuer without a key id", "RFC 5280 4.2.1.2", UNTRUSTED, replace={"ski": None})
    under("an issuer with an unknown critical extension", "RFC 5280 4.2", UNTRUSTED, add=[extension("unknown", b"\x05\x00", True)])
    under("an issuer for another trust domain alone", "RFC 5280 4.2.1.10", UNTRUSTED, add=[extension("nc", foreign)])
    under("an issuer for any trust domain but this", "RFC 5280 4.2.1.10", UNTRUSTED, add=[extension("nc", excluded)])
    under("name constraints that are not critical", "RFC 5280 4.2.1.10", UNTRUSTED, add=[extension("nc", permitted, False)])
    add("an issuer that issues for code alone", "", UNTRUSTED, leaf(), ca(add=[extension("eku", eku(ExtendedKeyUsageOID.CODE_SIGNING))]))
    add("an issuer that issues for servers alone", "", UNTRUSTED, leaf(), ca(add=[extension("eku", eku(ExtendedKeyUsageOID.SERVER_AUTH))]))
    # RFC 5280: paths
    under("an expired issuer", "RFC 5280 6.1.3", UNTRUSTED, end=NOW - 1_000)
    under("an issuer of tomorrow", "RFC 5280 6.1.3", UNTRUSTED, begin=NOW + 3_600_000)
    under("an issuer that the root did not sign", "", UNTRUSTED, by=OTHER)
    add("an issuer under a root of path length 0", "RFC 5280 4.2.1.9", UNTRUSTED, leaf(), ISSUER_DER, NARROW_ROOT, bundle="narrow root")
    add("an issuer below an issuer", "RFC 5280 4.2.1.9", UNTRUSTED, leaf(issuer="second", by=OTHER),
        ca("second", OTHER, issuer="issuer", by=ISSUER), ISSUER_DER)  # fmt: skip
    add("a leaf that a leaf signed", "RFC 5280 6.1.4", UNTRUSTED, leaf(issuer="x", by=LEAF), leaf(subject="x"), ISSUER_DER)
    add("a leaf that signed itself", "", UNTRUSTED, leaf(issuer="x", subject="x", by=LEAF))
    add("a self-made issuer of our issuer's name", "", UNTRUSTED, leaf(by=OTHER), ca(of=OTHER, by=OTHER))
    add("a self-made root of our root's name", "", UNTRUSTED, leaf(by=OTHER), ca(of=OTHER, by=SIBLING),
        ca("root", SIBLING, issuer="root", by=SIBLING, length=1))  # fmt: skip
    add("a leaf without its issuer", "", UNTRUSTED, leaf())
    add("the issuer first", "X509-SVID 5.2", NOT, ISSUER_DER, leaf())
    add(
        "another issuer than its own",
        "RFC 5280 6.1.3",
        UNTRUSTED,
        leaf(by=OTHER, replace={"aki": extension("aki", aki(ISSUER))}),
        ISSUER_DER,
    )
    add(
        "two issuers that signed each other",
        "RFC 5280 4.2.1.9",
        UNTRUSTED,
        leaf(),
        ca(issuer="a", by=SIBLING),
        ca("a", SIBLING, issuer="issuer", by=ISSUER),
    )
    add("an issuer that signed itself", "", UNTRUSTED, leaf(), ca(issuer="issuer", by=ISSUER))
    add("a hundred certificates", "RFC 8446 4.4.2", BOUNDS, leaf(), ISSUER_DER, *[CORPORATE_ROOT] * 98)
    add("a certificate of 100 KB", "RFC 5280 4.1", BOUNDS, leaf(add=[extension("unknown", b"\x04" * 100_000, False)]), ISSUER_DER)
    add("a sibling below the corporate root", "", UNTRUSTED, leaf(issuer="sibling", by=SIBLING), SIBLING_CA, CORPORATE_ROOT,
        bundle="ours below a corporate CA")  # fmt: skip
    add("a sibling that has our CA's name", "", UNTRUSTED, leaf(issuer="ours", by=SIBLING),
        ca("ours", SIBLING, issuer="corporate", by=CORPORATE), CORPORATE_ROOT, bundle="ours below a corporate CA")  # fmt: skip
    add("nothing trusted", "", UNTRUSTED, leaf(), ISSUER_DER, bundle="none")
    # spelling
    add("a length that is not minimal", "RFC 5280 4.1", MALFORMED, respell_lengths(leaf()), ISSUER_DER)
    add("bytes after the certificate", "RFC 5280 4.1", MALFORMED, leaf(tail=b"\x00"), ISSUER_DER)
    faulty("a signature with unused bits", "RFC 5280 4.1.1.3", NOT, unused=b"\x01")
    faulty("a boolean of 1", "RFC 5280 4.1", MALFORMED, replace={"san": extension("san", san(ID), flag=b"\x01")})
    add("the signature's other spelling", "", NOT, leaf(high=True), ISSUER_DER)
    # narrower than the standards
    add("a key of P-384", "", NOT, leaf(public=spki(P384)), ISSUER_DER)
    add("an issuer's key of P-384", "", NOT, leaf(by=P384, inner=SHA384_ECDSA, digest=hashes.SHA384()), ca(of=P384))
    faulty_binding = extension("attributes", write_binding(bound).replace(b"train", b"TRAIN"))
    add("a binding that is malformed", "", NOT, leaf(add=[faulty_binding]), ISSUER_DER)
    add("a critical binding", "RFC 5280 4.2", NOT, leaf(add=[extension("attributes", write_binding(bound), True)]), ISSUER_DER)
    add("an e-mail address beside the SPIFFE id", "", NOT,
        leaf(replace={"san": extension("san", san(ID, x509.RFC822Name("a@b.test")))}), ISSUER_DER)  # fmt: skip
    add("another trust domain", "", NOT, leaf(replace={"san": extension("san", san("spiffe://partner.test/service/prod/a"))}), ISSUER_DER)
    return made


# -- tokens


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


JWT = key("jwt")
KID = key_id(spki(JWT))


def jose(head: Any = None, body: Any = None, *, by: ec.EllipticCurvePrivateKey = JWT) -> str:
    texts = [one if isinstance(one, bytes) else json.dumps(one, separators=(",", ":"), sort_keys=True).encode() for one in (head, body)]
    signed = ".".join(b64(one) for one in texts)
    r, s = decode_dss_signature(by.sign(signed.encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def header(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in ({"alg": "ES256", "kid": KID, "typ": "JWT"} | changes).items() if value is not None}


def claims(**changes: Any) -> dict[str, Any]:
    at = NOW // 1000
    said = {"sub": ID, "aud": AUDIENCE, "exp": at + 300, "iat": at, "jti": "abcdefgh12345678", "iss": f"spiffe://{TD}"}
    return {name: value for name, value in (said | changes).items() if value is not None}


def bundle(*keys: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"keys": list(keys), "spiffe_refresh_hint": 60, "spiffe_sequence": 1} | more


def jwk(of: Any, **more: Any) -> dict[str, Any]:
    numbers, size = of.public_key().public_numbers(), (of.key_size + 7) // 8
    said = {"kty": "EC", "crv": f"P-{of.key_size}", "x": b64(numbers.x.to_bytes(size, "big")), "y": b64(numbers.y.to_bytes(size, "big"))}
    return {name: value for name, value in (said | more).items() if value is not None}


def token_key(**more: Any) -> dict[str, Any]:
    return jwk(JWT, **({"use": "jwt-svid", "kid": KID} | more))


def certificate_key(**more: Any) -> dict[str, Any]:
    return jwk(ROOT, **({"use": "x509-svid", "x5c": [base64.b64encode(ROOT_DER).decode()]} | more))


def jwt_vectors() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []

    def add(what: str, clause: str, code: str, token: str) -> None:
        made.append({"name": what, "clause": clause, "code": code, "token": token})

    good = jose(header(), claims())
    head, body, signature = good.split(".")
    at = NOW // 1000
    add("a good token", "", "", good)
    # RFC 8725 3.1, 3.2: algorithms
    add("RFC 8725 3.1: no algorithm", "JWT-SVID 2.1", "jwt-malformed", f"{b64(json.dumps(header(alg='none')).encode())}.{body}.")
    add("RFC 8725 3.1: none, with a signature", "JWT-SVID 2.1", "jwt-algorithm", jose(header(alg="none"), claims()))
    add("RFC 8725 3.1: None, in other letters", "JWT-SVID 2.1", "jwt-algorithm", jose(header(alg="nOnE"), claims()))
    add("RFC 8725 3.1: HS256 with our public key", "JWT-SVID 2.1", "jwt-algorithm", _hmac(header(alg="HS256"), claims(), spki(JWT)))
    add("RFC 8725 3.1: the header says RS256", "JWT-SVID 4", "jwt-algorithm", jose(header(alg="RS256"), claims()))
    add("RFC 8725 3.1: the header says ES384", "JWT-SVID 4", "jwt-algorithm", jose(header(alg="ES384"), claims()))
    add("RFC 8725 3.2: EdDSA, which is not in the list", "JWT-SVID 2.1", "jwt-algorithm", jose(header(alg="EdDSA"), claims()))
    add("no `alg`", "JWT-SVID 2.1", "jwt-header", jose(header(alg=None), claims()))
    # RFC 8725 3.3: everything is validated
    add("RFC 8725 3.3: another key's signature", "JWT-SVID 4", "jwt-signature", jose(header(), claims(), by=OTHER))
    add("RFC 8725 3.3: no signature", "JWT-SVID 4", "jwt-malformed", f"{head}.{body}.")
    add("RFC 8725 3.3: zeroes for a signature", "JWT-SVID 4", "jwt-signature", f"{head}.{body}.{b64(bytes(64))}")
    add("RFC 8725 3.3: a signature in DER", "JWT-SVID 4", "jwt-signature", f"{head}.{body}.{b64(_der(signature))}")
    add("RFC 8725 3.3: a JWS inside a JWS", "JWT-SVID 2", "jwt-header", _nested(good))
    # RFC 8725 3.4: inputs of the signature
    add("RFC 8725 3.4: a kid that is no key", "JWT-SVID 4", "jwt-unknown-key", jose(header(kid="00" * 32), claims()))
    for what, r, s in (
        ("r of zero", 0, 1),
        ("s of zero", 1, 0),
        ("r of the order", ORDER, 1),
        ("both beyond the order", 2**256 - 1, 2**256 - 1),
    ):
        numbers = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        add(f"RFC 8725 3.4: a signature with {what}", "JWT-SVID 4", "jwt-signature", f"{head}.{body}.{b64(numbers)}")
    # RFC 8725 3.5: a secret that everybody knows
    add("RFC 8725 3.5: HS256 with an empty secret", "JWT-SVID 2.1", "jwt-algorithm", _hmac(header(alg="HS256"), claims(), b""))
    add("RFC 8725 3.6: compressed", "JWT-SVID 2", "jwt-header", jose(header(zip="DEF"), claims()))
    # RFC 8725 3.7: UTF-8
    add("RFC 8725 3.7: claims in UTF-16", "RFC 7519 4", "jwt-malformed", jose(header(), json.dumps(claims()).encode("utf-16")))
    # RFC 8725 3.8: issuer and subject
    add("RFC 8725 3.8: another issuer", "", "jwt-subject", jose(header(), claims(iss="spiffe://partner.test")))
    add(
        "RFC 8725 3.8: another trust domain's subject",
        "",
        "jwt-subject",
        jose(header(), claims(sub="spiffe://partner.test/service/prod/a")),
    )
    add("no `sub`", "JWT-SVID 3.1", "jwt-claims", jose(header(), claims(sub=None)))
    add("a trust domain as `sub`", "JWT-SVID 3.1", "jwt-subject", jose(header(), claims(sub=f"spiffe://{TD}")))
    add("a `sub` that is no SPIFFE id", "JWT-SVID 3.1", "jwt-subject", jose(header(), claims(sub="alice")))
    # RFC 8725 3.9: audience
    add("RFC 8725 3.9: another audience", "", "jwt-audience", jose(header(), claims(aud=f"vg://{TD}/endpoint/other")))
    add("RFC 8725 3.9: no audience", "JWT-SVID 3.2", "jwt-claims", jose(header(), claims(aud=None)))
    add("RFC 8725 3.9: an empty list of audiences", "JWT-SVID 3.2", "jwt-audience", jose(header(), claims(aud=[])))
    add("RFC 8725 3.9: two audiences", "", "jwt-audience", jose(header(), claims(aud=[AUDIENCE, "other"])))
    # RFC 8725 3.10: nothing in the token is fetched or followed
    for member, value in (("jku", "https://evil.test/keys"), ("x5u", "https://evil.test/c.pem"), ("jwk", jwk(OTHER)), ("x5c", ["AAAA"]),
                          ("crit", ["exp"]), ("b64", False), ("x5t", "AAAA")):  # fmt: skip
        add(f"RFC 8725 3.10: `{member}` in the header", "JWT-SVID 2", "jwt-header", jose(header(**{member: value}), claims(), by=OTHER))
    for path in ("../../../dev/null", "' OR 1=1 --", "https://evil.test/key"):
        add(f"RFC 8725 3.10: a kid of {path}", "JWT-SVID 4", "jwt-unknown-key", jose(header(kid=path), claims(), by=OTHER))
    # RFC 8725 3.11, 3.12: explicit types, one meaning a kind of token
    add("RFC 8725 3.11: another type", "JWT-SVID 2.3", "jwt-algorithm", jose(header(typ="at+jwt"), claims()))
    add("RFC 8725 3.12: the type of a DPoP proof", "JWT-SVID 2.3", "jwt-algorithm", jose(header(typ="dpop+jwt"), claims()))
    add("RFC 8725 3.12: claims of another kind of token", "", "jwt-claims", jose(header(), claims(nonce="a", events={})))
    # JWT-SVID 3.3, 4, 5
    add("no `exp`", "JWT-SVID 3.3", "jwt-claims", jose(header(), claims(exp=None)))
    add("`exp` as text", "JWT-SVID 3.3", "jwt-claims", jose(header(), claims(exp=str(at + 300))))
    add("`exp` as true", "JWT-SVID 3.3", "jwt-claims", jose(header(), claims(exp=True)))
    add("expired", "RFC 7519 4.1.4", "jwt-expired", jose(header(), claims(exp=at, iat=at - 300)))
    add("issued tomorrow", "RFC 7519 4.1.6", "jwt-not-yet", jose(header(), claims(iat=at + 86_400, exp=at + 86_700)))
    add("not before tomorrow", "RFC 7519 4.1.5", "jwt-not-yet", jose(header(), claims(nbf=at + 86_400)))
    add("a life of a day", "", "jwt-life", jose(header(), claims(exp=at + 86_400)))
    add("two parts", "JWT-SVID 5.1", "jwt-malformed", f"{head}.{body}")
    add("four parts", "JWT-SVID 5.1", "jwt-malformed", f"{good}.{signature}")
    add("JSON serialisation", "JWT-SVID 5.1", "jwt-malformed", json.dumps({"protected": head, "payload": body, "signature": signature}))
    add("padding", "RFC 7515 2", "jwt-malformed", f"{head}.{body}.{signature}==")
    add("stray bits", "RFC 7515 2", "jwt-malformed", f"{head}.{body}.{signature[:-1]}{chr(ord(signature[-1]) + 1)}")
    add(
        "a member twice in the header", "RFC 7515 4", "jwt-malformed", jose(b'{"alg":"none",' + json.dumps(header()).encode()[1:], claims())
    )
    add("a claim twice", "RFC 7519 4", "jwt-malformed", jose(header(), b'{"sub":"x",' + json.dumps(claims()).encode()[1:]))
    add("claims that are a list", "RFC 7519 4", "jwt-malformed", jose(header(), b"[]"))
    return made


def _nested(inner: str) -> str:
    """RFC 7519, section 5.2: `cty` JWT, and a token for a body."""
    signed = f"{b64(json.dumps(header(cty='JWT')).encode())}.{b64(json.dumps({'jwt': inner}).encode())}"
    r, s = decode_dss_signature(JWT.sign(signed.encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _hmac(head: Any, body: Any, secret: bytes) -> str:
    import hmac

    signed = ".".join(b64(json.dumps(one).encode()) for one in (head, body))
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), 'sha256').digest())}"


def _der(signature: str) -> bytes:
    raw = base64.urlsafe_b64decode(signature + "==")
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def bundle_vectors() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []

    def add(what: str, clause: str, accepted: bool, document: Any) -> None:
        made.append(
            {
                "name": what,
                "clause": clause,
                "accepted": accepted,
                "bundle": document if isinstance(document, str) else json.dumps(document),
            }
        )

    leaf_text = base64.b64encode(leaf()).decode()
    add("a good bundle", "", True, bundle(certificate_key(), token_key()))
    add("without keys in it", "", True, bundle())
    add("an unknown use", "", True, bundle(token_key(), {"kty": "EC", "use": "new-svid"}))
    add("Bundle 4.1.1: a sequence as text", "Bundle 4.1.1", False, bundle(token_key(), spiffe_sequence="1"))
    add("Bundle 4.1.1: a sequence of true", "Bundle 4.1.1", False, bundle(token_key(), spiffe_sequence=True))
    add("Bundle 4.1.1: a negative sequence", "Bundle 4.1.1", False, bundle(token_key(), spiffe_sequence=-1))
    add("Bundle 4.1.2: a refresh hint of half a second", "Bundle 4.1.2", False, bundle(token_key(), spiffe_refresh_hint=0.5))
    add("Bundle 4.1.3: no keys", "Bundle 4.1.3", False, {"spiffe_sequence": 1, "spiffe_refresh_hint": 1})
    add("Bundle 4.1.3: keys as an object", "Bundle 4.1.3", False, {"keys": {}, "spiffe_sequence": 1})
    add("Bundle 4.2.1: no key type", "Bundle 4.2.1", False, bundle(token_key(kty=None)))
    add("Bundle 4.2.2: no use", "Bundle 4.2.2", False, bundle(token_key(use=None)))
    add("JWT-SVID 6.1: no key id", "JWT-SVID 6.1", False, bundle(token_key(kid=None)))
    add("X509-SVID 6.1: a key id", "X509-SVID 6.1", False, bundle(certificate_key(kid="a")))
    add("X509-SVID 6.1: no certificate", "X509-SVID 6.1", False, bundle(certificate_key(x5c=None)))
    add("X509-SVID 6.1: two certificates", "X509-SVID 6.1", False, bundle(certificate_key(x5c=[base64.b64encode(ROOT_DER).decode()] * 2)))
    add("X509-SVID 6.1: a leaf", "X509-SVID 6.1", False, bundle(jwk(LEAF, use="x509-svid", x5c=[leaf_text])))
    add("RFC 7517 4.7: another key's certificate", "RFC 7517 4.7", False, bundle(jwk(OTHER, use="x509-svid", x5c=certificate_key()["x5c"])))
    add("RFC 7517 4.7: a certificate that is not base64", "RFC 7517 4.7", False, bundle(certificate_key(x5c=["%%%"])))
    add("RFC 7517 4.5: one key id twice", "RFC 7517 4.5", False, bundle(token_key(), token_key()))
    add("RFC 7517 9.2: a private key", "RFC 7517 9.2", False, bundle(token_key(d="AAAA")))
    add("RFC 7518 6: a point that is not on the curve", "RFC 7518 6", False, bundle(token_key(x=b64(b"\x01" * 32))))
    add("RFC 7518 6: a coordinate that is too short", "RFC 7518 6", False, bundle(token_key(x=b64(b"\x01" * 31))))
    add("RFC 7517 5: a member twice", "RFC 7517 5", False, '{"keys":[],"keys":[],"spiffe_sequence":1}')
    add("RFC 7517 5: not JSON", "RFC 7517 5", False, "{")
    add("RFC 7517 5: NaN", "RFC 7517 5", False, '{"keys":[],"spiffe_sequence":NaN}')
    return made


def main(folder: Path) -> None:
    told = {"trust_domain": TD, "now": NOW, "audience": AUDIENCE}
    roots = {which: [base64.b64encode(one).decode() for one in ders] for which, ders in ROOTS.items()}
    leaf_key = base64.b64encode(
        LEAF.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    tokens = json.dumps(bundle(token_key()))
    for file, document in (
        ("x509.json", {**told, "bundles": roots, "leaf_key": leaf_key.decode(), "vectors": x509_vectors()}),
        ("jwt.json", {**told, "bundle": tokens, "vectors": jwt_vectors()}),
        ("bundle.json", {**told, "vectors": bundle_vectors()}),
    ):
        (folder / file).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

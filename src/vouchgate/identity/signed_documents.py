"""Documents that a cloud signed as CMS SignedData (RFC 5652, section 5; "PKCS#7"), read strictly and within bounds.

Rules
1. Encodings are X.690 BER with definite or indefinite lengths, because AWS writes the latter; at most `MAX_NODES` values, `MAX_DEPTH` deep,
   nothing after the end.
2. There is one signer, found by issuer and serial number among the certificates that the caller of `holds` trusts; what is embedded is only
   handed on.
3. The digest is SHA-256, SHA-384 or SHA-512, the signature RSA with PKCS#1 v1.5, as both clouds sign.
4. Signed attributes, where there are any, are in DER, each once, with the content's type and its digest; the signature then covers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from vouchgate.vocabulary.errors import InvalidInput

MAX_BYTES = 48 * 1024
"""Bytes of one signed document; Azure's, with its certificates, has about 5,000."""
MAX_NODES = 2_048
"""Values in it; a certificate has about 120."""
MAX_DEPTH = 16
"""Nesting."""
MAX_EMBEDDED = 8
"""Certificates in it."""
_INTEGER, _OCTETS, _OID, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x30, 0x31
_DATA, _SIGNED_DATA = "2a864886f70d010701", "2a864886f70d010702"
_CONTENT_TYPE, _MESSAGE_DIGEST = "2a864886f70d010903", "2a864886f70d010904"
_DIGESTS: dict[str, hashes.HashAlgorithm] = {
    "608648016503040201": hashes.SHA256(), "608648016503040202": hashes.SHA384(), "608648016503040203": hashes.SHA512(),
}  # fmt: skip
_RSA = {"2a864886f70d010101": "", "2a864886f70d01010b": "sha256", "2a864886f70d01010c": "sha384", "2a864886f70d01010d": "sha512"}


@dataclass(frozen=True)
class _Node:
    tag: int
    body: bytes
    """Contents, without the end-of-contents octets."""
    raw: bytes
    """The whole value."""
    children: tuple[_Node, ...]
    definite: bool


@dataclass(frozen=True)
class SignedDocument:
    """A document as it was parsed; nothing of it holds before `holds` says so."""

    content: bytes | None
    """None where the signature is detached."""
    embedded: tuple[bytes, ...]
    """Certificates that came with it, DER."""
    issuer: bytes
    serial: int
    digest: hashes.HashAlgorithm
    attributes: bytes | None
    """DER of the signed attributes as they were signed, a SET."""
    said_digest: bytes
    """The content's digest as the signed attributes have it."""
    signature: bytes


def read_signed(data: bytes) -> SignedDocument:
    """Parse. Raises `InvalidInput`."""
    try:
        if len(data) > MAX_BYTES:
            raise ValueError("size")
        return _signed_data(_parse(data))
    except (ValueError, IndexError):
        raise InvalidInput("the document is not one signed document (RFC 5652)", remedy="send what the metadata service answered") from None


def holds(document: SignedDocument, content: bytes, signers: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The one of `signers` that signed `content`, or None."""
    found = [one for one in signers if one.serial_number == document.serial and one.issuer.public_bytes() == document.issuer]
    key = found[0].public_key() if found else None
    if not isinstance(key, rsa.RSAPublicKey) or not 2048 <= key.key_size <= 8192:
        return None
    signed = content
    if document.attributes is not None:
        hashed = hashes.Hash(document.digest)
        hashed.update(content)
        if hashed.finalize() != document.said_digest:
            return None
        signed = document.attributes
    try:
        key.verify(document.signature, signed, padding.PKCS1v15(), document.digest)
    except (InvalidSignature, ValueError):
        return None
    return found[0]


def _signed_data(outer: _Node) -> SignedDocument:
    kind, wrapped = _fields(outer, _SEQUENCE, 2)
    signed = _only(wrapped, 0xA0)
    parts = list(_expect(signed, _SEQUENCE).children)
    if kind.tag != _OID or kind.body.hex() != _SIGNED_DATA or len(parts) < 4 or parts[0].tag != _INTEGER or parts[1].tag != _SET:
        raise ValueError("not signed data")
    content = _content(parts[2])
    middle, last = parts[3:-1], _expect(parts[-1], _SET)
    if len(last.children) != 1 or [one.tag for one in middle] not in ([], [0xA0], [0xA1], [0xA0, 0xA1]):
        raise ValueError("not one signer")
    embedded = [one.raw for part in middle if part.tag == 0xA0 for one in part.children]
    if len(embedded) > MAX_EMBEDDED:
        raise ValueError("certificates")
    return _signer(last.children[0], content, tuple(embedded))


def _content(node: _Node) -> bytes | None:
    parts = _expect(node, _SEQUENCE).children
    if not 1 <= len(parts) <= 2 or parts[0].tag != _OID or parts[0].body.hex() != _DATA:
        raise ValueError("not data")
    return _octets(_only(parts[1], 0xA0)) if len(parts) == 2 else None


def _octets(node: _Node) -> bytes:
    """An octet string, perhaps in pieces (X.690, section 8.7.3.2)."""
    if node.tag == _OCTETS:
        return node.body
    return b"".join(_expect(one, _OCTETS).body for one in _expect(node, _OCTETS | 0x20).children)


def _signer(node: _Node, content: bytes | None, embedded: tuple[bytes, ...]) -> SignedDocument:
    parts = list(_expect(node, _SEQUENCE).children)
    issuer, serial = _fields(parts[1], _SEQUENCE, 2)
    digest = _DIGESTS.get(_algorithm(parts[2]))
    attributes = parts.pop(3) if parts[3].tag == 0xA0 else None
    algorithm = _RSA.get(_algorithm(parts[3]))
    if digest is None or algorithm is None or (algorithm and algorithm != digest.name) or len(parts) not in (5, 6):
        raise ValueError("algorithms")
    if len(parts) == 6 and parts[5].tag != 0xA1:
        raise ValueError("trailing field")
    said = _said_digest(attributes) if attributes else b""
    return SignedDocument(
        content=content, embedded=embedded, issuer=_expect(issuer, _SEQUENCE).raw,
        serial=int.from_bytes(_expect(serial, _INTEGER).body, "big", signed=True), digest=digest,
        attributes=b"\x31" + attributes.raw[1:] if attributes else None, said_digest=said, signature=_octets(parts[4]),
    )  # fmt: skip


def _said_digest(attributes: _Node) -> bytes:
    """Rule 4. A definite length in DER is signed as it stands, but for the tag (RFC 5652, section 5.4)."""
    values: dict[str, _Node] = {}
    for one in attributes.children:
        name, held = _fields(one, _SEQUENCE, 2)
        if name.tag != _OID or held.tag != _SET or len(held.children) != 1 or name.body.hex() in values:
            raise ValueError("attribute")
        values[name.body.hex()] = held.children[0]
    if not attributes.definite or not {_CONTENT_TYPE, _MESSAGE_DIGEST} <= set(values):
        raise ValueError("attributes")
    if _expect(values[_CONTENT_TYPE], _OID).body.hex() != _DATA:
        raise ValueError("content type")
    return _expect(values[_MESSAGE_DIGEST], _OCTETS).body


def _algorithm(node: _Node) -> str:
    parts = _expect(node, _SEQUENCE).children
    if not 1 <= len(parts) <= 2 or parts[0].tag != _OID or (len(parts) == 2 and parts[1].raw != b"\x05\x00"):
        raise ValueError("algorithm")
    return parts[0].body.hex()


def _expect(node: _Node, tag: int) -> _Node:
    if node.tag != tag:
        raise ValueError("tag")
    return node


def _only(node: _Node, tag: int) -> _Node:
    if node.tag != tag or len(node.children) != 1:
        raise ValueError("wrapping")
    return node.children[0]


def _fields(node: _Node, tag: int, count: int) -> tuple[_Node, ...]:
    if node.tag != tag or len(node.children) != count:
        raise ValueError("fields")
    return node.children


def _parse(data: bytes) -> _Node:
    left = [MAX_NODES]
    node, end = _value(data, 0, len(data), 0, left)
    if end != len(data):
        raise ValueError("trailing bytes")
    return node


def _value(data: bytes, start: int, limit: int, depth: int, left: list[int]) -> tuple[_Node, int]:
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0 or start + 2 > limit or data[start] & 0x1F == 0x1F:
        raise ValueError("bounds")
    tag, length, at = data[start], data[start + 1], start + 2
    if length == 0x80:
        if not tag & 0x20:
            raise ValueError("indefinite primitive")
        children, at = _children(data, at, limit, depth, left, until_end=True)
        return _Node(tag, data[start + 2 : at - 2], data[start:at], children, definite=False), at
    if length > 0x80:
        size = length & 0x7F
        if size > 4 or at + size > limit:
            raise ValueError("length")
        length, at = int.from_bytes(data[at : at + size], "big"), at + size
    end = at + length
    if end > limit:
        raise ValueError("length")
    opened = bool(tag & 0x20)
    children = _children(data, at, end, depth, left, until_end=False)[0] if opened else ()
    return _Node(tag, data[at:end], data[start:end], children, definite=True), end


def _children(data: bytes, at: int, limit: int, depth: int, left: list[int], *, until_end: bool) -> tuple[tuple[_Node, ...], int]:
    found: list[_Node] = []
    while at < limit or until_end:
        if until_end and data[at : at + 2] == b"\0\0":
            return tuple(found), at + 2
        node, at = _value(data, at, limit, depth + 1, left)
        found.append(node)
    return tuple(found), at

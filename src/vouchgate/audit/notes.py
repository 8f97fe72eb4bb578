"""Signed notes (C2SP signed-note): text, an empty line, signature lines.

Rules
1. Only the canonical form is read: strict base64, no control characters, no key name with a space or plus, bounded size and count, so that
   no two different texts are one note.
2. A signature by an unknown key is ignored; a known key's signature that does not verify rejects the whole note; a note in which a wanted
   key has not signed is rejected ("Signatures").
3. Private keys never come here: `signature_line` takes a signature that was made elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import unicodedata

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vouchgate.vocabulary.errors import InvalidInput, Unverified

ED25519 = 0x01
"""Signature type of a log's own signature ("Signature types")."""
COSIGNATURE_V1 = 0x04
"""Signature type of a timestamped witness cosignature."""
MAX_NOTE_BYTES = 64 * 1024
"""Bytes of one note; a checkpoint with 16 post-quantum signatures has about 56 KiB."""
MAX_SIGNATURES = 32
"""Signature lines read; the specification asks for at least 16."""
RAW_KEY_BYTES = 32
SIGNATURE_BYTES = 64


class NoteSignature(msgspec.Struct, frozen=True):
    """One signature line."""

    name: str
    key_id: bytes
    """Four bytes."""
    signature: bytes


class Note(msgspec.Struct, frozen=True):
    """A note taken apart; nothing about it is trusted yet."""

    text: str
    """With its final newline: what is signed."""
    signatures: tuple[NoteSignature, ...]


class Verifier(msgspec.Struct, frozen=True):
    """A public key under the name it signs with."""

    name: str
    kind: int
    """`ED25519` or `COSIGNATURE_V1`."""
    key: bytes
    """32 bytes (RFC 8032)."""

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || 0x0A || type || key)[:4] ("Signatures")."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key).digest()[:4]

    @property
    def text(self) -> str:
        """As a verifier key `name+hash+key`, the form that other tools take."""
        return f"{self.name}+{self.key_id.hex()}+{encode64(bytes([self.kind]) + self.key)}"


def verifier(name: str, kind: int, key: bytes) -> Verifier:
    """Check the parts of a verifier. Raises `InvalidInput`."""
    _check_name(name)
    if kind not in {ED25519, COSIGNATURE_V1} or len(key) != RAW_KEY_BYTES:
        raise InvalidInput(f"the key of `{name[:80]}` is not an Ed25519 key of 32 bytes", remedy="give the raw public key")
    return Verifier(name, kind, key)


def parse_verifier(text: str) -> Verifier:
    """Read `name+hash+key`. Raises `InvalidInput`."""
    parts = text.strip().split("+", 2)
    raw = decode64(parts[2]) if len(parts) == 3 else b""
    if not raw:
        raise InvalidInput(f"`{text[:100]}` is not a verifier key", remedy="write <name>+<8 hexadecimal digits>+<base64>")
    found = verifier(parts[0], raw[0], raw[1:])
    if found.key_id.hex() != parts[1]:
        raise InvalidInput(f"the hash in `{text[:100]}` is not that of its key", remedy="copy the verifier key again")
    return found


def parse_note(data: bytes) -> Note:
    """Take a note apart. Raises `InvalidInput`."""
    if len(data) > MAX_NOTE_BYTES:
        raise _bad(f"it has {len(data)} bytes, the bound is {MAX_NOTE_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("it is not UTF-8") from None
    if any(char < " " and char != "\n" for char in text):
        raise _bad("it holds a control character")
    cut = text.rfind("\n\n")
    if cut < 0 or not text.endswith("\n"):
        raise _bad("there is no empty line before signatures, or no final newline")
    lines = text[cut + 2 : -1].split("\n")
    if len(lines) > MAX_SIGNATURES or lines == [""]:
        raise _bad(f"it has {len(lines)} signature lines, 1 to {MAX_SIGNATURES} are allowed")
    return Note(text[: cut + 1], tuple(_signature(line) for line in lines))


def signature_line(signer: Verifier, signature: bytes) -> str:
    """The line that carries a signature, with its newline."""
    return f"— {signer.name} {encode64(signer.key_id + signature)}\n"


def signatures_of(note: Note, wanted: Verifier) -> list[bytes]:
    """Signatures in the note under exactly this name and key id, unchecked."""
    return [line.signature for line in note.signatures if line.name == wanted.name and line.key_id == wanted.key_id]


def check_ed25519(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is this key's over `message` (RFC 8032)."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def require_signature(note: Note, wanted: Verifier) -> None:
    """Raises `Unverified` unless `wanted`, an `ED25519` key, signed the note's text and every line under its name verifies."""
    found = signatures_of(note, wanted)
    if not found:
        raise Unverified(f"`{wanted.name}` did not sign the note", remedy="give the log's own verifier key, or fetch the checkpoint again")
    if not all(check_ed25519(wanted.key, signature, note.text.encode()) for signature in found):
        raise Unverified(f"the signature of `{wanted.name}` does not verify", remedy="the note was changed or forged: do not use it")


def encode64(data: bytes) -> str:
    """Standard base64 (RFC 4648, section 4)."""
    return base64.b64encode(data).decode()


def decode64(text: str) -> bytes:
    """Strict base64: only the one encoding of its bytes. Raises `InvalidInput`."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        data = None
    if data is None or encode64(data) != text:
        raise InvalidInput(f"`{text[:80]}` is not base64", remedy="copy it again without change")
    return data


def _signature(line: str) -> NoteSignature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise _bad(f"`{line[:80]}` is not a signature line")
    _check_name(parts[1])
    raw = decode64(parts[2])
    if len(raw) < 5:
        raise _bad("a signature is shorter than its key id")
    return NoteSignature(parts[1], raw[:4], raw[4:])


def _check_name(name: str) -> None:
    if not name or "+" in name or any(unicodedata.category(char)[0] in "ZC" for char in name):
        raise InvalidInput(f"`{name[:80]}` is not a key name", remedy="use a name without spaces and plus signs")


def _bad(why: str) -> InvalidInput:
    return InvalidInput(f"the signed note cannot be read: {why}", remedy="fetch it again; see c2sp.org/signed-note")

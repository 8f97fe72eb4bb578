"""A verifier of tlog-proof files written from the specifications alone (c2sp.org: tlog-proof, tlog-checkpoint, signed-note, tlog-cosignature;
RFC 6962). It uses nothing of vouchgate, as an outsider would."""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Rejected(Exception):
    pass


def need(holds: bool, why: str) -> None:
    if not holds:
        raise Rejected(why)


def b64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Rejected("base64") from error
    need(base64.b64encode(data).decode() == text, "base64 is not canonical")
    return data


def decimal(text: str) -> int:
    need(text.isascii() and text.isdigit() and (text == "0" or text[0] != "0"), "number")
    return int(text)


def vkey(text: str) -> tuple[str, bytes, int, bytes]:
    name, key_id, encoded = text.split("+", 2)
    raw = b64(encoded)
    computed = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    need(computed.hex() == key_id, "key id")
    return name, computed, raw[0], raw[1:]


def verifies(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def path_root(index: int, size: int, leaf: bytes, path: list[bytes]) -> bytes:
    """RFC 6962, section 2.1.1, by recursion from the root down."""
    if size == 1:
        need(not path, "path too long")
        return leaf
    need(bool(path), "path too short")
    split = 1
    while split * 2 < size:
        split *= 2
    if index < split:
        return hashlib.sha256(b"\x01" + path_root(index, split, leaf, path[:-1]) + path[-1]).digest()
    return hashlib.sha256(b"\x01" + path[-1] + path_root(index - split, size - split, leaf, path[:-1])).digest()


def verify(proof: bytes, entry: bytes, log_vkey: str, witness_vkey: str) -> int:
    """Index of the entry. Raises `Rejected`."""
    try:
        text = proof.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected("utf-8") from error
    need(all(char >= " " or char == "\n" for char in text), "control character")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    need(bool(blank) and lines[0] == "c2sp.org/tlog-proof@v1", "header")
    need(len(lines) > 1 and lines[1].startswith("index "), "index line")
    index = decimal(lines[1][6:])
    path = [b64(line) for line in lines[2:]]
    need(all(len(value) == 32 for value in path), "hash length")
    body, blank, signatures = note.rpartition("\n\n")
    body += "\n"
    need(bool(blank) and signatures.endswith("\n"), "note")
    origin, size_text, root_text, *rest = body.split("\n")
    need(rest == [""], "three lines")
    size, root = decimal(size_text), b64(root_text)
    log_name, log_id, log_kind, log_key = vkey(log_vkey)
    wit_name, wit_id, wit_kind, wit_key = vkey(witness_vkey)
    need(origin == log_name and log_kind == 1 and wit_kind == 4, "origin or key types")
    by_log = by_witness = False
    for line in signatures[:-1].split("\n"):
        dash, name, encoded = (*line.split(" "), "", "")[:3]
        need(dash == "—" and len(line.split(" ")) == 3, "signature line")
        raw = b64(encoded)
        if (name, raw[:4]) == (log_name, log_id):
            need(verifies(log_key, raw[4:], body.encode()), "log signature")
            by_log = True
        if (name, raw[:4]) == (wit_name, wit_id):
            time = int.from_bytes(raw[4:12], "big")
            need(verifies(wit_key, raw[12:], f"cosignature/v1\ntime {time}\n{body}".encode()), "cosignature")
            by_witness = True
    need(by_log and by_witness, "signatures missing")
    need(index < size, "index beyond size")
    leaf = hashlib.sha256(b"\x00" + entry).digest()
    need(path_root(index, size, leaf, path) == root, "root")
    return index

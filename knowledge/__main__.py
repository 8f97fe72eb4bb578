"""`python -m knowledge`: build the knowledge base, sign it, compare two.

build   read pinned wheels (from the cache where they were read before), judge, add the reviewed entries, compile, sign
sign    sign again what is compiled, with another key
key     make a publisher's key and print its public half
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from knowledge.build import build
from knowledge.places import CACHE, DATA, HERE, KEY
from knowledge.release import Rollback, current, files_of, private_key, write
from knowledge.reviewed import Wrong


def main(given: list[str]) -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="python -m knowledge")
    parser.add_argument("--key", type=Path, default=KEY, help="the publisher's private key (PEM, Ed25519)")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("build", "read, judge, compile, sign"), ("sign", "sign again"), ("key", "make a publisher's key")):
        commands.add_parser(name, help=what)
    options = parser.parse_args(given)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return {"build": _build, "sign": _sign, "key": _key}[options.command](options.key)
        except (Wrong, Rollback) as error:
            print(f"knowledge: {error}", file=sys.stderr)
            return 1


def _build(key: Path) -> int:
    made = build(private_key(key))
    size = sum(len(data) for name, data in files_of(DATA).items())
    count = sum(1 for _ in made.entries())
    print(f"version {made.version}: {count} entries in {len(made.parts)} parts, {size} bytes, {made.digest}")
    return 0


def _sign(key: Path) -> int:
    before = current()
    if before is None:
        print("knowledge: what lies there does not verify", file=sys.stderr)
        return 1
    parts = {name: data for name, data in files_of(DATA).items() if name in before.manifest.parts}
    write(parts, before.manifest.wheels, before.manifest.generator, private_key(key))
    return 0


def _key(path: Path) -> int:
    if path.exists() or HERE.parent.resolve() in path.resolve().parents:
        print("knowledge: a key is made outside the repository, and never over another", file=sys.stderr)
        return 1
    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    print(base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

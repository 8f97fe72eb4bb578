"""The first TrustRoot of an installation, made outside its data directory, and the token of its first administrator."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path

from vouchgate import wiring
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import Conflict
from vouchgate.vocabulary.layout import Layout, Users
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.trust import PublicKey, SignedTrustRoot

Say = Callable[[str], None]
BOOTSTRAP_MINUTES = 10
"""Life of the first administrator's token."""


def first_trust(settings: Settings, layout: Layout, users: Users, keys: list[PublicKey], say: Say) -> tuple[SignedTrustRoot, str]:
    """The TrustRoot, made on the first start; and the bootstrap token's hash, made with it."""
    waiting = layout.supervisor / "bootstrap"
    if layout.trust_root.exists():
        data = wiring.read_small(layout.trust_root, "TrustRoot")
        kept = wiring.read_small(waiting, "bootstrap file").decode("ascii", "replace") if waiting.exists() else ""
        return wire.decode(SignedTrustRoot, data, what="TrustRoot"), kept
    root_dir = Path(settings.root_dir)
    root_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root_dir / f"{settings.trust_domain}.root.pem"
    if path.exists():
        raise Conflict(
            f"there is a root key `{path}` but no TrustRoot in `{layout.data_dir}`",
            remedy="restore the data directory, or move the root key away to begin a new trust domain",
        )
    # once in an installation's life; this process lives as long as the tree
    from vouchgate.flows import initialise

    now = wiring.clock().now()
    (root,) = initialise.make_root_keys(1)
    made = initialise.first_trust_root(settings.trust_domain, root_keys=[root.public], threshold=1, signer_keys=keys, now=now)
    signed = initialise.sign_with(made, [root.pem])
    wiring.write_atomic(path, root.pem)
    wiring.write_atomic(layout.trust_root, wire.encode(signed), mode=0o644)
    say(f"  made the offline root key {path}")
    say(f"  its fingerprint: {initialise.fingerprint_of(signed)}")
    if settings.solo:
        return signed, ""
    token = secrets.token_urlsafe(24)
    say(f"  first administrator, within {BOOTSTRAP_MINUTES} minutes: vouchgate admin claim {token}")
    kept = f"{hashlib.sha256(token.encode()).hexdigest()} {now + BOOTSTRAP_MINUTES * 60_000}"
    wiring.write_atomic(waiting, kept.encode())
    return signed, kept

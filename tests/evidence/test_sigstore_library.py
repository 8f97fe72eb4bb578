"""Beside the Sigstore project's own library, where it is installed: what it refuses we refuse, and what we refuse alone is named here.

`make test-sigstore` installs it, and the bundles that were really signed, which its sister projects ship in their source archives.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import sigstore_world as s
import test_sigstore_verify as ours
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.evidence import pep740
from vouchgate.evidence.sigstore.bundle import Payload, read_sigstore_bundle
from vouchgate.evidence.sigstore.root import TrustedRoot, read_trusted_root
from vouchgate.evidence.sigstore.verify import verify_any
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis

library = pytest.importorskip("sigstore.models", reason="the library `sigstore` is not installed here: make test-sigstore")
verifying = pytest.importorskip("sigstore.verify")
REAL = os.environ.get("VOUCHGATE_SIGSTORE", "")
LATER = UnixMillis(1_900_000_000_000)
NARROWER = {
    "certificate logged before the log began", "checkpoint of another size", "key of another kind", "signed in the future",
    "nobody named", "two named", "no issuer of the identity", "two issuers of the identity", "issuer that is no DER", "claim that hides",
    "log ended", "authority ended", "certificate log ended", "two logs of one id", "no window",
    "that names another certificate", "of another content type",
}  # fmt: skip
"""Cases that the library lets pass when its caller asks for nobody in particular, and that are refused here. Exactly these: a case that the library
learns to refuse, or one more that it does not, fails the test."""


def allows(bundle: dict[str, Any], root: dict[str, Any], file: bytes | None = None) -> bool:
    """The library's verdict, whoever signed."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as kept:
        json.dump(root, kept)
        kept.flush()
        try:
            pinned = library.TrustedRoot.from_file(kept.name)
            read = library.Bundle.from_json(json.dumps(bundle))
            verifier, anyone = verifying.Verifier(trusted_root=pinned), verifying.policy.UnsafeNoOp()
            if file is None:
                verifier.verify_dsse(read, anyone)
            else:
                verifier.verify_artifact(file, read, anyone)
        except Exception:  # whatever it raises, it does not say yes
            return False
    return True


@pytest.mark.parametrize("generation", [1, 2])
def test_the_library_takes_what_the_tests_sign(generation: int) -> None:
    assert allows(ours.W.bundle(generation=generation), ours.ROOT)
    assert allows(ours.W.bundle(generation=generation, file=ours.FILE), ours.ROOT, ours.FILE)


@pytest.mark.parametrize("case", ours.BAD)
def test_what_is_wrong_is_refused_by_both_or_named(case: str) -> None:
    said = allows(ours.BAD[case][0](), ours.ROOT)
    assert said == (case in NARROWER)


@pytest.mark.parametrize("case", ours.TOKENS)
def test_timestamps_are_refused_by_both(case: str) -> None:
    signature = ours.W.signer.sign(s.pae(b"{}"), ec.ECDSA(s.hashes.SHA256()))
    token = ours.TOKENS[case][0](signature)
    late = {"leaf": ours.W.leaf(at=s.NOW - 598)} if case.startswith("after") else {}
    said = allows(ours.W.bundle(b"{}", generation=2, signature=signature, tokens=[token], **late), ours.ROOT)
    assert said == (case in NARROWER)


@pytest.mark.parametrize("case", ours.PINS)
def test_roots_are_refused_by_both_or_named(case: str) -> None:
    said = allows(ours.GOOD, ours.PINS[case][0])
    assert said == (case in NARROWER)


def roots() -> dict[str, TrustedRoot]:
    """The trusted roots of the public instances, as the library ships them."""
    import sigstore

    found = (Path(sigstore.__file__).parent / "_store").glob("*/trusted_root.json")
    return {one.parent.name: read_trusted_root(one.read_bytes()) for one in found}


def real(pattern: str) -> list[Path]:
    return sorted(Path(REAL).rglob(pattern))


@pytest.mark.skipif(not REAL, reason="no bundles that were really signed: make test-sigstore")
def test_attestations_of_the_index_hold_under_exactly_one_instance() -> None:
    seen = 0
    for path in real("*.attestation"):
        data = path.read_bytes()
        (subject,) = json.loads(base64.b64decode(json.loads(data)["envelope"]["statement"]))["subject"]
        digest = Digest(value=subject["digest"]["sha256"])
        held = []
        for name, root in roots().items():
            try:
                held.append((name, pep740.verify(data, subject["name"], digest, root, LATER)))
            except Unverified as error:
                assert "the trusted root does not know" in error.reason
        assert len(held) == 1, path
        assert held[0][1].issuer.startswith("https://")
        with pytest.raises(Unverified, match="another file"):
            pep740.verify(data, subject["name"], Digest(value="0" * 64), dict(roots())[held[0][0]], LATER)
        seen += 1
    assert seen >= 5


@pytest.mark.skipif(not REAL, reason="no bundles that were really signed: make test-sigstore")
def test_bundles_that_were_really_signed_hold_and_fall_with_one_byte() -> None:
    seen = 0
    for path in real("*.sigstore"):
        data = path.read_bytes()
        read = read_sigstore_bundle(data)
        digest = b"" if isinstance(read.content, Payload) else hashlib.sha256(path.with_suffix("").read_bytes()).digest()
        held = [root for root in roots().values() if _holds(data, root, digest)]
        assert len(held) == 1, path
        for at in range(0, len(data), 97):
            broken = bytearray(data)
            broken[at] ^= 1
            if _holds(bytes(broken), held[0], digest):
                assert read_sigstore_bundle(bytes(broken)).content == read.content
        seen += 1
    assert seen >= 2


def _holds(data: bytes, root: TrustedRoot, digest: bytes) -> bool:
    try:
        verify_any(read_sigstore_bundle(data), root, LATER, digest=digest)
    except (Unverified, InvalidInput):
        return False
    return True

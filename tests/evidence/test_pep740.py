"""Attestations of packages: who published a file, and every way in which one is not of that file."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sigstore_world as s

from vouchgate.evidence.pep740 import BUILT, PUBLISHED, Publisher, verify
from vouchgate.evidence.sigstore.root import read_trusted_root
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis

W = s.World()
ROOT = read_trusted_root(s.dump(W.root()))
NAME, DIGEST = "demo_model-1.0-py3-none-any.whl", Digest(value="ab" * 32, size=7)
NOW = UnixMillis(s.NOW * 1000 + 5_000)


def statement(**changes: Any) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": NAME, "digest": {"sha256": DIGEST.value}}],
        "predicateType": PUBLISHED,
        "predicate": None,
    } | changes


def attested(said: dict[str, Any] | None = None, **changes: Any) -> bytes:
    bundle = W.bundle(s.dump(statement() if said is None else said))
    made = {
        "version": 1,
        "verification_material": {
            "certificate": bundle["verificationMaterial"]["certificate"]["rawBytes"],
            "transparency_entries": bundle["verificationMaterial"]["tlogEntries"],
        },
        "envelope": {"statement": bundle["dsseEnvelope"]["payload"], "signature": bundle["dsseEnvelope"]["signatures"][0]["sig"]},
    }
    return s.dump(made | changes)


def held(data: bytes, name: str = NAME, digest: Digest = DIGEST) -> Publisher:
    return verify(data, name, digest, ROOT, NOW)


def test_a_publisher_is_told_with_what_the_certificate_says() -> None:
    found = held(attested())
    assert (found.identity, found.issuer, found.predicate) == (s.IDENTITY, s.ISSUER, PUBLISHED)
    assert (found.repository, found.commit, found.ref) == (s.CLAIMS[12], s.CLAIMS[13], s.CLAIMS[14])
    assert (found.signed_at, found.log) == (s.NOW * 1000, "https://rekor.test")
    assert held(attested(statement(predicateType=BUILT, predicate={"buildDefinition": {}}))).predicate == BUILT


def test_a_name_that_parses_to_the_same_file_counts() -> None:
    pytest.importorskip("packaging", reason="the extra bom is not installed")
    for other in ("Demo.Model-1.0-py3-none-any.whl", "demo_model-1-py3-none-any.whl"):
        assert held(attested(), other)
    for other in (
        "demo_model-1.1-py3-none-any.whl",
        "demo_model-1.0-py2-none-any.whl",
        "demo_model-1.0.tar.gz",
        "other-1.0-py3-none-any.whl",
        "",
        "x.whl",
    ):
        with pytest.raises(Unverified, match="is of"):
            held(attested(), other)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (statement(subject=[{"name": NAME, "digest": {"sha256": "cd" * 32}}]), "another file"),
        (statement(subject=[{"name": NAME, "digest": {"sha512": DIGEST.value}}]), "another file"),
        (statement(subject=[]), "0 subjects"),
        (statement(subject=statement()["subject"] * 2), "2 subjects"),
        (statement(predicateType="https://example.com/x"), "says nothing"),
        (statement(predicate={"extra": 1}), "no predicate"),
        (statement(_type="https://in-toto.io/Statement/v0.1"), "not an in-toto"),
        (statement(more=1), "not known"),
        ({}, "_type"),
    ],
)
def test_a_statement_that_is_not_of_this_file_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises((Unverified, InvalidInput), match=why):
        held(attested(said))


def test_a_digest_of_another_kind_never_counts() -> None:
    with pytest.raises(Unverified, match="another file"):
        held(attested(), digest=Digest(value=DIGEST.value, kind="tree", size=0))


def test_what_is_around_the_statement_is_held_to_its_form() -> None:
    good = json.loads(attested())
    entries = good["verification_material"]["transparency_entries"]
    cases = (
        (attested(version=2), "version 1"),
        (attested(version=True), "version"),
        (attested(more=1), "not known"),
        (s.dump(good | {"verification_material": good["verification_material"] | {"transparency_entries": entries * 2}}), "one entry"),
        (s.dump(good | {"verification_material": good["verification_material"] | {"transparency_entries": []}}), "one entry"),
        (s.dump(good | {"envelope": good["envelope"] | {"signature": s.b64(b"x" * 70)}}), "another signature"),
        (b"[]", "not a JSON object"),
        (b"{" * 100_000, "strict JSON"),
        (b" " * (2 * 1024 * 1024 + 1), "bound"),
    )
    for data, why in cases:
        with pytest.raises((Unverified, InvalidInput), match=why):
            held(data)


def test_one_signed_in_the_future_is_refused() -> None:
    with pytest.raises(Unverified, match="future"):
        verify(attested(), NAME, DIGEST, ROOT, UnixMillis((s.NOW - 3600) * 1000))

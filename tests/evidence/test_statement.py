"""Vouch, in-toto statement and DSSE envelope: round trips, one spelling, and the specification's own example."""

from __future__ import annotations

import base64
import json

import pytest
from evidence_world import CONTENT, DAY, KEYS, NOW, STRANGER, TD, artifact, endpoint, signed, vouch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vouchgate.evidence.dsse import (
    MAX_ENVELOPE_BYTES,
    PAYLOAD_TYPE,
    Envelope,
    Signature,
    holds,
    pae,
    parse_envelope,
    sign,
    spki_of,
    write_envelope,
)
from vouchgate.evidence.statement import read_payload, read_time, read_vouch, sign_vouch, write_payload, write_time
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import Method, Subject, Vouch

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=20).filter(lambda text: text not in {".", ".."})
TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=40)
DIGESTS = st.builds(Digest, value=HEX, kind=st.sampled_from(["file", "tree", "manifest", "composite"]), size=st.integers(0, 2**50))
SUBJECTS = st.one_of(
    st.builds(Subject, name=NAME.map(lambda name: f"vg://{TD}/endpoint/{name}"), digest=st.none() | DIGESTS),
    st.builds(Subject, name=NAME.map(lambda name: f"spiffe://{TD}/service/prod/{name}"), digest=st.none()),
    DIGESTS.map(artifact),
)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
VOUCHES = st.builds(
    lambda begin, life, late, **fields: Vouch(
        id="", trust_domain=TD, not_before=begin, expires_at=begin + life, issued_at=max(0, begin + life - 1 - late), **fields
    ),
    begin=st.integers(0, 4 * 10**12), life=st.integers(1, 10**12), late=st.integers(0, 10**9),
    predicate_type=st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True), predicate_version=st.integers(1, 9999), subjects=st.lists(SUBJECTS, min_size=1, max_size=3).map(tuple),
    outcome=st.sampled_from(["pass", "fail", "inconclusive"]), issuer_key=HEX, issuer_role=TEXT, rests_on=st.lists(HEX, max_size=3, unique=True).map(tuple),
    tier=st.sampled_from(["verified", "rederived", "cooperative", "declared", "inferred"]),
    method=st.builds(Method, tool=TEXT, version=TEXT, knowledge_version=TEXT, settings_digest=TEXT), claims=st.dictionaries(TEXT, VALUES, max_size=4),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(VOUCHES)
def test_every_vouch_is_read_back(made):
    payload = write_payload(made)
    back = read_payload(payload)
    assert back == Vouch(**{name: getattr(made, name) for name in made.__struct_fields__} | {"id": back.id})
    assert len(back.id) == 64


@given(st.integers(0, 253_402_300_799_999))
def test_every_time_is_read_back(at):
    assert read_time(write_time(at)) == at


@pytest.mark.parametrize("text", ["", "2026-01-31", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000+00:00", "2026-02-30T12:00:00.000Z", "2026-01-31T24:00:00.000Z",
                                  "2026-01-31T12:00:60.000Z", "２026-01-31T12:00:00.000Z", "2026-01-31T12:00:00.000Z\n", "1969-12-31T23:59:59.999Z"[:0] + "x"])  # fmt: skip
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidInput):
        read_time(text)


def test_the_encoding_is_the_specifications():
    """dsse protocol.md, test vector."""
    assert pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("é", b"") == "DSSEv1 2 é 0 ".encode()


def test_the_statement_is_in_totos():
    statement = json.loads(write_payload(vouch()))
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://vouchgate.dev/predicate/scan/v1"
    assert statement["subject"] == [{"name": artifact().name, "digest": {"sha256": CONTENT.value}, "annotations": {"size": CONTENT.size}}]


def test_the_id_is_of_type_and_payload_alone():
    one = signed()
    payload = parse_envelope(one.envelope).payload
    again = write_envelope(Envelope(PAYLOAD_TYPE, payload, (sign(PAYLOAD_TYPE, payload, STRANGER),)))
    assert read_vouch(again).vouch.id == one.vouch.id
    assert signed(outcome="fail").vouch.id != one.vouch.id


def test_a_signature_is_bound_to_the_type():
    signature = sign(PAYLOAD_TYPE, b"x", STRANGER).signature
    assert holds(PAYLOAD_TYPE, b"x", signature, spki_of(STRANGER))
    assert not holds("application/other", b"x", signature, spki_of(STRANGER))
    assert not holds(PAYLOAD_TYPE, b"y", signature, spki_of(STRANGER))
    assert not holds(PAYLOAD_TYPE, b"x", signature[:-1], spki_of(STRANGER))
    assert not holds(PAYLOAD_TYPE, b"x", signature, b"junk")


def test_a_vouch_is_signed_by_the_key_it_names_alone():
    with pytest.raises(InvalidInput):
        sign_vouch(vouch(), STRANGER)


@pytest.mark.parametrize(
    "changes",
    [
        {"subjects": ()}, {"subjects": (artifact(),) * 1025}, {"rests_on": tuple(f"{n:064x}" for n in range(1025))}, {"rests_on": ("0" * 64,) * 2}, {"rests_on": ("x",)},
        {"rests_on": ("A" * 64,)}, {"issuer_key": "x"}, {"expires_at": NOW}, {"not_before": -1}, {"expires_at": 10**15}, {"issued_at": NOW + 2 * DAY},
        {"claims": {"x": "y" * 300_000}}, {"subjects": (Subject(name="vg://other.local/endpoint/x"),)}, {"subjects": (Subject(name="x"),)},
        {"subjects": (Subject(name=artifact().name),)}, {"subjects": (Subject(name=artifact().name, digest=Digest(value="0" * 64)),)},
        {"subjects": (Subject(name=artifact().name, digest=Digest(value=CONTENT.value, kind="tree")),)}, {"subjects": (endpoint("x", Digest(value="XYZ")),)},
        {"subjects": (endpoint("x", Digest(value="0" * 64, size=-1)),)}, {"subjects": (Subject(name="spiffe://other.local/service/prod/x"),)},
    ],
)  # fmt: skip
def test_what_must_not_be_stated_is_not_written(changes):
    with pytest.raises(InvalidInput):
        write_payload(vouch(**changes))


def altered(path: tuple, value) -> bytes:
    """A payload whose member at `path` was set (or with `...` taken away)."""
    statement = json.loads(write_payload(vouch()))
    at = statement
    for name in path[:-1]:
        at = at[name]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(statement, separators=(",", ":"), sort_keys=False).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1"), (("_type",), ...), (("predicateType",), "https://slsa.dev/provenance/v1"), (("extra",), 1), (("subject",), []),
        (("predicateType",), "https://vouchgate.dev/predicate/scan/v01"), (("predicateType",), "https://vouchgate.dev/predicate/scan/v0"),
        (("predicateType",), "https://vouchgate.dev/predicate/../v1"), (("predicateType",), "https://vouchgate.dev/predicate/Scan/v1"),
        (("subject", 0, "digest"), {}), (("subject", 0, "digest"), {"sha1": "x"}), (("subject", 0, "digest"), {"sha256": "x"}),
        (("subject", 0, "digest"), {"sha256": "0" * 64, "vouchgateTreeV1": "0" * 64}), (("subject", 0, "digest"), {"vouchgateNameV1": "0" * 64}),
        (("subject", 0, "annotations"), {"size": 1, "x": 2}), (("subject", 0, "annotations"), {"size": 0}), (("subject", 0, "annotations"), {}),
        (("subject", 0, "uri"), "x"), (("predicate", "outcome"), "PASS"), (("predicate", "tier"), "certain"), (("predicate", "claims"), ...), (("predicate", "claims"), []),
        (("predicate", "extra"), 1), (("predicate", "issuer", "key"), "0" * 63), (("predicate", "issuedAt"), "now"), (("predicate", "issuedAt"), 5),
        (("predicate", "expiresAt"), "2000-01-01T00:00:00.000Z"), (("predicate", "restsOn"), ["x"]), (("predicate", "trustDomain"), "other.local"),
        (("predicate", "trustDomain"), "UPPER"), (("predicate", "method", "version"), ...),
    ],
)  # fmt: skip
def test_a_statement_that_breaks_one_rule_is_refused(path, value):
    with pytest.raises(InvalidInput):
        read_payload(altered(path, value))


def test_the_unaltered_statement_of_that_test_is_good():
    assert read_payload(altered(("_type",), "https://in-toto.io/Statement/v1"))


@pytest.mark.parametrize(
    "respell",
    [
        lambda text: text.replace(b'"outcome":"pass"', b'"outcome":"fail","outcome":"pass"'), lambda text: text.replace(b'"outcome":"pass"', b'"outcome":"pass","outcome":"pass"'),
        lambda text: text + b" ", lambda text: b" " + text, lambda text: text.replace(b":", b": ", 1), lambda text: text.replace(b"pass", b"\\u0070ass"),
        lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b".000Z", b".0Z"), lambda text: text.replace(b'"tier"', b'"claims":{},"tier"'),
    ],
)  # fmt: skip
def test_a_statement_has_one_spelling(respell):
    good = write_payload(vouch())
    assert respell(good) != good
    with pytest.raises(InvalidInput):
        read_payload(respell(good))


@pytest.mark.parametrize(
    "respell",
    [
        lambda text: text + b"\n", lambda text: text.replace(b'"sig":"', b'"sig":" '), lambda text: text.replace(PAYLOAD_TYPE.encode(), b"text/plain"), lambda text: b"[" + text + b"]",
        lambda text: text.replace(b'"keyid"', b'"cert":"x","keyid"'), lambda text: text.replace(b'{"payload"', b'{"extra":1,"payload"'),
        lambda text: text.replace(b'"signatures":[', b'"signatures":[],"signatures":['), lambda text: text[: text.index(b'"signatures"')] + b'"signatures":[]}',
        lambda text: text.replace(b'"payload":"', b'"payload":"A'), lambda text: text.replace(b'"payload":"ey', b'"payload":"e_'), lambda text: b"",
    ],
)  # fmt: skip
def test_an_envelope_has_one_spelling(respell):
    good = signed().envelope
    assert respell(good) != good
    with pytest.raises(InvalidInput):
        parse_envelope(respell(good))


def test_envelopes_out_of_bounds_are_refused():
    one = Signature("a", b"x")
    with pytest.raises(InvalidInput):
        parse_envelope(b" " * (MAX_ENVELOPE_BYTES + 1))
    for signatures in ((), (one, one), tuple(Signature(str(n), b"x") for n in range(17))):
        with pytest.raises(InvalidInput):
            parse_envelope(write_envelope(Envelope(PAYLOAD_TYPE, b"x", signatures)))
    with pytest.raises(InvalidInput):
        parse_envelope(b'{"payload":' + b"[" * 100_000)


def test_base64_with_stray_bits_is_refused():
    payload = base64.b64encode(b"x").decode()
    assert payload == "eA=="
    good = write_envelope(Envelope(PAYLOAD_TYPE, b"x", (Signature("a", b"y"),)))
    with pytest.raises(InvalidInput):
        parse_envelope(good.replace(b"eA==", b"eB=="))


@given(st.binary(max_size=200))
def test_any_bytes_get_a_typed_error(data):
    for read in (parse_envelope, read_vouch, read_payload):
        with pytest.raises(InvalidInput):
            read(data)


@given(st.integers(min_value=0), st.integers(1, 255))
def test_flipping_any_byte_changes_the_id_or_is_refused(position, change):
    good = GOOD
    data = bytearray(good.envelope)
    data[position % len(data)] ^= change
    try:
        parsed = parse_envelope(bytes(data))
    except InvalidInput:
        return
    original = parse_envelope(good.envelope)
    assert parsed.payload != original.payload or parsed.signatures != original.signatures
    spki = spki_of(KEYS["scanner"])
    same_signer = parsed.signatures[0].key_id == original.signatures[0].key_id
    assert not (same_signer and holds(PAYLOAD_TYPE, parsed.payload, parsed.signatures[0].signature, spki))


GOOD = signed()

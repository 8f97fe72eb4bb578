"""The keeper of keys in files: what it wraps opens under exactly the same key, bytes and binding."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.protection.catalog import keeper
from vouchgate.protection.keepers import Binding
from vouchgate.protection.keepers import file as keeper_file
from vouchgate.protection.keepers.file import KEEPER, WRAPPED_BYTES, unwrap, wrap
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unverified

KEK, OTHER_KEK, DATA = bytes(range(32)), bytes(range(1, 33)), bytes(range(100, 132))
BINDING = Binding(trust_domain="test.local", purpose="serve", zone="prod", digest="sha256:" + "ab" * 32, run="r-1")
keys = st.binary(min_size=32, max_size=32).filter(lambda key: len(set(key)) > 1)
names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)
bindings = st.builds(
    Binding, trust_domain=names, purpose=names, zone=names, run=st.one_of(st.just(""), names),
    digest=st.sampled_from(["sha256:" + "ab" * 32, "sha256-tree:" + "ab" * 32, "sha256:" + "cd" * 32]),
)  # fmt: skip


@given(keys, keys, bindings)
def test_what_is_wrapped_opens_again(kek, data_key, binding):
    wrapped = wrap(kek, data_key, binding)
    assert len(wrapped) == WRAPPED_BYTES and data_key not in wrapped and kek not in wrapped
    assert unwrap(kek, wrapped, binding) == data_key
    assert wrap(kek, data_key, binding) == wrapped


@settings(max_examples=200)
@given(keys, bindings, bindings)
def test_no_other_binding_opens_it(data_key, first, second):
    wrapped = wrap(KEK, data_key, first)
    if first == second:
        assert unwrap(KEK, wrapped, second) == data_key
        return
    with pytest.raises(Unverified):
        unwrap(KEK, wrapped, second)


@pytest.mark.parametrize("field", ["trust_domain", "purpose", "zone", "run"])
def test_characters_moved_between_fields_are_another_binding(field):
    neighbours = {"trust_domain": "purpose", "purpose": "zone", "zone": "purpose", "run": "zone"}
    value, other = getattr(BINDING, field), neighbours[field]
    moved = msgspec.structs.replace(BINDING, **{field: value[:-1], other: value[-1] + getattr(BINDING, other)})
    with pytest.raises(Unverified):
        unwrap(KEK, wrap(KEK, DATA, BINDING), moved)


def test_every_flipped_bit_is_refused():
    wrapped = wrap(KEK, DATA, BINDING)
    for place in range(len(wrapped) * 8):
        broken = bytearray(wrapped)
        broken[place // 8] ^= 1 << place % 8
        with pytest.raises(Unverified):
            unwrap(KEK, bytes(broken), BINDING)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(Unverified):
        unwrap(KEK, data, BINDING)
    with pytest.raises(Unverified):
        unwrap(KEK, b"VGK1" + data[:80].ljust(80, b"\0"), BINDING)


def test_another_key_does_not_open_it():
    with pytest.raises(Unverified):
        unwrap(OTHER_KEK, wrap(KEK, DATA, BINDING), BINDING)


def test_a_message_that_opens_under_a_chosen_salt_is_refused():
    """Whoever holds the key could find bytes that GCM opens under two keys; the salt must be the one of what is inside."""
    salt = bytes(32)
    forged = b"VGK1" + salt
    sealed = AESGCM(keeper_file._derived(KEK, b"wrap", salt)).encrypt(bytes(12), DATA, forged + keeper_file._bound(BINDING))
    with pytest.raises(Unverified):
        unwrap(KEK, forged + sealed, BINDING)


def test_different_data_keys_never_meet_under_one_derived_key():
    salts = {wrap(KEK, bytes([n]) + DATA[1:], BINDING)[4:36] for n in range(64)}
    assert len(salts) == 64


@pytest.mark.parametrize("bad", [b"", bytes(31), bytes(range(31)), bytes(range(33)), bytes(32), b"\xff" * 32])
def test_keys_of_another_length_or_without_entropy_are_refused(bad):
    with pytest.raises(InvalidInput):
        wrap(bad, DATA, BINDING)
    with pytest.raises(InvalidInput):
        wrap(KEK, bad, BINDING)
    with pytest.raises(InvalidInput) as caught:
        unwrap(bad, wrap(KEK, DATA, BINDING), BINDING)
    assert bad.hex() not in caught.value.reason or not bad


@pytest.mark.parametrize(
    "change",
    [
        {"trust_domain": ""}, {"purpose": ""}, {"zone": ""}, {"digest": ""}, {"digest": "sha256:AB"}, {"digest": "md5:" + "0" * 32},
        {"run": "r" * 257}, {"purpose": "\ud800"},
    ],
)  # fmt: skip
def test_a_binding_that_binds_nothing_is_refused(change):
    with pytest.raises(InvalidInput):
        wrap(KEK, DATA, msgspec.structs.replace(BINDING, **change))


def test_the_catalog_refuses_unknown_names():
    assert keeper("file") is KEEPER
    with pytest.raises(NotFound):
        keeper("hsm")

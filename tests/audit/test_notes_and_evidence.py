"""Signed notes, checkpoints, cosignatures and proof files: the specifications' own examples, and every byte counts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from independent_verifier import Rejected
from independent_verifier import verify as independently
from memory_log import LOG, LOG_KEY, OTHER_KEY, WITNESS, WITNESS_KEY, MemoryLog, cosign, numbered, sign

from vouchgate.audit import notes
from vouchgate.audit.checkpoints import (
    Checkpoint,
    add_cosignature,
    cosignature_line,
    cosignature_message,
    log_verifier,
    open_checkpoint,
    origin_of,
    parse_body,
    read_checkpoint,
    require_cosignature,
    signed_checkpoint,
    witness_verifier,
)
from vouchgate.audit.proofs import inclusion_proof
from vouchgate.audit.tlog_proof import read_proof, verify_proof, write_proof
from vouchgate.vocabulary.errors import InvalidInput, Unverified

SUMDB = [
    (
        "go.sum database tree\n6476701\nmb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=\n\n"
        "— sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=\n"
    ).encode(),
    (
        "go.sum database tree\n65209736\n5+uGFjx6xBZG8ip1+wi77v+grwbhhukIrxEUS8PXvRo=\n\n"
        "— sum.golang.org Az3grnbssgK7ubgFX36gVETtNv0U23qxyAhAMai2QUfeGa3nB/akvkMdlUErfcZz7l/R3cVtYspg3dxXABkGZZKdsQ8=\n"
    ).encode(),
]
"""Checkpoints that Go's checksum database signed."""


def evidence(size: int = 700, index: int = 300) -> tuple[bytes, bytes]:
    log = MemoryLog(numbered(size))
    return write_proof(index, inclusion_proof(index, size, log.tile), cosign(log.checkpoint())), log.rows[index]


def accepted(proof: bytes, entry: bytes) -> bool:
    try:
        verify_proof(proof, entry, LOG, [WITNESS])
    except (InvalidInput, Unverified):
        return False
    return True


def accepted_independently(proof: bytes, entry: bytes) -> bool:
    try:
        independently(proof, entry, LOG.text, WITNESS.text)
    except Rejected:
        return False
    return True


@pytest.mark.parametrize(("size", "index"), [(1, 0), (2, 1), (3, 2), (256, 255), (257, 256), (700, 0), (700, 300), (700, 699)])
def test_an_independent_verifier_accepts_our_proofs(size: int, index: int) -> None:
    proof, entry = evidence(size, index)
    assert independently(proof, entry, LOG.text, WITNESS.text) == index
    assert verify_proof(proof, entry, LOG, [WITNESS]).size == size


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_both_verifiers_reject_every_flipped_byte(flip: int) -> None:
    proof, entry = evidence()
    for at in range(len(proof)):
        changed = proof[:at] + bytes([proof[at] ^ flip]) + proof[at + 1 :]
        assert not accepted(changed, entry), at
        assert not accepted_independently(changed, entry), at
    for at in range(len(entry)):
        changed = entry[:at] + bytes([entry[at] ^ flip]) + entry[at + 1 :]
        assert not accepted(proof, changed)
        assert not accepted_independently(proof, changed)


def test_both_verifiers_reject_every_cut() -> None:
    proof, entry = evidence()
    for at in range(len(proof)):
        assert not accepted(proof[:at], entry)
        assert not accepted_independently(proof[:at], entry)
    assert not accepted(proof + b"\n", entry)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_with_a_typed_error(data: bytes) -> None:
    assert not accepted(data, b"x")
    for read in (notes.parse_note, read_checkpoint, read_proof):
        with pytest.raises(InvalidInput):
            read(data)


def test_the_format_is_the_specifications() -> None:
    proof, _ = evidence(3, 2)
    lines = proof.decode().split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 2"]
    assert lines[3] == ""
    assert lines[4:6] == ["test.local/log", "3"]
    assert lines[8].startswith("— test.local/log ")
    assert lines[9].startswith("— test.local/witness ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"index 2", b"index 02"),
        (b"index 2", b"index +2"),
        (b"index 2", b"index -1"),
        (b"index 2", b"index 2 "),
        (b"index 2", b"index \xd9\xa2"),
        (b"index 2", b"extra AAAA\nindex 2"),
        (b"@v1", b"@v2"),
        (b"\nindex 2\n", b"\n"),
        (b"index 2\n", b"index 2\nAAAA\n"),
        (b"index 2\n", b"index 2\n" + b"A" * 43 + b"=\n"),
        (b"\n3\n", b"\n03\n"),
        (b"\n3\n", b"\n4\n"),
        (b"\n3\n", b"\n3\nextension\n"),
        (b"test.local/log\n3", b"other.local/log\n3"),
        ("— test".encode(), b"- test"),
    ],
)
def test_malformed_proofs_are_refused(old: bytes, new: bytes) -> None:
    proof, entry = evidence(3, 2)
    changed = proof.replace(old, new, 1)
    assert changed != proof
    assert not accepted(changed, entry)


def test_a_proof_without_the_witness_is_not_enough_where_one_is_wanted() -> None:
    log = MemoryLog(numbered(5))
    proof = write_proof(1, inclusion_proof(1, 5, log.tile), log.checkpoint())
    assert verify_proof(proof, log.rows[1], LOG).size == 5
    with pytest.raises(Unverified, match="did not cosign"):
        verify_proof(proof, log.rows[1], LOG, [WITNESS])


@pytest.mark.parametrize("note", SUMDB)
def test_gos_checksum_database_checkpoints_verify(note: bytes) -> None:
    """Its key stands in Go's source (cmd/go/internal/modfetch/key.go)."""
    sumdb = notes.parse_verifier("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
    assert (sumdb.name, sumdb.kind, sumdb.key_id.hex()) == ("sum.golang.org", notes.ED25519, "033de0ae")
    assert notes.parse_verifier(sumdb.text) == sumdb
    notes.require_signature(notes.parse_note(note), sumdb)
    assert read_checkpoint(note).origin == "go.sum database tree"
    with pytest.raises(Unverified):
        notes.require_signature(notes.parse_note(note.replace(b"\n6", b"\n7")), sumdb)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        "sum.golang.org+033de0af+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum.golang.orh+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum.golang.org+033de0ae+Ac4zctda0e5eza",
        "sum.golang.org+033de0ae+%%%",
        "sum.golang.org+033de0ae+",
        "a b+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
    ],
)
def test_bad_verifier_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        notes.parse_verifier(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note + b"\n",
        lambda note: note[:-1],
        lambda note: note.replace(b"\n\n", b"\n"),
        lambda note: note.replace(b"\n", b"\r\n"),
        lambda note: b"\x00" + note,
        lambda note: note + b"\xff\n",
        lambda note: note + "— a b c\n".encode(),
        lambda note: note + "— a+b AAAAAAAA\n".encode(),
        lambda note: note + "— name AAAA\n".encode(),
        lambda note: note + "— name AAAAAAB=\n".encode(),
        lambda note: note + b"x" * 70_000,
        lambda note: note + "— name AAAAAAAA\n".encode() * 40,
        lambda note: note + "— na\u00a0me AAAAAAAA\n".encode(),
    ],
)
def test_malformed_notes_are_refused(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput):
        open_checkpoint(change(MemoryLog(numbered(3)).checkpoint()), LOG)


@pytest.mark.parametrize(
    "body",
    [
        "a\n3\n",
        "a\n3\nAAAA\n",
        "\n3\n" + "A" * 43 + "=\n",
        "a\n-3\n" + "A" * 43 + "=\n",
        "a\n3.0\n" + "A" * 43 + "=\n",
        "a\n\u0663\n" + "A" * 43 + "=\n",
        "a\n003\n" + "A" * 43 + "=\n",
        "a\n9223372036854775808\n" + "A" * 43 + "=\n",
        "a\n" + "9" * 400 + "\n" + "A" * 43 + "=\n",
        "a\n3\n" + "A" * 42 + "B=\n",
        "a\n3\n" + "A" * 43 + "=",
        "a\n3\n" + "A" * 43 + "=\nextension\n",
    ],
)
def test_malformed_bodies_are_refused(body: str) -> None:
    with pytest.raises(InvalidInput):
        parse_body(body)


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_bodies_read_back(size: int, root: bytes) -> None:
    checkpoint = Checkpoint("test.local/log", size, root)
    assert parse_body(checkpoint.body) == checkpoint
    assert open_checkpoint(sign(checkpoint), LOG) == checkpoint


def test_unknown_signatures_are_ignored_but_a_known_bad_one_is_not() -> None:
    note = MemoryLog(numbered(3)).checkpoint()
    stranger = log_verifier("stranger.local/log", OTHER_KEY.public_key().public_bytes_raw())
    open_checkpoint(note + notes.signature_line(stranger, b"\x00" * 64).encode(), LOG)
    with pytest.raises(Unverified, match="does not verify"):
        open_checkpoint(note + notes.signature_line(LOG, b"\x00" * 64).encode(), LOG)


def test_another_keys_checkpoint_is_refused() -> None:
    log = MemoryLog(numbered(3))
    with pytest.raises(Unverified, match="did not sign"):
        open_checkpoint(log.checkpoint(key=OTHER_KEY), LOG)
    checkpoint = read_checkpoint(log.checkpoint())
    with pytest.raises(Unverified):
        signed_checkpoint(checkpoint, LOG, OTHER_KEY.sign(checkpoint.body.encode()))
    with pytest.raises(Unverified, match="not of"):
        open_checkpoint(log.checkpoint(), log_verifier("other.local/log", LOG.key))


def test_a_log_signature_and_a_cosignature_do_not_pass_for_each_other() -> None:
    note = MemoryLog(numbered(3)).checkpoint()
    body = read_checkpoint(note).body
    as_witness = witness_verifier(LOG.name, LOG.key)
    with pytest.raises(Unverified):
        require_cosignature(note, as_witness)
    plain = cosignature_line(WITNESS, 5, WITNESS_KEY.sign(body.encode()))
    with pytest.raises(Unverified):
        add_cosignature(note, plain, WITNESS)
    with pytest.raises(Unverified):
        add_cosignature(note, cosignature_line(WITNESS, 6, WITNESS_KEY.sign(cosignature_message(body, 5))), WITNESS)
    with pytest.raises(Unverified):
        add_cosignature(note, cosignature_line(WITNESS, 5, LOG_KEY.sign(cosignature_message(body, 5))), WITNESS)
    assert require_cosignature(cosign(cosign(note, 7), 9), WITNESS) == 9


def test_cosignature_message_is_the_specifications() -> None:
    body = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    assert cosignature_message(body, 1_679_315_147) == b"cosignature/v1\ntime 1679315147\n" + body.encode()
    with pytest.raises(InvalidInput):
        cosignature_message(body, -1)


def test_origins() -> None:
    assert (origin_of("test.local"), origin_of("test.local", 2)) == ("test.local/log", "test.local/log/2")

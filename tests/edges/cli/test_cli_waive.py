"""`vouchgate waive` and `vouchgate vouch ...`: what is asked, what is said, and which words are no request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from surface_memory import DIGEST, START
from surface_served import Served

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.commands.waive import until_of
from vouchgate.evidence.statement import read_vouch

DAY = 86_400_000
ASK = ("waive", "scan", "--for", DIGEST, "--why", "the scanner is being replaced")


def test_a_request_names_how_the_second_person_agrees(vg: Any, shared: Served) -> None:
    code, out, _ = vg(*ASK, "--until", "30d")
    assert code == 0
    assert "waits for a second person" in out
    assert "vouchgate waive approve w-0123456789abcdef" in out
    asked = next(asked for verb, asked in reversed(shared.surface.asked) if verb == "waive")
    assert (asked.control, asked.subject) == ("scan", DIGEST)
    assert abs(asked.until - shared.surface.now - 30 * DAY) < 5_000


def test_the_list_says_what_stands_and_since_how_many_renewals(vg: Any) -> None:
    code, out, _ = vg("waive", "list")
    assert code == 0
    assert "serves@rederived" in out
    assert "2 times before" in out


def test_agreeing_and_withdrawing(vg: Any) -> None:
    code, out, _ = vg("waive", "approve", "w-0123456789abcdef")
    assert code == 0
    assert f"vouchgate revoke {'5b' * 32} --kind vouch" in out
    assert vg("waive", "withdraw", "w-0123456789abcdef")[0] == 0
    code, _, err = vg("waive", "approve", "w-none")
    assert code == 2
    assert "waits" in err


@pytest.mark.parametrize(
    "words",
    [
        ("waive",),
        ("waive", "approve"),
        ("waive", "withdraw"),
        ("waive", "scan"),
        ASK,
        (*ASK, "--until", "someday"),
        (*ASK, "--until", "2026-13-01"),
        (*ASK, "--until", "0d"),
        (*ASK, "--until", "20261231"),
        (*ASK, "--until", "-1d"),
        ("waive", "scan", "extra", "--for", DIGEST, "--until", "1d", "--why", "x"),
        (*ASK[:2], "--for", "", "--until", "1d", "--why", "x"),
        ("vouch", "add"),
        ("vouch", "add", "nowhere.json"),
        ("vouch", "list"),
    ],
)
def test_what_is_no_request_is_usage(words: tuple[str, ...], vg: Any) -> None:
    assert vg(*words)[0] == 2


def test_a_date_is_its_last_moment() -> None:
    assert until_of("2026-12-31", 0) == 1_798_761_600_000 - 1
    assert until_of("12h", START) == START + DAY // 2
    with pytest.raises(Usage):
        until_of("2026-12-31T00:00", 0)


def test_a_vouch_is_handed_in_or_refused(vg: Any, tmp_path: Path) -> None:
    good, bad, large = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "large.json"
    good.write_bytes(b"{}")
    bad.write_bytes(b"bad")
    large.write_bytes(b"x" * 262_145)
    code, out, _ = vg("vouch", "add", str(good))
    assert code == 0
    assert "took in the posture vouch" in out
    code, out, _ = vg("vouch", "add", str(bad))
    assert code == 1
    assert "signature does not hold" in out
    assert vg("vouch", "add", str(large))[0] == 2


def test_vouches_are_listed(vg: Any) -> None:
    assert "posture" in vg("vouch", "list", "--about", "admin")[1]
    assert "nothing is vouched" in vg("vouch", "list", "--about", "nobody")[1]


def signed(
    vg: Any, tmp_path: Path, *more: str, claims: str = '{"source": "edr", "checked": ["disk"]}', key: str = ""
) -> tuple[int, str, str]:
    (tmp_path / "claims.json").write_text(claims)
    made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(key.encode() or made)
    fixed = ("--key", str(tmp_path / "key.pem"), "--claims", str(tmp_path / "claims.json"), "--out", str(tmp_path / "out.json"))
    return vg("vouch", "sign", *fixed, *more)  # type: ignore[no-any-return]


ANN = "spiffe://test.local/person/office/ann"


def test_a_producer_signs_what_our_reader_takes(vg: Any, tmp_path: Path) -> None:
    code, out, _ = signed(vg, tmp_path, "--about", ANN, "--hours", "0.5")
    assert code == 0
    assert "vouchgate vouch add" in out
    vouch = read_vouch((tmp_path / "out.json").read_bytes()).vouch
    assert (vouch.predicate_type, vouch.issuer_role, vouch.tier, vouch.outcome) == ("posture", "device", "cooperative", "pass")
    assert vouch.expires_at - vouch.not_before == 1_800_000


@pytest.mark.parametrize(
    ("more", "changes"),
    [
        (("--about", "ann"), {}),
        (("--about", ANN, "--hours", "25"), {}),
        (("--about", ANN, "--hours", "0"), {}),
        (("--about", ANN, "--predicate", "scan"), {}),
        (("--about", ANN, "--predicate", "nothing"), {}),
        (("--about", ANN, "--about", "spiffe://evil.local/person/office/ann"), {}),
        (("--about", ANN), {"claims": "[]"}),
        (("--about", ANN), {"claims": "{"}),
        (("--about", ANN), {"claims": "{}"}),
        (("--about", ANN), {"claims": '{"source": "edr", "checked": ["disk"], "role": "admin"}'}),
        (("--about", ANN), {"key": "junk"}),
    ],
)
def test_what_cannot_be_signed(more: tuple[str, ...], changes: dict[str, str], vg: Any, tmp_path: Path) -> None:
    assert signed(vg, tmp_path, *more, **changes)[0] == 2
    assert not (tmp_path / "out.json").exists()

"""`vouchgate runs ...` and `vouchgate token exchange`: what is said, what is sent, and what never is."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from surface_memory import DIGEST
from surface_served import Served

from vouchgate.edges.cli import main as cli
from vouchgate.edges.cli.keys import dpop_proof
from vouchgate.identity.dpop import Proof, read_proof
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import UnixMillis

URL = "https://localhost:9443/token"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    made = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key.pem"
    path.write_bytes(made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return path


def test_a_run_is_begun_listed_and_ended(vg: Any) -> None:
    code, out, _ = vg("runs", "begin", "fit", "train", "--input", DIGEST, "--seconds", "600")
    assert code == 0
    assert out.splitlines()[0] == "run-0123456789abcdef"
    code, out, _ = vg("runs", "list")
    assert code == 0
    assert "run-0123456789abcdef" in out
    code, out, _ = vg("runs", "end", "run-0123456789abcdef", "--reason", "done")
    assert code == 0
    assert "2 credentials are struck" in out


def test_the_command_run_and_the_noun_runs_are_told_apart(vg: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "all"]) == 0
    out = capsys.readouterr().out
    assert "  run  " in out
    assert "runs begin" in out


@pytest.mark.parametrize(
    "words", [("runs", "begin"), ("runs", "begin", "fit"), ("runs", "end"), ("runs", "begin", "fit", "Train"), ("runs", "x")]
)
def test_what_is_no_run_is_usage(words: tuple[str, ...], vg: Any) -> None:
    assert vg(*words)[0] == 2


def test_an_exchange_sends_a_proof_and_never_the_key(vg: Any, shared: Served, key: Path, tmp_path: Path) -> None:
    subject = tmp_path / "subject.jwt"
    subject.write_text("their.own.token\n")
    code, out, _ = vg("token", "exchange", "digits", "--scope", "infer:digits", "--subject", str(subject), "--key", str(key))
    assert (code, out) == (0, "aaa.bbb.ccc\n")
    assert "PRIVATE" not in str(vars(shared.surface))


def test_a_refusal_is_told_and_its_exit_code_is_one(vg: Any, key: Path, tmp_path: Path) -> None:
    subject = tmp_path / "subject.jwt"
    subject.write_text("their.own.token")
    code, out, err = vg("token", "exchange", "digits", "--scope", "administer", "--subject", str(subject), "--key", str(key))
    assert (code, out) == (1, "")
    assert "invalid-scope" in err


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_token_is_usage(text: str, vg: Any, key: Path, tmp_path: Path) -> None:
    subject = tmp_path / "subject.jwt"
    subject.write_text(text)
    assert vg("token", "exchange", "digits", "--scope", "infer", "--subject", str(subject), "--key", str(key))[0] == 2


def test_the_proof_is_what_the_service_reads(key: Path) -> None:
    now = UnixMillis(1_790_000_000_000)
    made = read_proof(dpop_proof(key.read_bytes(), "POST", URL, now), method="POST", urls={URL}, now=now, began=UnixMillis(0))
    assert isinstance(made, Proof)
    body = base64.urlsafe_b64decode(dpop_proof(key.read_bytes(), "POST", URL, now, nonce="n").split(".")[1] + "==")
    assert json.loads(body)["nonce"] == "n"


@pytest.mark.parametrize("pem", [b"", b"junk", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_is_none_is_told_without_its_text(pem: bytes) -> None:
    with pytest.raises(InvalidInput) as told:
        dpop_proof(pem, "POST", URL, 0)
    assert "AAAA" not in str(told.value)
    other = ec.generate_private_key(ec.SECP384R1())
    wrong = other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(InvalidInput):
        dpop_proof(wrong, "POST", URL, 0)

"""The commands of the X.509 authority against the served surface, and `identity check` on files of any issuer."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from surface_served import Served

from vouchgate.edges.cli import main as cli

VECTORS = Path(__file__).parents[2] / "identity" / "vectors"
X509, JWT, BUNDLE = (json.loads((VECTORS / f"{name}.json").read_text()) for name in ("x509", "jwt", "bundle"))
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


# --- the authority


def test_roots_and_issuer_are_shown(vg: Any) -> None:
    code, out, _ = vg("admin", "ca")
    assert code == 0
    assert "root 1 is active" in out
    assert "issuer 3 under root 1" in out
    assert "sequence 4" in out
    assert json.loads(vg("admin", "ca", "--json")[1])["roots"][0]["status"] == "active"


def test_a_step_is_asked_for_with_its_reason(vg: Any, shared: Served) -> None:
    assert vg("admin", "ca-rotate", "prepare", "--reason", "rehearsal")[0] == 0
    assert vg("admin", "ca-rotate", "retire", "--force", "--reason", "stolen", "--json")[0] == 0
    assert vg("admin", "ca-rotate", "prepare")[0] == 2
    assert vg("admin", "ca-rotate", "burn", "--reason", "x")[0] == 2


def test_the_request_is_written_once(vg: Any, tmp_path: Path) -> None:
    assert "CERTIFICATE REQUEST" in vg("admin", "ca-request")[1]
    assert vg("admin", "ca-request", "--out", "ours.csr")[0] == 0
    assert (tmp_path / "ours.csr").read_text().startswith("-----BEGIN CERTIFICATE REQUEST")
    code, _, err = vg("admin", "ca-request", "--out", "ours.csr")
    assert code == 3
    assert "cannot be written" in err


def test_a_chain_is_installed_and_what_cannot_be_read_is_not(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    assert vg("admin", "ca-install", "chain.pem", "--root-fingerprint", "ab" * 32, "--reason", "x")[0] == 0
    (tmp_path / "large.pem").write_bytes(b"a" * 200_001)
    (tmp_path / "binary.pem").write_bytes(b"\xff\xfe")
    for name in ("large.pem", "binary.pem", "missing.pem"):
        assert vg("admin", "ca-install", name, "--root-fingerprint", "ab" * 32, "--reason", "x")[0] == 2


def test_openbao_that_is_away_is_said_and_no_token_is_shown(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s.very-secret-token\n")
    words = ("admin", "ca-openbao", "http://127.0.0.1:1", "--token-file", "token", "--root-fingerprint", "ab" * 32, "--reason", "x")
    code, out, err = vg(*words)
    assert code == 3
    assert "very-secret" not in out + err
    assert vg(*words[:4], "nowhere", *words[5:])[0] == 2


# --- identity check


def pem(chain: list[str]) -> str:
    return "".join(ssl.DER_cert_to_PEM_cert(base64.b64decode(one)) for one in chain)


def vector(document: Any, name: str) -> Any:
    return next(one for one in document["vectors"] if one["name"] == name)


def named(vg: Any, path: Path, *more: str) -> tuple[int, set[str]]:
    code, out, _ = vg("identity", "check", str(path), "--json", *more)
    (said,) = json.loads(out)
    assert said["conforms"] == (code == 0)
    return code, {one["clause"] for one in said["checked"]["findings"] if one["level"] == "violation"}


def test_it_names_the_clause_of_a_single_certificate_in_pem_and_der(vg: Any, tmp_path: Path) -> None:
    bad = vector(X509, "two SPIFFE ids")["chain"][0]
    (tmp_path / "a.pem").write_text("Some text before\n".replace("Some text before\n", "") + pem([bad]))
    (tmp_path / "a.der").write_bytes(base64.b64decode(bad))
    assert named(vg, tmp_path / "a.pem") == (1, {"X509-SVID 2"})
    assert named(vg, tmp_path / "a.der") == (1, {"X509-SVID 2"})
    (tmp_path / "b.pem").write_text(pem([vector(X509, "a leaf and its issuer")["chain"][0]]))
    assert named(vg, tmp_path / "b.pem") == (0, set())


def test_it_does_not_write_a_respelled_certificate_anew_before_it_looks(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text(pem(vector(X509, "a length that is not minimal")["chain"][:1]))
    assert named(vg, tmp_path / "a.pem") == (1, {"RFC 5280 4.1"})


def test_a_chain_that_is_over_is_said_to_be(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text(pem(vector(X509, "an issuer below an issuer")["chain"]))
    code, found = named(vg, tmp_path / "a.pem")
    assert code == 1
    assert "RFC 5280 4.2.1.9" in found


def test_tokens_and_bundles(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(JWT["bundle"])
    (tmp_path / "token").write_text(vector(JWT, "RFC 8725 3.1: HS256 with our public key")["token"] + "\n")
    code, found = named(vg, tmp_path / "token", "--bundle", str(tmp_path / "bundle.json"))
    assert code == 1
    assert {"JWT-SVID 2.1", "JWT-SVID 4"} <= found
    assert named(vg, tmp_path / "bundle.json") == (0, set())
    (tmp_path / "broken.json").write_text(vector(BUNDLE, "X509-SVID 6.1: a key id")["bundle"])
    assert named(vg, tmp_path / "broken.json") == (1, {"X509-SVID 6.1"})


def test_several_files_at_once_one_of_them_bad(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(JWT["bundle"])
    (tmp_path / "bad").write_bytes(b"\x00\x01 neither")
    code, out, _ = vg("identity", "check", "good.json", "bad")
    assert code == 1
    assert "good.json: bundle conforms" in out
    assert "bad: unknown does not conform" in out


def test_what_cannot_be_read_is_a_usage_error(vg: Any, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"0" * (4 * 1024 * 1024 + 1))
    (tmp_path / "empty.pem").write_text("-----BEGIN NOTHING-----\n")
    for name in ("missing", "large", "empty.pem"):
        assert vg("identity", "check", name)[0] == 2


def test_a_subject_cannot_write_to_the_terminal(vg: Any, tmp_path: Path) -> None:
    """A token says anything about itself; nothing of it reaches the terminal as control characters."""
    body = base64.urlsafe_b64encode(json.dumps({"sub": "\x1b[2J\x07evil"}).encode()).rstrip(b"=").decode()
    head = base64.urlsafe_b64encode(b'{"alg":"none","\\u001b[31m":1}').rstrip(b"=").decode()
    (tmp_path / "token").write_text(f"{head}.{body}.")
    code, out, err = vg("identity", "check", "token")
    assert code == 1
    assert "\x1b[2J" not in out + err
    assert "\x07" not in out + err
    assert "\x1b[31m" not in out + err


def test_it_needs_neither_settings_nor_a_control_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle.json").write_text(JWT["bundle"])
    assert cli.main(["identity", "check", "bundle.json"]) == 0
    assert "conforms" in capsys.readouterr().out

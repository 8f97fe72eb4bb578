"""`vouchgate digest`, `sign` and `verify` on the command line: exit codes, JSON, and the files that they write."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from vouchgate.edges.cli.main import main


@pytest.fixture
def model(tmp_path):
    made = tmp_path / "model"
    made.mkdir()
    (made / "a.bin").write_bytes(b"abc")
    (made / ".gitignore").write_bytes(b"*")
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "key.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return made


def told(capsys, *command):
    code = main([str(one) for one in (*command, "--json")])
    return code, json.loads(capsys.readouterr().out)


def test_a_digest_and_what_changed_since(model, tmp_path, capsys):
    manifest = tmp_path / "m.json"
    code, first = told(capsys, "digest", model, "--manifest", manifest)
    assert code == 0 and first["digest"].startswith("sha256-tree:") and first["size"] == 4
    assert told(capsys, "digest", model, "--against", manifest)[0] == 0
    (model / "a.bin").write_bytes(b"abd")
    code, second = told(capsys, "digest", model, "--against", manifest)
    assert code == 1 and [one["path"] for one in second["changes"]] == ["a.bin"] and second["digest"] != first["digest"]
    assert told(capsys, "digest", model, "--against", manifest, "--only", "a.bin")[0] == 1
    assert told(capsys, "digest", model, "--against", manifest, "--only", ".gitignore")[0] == 0
    assert main(["digest", str(model), "--tree", "--against", str(manifest)]) == 1
    assert "changed: a.bin" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["--tensor", "w"], ["--believe-stamps"], ["--against", "/gone"], ["--against", "m.json", "--tensor", "w", "--manifest", "x"]]
)
def test_what_makes_no_sense_is_a_usage_error(model, tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    assert main(["digest", str(model), "--manifest", "m.json"]) == 0
    assert main(["digest", str(model), *wrong]) == 2


@pytest.mark.parametrize("out", [[], ["inside"]])
def test_signed_and_verified(model, tmp_path, capsys, out):
    where = ["-o", str(model / "own.sig")] if out else []
    signature = ["--signature", str(model / "own.sig")] if out else []
    code, signed = told(capsys, "sign", model, "--key", tmp_path / "key.pem", *where)
    assert code == 0 and signed["files"] == 2
    code, found = told(capsys, "verify", model, "--key", tmp_path / "key.pub", *signature)
    assert code == 0 and found["holds"] and found["digest"] == signed["digest"]
    (model / ".gitignore").write_bytes(b"!")
    code, found = told(capsys, "verify", model, "--key", tmp_path / "key.pub", *signature)
    assert code == 1 and found["differences"] == ["`.gitignore` is not what was signed"]
    code, found = told(capsys, "verify", model, "--key", tmp_path / "key.pub", "--leave-out", ".gitignore", *signature)
    assert code == 0 and ".gitignore" in found["left_out"]


def test_a_signature_that_does_not_hold_is_exit_code_1_and_a_wrong_file_2(model, tmp_path, capsys):
    assert main(["sign", str(model), "--key", str(tmp_path / "key.pem")]) == 0
    other = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "ed.pem").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    strange = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "strange.pub").write_bytes(strange.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert main(["verify", str(model), "--key", str(tmp_path / "strange.pub")]) == 1
    assert main(["verify", str(model), "--key", str(tmp_path / "key.pem")]) == 2
    assert main(["sign", str(model), "--key", str(tmp_path / "ed.pem")]) == 2
    assert main(["verify", str(model), "--key", str(tmp_path / "key.pub"), "--subject", "CN=x"]) == 2
    assert "PRIVATE" not in "".join(capsys.readouterr())

"""`vouchgate digest`, `sign` and `verify` on the command line: exit codes, JSON, and the files that they write."""

import base64
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from vouchgate.edges.cli.main import main
from vouchgate.vocabulary.vouches import UnixMillis


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


SIGSTORE = ("--trusted-root", "root.json", "--identity", "{identity}", "--issuer", "{issuer}")


def test_a_model_signed_through_sigstore_is_held_to_identity_and_issuer(model, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "evidence"))
    import sigstore_world as s

    world, now = s.World(), UnixMillis(s.NOW * 1000 + 5000)
    monkeypatch.setattr("vouchgate.wiring.clock", lambda: SimpleNamespace(now=lambda: now))
    monkeypatch.chdir(tmp_path)
    assert main(["sign", "model", "--key", "key.pem"]) == 0
    payload = base64.b64decode(json.loads((tmp_path / "model.sig").read_bytes())["dsseEnvelope"]["payload"])
    (tmp_path / "model.sig").write_bytes(s.dump(world.bundle(payload)))
    (tmp_path / "root.json").write_bytes(s.dump(world.root()))
    how = [one.format(identity=s.IDENTITY, issuer=s.ISSUER) for one in SIGSTORE]
    capsys.readouterr()
    code, found = told(capsys, "verify", "model", *how)
    assert (code, found["holds"], found["signer"]) == (0, True, f"{s.IDENTITY} of {s.ISSUER}")
    assert main(["verify", "model", *how[:2], "--identity", "eve@example.com", "--issuer", s.ISSUER]) == 1
    assert main(["verify", "model", "--key", "key.pub"]) == 1
    for part in (
        how[:2],
        how[:4],
        [*how[:2], *how[4:]],
        [*how[2:], "--key", "key.pub"],
        [*how, "--subject", "CN=x"],
        [*how, "--key", "key.pub"],
    ):
        assert main(["verify", "model", *part]) == 2
    (tmp_path / "root.json").write_bytes(s.dump(s.World().root()))
    assert main(["verify", "model", *how]) == 1
    (model / "a.bin").write_bytes(b"abd")
    (tmp_path / "root.json").write_bytes(s.dump(world.root()))
    code, found = told(capsys, "verify", "model", *how)
    assert code == 1 and found["differences"]


def test_handing_in_a_signature_asks_the_control_plane(tmp_path, monkeypatch, capsys):
    asked = []

    class Client:
        now = 0

        def __init__(self, *_, **__):
            pass

        def post(self, kind, path, body):
            asked.append((path, body))
            if body["bundle"] == b"bad":
                return kind(taken=False, why="unverified", reason="for `ml-team`: the signature does not hold", remedy="sign it again")
            return kind(taken=True, id="5d" * 32, predicate=path.rpartition("/")[2], subjects=("vg://x/artifact/y",), expires_at=3_600_000)

    monkeypatch.setattr("vouchgate.edges.cli.session.Session.client", Client(), raising=False)
    (tmp_path / "b").write_bytes(b"bundle")
    (tmp_path / "bad").write_bytes(b"bad")
    digest = "sha256:" + "0" * 64
    for word in ("signature", "provenance"):
        assert main(["vouch", word, digest, "--bundle", str(tmp_path / "b"), "--by", "ml-team"]) == 0
        assert f"made the {word} vouch" in capsys.readouterr().out
        assert asked[-1] == (f"/api/v1/vouches/{word}", {"digest": digest, "bundle": b"bundle", "by": "ml-team"})
        assert main(["vouch", word, digest, "--bundle", str(tmp_path / "bad")]) == 1
        assert "does not hold" in capsys.readouterr().out
        assert main(["vouch", word, digest, "--bundle", str(tmp_path / "gone")]) == 2

"""`vouchgate bom make`, `verify` and `gaps` on the command line: exit codes, JSON, and what a person reads."""

import base64
import hashlib
import json
import zipfile

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from safetensors.numpy import save

from vouchgate.edges.cli.main import main
from vouchgate.evidence.bom.document import Model, Scan, write_bom
from vouchgate.evidence.statement import read_vouch

A = "aa" * 32
AT = "2026-01-31T12:00:00.000Z"
SITE = "lib/python3.11/site-packages"


def keys(folder, name, key):
    (folder / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def install(site, name, files):
    rows = []
    for path, data in (files | {f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()}).items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(data)
        rows.append(f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}")
    (site / f"{name}-1.0.dist-info/RECORD").write_text("\n".join([*rows, f"{name}-1.0.dist-info/RECORD,,"]) + "\n")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(save({"w": np.zeros(6, np.float32)}))
    (tmp_path / "model/config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    install(tmp_path / "venv" / SITE, "alpha", {"alpha.py": b"x = 1\n"})
    keys(tmp_path, "key", ed25519.Ed25519PrivateKey.generate())
    (tmp_path / "osv").mkdir()
    return tmp_path


def told(capsys, *command):
    code = main(["bom", *(str(one) for one in command), "--json"])
    return code, json.loads(capsys.readouterr().out)


def record(here, **more):
    affected = [{"package": {"ecosystem": "PyPI", "name": "alpha"}, "versions": ["1.0"]}]
    (here / "osv/a.json").write_text(json.dumps({"id": "CVE-1", "modified": "2999-01-01T00:00:00Z", "affected": affected} | more))


def test_make_verify_and_what_changed(here, capsys):
    code, made = told(capsys, "make", "model", "--python", "venv", "--key", "key.pem", "--at", AT)
    assert code == 0 and made["verdict"] == "clean" and made["bom"] == "model.cdx.json" and not made["faults"]
    first = (here / "model.cdx.json").read_bytes()
    assert told(capsys, "verify", "model.cdx.json", "model", "--python", "venv", "--key", "key.pub") == (0, {
        "bom": "model.cdx.json", "components": 5, "differences": [], "faults": [], "holds": True, "serial": made["serial"], "signed": True, "spec": "1.6",
    })  # fmt: skip
    told(capsys, "make", "model", "--python", "venv", "--at", AT)
    assert (here / "model.cdx.json").read_bytes() == first
    (here / "model/config.json").write_text("{}")
    (here / "venv" / SITE / "alpha.py").write_bytes(b"x = 2\n")
    code, found = told(capsys, "verify", "model.cdx.json", "model", "--python", "venv", "--key", "key.pub")
    assert code == 1 and [(one["kind"], one["name"]) for one in found["differences"]] == [("changed", "config.json"), ("changed", "alpha")]
    assert main(["bom", "verify", "model.cdx.json", "model", "--key", "key.pub"]) == 1
    assert "changed: file config.json" in capsys.readouterr().out


@pytest.mark.parametrize("key", [ec.SECP256R1(), ec.SECP521R1()], ids=["p256", "p521"])
def test_elliptic_curves_sign_too(here, capsys, key):
    keys(here, "ec", ec.generate_private_key(key))
    assert told(capsys, "make", "model", "--key", "ec.pem", "-o", "b.json", "--spec", "1.7")[0] == 0
    assert told(capsys, "verify", "b.json", "--key", "ec.pub")[0] == 0
    assert told(capsys, "verify", "b.json", "--key", "key.pub")[0] == 1


def test_a_document_beside_its_signature_is_the_signed_one(here, capsys):
    told(capsys, "make", "model", "--key", "key.pem")
    document = here / "model.cdx.json"
    document.write_bytes(document.read_bytes().replace(b"bert", b"beta"))
    code, error = told(capsys, "verify", document, "--key", "key.pub")
    assert code == 1 and "not the signed one" in error["reason"]
    code, found = told(capsys, "verify", document)
    assert code == 1 and "serial number" in found["faults"][0]


def test_an_unsigned_document_says_so(here, capsys):
    told(capsys, "make", "model")
    assert main(["bom", "verify", "model.cdx.json"]) == 0
    assert "anybody may have written it" in capsys.readouterr().out
    assert told(capsys, "verify", "model.cdx.json", "--key", "key.pub")[0] == 2


def test_a_model_that_acts_is_described_with_its_verdict_and_cannot_ship(here, capsys):
    (here / "m.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert main(["bom", "make", "m.pkl"]) == 0
    assert "the scan says refused" in capsys.readouterr().out
    code, found = told(capsys, "gaps", "m.pkl.cdx.json")
    assert code == 1 and found["against"] == ["the scan of the model says refused"]


def test_gaps(here, capsys):
    told(capsys, "make", "model", "--python", "venv")
    record(here)
    code, found = told(capsys, "gaps", "model.cdx.json", "--osv", "osv")
    assert code == 1 and found["classes"] == {"attested": 0, "locked": 0, "recorded": 1, "nothing": 0}
    assert found["findings"][0]["id"] == "CVE-1" and not found["ships"]
    (here / "lock.txt").write_text(f"alpha==1.0 --hash=sha256:{'aa' * 32}\n")
    code, found = told(capsys, "gaps", "model.cdx.json", "--lock", "lock.txt")
    assert found["classes"]["locked"] == 1 and found["against"] == ["nobody looked for known vulnerabilities"]
    assert main(["bom", "gaps", "model.cdx.json", "--osv", "osv"]) == 1
    out = capsys.readouterr().out
    assert "it cannot ship" in out and "0 of 1 packages (0%)" in out and "CVE-1" in out


def test_it_can_ship(here, capsys):
    told(capsys, "make", "model", "--python", "venv", "--key", "key.pem")
    record(here, affected=[], modified="2020-01-01T00:00:00Z")
    assert "days old" in told(capsys, "gaps", "model.cdx.json", "--osv", "osv")[1]["against"][0]
    told(capsys, "make", "model", "--key", "key.pem")
    assert main(["bom", "gaps", "model.cdx.json", "--key", "key.pub"]) == 0
    out = capsys.readouterr().out
    assert "it can ship" in out and "its signature holds" in out


def vouched(here, capsys, *more):
    code, _ = told(capsys, "gaps", "model.cdx.json", "--vouch", "v.json", "--sign", "key.pem", "--trust-domain", "acme.example", *more)
    return code, read_vouch((here / "v.json").read_bytes()).vouch


def test_what_was_found_becomes_a_vouch_about_the_model(here, capsys):
    made = told(capsys, "make", "model", "--key", "key.pem")[1]
    code, vouch = vouched(here, capsys, "--key", "key.pub")
    assert (code, vouch.outcome, vouch.predicate_type, vouch.issuer_role) == (0, "pass", "bom", "reviewer")
    assert vouch.subjects[0].digest.text == made["digest"] and vouch.expires_at - vouch.not_before == 7 * 86_400_000
    assert vouch.claims["document"] == f"sha256:{hashlib.sha256((here / 'model.cdx.json').read_bytes()).hexdigest()}"
    told(capsys, "make", "model", "--python", "venv", "--key", "key.pem")
    code, vouch = vouched(here, capsys, "--key", "key.pub", "--days", "30")
    assert (code, vouch.outcome, vouch.claims["against"]) == (1, "fail", ["nobody looked for known vulnerabilities"])


@pytest.mark.parametrize("more", [[], ["--key", "key.pub", "--days", "31"], ["--key", "key.pub", "--days", "0"]], ids=range(3))
def test_only_a_signed_document_is_vouched_for_and_for_days(here, capsys, more):
    told(capsys, "make", "model", "--key", "key.pem")
    code, _ = told(capsys, "gaps", "model.cdx.json", "--vouch", "v.json", "--sign", "key.pem", "--trust-domain", "acme.example", *more)
    assert code == 2 and not (here / "v.json").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["gaps", "b.json", "--vouch", "v.json"],
        ["make", "model", "-o", "model/bom.json"],
        ["make", "model", "--key", "key.pub"],
        ["make", "model", "--spec", "1.5"],
        ["make", "model", "--at", "today"],
        ["make", "model", "--python", "model"],
        ["make", "gone"],
        ["verify", "gone"],
        ["verify", "model/config.json"],
        ["verify", "b.json", "--signature", "x"],
        ["verify", "b.json", "--key", "key.pem"],
        ["gaps", "b.json", "--attestations", "osv"],
        ["gaps", "b.json", "--trusted-root", "x"],
        ["gaps", "b.json", "--vex", "osv"],
        ["gaps", "b.json", "--publisher", "alpha"],
        ["gaps", "b.json", "--lock", "model/config.json"],
        ["gaps", "b.json", "--osv", "osv"],
        ["gaps", "b.json", "--demand", "nothing"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error_and_writes_nothing(here, capsys, command):
    said = Model(
        name="m", digest=f"sha256:{A}", manifest=f"sha256-manifest:{A}", folder=True, files=(), scan=Scan(outcome="clean", format="x")
    )
    (here / "b.json").write_bytes(write_bom(said, None, spec="1.6", timestamp=AT, version="1"))
    before = sorted(str(path) for path in here.rglob("*"))
    assert main(["bom", *command]) == 2
    assert sorted(str(path) for path in here.rglob("*")) == before


def test_names_from_outside_do_not_repaint_the_terminal(here, capsys):
    (here / "model/README.md").write_text('---\nlicense: "\\e[2Jx"\nbase_model: "\\u202eevil"\n---\n')
    assert main(["bom", "make", "model"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out


def test_a_control_plane_is_asked_where_that_was_asked_for(here, vg):
    code, out, _ = vg("bom", "make", "model", "--control")
    assert code == 0 and "2 vouches, of them hold: posture" in out
    document = json.loads((here / "model.cdx.json").read_bytes())
    assert document["declarations"]["claims"][0]["predicate"] == "posture"
    code, out, _ = vg("bom", "verify", "model.cdx.json", "model", "--control")
    assert code == 1 and "missing: vouch posture" in out and "added" not in out


def test_without_a_control_plane_nothing_is_written(here, capsys):
    assert main(["bom", "make", "model", "--control", "--socket", str(here / "no.sock")]) == 3
    assert "not running" in capsys.readouterr().err and not (here / "model.cdx.json").exists()


def test_a_document_of_another_tool_has_no_vouches_to_ask_about(here, vg):
    (here / "b.json").write_text('{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    code, _, err = vg("bom", "verify", "b.json", "--control")
    assert code == 2 and "--control" in err


def test_wheels_bind_what_is_installed_to_its_archive(here, capsys):
    site, own = here / "venv" / SITE, "alpha-1.0.dist-info"
    install(site, "alpha", {"alpha.py": b"x = 1\n", f"{own}/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n"})
    (here / "wheels").mkdir()
    with zipfile.ZipFile(here / "wheels/alpha-1.0-py3-none-any.whl", "w") as archive:
        for path in ("alpha.py", f"{own}/METADATA", f"{own}/WHEEL", f"{own}/RECORD"):
            archive.write(site / path, path)
    code, made = told(capsys, "make", "model", "--python", "venv", "--wheels", "wheels")
    assert code == 0 and not made["faults"]
    assert told(capsys, "gaps", "model.cdx.json")[1]["classes"]["locked"] == 1
    assert told(capsys, "verify", "model.cdx.json", "model", "--python", "venv", "--wheels", "wheels")[0] == 0
    (here / "wheels/alpha-1.0-py3-none-any.whl").write_bytes(b"other")
    code, found = told(capsys, "verify", "model.cdx.json", "--wheels", "wheels")
    assert code == 1 and [(one["kind"], one["what"]) for one in found["differences"]] == [("changed", "wheel")]
    assert main(["bom", "make", "model", "--wheels", "wheels"]) == 0
    assert "it is no zip archive" in capsys.readouterr().out
    assert "not as recorded" in told(capsys, "gaps", "model.cdx.json")[1]["against"][0]

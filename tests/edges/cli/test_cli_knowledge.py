"""The knowledge base on the command line, and an allowance from the key to the scan, under a TrustRoot that delegates the key."""

import hashlib
import json
import shutil
from importlib.resources import files

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from vouchgate.edges.cli import main as cli
from vouchgate.edges.cli.commands import knowledge_allow
from vouchgate.evidence.dsse import spki_of
from vouchgate.evidence.statement import sign_vouch
from vouchgate.evidence.trustroot import sign_trust_root
from vouchgate.flows import initialise
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.names import trust_domain
from vouchgate.vocabulary.trust import PublicKey, key_id
from vouchgate.vocabulary.vouches import Method, Subject, Vouch
from vouchgate.vocabulary.wire import encode
from vouchgate.wiring import clock

DOMAIN, DAY_MS = "acme.example", 86_400_000
ROOT, REVIEWER, SCANNER, STRANGER = (Ed25519PrivateKey.from_private_bytes(letter * 32) for letter in (b"r", b"v", b"s", b"x"))
SHIPPED = files("vouchgate.scanning.knowledge") / "data"


def pickled(module, name):
    """`module.name.__new__(module.name)` with one plain attribute, protocol 2: written by hand, for there is no such class here."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b")\x81}X\x05\x00\x00\x00scaleK\x02sb."


MODEL = pickled("acme.features", "Scaler")
DIGEST = "sha256:" + hashlib.sha256(MODEL).hexdigest()


def public(key, purpose):
    spki = spki_of(key)
    return PublicKey(key_id=key_id(spki), spki=spki, purpose=purpose)


def asked(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def answered(capsys, *arguments):
    code, out, _ = asked(capsys, *arguments, "--json")
    return code, json.loads(out)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vouchgate.toml").write_text(f'trust_domain = "{DOMAIN}"\n')
    for name, key in (("reviewer", REVIEWER), ("stranger", STRANGER)):
        (tmp_path / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "model.pkl").write_bytes(MODEL)
    now = clock().now()
    first = initialise.first_trust_root(
        trust_domain(DOMAIN), root_keys=[public(ROOT, "root")], threshold=1, signer_keys=[public(SCANNER, "scanner")], now=now
    )
    pem = REVIEWER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    second = initialise.next_trust_root(
        first, keys=[public(SCANNER, "scanner")], now=now, producers=[initialise.producer_key("reviewer", pem)]
    )
    signed = sign_trust_root(second, [ROOT])
    (tmp_path / "trust-root.json").write_bytes(encode(signed))
    (tmp_path / "root.txt").write_text(initialise.fingerprint_of(signed))
    return tmp_path


def allow(capsys, *, name="acme.features.Scaler", digest=DIGEST, days=30, key="reviewer.pem", out="allow.json", more=()):
    arguments = (
        "knowledge",
        "allow",
        name,
        "--for",
        digest,
        "--why",
        "it scales columns",
        "--days",
        days,
        "--key",
        key,
        "--out",
        out,
        *more,
    )
    return asked(capsys, *arguments)


def scanned(capsys, place, *allowances, root=""):
    given = [word for one in allowances for word in ("--allow", one)]
    root = root or (place / "root.txt").read_text()
    code, out, err = asked(capsys, "scan", "--json", "model.pkl", *given, "--trust-root", "trust-root.json", "--root", root)
    return code, json.loads(out).get("verdict", ""), out + err


def test_an_allowance_lets_one_class_into_one_artifact(place, capsys):
    assert scanned(capsys, place)[1] == "refused"
    assert allow(capsys)[0] == 0
    assert scanned(capsys, place, "allow.json")[:2] == (0, "clean")
    (place / "model.pkl").write_bytes(MODEL.replace(b"K\x02", b"K\x03"))
    assert scanned(capsys, place, "allow.json")[:2] == (1, "refused")


def test_an_allowance_for_another_digest_or_class_is_as_if_it_were_not_there(place, capsys):
    allow(capsys, digest="sha256:" + "a" * 64)
    allow(capsys, name="acme.features.Other", out="other.json")
    assert scanned(capsys, place, "allow.json", "other.json")[:2] == (1, "refused")


def test_a_key_that_nobody_delegated_allows_nothing(place, capsys):
    allow(capsys, key="stranger.pem")
    code, verdict, said = scanned(capsys, place, "allow.json")
    assert (code, verdict) == (1, "refused") and said.count("vouchgate:") == 1


def test_an_allowance_that_expired_allows_nothing(place, capsys, monkeypatch):
    now = clock().now()
    monkeypatch.setattr("vouchgate.wiring.clock", type("Then", (), {"now": staticmethod(lambda: now - 31 * DAY_MS)}))
    allow(capsys)
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert scanned(capsys, place, "allow.json")[:2] == (1, "refused")


def test_nobody_answers_for_what_the_same_key_signed(place, capsys):
    allow(capsys)
    now = clock().now()
    digest = parse_digest(DIGEST)
    own = Vouch(
        id="", trust_domain=trust_domain(DOMAIN), predicate_type="declaration", predicate_version=1, outcome="pass", issuer_role="importer",
        subjects=(Subject(name=f"vg://{DOMAIN}/artifact/{DIGEST}", digest=digest),), issuer_key=key_id(spki_of(REVIEWER)), issued_at=now, not_before=now,
        expires_at=now + DAY_MS, tier="declared", method=Method(tool="make", version="1"), claims={"statement": "a", "value": "b", "declared_by": "c"},
    )  # fmt: skip
    (place / "build.json").write_bytes(sign_vouch(own, REVIEWER).envelope)
    assert scanned(capsys, place, "allow.json", "build.json")[:2] == (1, "refused")


def test_a_trust_root_of_other_root_keys_is_refused(place, capsys):
    allow(capsys)
    code, verdict, said = scanned(capsys, place, "allow.json", root="0000 " * 15 + "0000")
    assert code != 0 and verdict != "clean" and "fingerprint" in said


def test_allowances_need_a_trust_root(place, capsys):
    allow(capsys)
    assert asked(capsys, "scan", "model.pkl", "--allow", "allow.json")[0] == 2


@pytest.mark.parametrize(
    "given",
    [
        {"days": 91},
        {"days": 0},
        {"name": "os.system"},
        {"name": "Scaler"},
        {"name": "acme.a b"},
        {"key": "none.pem"},
        {"digest": "sha256:abc"},
        {"more": ("--callable", "whatever")},
        {"more": ("--state", "whatever")},
    ],
    ids=str,
)
def test_what_cannot_be_allowed_is_not_signed(place, capsys, given):
    assert allow(capsys, **given)[0] != 0
    assert not (place / "allow.json").exists()


def test_days_are_bounded_in_the_help():
    assert "90" in knowledge_allow.SUMMARY


def test_show_tells_for_what_a_name_is_known_and_who_let_it_in(place, capsys):
    code, answer = answered(capsys, "knowledge", "show", "sklearn.linear_model._logistic.LogisticRegression")
    assert code == 0 and answer["entry"]["uses"] and answer["entry"]["library"] == "scikit-learn"
    code, out, err = asked(capsys, "knowledge", "show", "sklearn.linear_model.LogisticRegression")
    assert code != 0 and "sklearn.linear_model._logistic.LogisticRegression" in out + err
    assert asked(capsys, "knowledge", "show", "os.system")[0] != 0


def test_list_counts_libraries_and_names_one(place, capsys):
    code, answer = answered(capsys, "knowledge", "list")
    names = {one["name"] for one in answer["libraries"]}
    assert code == 0 and {"numpy", "torch"} <= names and not {"shap", "sktime", "hdbscan"} & names
    code, answer = answered(capsys, "knowledge", "list", "--library", "joblib", "--use", "callable")
    assert all(one["library"] == "joblib" and "callable" in one["uses"] for one in answer["entries"])
    assert asked(capsys, "knowledge", "list", "--library", "none")[0] != 0


def test_verify_remembers_the_highest_version_and_refuses_an_older_one(place, capsys):
    assert asked(capsys, "knowledge", "verify", "--seen", "seen")[0] == 0
    assert asked(capsys, "knowledge", "verify", "--seen", "seen")[0] == 0
    (place / "seen").write_text((place / "seen").read_text().replace((place / "seen").read_text().strip(), "999999"))
    assert asked(capsys, "knowledge", "verify", "--seen", "seen")[0] == 1


def test_diff_shows_nothing_between_equals_and_refuses_what_was_changed(place, capsys):
    shutil.copytree(str(SHIPPED), place / "old")
    assert asked(capsys, "knowledge", "diff", "old", "shipped")[0] == 0
    part = place / "old" / "joblib.json"
    part.write_bytes(part.read_bytes().replace(b"inert", b"other"))
    assert asked(capsys, "knowledge", "diff", "old", "shipped")[0] not in (0, 2)
    assert asked(capsys, "knowledge", "diff", "none", "shipped")[0] == 2

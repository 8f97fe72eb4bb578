"""Tokens, against a real SoftHSM2: what leaves them, what a wrong PIN does, and what happens when one is taken out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so")
MODULE = next((path for path in MODULES if Path(path).exists()), "")
UTIL = shutil.which("softhsm2-util")
pytestmark = pytest.mark.skipif(not (MODULE and UTIL), reason="SoftHSM2 is not installed: apt-get install softhsm2")

HEAD = """
import os, shutil, sys, threading, time
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from vouchgate.ports import pkcs11 as port
from vouchgate.ports.pkcs11 import Token
from vouchgate.vocabulary.errors import *
tokens = os.environ["TOKENS"]
refused, asked = [], []
def pin(text="1234"):
    def read():
        asked.append(text)
        return bytearray(text.encode())
    return read
def token(text="1234", label="vg"):
    return Token(os.environ["MODULE"], label, pin(text), refused.append)
def raised(kind, work):
    try:
        work()
    except kind as error:
        return error.reason
    raise AssertionError("nothing was raised")
"""


@pytest.fixture
def box(tmp_path: Path):
    """Runs a script in a process of its own (a module is loaded once in a process) with a token `vg` of its own, PIN 1234."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    config = tmp_path / "softhsm2.conf"

    def configure(mechanisms: str = "ALL") -> None:
        config.write_text(
            f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.mechanisms = {mechanisms}\n"
        )

    configure()
    environment = {"SOFTHSM2_CONF": str(config), "MODULE": MODULE, "TOKENS": str(tokens), "PATH": os.defpath}

    def initialise(label: str = "vg") -> None:
        words = ["--init-token", "--free", "--label", label, "--pin", "1234", "--so-pin", "12345678"]
        subprocess.run([UTIL, *words], env=environment, check=True, capture_output=True)

    initialise()

    def run(script: str) -> str:
        argv = [sys.executable, "-c", HEAD + textwrap.dedent(script)]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()

    run.configure, run.initialise = configure, initialise  # type: ignore[attr-defined]
    return run


def test_what_it_signs_holds_and_nothing_reads_the_key(box):
    box(
        """
        t = token(); t.open()
        assert t.serial and t.can("p256") and t.can("ed25519") and t.can("hmac")
        one, point = t.make("p256", "a")
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        for number in range(64):
            made = t.sign_p256(one, b"x" * number)
            key.verify(made, b"x" * number, ec.ECDSA(hashes.SHA256()))
            assert utils.decode_dss_signature(made)[1] <= port.ORDER // 2
        two, raw = t.make("ed25519", "b")
        Ed25519PublicKey.from_public_bytes(raw).verify(t.sign_ed25519(two, b"hello"), b"hello")
        assert t.sealed(one) and t.sealed(two) and one != two
        import pkcs11
        session = t._session._session
        for found in session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}):
            try:
                found[pkcs11.Attribute.VALUE]
            except pkcs11.AttributeSensitive:
                continue
            raise AssertionError("the token gave out a private key")
        secret = t.make_hmac("c")
        assert t.hmac(secret, b"a") == t.hmac(secret, b"a") != t.hmac(secret, b"b")
        t.destroy(one)
        assert "does not hold" in raised(NotFound, lambda: t.public(one))
        t.destroy(one)
        """
    )


def test_a_key_that_is_brought_in_is_that_key_and_never_comes_out(box):
    box(
        """
        key = ec.generate_private_key(ec.SECP256R1())
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
        t = token(); t.open()
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        one = t.bring("p256", "a", key.private_numbers().private_value.to_bytes(32, "big"), point)
        key.public_key().verify(t.sign_p256(one, b"x"), b"x", ec.ECDSA(hashes.SHA256()))
        assert t.public(one) == point and t.sealed(one)
        """
    )


def test_a_wrong_pin_is_tried_once_and_never_again(box):
    box(
        """
        t = token("9999")
        assert "refused the PIN" in raised(NotPermitted, t.open)
        for _ in range(20):
            raised(NotPermitted, t.open)
            raised((NotPermitted, Unavailable), lambda: t.make("p256", "a"))
        assert asked == ["9999"] and len(refused) == 1
        assert "9999" not in refused[0]
        """
    )


@pytest.mark.parametrize("flags", [0x20000, 0x40000, 0x70000])
def test_a_token_that_is_about_to_lock_itself_is_not_tried(box, flags):
    box(f"assert 'not tried' in raised(NotPermitted, lambda: token()._hold_flags({flags}))\nassert asked == []")


def test_a_pin_that_is_no_text_is_refused_without_a_try(box):
    box(
        """
        t = Token(os.environ["MODULE"], "vg", lambda: bytearray(b"\\xff\\xfe"), refused.append)
        assert "not text" in raised(InvalidInput, t.open)
        assert refused == []
        """
    )


def test_two_tokens_of_one_label_are_told_apart_by_a_person(box):
    box.initialise()
    box("assert '2 tokens' in raised(Conflict, token().open)\nassert asked == []")


@pytest.mark.parametrize(
    ("module", "says"), [("/nonexistent.so", "does not work"), ("/dev/null", "does not work"), (MODULE, "no token `other`")]
)
def test_what_is_no_module_or_no_token_is_unavailable(box, module, says):
    box(f"t = Token({module!r}, 'other', pin(), refused.append)\nassert {says!r} in raised(Unavailable, t.open)\nassert asked == []")


def test_a_token_that_is_taken_out_signs_nothing_and_signs_again_when_it_is_back(box):
    """With the PIN read anew, without one try that the token could count."""
    box(
        """
        t = token(); t.open()
        one, point = t.make("p256", "a")
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        shutil.move(tokens, tokens + ".gone")
        for _ in range(5):
            raised(Unavailable, lambda: t.sign_p256(one, b"x"))
        assert t.trouble
        shutil.move(tokens + ".gone", tokens)
        t._tried_at = -port.REOPEN_SECONDS
        key.verify(t.sign_p256(one, b"x"), b"x", ec.ECDSA(hashes.SHA256()))
        assert t.trouble == "" and refused == []
        """
    )


def test_a_pin_that_changed_while_the_token_was_out_is_tried_once(box):
    box(
        """
        t = token(); t.open()
        one, _ = t.make("p256", "a")
        shutil.move(tokens, tokens + ".gone"); raised(Unavailable, lambda: t.sign_p256(one, b"x")); shutil.move(tokens + ".gone", tokens)
        t._pin = pin("4321")
        for _ in range(5):
            t._tried_at = -port.REOPEN_SECONDS
            raised(NotPermitted, lambda: t.sign_p256(one, b"x"))
        assert asked.count("4321") == 1 and len(refused) == 1
        """
    )


def test_another_token_in_its_place_does_not_sign(box):
    box(
        """
        t = token(); t.open()
        one, _ = t.make("p256", "a")
        shutil.rmtree(tokens); os.mkdir(tokens)
        os.system("softhsm2-util --init-token --free --label vg --pin 1234 --so-pin 12345678 > /dev/null")
        t._tried_at = -port.REOPEN_SECONDS
        raised((NotFound, Unavailable), lambda: t.sign_p256(one, b"x"))
        """
    )


def test_many_threads_sign_at_once_and_through_a_loss(box):
    box(
        """
        t = token(); t.open()
        one, point = t.make("p256", "a")
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        wrong, right, lost = [], [], []
        stop = threading.Event()
        def work():
            while not stop.is_set():
                try:
                    key.verify(t.sign_p256(one, b"x"), b"x", ec.ECDSA(hashes.SHA256()))
                    right.append(1)
                except (Unavailable, NotFound):
                    lost.append(1)
                except BaseException as error:
                    wrong.append(repr(error))
                    return
        threads = [threading.Thread(target=work) for _ in range(12)]
        [one.start() for one in threads]
        while len(right) < 200: time.sleep(0.01)
        shutil.move(tokens, tokens + ".gone")
        while not lost: time.sleep(0.01)
        shutil.move(tokens + ".gone", tokens)
        before = len(right)
        end = time.monotonic() + 20
        while len(right) < before + 200 and time.monotonic() < end: time.sleep(0.01)
        stop.set(); [one.join() for one in threads]
        assert not wrong, wrong
        assert len(right) >= before + 200
        assert asked.count("1234") <= 22
        """
    )


def test_a_token_without_ed25519_says_so(box):
    box.configure("-CKM_EDDSA,CKM_EC_EDWARDS_KEY_PAIR_GEN")
    box(
        """
        t = token(); t.open()
        assert t.can("p256") and not t.can("ed25519") and t.can("hmac")
        assert "no ed25519" in raised(Unsupported, lambda: t.make("ed25519", "a"))
        """
    )


def test_nothing_of_the_pin_is_in_what_is_said(box):
    said = box(
        """
        t = token("24681357")
        print(repr(t), raised(NotPermitted, t.open), refused, t.trouble)
        """
    )
    assert "24681357" not in said

"""The command line about keys, as docs/keys.md tells it: made under a passphrase, moved, passphrase changed, into a token and out, typed at a
terminal. Nothing is started but the signer."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from vouchgate.edges.processes.credentials import open_credential, typed_new
from vouchgate.edges.processes.signer_secret import read_secret
from vouchgate.vocabulary.errors import InvalidInput, NotFound, NotPermitted

MODULE = next((path for path in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so") if Path(path).exists()), "")
UTIL = shutil.which("softhsm2-util")
PASSPHRASE, OTHER, PIN = "plover Anvil misty 0451", "another set of six words", "90210-Kestrel"
VOUCHGATE = (sys.executable, "-m", "vouchgate.edges.cli.main")


class Home:
    """A settings file and what it names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name, secret in (("pass", PASSPHRASE), ("other", OTHER), ("pin", PIN)):
            (path / name).write_text(secret + "\n")
            (path / name).chmod(0o600)

    def settings(self, **keys: object) -> None:
        lines = ['trust_domain = "example.local"', 'data_dir = "data"', 'root_dir = "root"', "solo = true", "[keys]"]
        lines += [f"{name} = {json.dumps(value) if not isinstance(value, dict) else _table(value)}" for name, value in keys.items()]
        (self.path / "vouchgate.toml").write_text("\n".join(lines) + "\n")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [*VOUCHGATE, *words]
        return subprocess.run(
            argv, cwd=self.path, capture_output=True, text=True, timeout=60, check=False, start_new_session=True, stdin=subprocess.DEVNULL
        )

    def good(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def suffixes(self) -> set[str]:
        return {path.suffix for path in (self.path / "data/signer/keys").iterdir()} - {".crt", ".json"}

    def doctor(self) -> dict[str, str]:
        return next(check for check in json.loads(self.run("doctor", "--json").stdout) if check["name"] == "keys")


def _table(values: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in values.items()) + "}"


@pytest.fixture
def home():
    path = Path(tempfile.mkdtemp(prefix="vg"))
    path.chmod(0o711)
    yield Home(path)
    shutil.rmtree(path)


def test_from_files_to_a_passphrase_to_another_to_a_token_and_out(home):
    home.settings(place="file")
    home.good("init")
    root = next((home.path / "root").glob("*.pem"))
    assert home.doctor()["state"] == "ok"
    home.settings(place="passphrase", passphrase_file="pass")
    assert home.doctor() | {"remedy": ""} == {
        "name": "keys", "state": "failed", "detail": "they lie in place `file`, the settings say `passphrase`", "remedy": "",
    }  # fmt: skip
    assert home.run("admin", "renew-ca").returncode != 0
    home.good("admin", "move-keys")
    assert home.suffixes() == {".sealed"}
    assert home.doctor()["state"] == "ok"
    home.good("admin", "renew-trust", "--root-key", str(root))
    home.good("admin", "change-passphrase", "--old-passphrase-file", "pass", "--new-passphrase-file", "other")
    refused = home.run("admin", "renew-ca")
    assert refused.returncode != 0
    home.settings(place="passphrase", passphrase_file="other")
    if MODULE and UTIL:
        _into_a_token_and_out(home, root)
    log = (home.path / "data/logs/signer.jsonl").read_text()
    for secret in (PASSPHRASE, OTHER, PIN):
        assert secret not in log + refused.stdout + refused.stderr


def _into_a_token_and_out(home: Home, root: Path) -> None:
    tokens = home.path / "tokens"
    tokens.mkdir()
    config = home.path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    words = [str(UTIL), "--init-token", "--free", "--label", "vg", "--pin", PIN, "--so-pin", "12345678"]
    subprocess.run(words, env={"SOFTHSM2_CONF": str(config), "PATH": os.defpath}, check=True, capture_output=True)
    if os.geteuid() == 0:
        # the token belongs to the signer, which runs as uid_base + 1
        for path in (tokens, *tokens.rglob("*")):
            os.chown(path, 58001, 58001)
    home.settings(place="pkcs11", module=MODULE, token="vg", pin_file="pin", module_environment={"SOFTHSM2_CONF": str(config)})
    home.good("admin", "move-keys", "--old-passphrase-file", "other")
    assert home.suffixes() == {".token"}
    assert home.doctor()["detail"].startswith("in the token `vg`")
    (home.path / "pin").write_text("0000\n")
    assert home.run("admin", "renew-ca").returncode != 0
    (home.path / "pin").write_text(PIN)
    assert home.run("admin", "renew-ca").returncode != 0
    assert "try-pin" in home.doctor()["remedy"]
    home.good("admin", "try-pin")
    home.good("admin", "renew-ca")
    home.settings(place="file")
    assert home.run("admin", "move-keys").returncode != 0
    assert home.suffixes() == {".token"}
    home.good("admin", "move-keys", "--generate")
    assert home.suffixes() == {".key"}
    home.good("admin", "renew-trust", "--root-key", str(root))


def typed_at_a_terminal(home: Home, *answers: str, words: tuple[str, ...]) -> tuple[int, str]:
    """(exit code, everything that the terminal showed)."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home.path)
        os.execv(sys.executable, [*VOUCHGATE, *words])
    shown, left, end = "", list(answers), time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                part = os.read(terminal, 4096).decode()
            except OSError:
                break
            shown += part
            if part.rstrip(" ").endswith(":") and left:
                os.write(terminal, left.pop(0).encode() + b"\n")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(terminal)
    return code, shown


def test_a_passphrase_is_typed_twice_shown_never_and_tried_three_times(home):
    home.settings(place="passphrase")
    assert home.run("init").returncode == 1
    code, shown = typed_at_a_terminal(home, PASSPHRASE, PASSPHRASE + "x", words=("init",))
    assert code == 2
    assert "not the same" in shown
    code, shown = typed_at_a_terminal(home, PASSPHRASE, PASSPHRASE, words=("init",))
    assert code == 0, shown
    assert PASSPHRASE not in shown
    assert home.suffixes() == {".sealed"}
    code, shown = typed_at_a_terminal(home, *["wrong words"] * 6, words=("admin", "renew-ca"))
    assert code == 1
    assert "3 tries" in shown
    assert shown.count("passphrase of the signer's keys:") == 3
    assert "wrong words" not in shown


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o602])
def test_a_credential_that_others_may_read_is_refused(tmp_path, mode):
    path = tmp_path / "secret"
    path.write_bytes(b"plover anvil misty")
    path.chmod(mode)
    if mode == 0o640 and os.geteuid() == 0:
        os.chown(path, 0, 1000)
    with pytest.raises(NotPermitted, match="others may read"):
        open_credential(path)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: None, NotFound),
        (lambda path: path.mkdir(), NotPermitted),
        (lambda path: os.mkfifo(path, 0o600), NotPermitted),
        (lambda path: path.symlink_to("/etc/hostname"), NotPermitted),
        (lambda path: path.touch(0o600), InvalidInput),
        (lambda path: (path.write_bytes(b"x" * 2000), path.chmod(0o600)), InvalidInput),
    ],
)
def test_what_is_no_credential_is_refused(tmp_path, make, kind):
    make(tmp_path / "secret")
    with pytest.raises(kind):
        open_credential(tmp_path / "secret")


def test_a_credential_of_systemd_is_read_as_often_as_needed(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"plover anvil misty\r\n")
    path.chmod(0o400)
    descriptor = open_credential(path)
    assert [bytes(read_secret(descriptor)) for _ in range(3)] == [b"plover anvil misty"] * 3
    os.close(descriptor)


def test_what_was_typed_is_overwritten(monkeypatch):
    from vouchgate.edges.processes import credentials

    monkeypatch.setattr(credentials, "withhold_memory", lambda: None)
    typed = [bytearray(PASSPHRASE.encode()), bytearray(PASSPHRASE.encode())]
    answers = iter(typed)
    descriptor = typed_new(lambda prompt: next(answers), "?")
    assert os.pread(descriptor, 100, 0).decode() == PASSPHRASE
    with pytest.raises(OSError):
        os.write(descriptor, b"x")
    os.close(descriptor)
    assert all(set(one) == {0} for one in typed)


def test_the_page_names_commands_and_settings_that_exist():
    import re

    from vouchgate.edges.cli.main import NOUNS
    from vouchgate.vocabulary.settings_keys import KeySettings

    page = (Path(__file__).parents[3] / "docs" / "keys.md").read_text()
    for command in re.findall(r"vouchgate admin ([a-z-]+)", page):
        assert command in NOUNS["admin"]
    for block in re.findall(r"```toml\n(.*?)```", page, re.S):
        for name in re.findall(r"^\s*([a-z_]+) =", block, re.M):
            assert name in KeySettings.__struct_fields__
    for place in ("file", "passphrase", "keyring", "pkcs11"):
        assert f"| `{place}`" in page

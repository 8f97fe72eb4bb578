"""The kernel's keyring itself: what outlives a process, what another uid gets, and a session keyring of one's own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vouchgate.ports import kernel_keyring
from vouchgate.vocabulary.errors import InvalidInput, Unavailable

NAME = f"vouchgate:test:{os.getpid()}"
SECRET = bytes(range(1, 33))
OTHER = 58_911


@pytest.fixture(autouse=True)
def clean():
    try:
        kernel_keyring.forget(NAME)
    except Unavailable as error:
        pytest.skip(f"the kernel's keyring is not to be had here: {error.reason}")
    yield
    kernel_keyring.forget(NAME)


def elsewhere(script: str) -> str:
    head = f"from vouchgate.ports import kernel_keyring as ring\nname = {NAME!r}\n"
    done = subprocess.run([sys.executable, "-c", head + script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_one_process_remembers_another_recalls_and_one_forgets_for_all():
    assert kernel_keyring.recall(NAME) is None
    elsewhere(f"ring.remember(name, {SECRET!r})")
    assert kernel_keyring.recall(NAME) == SECRET
    assert elsewhere("print(ring.recall(name).hex())") == SECRET.hex()
    kernel_keyring.remember(NAME, b"another")
    assert kernel_keyring.recall(NAME) == b"another"
    elsewhere("ring.forget(name); ring.forget(name)")
    assert kernel_keyring.recall(NAME) is None


def test_a_service_with_a_session_keyring_of_its_own_recalls_it_too():
    """systemd gives each service one (KeyringMode=private), which possesses nothing of the user's."""
    kernel_keyring.remember(NAME, SECRET)
    assert elsewhere("ring._keyctl(1, None)\nprint(ring.recall(name).hex())") == SECRET.hex()


@pytest.mark.skipif(os.geteuid() != 0, reason="another uid needs root")
def test_another_uid_recalls_nothing_even_of_the_session_it_was_started_in():
    kernel_keyring.remember(NAME, SECRET)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(OTHER)
        os.setuid(OTHER)
        try:
            found = kernel_keyring.recall(NAME)
            said = "nothing" if found is None else found.hex()
            kernel_keyring.remember(NAME, b"its own")
            said += " " + bytes(kernel_keyring.recall(NAME) or b"none").decode()
            kernel_keyring.forget(NAME)
        except BaseException as error:
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        assert stream.read() == "nothing its own"
    os.waitpid(child, 0)
    assert kernel_keyring.recall(NAME) == SECRET


@pytest.mark.parametrize("secret", [b"", b"x" * 1025])
def test_what_is_no_secret_is_not_kept(secret):
    with pytest.raises(InvalidInput):
        kernel_keyring.remember(NAME, secret)
    assert kernel_keyring.recall(NAME) is None


def test_a_machine_whose_calls_are_not_known_says_so(monkeypatch):
    monkeypatch.setattr(kernel_keyring.platform, "machine", lambda: "vax")
    with pytest.raises(Unavailable, match="vax"):
        kernel_keyring.recall(NAME)
    monkeypatch.undo()

"""Secrets show nowhere, and nobody reaches a process around the gateway."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from installation import CHAT_PATH, Caller, Installation

from vouchgate.vocabulary.frames import frame

STRANGER = 58_990
MARK = "mArKeD-sEcReT-"


@pytest.fixture(scope="module")
def planted(house: Installation, alice: Caller) -> list[bytes]:
    """Secrets that were really used, in every place that takes one, and refused ones; then everything is at rest."""
    token, forged = house.token("alice"), f"{MARK}a.{MARK}b.{MARK}c"
    house.bearer(token)
    house.bearer(forged)
    house.infer(alice, headers={"authorization": f"Bearer {token}", "cookie": f"vg={MARK}cookie"})
    house.infer(alice, headers={"authorization": f"Basic {MARK}basic", "x-api-key": f"{MARK}key", "proxy-authorization": f"{MARK}proxy"})
    house.call(alice, CHAT_PATH, body=json.dumps({"model": "tiny-2", "messages": [{"content": f"{MARK}prompt"}]}).encode())
    house.call(alice, CHAT_PATH, body=json.dumps({"model": "tiny-1", "messages": [{"role": "user", "content": f"{MARK}prompt"}]}).encode())
    code = json.loads(house.cli("admin", "login", "--json").stdout or "{}").get("code", "")
    assert code, house.cli("admin", "login", "--json")
    assert house.cli("admin", "claim", f"{MARK}bootstrap").returncode != 0
    keys = [path.read_text() for path in house.folder.glob("*.key")]
    private = [path.read_bytes() for path in (house.layout.signer / "keys").glob("*.key")]
    private.append((house.layout.witness / "witness.key").read_bytes())
    time.sleep(1.5)
    signature = token.rpartition(".")[2]
    found = [MARK.encode(), token.encode(), signature.encode(), code.encode()]
    found += [line.encode() for key in keys for line in key.splitlines()[1:-1] if len(line) > 20]
    for key in private:
        found += [key, key[-32:], key[-32:].hex().encode()]
    root = next((house.folder / "r").glob("*.pem")).read_text()
    return found + [line.encode() for line in root.splitlines()[1:-1]]


def texts(house: Installation) -> Iterator[tuple[str, bytes]]:
    """Everything that is written or shown outside the key folders."""
    for path in sorted(house.data.rglob("*")):
        if path.is_file() and "keys" not in path.parts and path.name != "witness.key":
            yield str(path.relative_to(house.data)), path.read_bytes()
    yield "the terminal", house.output.read_bytes()
    for pid in [house.process.pid, *house.pids()]:  # type: ignore[union-attr]
        yield f"argv of {pid}", Path(f"/proc/{pid}/cmdline").read_bytes()
        yield f"environment of {pid}", Path(f"/proc/{pid}/environ").read_bytes()
    entries = house.entries()
    yield "the audit log", json.dumps([entry.body for entry in entries], default=str).encode()
    for arguments in (
        ("status",),
        ("why", "alice", "infer", "digits"),
        ("audit", "show"),
        ("identity", "list"),
        ("doctor",),
        ("evidence", "show", "digits"),
    ):
        done = house.cli(*arguments)
        yield " ".join(arguments), (done.stdout + done.stderr).encode()


def test_no_planted_secret_is_in_any_file_argument_environment_entry_or_answer(house: Installation, planted: list[bytes]) -> None:
    seen = 0
    for where, text in texts(house):
        seen += len(text)
        for secret in planted:
            assert secret not in text, f"{secret[:12]!r}... is in {where}: {text[max(0, text.find(secret) - 60) :][:120]!r}"
    assert seen > 100_000


def test_the_search_would_find_a_secret(house: Installation, planted: list[bytes], alice: Caller) -> None:
    house.call(alice, f"/{MARK}path")
    time.sleep(0.5)
    assert any(planted[0] in text for _, text in texts(house))


def test_the_store_holds_no_private_key(house: Installation, planted: list[bytes]) -> None:
    with sqlite3.connect(f"file:{house.layout.store}?mode=ro", uri=True) as db:
        dump = "\n".join(db.iterdump()).encode()
    assert not [secret[:8] for secret in planted if secret in dump or secret.hex().encode() in dump]
    assert b"PRIVATE KEY" not in dump


# --- around the gateway -----------------------------------------------------------------------------------------------------------


def as_stranger(act: Callable[[], None], uid: int = STRANGER) -> bool:
    """Whether `act` went through for another uid."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def http(path: Path, text: bytes = b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n") -> Callable[[], None]:
    def act() -> None:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(3)
            link.connect(str(path))
            link.sendall(text)
            answer = link.recv(4096)
            # a refusal in the server's own words is a refusal
            if not answer or (re.match(rb"HTTP/1.1 (401|403)", answer) and b"malformed-check" not in answer):
                raise PermissionError

    return act


def frames(path: Path, method: str) -> Callable[[], None]:
    def act() -> None:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(3)
            link.connect(str(path))
            link.sendall(frame((1, method, {})))
            answer = link.recv(4096)
            if not answer or b"not-permitted" in answer or b"not_permitted" in answer or b"may not" in answer:
                raise PermissionError

    return act


H2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def doors(house: Installation) -> dict[str, Callable[[], None]]:
    layout = house.layout
    return {
        "model": http(layout.upstream_socket("digits")),
        "chat": http(layout.upstream_socket("chat")),
        "ext_authz": http(layout.ext_authz_socket),
        "admin": http(layout.admin_socket, b"GET /config_dump HTTP/1.1\r\nhost: a\r\n\r\n"),
        "ads": http(layout.ads_socket, H2),
        "pdp": frames(layout.pdp_socket, "hello"),
        "signer": frames(layout.signer_socket, "public_keys"),
        "signer key": lambda: (layout.signer / "keys" / "log.key").read_bytes() and None,
        "control": frames(layout.control_socket, "offset"),
        "supervisor": frames(layout.supervisor_socket, "processes"),
        "witness": frames(layout.witness_socket, "latest"),
        "store": lambda: layout.store.read_bytes() and None,
        "access log": lambda: layout.access_log.read_bytes() and None,
        "root key": lambda: next((house.folder / "r").iterdir()).read_bytes() and None,
    }


DOORS = (
    "model",
    "chat",
    "ext_authz",
    "admin",
    "ads",
    "pdp",
    "signer",
    "signer key",
    "control",
    "supervisor",
    "witness",
    "store",
    "access log",
    "root key",
)
OWNERS = {"model": "gateway", "ext_authz": "gateway", "admin": "gateway", "ads": "gateway", "pdp": "control", "signer": "control",
          "signer key": "signer", "control": "tailer", "supervisor": "control", "witness": "control", "store": "control",
          "access log": "tailer"}  # fmt: skip
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another uid")


@needs_root
@pytest.mark.parametrize("door", DOORS)
def test_another_uid_is_refused_at(house: Installation, alice: Caller, door: str) -> None:
    house.folder.chmod(0o711)  # not the folder around the installation shall refuse, but each door itself
    assert not as_stranger(doors(house)[door])


@needs_root
@pytest.mark.parametrize("door", OWNERS)
def test_whoever_owns_a_door_passes_it(house: Installation, alice: Caller, door: str) -> None:
    house.folder.chmod(0o711)
    offsets = {"signer": 1, "control": 2, "pdp": 3, "gateway": 4, "tailer": 5}
    if door == "signer key":
        assert as_stranger(doors(house)[door], 58_000 + offsets["signer"])
    else:
        assert as_stranger(doors(house)[door], 58_000 + offsets[OWNERS[door]])


@needs_root
@pytest.mark.parametrize("who", [2, 3, 4, 5, 7, 10, 11])
def test_no_other_process_of_the_tree_reads_the_signers_keys_or_memory(house: Installation, alice: Caller, who: int) -> None:
    house.folder.chmod(0o711)
    assert not as_stranger(doors(house)["signer key"], 58_000 + who)
    pid = house.processes()["signer"]
    assert not as_stranger(lambda: Path(f"/proc/{pid}/mem").open("rb").close(), 58_000 + who)


@needs_root
def test_a_strangers_administrative_acts_are_refused_and_recorded(house: Installation, alice: Caller) -> None:
    house.folder.chmod(0o711)
    body = json.dumps({"kind": "principal", "target": alice.principal, "reason": "x"}).encode()
    text = b"POST /api/v1/revoke HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    before = house.status().log_size
    assert not as_stranger(http(house.layout.api_socket, text + body))
    assert house.infer(alice).status == 200
    said = json.dumps([entry.body for entry in house.entries(before)], default=str)
    assert str(STRANGER) in said

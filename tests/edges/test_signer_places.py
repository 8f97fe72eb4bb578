"""Where the signer's keys lie: passphrase, kernel's keyring and token; wrong secrets, spoiled files, and a move that is cut off at any step."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.edges.processes import signer_place, signer_sealed
from vouchgate.edges.processes.signer_folder import Folder
from vouchgate.edges.processes.signer_keys import EC_NAMES, ED25519_NAMES, Files
from vouchgate.edges.processes.signer_place import Access, Places, spki_of
from vouchgate.edges.processes.signer_secret import Cost, WrongSecret, check_new, derive, read_secret
from vouchgate.edges.processes.signer_token import TokenEc, TokenEd25519
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotPermitted, StoreDamaged, Unavailable, Unsupported, VouchgateError
from vouchgate.vocabulary.vouches import UnixMillis

TD = "test.local"
NOW = UnixMillis(1_790_000_000_000)
RIGHT, OTHER = b"correct horse battery staple\n", b"quite another passphrase"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """scrypt costs half a second; what it makes is tested below, once."""

    def quick(passphrase: bytearray, salt: bytes, cost: Cost) -> bytearray:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(bytes(passphrase) + salt)
        return bytearray(digest.finalize())

    monkeypatch.setattr(signer_place, "derive", quick)


@pytest.fixture
def handed():
    """Makes descriptors that hold a secret."""
    made: list[int] = []

    def hand(secret: bytes) -> int:
        made.append(os.memfd_create("secret"))
        os.write(made[-1], secret)
        return made[-1]

    yield hand
    for descriptor in made:
        os.close(descriptor)


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="vg"))
    yield path
    shutil.rmtree(path)


def places(folder: Path) -> Places:
    files = Files(folder)
    files.before(TD)
    return Places(files.folder, files.keys, TD)


def opened(folder: Path, access: Access, **more) -> dict[str, bytes]:
    """Public keys by name, of a signer's start."""
    files = Files(folder)
    where = places(folder)
    store = where.open(access, first=files.first)
    remake = where.remaking()
    keys, _ = files.open(TD, NOW, store=store, remake=remake, renew_ca=remake, **more)
    where.made(store)
    return {"x509-ca": spki_of(keys.ca), "jwt": spki_of(keys.jwt), **{name: spki_of(key) for name, key in keys.ed25519.items()}}


def suffixes(folder: Path) -> set[str]:
    return {path.suffix for path in (folder / "keys").iterdir() if path.suffix not in (".json", ".crt")}


FILE = Access("file")


# --- passphrase


def test_keys_under_a_passphrase_are_the_same_keys_at_each_start(folder, handed):
    access = Access("encrypted", handed(RIGHT))
    first = opened(folder, access)
    assert opened(folder, access) == first
    assert opened(folder, Access("encrypted", handed(RIGHT.strip()))) == first
    assert set(first) == {*EC_NAMES, *ED25519_NAMES}
    assert suffixes(folder) == {".sealed"}
    for path in (folder / "keys").iterdir():
        assert path.stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("secret", [OTHER, b"Correct horse battery staple", b"correct horse battery stapl", RIGHT * 2, b" " + RIGHT])
def test_a_wrong_passphrase_opens_nothing_and_changes_nothing(folder, handed, secret):
    opened(folder, Access("encrypted", handed(RIGHT)))
    before = {path.name: path.read_bytes() for path in (folder / "keys").iterdir()}
    with pytest.raises(WrongSecret) as caught:
        opened(folder, Access("encrypted", handed(secret)))
    assert secret.strip().decode() not in caught.value.reason + caught.value.remedy
    assert {path.name: path.read_bytes() for path in (folder / "keys").iterdir()} == before


@pytest.mark.parametrize("secret", [b"", b"\n", b"x" * 1025, b"\r\n"])
def test_what_is_no_secret_is_refused(folder, handed, secret):
    with pytest.raises(InvalidInput):
        read_secret(handed(secret))
    with pytest.raises(InvalidInput):
        opened(folder, Access("encrypted", handed(secret)))


@pytest.mark.parametrize("secret", [b"short", b"aaaaaaaaaaaaaaaaaaaa", b"abababababababab", b"12345678901"])
def test_a_new_passphrase_that_can_be_guessed_is_refused(folder, handed, secret):
    with pytest.raises(InvalidInput, match="shorter"):
        check_new(bytearray(secret))
    with pytest.raises(InvalidInput):
        opened(folder, Access("encrypted", handed(secret)))
    assert not (folder / "keys" / "seal.json").exists()


def test_no_passphrase_at_all(folder, handed):
    opened(folder, Access("encrypted", handed(RIGHT)))
    with pytest.raises(WrongSecret, match="handed down"):
        opened(folder, Access("encrypted"))
    with pytest.raises(InvalidInput):
        opened(folder, Access("encrypted", 999))


def test_scrypt_is_what_it_says_and_its_parameters_are_held():
    """RFC 7914 by another implementation; a changed seal makes guessing neither cheap nor ruinous."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    made = derive(bytearray(RIGHT), b"s" * 32, Cost())
    assert bytes(made) == Scrypt(salt=b"s" * 32, length=32, n=2**17, r=8, p=1).derive(RIGHT)
    for cost in (Cost(n=2**16), Cost(n=2**21), Cost(n=2**17 + 1), Cost(r=1), Cost(p=2), Cost(n=0), Cost(n=-(2**17))):
        with pytest.raises(InvalidInput, match="scrypt"):
            derive(bytearray(RIGHT), b"s" * 32, cost)


def test_every_byte_of_a_sealed_key_and_of_the_seal_counts(folder, handed):
    access = Access("encrypted", handed(RIGHT))
    opened(folder, access)
    for name in ("log.sealed", "seal.json"):
        path = folder / "keys" / name
        whole = path.read_bytes()
        for place in range(0, len(whole), 3):
            spoiled = bytearray(whole)
            spoiled[place] ^= 0x01
            path.write_bytes(spoiled)
            with pytest.raises((StoreDamaged, WrongSecret, InvalidInput)):
                opened(folder, access)
        for cut in (0, 1, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:cut])
            with pytest.raises(StoreDamaged):
                opened(folder, access)
        path.write_bytes(whole)
    opened(folder, access)


def test_a_sealed_key_stands_for_no_other(folder, handed):
    access = Access("encrypted", handed(RIGHT))
    opened(folder, access)
    keys = folder / "keys"
    for one, other in (("log", "policy"), ("x509-ca", "jwt"), ("jwt", "log")):
        whole = (keys / f"{one}.sealed").read_bytes()
        (keys / f"{one}.sealed").write_bytes((keys / f"{other}.sealed").read_bytes())
        with pytest.raises(StoreDamaged, match="does not open"):
            opened(folder, access)
        (keys / f"{one}.sealed").write_bytes(whole)


def test_a_seal_of_another_trust_domain_does_not_open(folder, handed):
    opened(folder, Access("encrypted", handed(RIGHT)))
    seal = signer_sealed.read_seal(Folder(folder / "keys"))
    with pytest.raises(WrongSecret):
        signer_sealed.master_of("other.local", seal, lambda one: signer_place.derive(bytearray(RIGHT.strip()), one.salt, one.cost))


@pytest.mark.parametrize("name", ["log.sealed", "seal.json", "place.json"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.chmod(0o640),
        lambda path: (path.rename(path.parent.parent / "moved"), path.symlink_to(path.parent.parent / "moved")),
        lambda path: os.link(path, path.parent.parent / "copy"),
        lambda path: (path.unlink(), os.mkfifo(path, 0o600)),
        lambda path: path.write_bytes(b"x" * 70_000),
        lambda path: path.write_bytes(b"\xff" * 40),
        lambda path: path.write_bytes(b'{"version":2}'),
    ],
)
def test_files_that_are_not_as_they_must_be_stop_it(folder, handed, name, spoil):
    access = Access("encrypted", handed(RIGHT))
    opened(folder, access)
    spoil(folder / "keys" / name)
    with pytest.raises((StoreDamaged, NotPermitted)):
        opened(folder, access)


def test_a_key_is_replaced_and_the_ca_renewed_under_a_passphrase(folder, handed):
    access = Access("encrypted", handed(RIGHT))
    before = opened(folder, access)
    after = opened(folder, access, replace=["log", "x509-ca"])
    assert {name for name in before if before[name] != after[name]} == {"log", "x509-ca"}
    assert opened(folder, access) == after


# --- changing the passphrase


def test_after_a_change_the_old_passphrase_opens_nothing(folder, handed):
    old, new = Access("encrypted", handed(RIGHT)), Access("encrypted", handed(OTHER))
    before = opened(folder, old)
    places(folder).change_passphrase(old, new)
    assert opened(folder, new) == before
    with pytest.raises(WrongSecret):
        opened(folder, old)
    with pytest.raises(WrongSecret):
        places(folder).change_passphrase(old, new)
    with pytest.raises(InvalidInput):
        places(folder).change_passphrase(new, Access("encrypted", handed(b"short")))
    assert opened(folder, new) == before


def test_plain_keys_have_no_passphrase_to_change(folder, handed):
    opened(folder, FILE)
    with pytest.raises(Conflict):
        places(folder).change_passphrase(Access("encrypted", handed(RIGHT)), Access("encrypted", handed(OTHER)))


# --- moving


def test_keys_are_moved_whole_and_back(folder, handed):
    sealed = Access("encrypted", handed(RIGHT))
    before = opened(folder, FILE)
    places(folder).move(FILE, sealed, generate=False)
    assert suffixes(folder) == {".sealed"}
    assert opened(folder, sealed) == before
    with pytest.raises(Conflict, match="lie in place `encrypted`") as caught:
        opened(folder, FILE)
    assert "move-keys" in caught.value.remedy
    places(folder).move(sealed, FILE, generate=False)
    assert suffixes(folder) == {".key"}
    assert not (folder / "keys" / "seal.json").exists()
    assert opened(folder, FILE) == before


def test_settings_alone_move_nothing(folder, handed):
    before = opened(folder, FILE)
    with pytest.raises(Conflict, match="lie in place `file`"):
        opened(folder, Access("encrypted", handed(RIGHT)))
    assert opened(folder, FILE) == before


def test_a_move_to_where_they_lie_or_of_nothing_is_refused(folder, handed):
    with pytest.raises(Conflict, match="no keys"):
        places(folder).move(FILE, Access("encrypted", handed(RIGHT)), generate=False)
    opened(folder, FILE)
    with pytest.raises(InvalidInput, match="already"):
        places(folder).move(FILE, FILE, generate=False)


def test_a_move_with_the_wrong_passphrase_moves_nothing(folder, handed):
    right = Access("encrypted", handed(RIGHT))
    before = opened(folder, right)
    with pytest.raises(WrongSecret):
        places(folder).move(Access("encrypted", handed(OTHER)), FILE, generate=False)
    assert opened(folder, right) == before
    assert suffixes(folder) == {".sealed"}


@pytest.mark.parametrize("name", ["log.key", "extra.key", "jwt.token", "x.tsealed"])
def test_a_key_that_lies_beside_the_place_stops_it(folder, handed, name):
    """A plain copy beside encrypted keys protects nothing; a person must look."""
    access = Access("encrypted", handed(RIGHT))
    opened(folder, access)
    (folder / "keys" / name).write_bytes(b"x")
    (folder / "keys" / name).chmod(0o600)
    with pytest.raises(NotPermitted, match="does not belong"):
        opened(folder, access)


class Cut(Exception):
    """As kill -9."""


def cut_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Every write, erase and rename of a folder counts; the process dies at the given one, with a half-written file beside."""
    left = [steps]

    def counted(kind: str, real):
        def step(self, name, *arguments):
            if left[0] == 0:
                if kind == "write":
                    (self.path / f".{name}.new").write_bytes(b"half")
                raise Cut
            left[0] -= 1
            return real(self, name, *arguments)

        return step

    monkeypatch.setattr(Folder, "write", counted("write", Folder.write))
    monkeypatch.setattr(Folder, "erase", counted("erase", Folder.erase))


@pytest.mark.parametrize("back", [False, True])
def test_a_move_that_is_cut_off_anywhere_leaves_one_place_with_all_keys(folder, handed, back):
    sealed = Access("encrypted", handed(RIGHT))
    source, target = (sealed, FILE) if back else (FILE, sealed)
    before = opened(folder, source)
    ended: set[str] = set()
    for steps in range(60):
        with pytest.MonkeyPatch.context() as patch:
            cut_after(patch, steps)
            try:
                places(folder).move(source, target, generate=False)
                done = True
            except Cut:
                done = False
        lies = places(folder).lies()
        ended.add(str(lies))
        now = source if lies == source.place else target
        assert opened(folder, now) == before, steps
        assert suffixes(folder) == {".sealed" if now.place == "encrypted" else ".key"}
        assert not any(path.name.startswith(".") and path.suffix == ".new" for path in (folder / "keys").glob(".*.key.new"))
        if now is target:
            places(folder).move(target, source, generate=False)
        if done:
            break
    assert done
    assert ended == {"file", "encrypted"}


def test_a_change_of_passphrase_that_is_cut_off_leaves_the_old_or_the_new(folder, handed):
    old, new = Access("encrypted", handed(RIGHT)), Access("encrypted", handed(OTHER))
    before = opened(folder, old)
    for steps in (0, 1):
        with pytest.MonkeyPatch.context() as patch:
            cut_after(patch, steps)
            with contextlib.suppress(Cut):
                places(folder).change_passphrase(old, new)
        assert opened(folder, new if steps else old) == before


@pytest.mark.parametrize("steps", range(0, 40, 3))
def test_new_keys_in_the_new_place_are_all_made_whenever_it_is_cut_off(folder, handed, steps):
    sealed = Access("encrypted", handed(RIGHT))
    before = opened(folder, FILE)

    def generate() -> None:
        store = places(folder).move(FILE, sealed, generate=True)
        Files(folder).open(TD, NOW, store=store, remake=True, renew_ca=True)
        places(folder).made(store)

    with pytest.MonkeyPatch.context() as patch:
        cut_after(patch, steps)
        with contextlib.suppress(Cut):
            generate()
    if places(folder).lies() == "file":
        assert opened(folder, FILE) == before
        return
    after = opened(folder, sealed)
    assert not set(after.values()) & set(before.values())
    assert suffixes(folder) == {".sealed"}
    assert opened(folder, sealed) == after


def test_a_full_disk_leaves_the_keys_where_they_were(folder, handed, monkeypatch):
    before = opened(folder, FILE)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="No space"):
            places(folder).move(FILE, Access("encrypted", handed(RIGHT)), generate=False)
    assert opened(folder, FILE) == before
    assert suffixes(folder) == {".key"}


def test_what_is_erased_was_overwritten(folder, monkeypatch):
    """A hard link made beforehand stops it; the bytes of a file that is erased are zeros first."""
    opened(folder, FILE)
    path = folder / "keys" / "log.key"
    size = path.stat().st_size
    seen: list[bytes] = []
    real = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda self, **more: (seen.append(self.read_bytes()), real(self, **more))[1])
    Folder(folder / "keys").erase("log.key")
    assert seen == [bytes(size)]
    assert not path.exists()


# --- the kernel's keyring


class Keyring:
    """What ports/kernel_keyring.py does, tested there against the kernel."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put_in(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(signer_place.wiring, "remember_secret", lambda name, secret: self.kept.update({name: bytes(secret)}))
        patch.setattr(signer_place.wiring, "recall_secret", lambda name: bytearray(self.kept[name]) if name in self.kept else None)
        patch.setattr(signer_place.wiring, "forget_secret", lambda name: self.kept.pop(name, None))


def test_the_keyring_opens_the_keys_until_it_forgets(folder, handed, monkeypatch):
    ring = Keyring()
    ring.put_in(monkeypatch)
    asked, unasked = Access("encrypted", handed(RIGHT), remember=True), Access("encrypted", remember=True)
    with pytest.raises(WrongSecret):
        opened(folder, unasked)
    before = opened(folder, asked)
    assert opened(folder, unasked) == before
    assert all(RIGHT.strip() not in kept for kept in ring.kept.values())
    places(folder).forget()
    with pytest.raises(WrongSecret, match="boot"):
        opened(folder, unasked)
    assert opened(folder, asked) == before
    places(folder).change_passphrase(asked, Access("encrypted", handed(OTHER), remember=True))
    with pytest.raises(WrongSecret):
        opened(folder, unasked)
    ring.kept = dict.fromkeys(ring.kept, b"k" * 32)
    with pytest.raises(WrongSecret):
        opened(folder, unasked)


def test_a_wrong_passphrase_is_not_remembered(folder, handed, monkeypatch):
    ring = Keyring()
    opened(folder, Access("encrypted", handed(RIGHT)))
    ring.put_in(monkeypatch)
    with pytest.raises(WrongSecret):
        opened(folder, Access("encrypted", handed(OTHER), remember=True))
    assert ring.kept == {}


# --- handles


class Counting:
    """A token of one key in memory that counts what it is asked."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.asked = 0

    def sign_p256(self, identity: bytes, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

        from vouchgate.ports.pkcs11 import ORDER

        self.asked += 1
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return encode_dss_signature(r, min(s, ORDER - s))


def test_a_handle_signs_certificates_as_any_key_does_and_once_each():
    """cryptography takes a key that is not its own in `CertificateBuilder.sign`; low s comes from the token, so no leaf is signed twice."""
    from vouchgate.identity.ca import load_ca, make_ca
    from vouchgate.identity.ca import spki_of as ec_spki
    from vouchgate.identity.x509svid import issue_x509

    token = Counting()
    handle = TokenEc(token, b"", token.key.public_key())  # type: ignore[arg-type]
    ca = load_ca(make_ca(TD, handle, now=NOW, days=30), TD)
    ca.verify_directly_issued_by(ca)
    token.asked = 0
    leaf_key = ec_spki(ec.generate_private_key(ec.SECP256R1()).public_key())
    for _ in range(20):
        made = issue_x509(leaf_key, f"spiffe://{TD}/service/prod/a", ca=ca, ca_key=handle, trust_domain=TD, now=NOW, ttl_seconds=600)
        x509.load_der_x509_certificate(made.chain[0]).verify_directly_issued_by(ca)
    assert token.asked == 20


def test_a_handle_gives_out_nothing():
    token = Counting()
    for handle in (TokenEc(token, b"", token.key.public_key()), TokenEd25519(token, b"", None)):  # type: ignore[arg-type]
        with pytest.raises(Unsupported):
            handle.private_bytes(None, None, None)
    handle = TokenEc(token, b"", token.key.public_key())  # type: ignore[arg-type]
    with pytest.raises(Unsupported):
        handle.private_numbers()
    with pytest.raises(Unsupported):
        handle.exchange(None, None)
    for algorithm in (ec.ECDSA(hashes.SHA384()), ec.ECDSA(hashes.SHA1()), None, hashes.SHA256()):
        with pytest.raises(Unsupported):
            handle.sign(b"x", algorithm)
    assert token.asked == 0


@pytest.mark.parametrize("name", ["", "../log", "LOG", "a/b", "x" * 65, "a b", "-" * 3, "ключ"])
def test_a_name_that_is_no_key_s_is_refused(folder, name):
    opened(folder, FILE)
    store = places(folder).open(FILE, first=False)
    for ask in (store.has, store.ec, store.ed25519, store.remove, store.certificate):
        with pytest.raises(VouchgateError):
            ask(name)


def test_what_the_state_says_is_json_and_nothing_secret(folder, handed):
    opened(folder, Access("encrypted", handed(RIGHT)))
    for path in (folder / "keys").glob("*.json"):
        said = json.loads(path.read_bytes())
        assert said["version"] == 1
    assert RIGHT.strip() not in b"".join(path.read_bytes() for path in (folder / "keys").iterdir())


def test_a_token_that_hangs_holds_up_nobody_else(folder):
    """The signature waits in a thread; the event loop answers who asks for something else."""
    import asyncio
    import threading

    from vouchgate.flows.sign import Access as Allowed
    from vouchgate.flows.sign import Keys, Signer
    from vouchgate.ports.clock import Clock

    release = threading.Event()

    class Hanging(Counting):
        def sign_p256(self, identity: bytes, data: bytes) -> bytes:
            assert release.wait(20)
            return super().sign_p256(identity, data)

    files = Files(folder)
    files.before(TD)
    store = Places(files.folder, files.keys, TD).open(FILE, first=True)
    store.slow = True  # type: ignore[misc]
    plain, before = files.open(TD, NOW, store=store)
    token = Hanging()
    keys = Keys(
        ca=plain.ca,
        ca_certificate=plain.ca_certificate,
        jwt=TokenEc(token, b"", token.key.public_key()),  # type: ignore[arg-type]
        ed25519=plain.ed25519,
    )
    signer = Signer(keys, before, Allowed(control=0), Clock(NOW), files, ca_keys=store)

    async def ask() -> None:
        hanging = asyncio.create_task(
            signer.jwt_svid(0, {"principal": f"spiffe://{TD}/service/prod/a", "audience": "a", "ttl_seconds": 60})
        )
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await signer.health(0, {})
            assert (await signer.checkpoint(0, {"origin": f"{TD}/log", "size": 1, "root_hash": b"a" * 32})).startswith(TD)
        assert not hanging.done()
        release.set()
        assert (await hanging)["token"]

    try:
        asyncio.run(ask())
    finally:
        release.set()


class Door:
    """A token that answers as it is told."""

    serial, trouble = "1", ""

    def __init__(self, answer: type[BaseException] | None, pin, refused) -> None:
        self.answer, self.pin, self.refused = answer, pin, refused

    def open(self) -> None:
        self.pin()
        if self.answer is NotPermitted:
            self.refused("no")
            raise NotPermitted("the PIN was refused", remedy="")
        if self.answer is not None:
            raise self.answer("gone", remedy="") if issubclass(self.answer, VouchgateError) else self.answer()


def test_no_kill_no_full_disk_and_no_outage_lets_a_pin_be_tried_without_end(folder, handed, monkeypatch):
    tried: list[object] = []
    answer: list[type[BaseException] | None] = [None]

    def token(module, label, pin, refused):
        return Door(answer[0], lambda: tried.append(pin()), refused)

    monkeypatch.setattr(signer_place.wiring, "token", token)
    access = Access("token", handed(b"1234"), module="m", token="t")

    def start() -> None:
        with contextlib.suppress(VouchgateError, Cut):
            places(folder).open(access, first=True)

    def tries() -> int:
        tried.clear()
        for _ in range(10):
            start()
        return len(tried)

    assert tries() == 10
    answer[0] = Unavailable
    assert tries() == 10, "an outage is no try"
    answer[0] = Cut
    assert tries() == 2
    with pytest.raises(NotPermitted, match="none is made"):
        places(folder).open(access, first=True)
    assert (folder / "pin-tries").read_bytes() == b"xx"
    places(folder).try_pin()
    answer[0] = NotPermitted
    start()
    assert (folder / "pin-refused").exists()
    assert tries() == 0
    places(folder).try_pin()
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    asked: list[int] = []
    monkeypatch.setattr(signer_place, "read_secret", lambda *more: asked.append(1) or bytearray(b"1234"))
    start()
    assert asked == [], "where a refusal cannot be noted nothing is tried"

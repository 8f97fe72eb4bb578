"""Artifacts behind an address: a real server on this machine, and every way in which it can lie about ranges."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vouchgate.ports import remote_ranges
from vouchgate.ports.remote_artifacts import RemotePlace, is_remote
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotPermitted, Unavailable, Unverified, VouchgateError

CONTENT = bytes(range(256)) * 4_000
Answer = tuple[int, dict[str, str], bytes]
Lie = Callable[[str, int, int], Answer | None]


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_ranges, "RANGE_BYTES", 300_000)


@contextmanager
def serving(
    lie: Lie = lambda method, begin, end: None, *, head: dict[str, str] | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A server with ranges and an ETag; `lie` may answer instead, `head` replaces headers of HEAD."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            found = lie("HEAD", 0, 0)
            told = {"content-length": str(len(CONTENT)), "etag": '"v1"'} | (head or {})
            self.tell(found or (200, told, b""))

        def do_GET(self) -> None:
            begin, _, last = self.headers.get("range", f"bytes=0-{len(CONTENT) - 1}").removeprefix("bytes=").partition("-")
            span = int(begin), int(last) + 1
            body = CONTENT[slice(*span)]
            right = {"content-range": f"bytes {span[0]}-{span[1] - 1}/{len(CONTENT)}", "etag": '"v1"', "content-length": str(len(body))}
            self.tell(lie("GET", *span) or (206, right, body))

        def tell(self, answer: Answer) -> None:
            self.send_response(answer[0])
            for name, value in answer[1].items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer[2])

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/m.safetensors"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetched(url: str, ca_file: str = "") -> bytes:
    place = RemotePlace(url, ca_file=ca_file)
    (entry,) = place.entries()
    descriptor = place.open(entry.name)
    try:
        assert os.fstat(descriptor).st_nlink == 0
        assert os.fstat(descriptor).st_size == entry.size
        return os.pread(descriptor, entry.size + 1, 0)
    finally:
        os.close(descriptor)


def test_it_is_fetched_range_by_range() -> None:
    asked: list[tuple[int, int]] = []

    def note(method: str, begin: int, end: int) -> None:
        if method == "GET":
            asked.append((begin, end))

    with serving(note) as url:
        assert fetched(url) == CONTENT
    assert asked == [(0, 300_000), (300_000, 600_000), (600_000, 900_000), (900_000, 1_024_000)]


def right(begin: int, end: int, **changes: str) -> dict[str, str]:
    return {"content-range": f"bytes {begin}-{end - 1}/{len(CONTENT)}", "etag": '"v1"', "content-length": str(end - begin)} | {
        name.replace("_", "-"): value for name, value in changes.items()
    }


LIES: dict[str, Lie] = {
    "the whole instead of a range": lambda method, begin, end: (200, {"content-length": str(len(CONTENT))}, CONTENT) if begin else None,
    "another version": lambda method, begin, end: (206, right(begin, end, etag='"v2"'), CONTENT[begin:end]) if begin else None,
    "replaced": lambda method, begin, end: (412, {"content-length": "0"}, b"") if begin else None,
    "another range": lambda method, begin, end: (206, right(0, end - begin), CONTENT[: end - begin]) if begin else None,
    "another size": lambda method, begin, end: (
        (206, right(begin, end, content_range=f"bytes {begin}-{end - 1}/9999999"), CONTENT[begin:end]) if begin else None
    ),
    "fewer bytes": lambda method, begin, end: (206, right(begin, end, content_length="5"), b"12345") if begin else None,
    "cut off": lambda method, begin, end: (206, right(begin, end), CONTENT[begin : end - 1]) if begin else None,
    "more bytes": lambda method, begin, end: (
        (206, right(begin, end, content_length=str(end - begin + 1)), CONTENT[begin : end + 1]) if method == "GET" else None
    ),
    "no range told": lambda method, begin, end: (206, right(begin, end, content_range=""), CONTENT[begin:end]) if begin else None,
    "gone": lambda method, begin, end: (404, {"content-length": "0"}, b"") if begin else None,
    "an encoding": lambda method, begin, end: (206, right(begin, end, content_encoding="br"), CONTENT[begin:end]) if begin else None,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_lie_about_a_range_ends_it(lie: Lie) -> None:
    with serving(lie) as url, pytest.raises((Unavailable, LimitExceeded)) as told:
        fetched(url)
    assert told.value.remedy


@pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 30, str(2**50)])
def test_a_size_that_is_missing_mad_or_huge_is_not_fetched(length: str) -> None:
    with serving(head={"content-length": length}) as url, pytest.raises(VouchgateError):
        RemotePlace(url)


def redirect(to: str) -> Lie:
    return lambda method, begin, end: (302, {"location": to, "content-length": "0"}, b"") if method == "HEAD" else None


def test_redirects_are_followed_but_not_for_ever_and_never_into_the_private_network() -> None:
    with serving() as target, serving(redirect(target)) as url:
        assert fetched(url) == CONTENT
    with serving(redirect("/again")) as url, pytest.raises(LimitExceeded):
        RemotePlace(url)
    for inside in ("https://169.254.169.254/latest/meta-data", "https://10.0.0.1/", "https://[::ffff:127.0.0.1]/", "https://0.0.0.0/"):
        with serving(redirect(inside)) as url, pytest.raises((NotPermitted, Unavailable)) as told:
            RemotePlace(url)
        assert isinstance(told.value, NotPermitted)
    for wrong in ("http://example.org/", "file:///etc/passwd", "ftp://example.org/"):
        with serving(redirect(wrong)) as url, pytest.raises(InvalidInput):
            RemotePlace(url)


def certified(folder: Path, name: str) -> tuple[ssl.SSLContext, str]:
    """A server of 127.0.0.1 with a certificate of its own, and the file that certifies it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        called, called, key.public_key(), 1, now - datetime.timedelta(hours=1), now + datetime.timedelta(hours=1)
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    made = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    file = folder / f"{name}.pem"
    pem = serialization.Encoding.PEM
    whole = made.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(whole)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, str(file)


def test_authorities_of_ones_own_count_for_the_named_server_alone(tmp_path: Path) -> None:
    (own, own_file), (other, other_file) = certified(tmp_path, "own"), certified(tmp_path, "other")
    with serving(tls=own) as url:
        assert fetched(url, own_file) == CONTENT
        for wrong in ("", other_file):
            with pytest.raises(Unverified):
                fetched(url, wrong)
    with serving(tls=own) as target, serving(redirect(target), tls=own) as url, pytest.raises(Unverified):
        fetched(url, own_file)
    with serving(tls=other) as url, pytest.raises(InvalidInput):
        fetched(url, str(tmp_path / "none"))


def test_a_private_network_counts_for_the_named_server_alone() -> None:
    with pytest.raises(NotPermitted):
        RemotePlace("https://10.0.0.1/m")
    inside = redirect("https://10.0.0.1/m")
    with serving(inside) as url, pytest.raises(NotPermitted):
        RemotePlace(url, private=True)


def test_what_is_large_may_say_so() -> None:
    """The length that HEAD tells is that of what it does not send."""
    with serving(head={"content-length": str(40 * 1024**3)}) as url:
        (entry,) = RemotePlace(url).entries()
        assert entry.size == 40 * 1024**3


def test_a_structure_is_looked_at_by_its_parts() -> None:
    asked: list[tuple[int, int]] = []
    head = b'{"w":{"dtype":"U8","shape":[4000000],"data_offsets":[0,4000000]}}'
    content = len(head).to_bytes(8, "little") + head + b"\1" * 4_000_000

    def parts(method: str, begin: int, end: int) -> Answer:
        if method == "HEAD":
            return 200, {"content-length": str(len(content))}, b""
        asked.append((begin, end))
        return 206, {"content-range": f"bytes {begin}-{end - 1}/{len(content)}", "content-length": str(end - begin)}, content[begin:end]

    with serving(parts) as url:
        place = RemotePlace(url, whole=False)
        assert place.missing(b"") == 0
        os.close(place.open(b""))
        assert place.missing(b"") == len(content) - sum(end - begin for begin, end in asked) > 3_000_000


def test_what_is_an_address() -> None:
    assert is_remote("s3://bucket/m")
    assert is_remote("https://example.org/m")
    assert not is_remote("folder/https:/m")
    assert not is_remote("model.pt")
    with pytest.raises(InvalidInput):
        is_remote("ftp://example.org/m")

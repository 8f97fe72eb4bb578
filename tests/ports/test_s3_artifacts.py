"""Artifacts in an s3-compatible store: a server on this machine that checks every signature by itself, and every way in which a store can lie."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

import pytest
from msgspec.structs import replace

from vouchgate.ports import s3_artifacts
from vouchgate.ports.s3_artifacts import S3Access, S3Place
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound, NotPermitted, Unavailable, VouchgateError

NOW = 1_800_000_000_000
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI"


@dataclass
class Store:
    """What lies there, and how it answers."""

    objects: dict[str, bytes] = field(default_factory=dict)
    page: int = 1_000
    anonymous: bool = False
    lie: Callable[[str, str, str], tuple[int, dict[str, str], bytes] | None] = lambda method, path, query: None
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    port: int = 0


def signature(method: str, path: str, query: str, headers: dict[str, str], names: list[str], scope: str) -> str:
    """Signature Version 4 as a server works it out, from AWS's description alone."""
    pairs = sorted(tuple(pair.split("=", 1)) for pair in query.split("&") if pair)
    canonical = [method, path, "&".join("=".join(pair) for pair in pairs)]
    canonical += [f"{name}:{headers[name].strip()}" for name in names] + ["", ";".join(names), headers["x-amz-content-sha256"]]
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, hashlib.sha256("\n".join(canonical).encode()).hexdigest()])
    key = ("AWS4" + SECRET).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@contextmanager
def serving(store: Store) -> Iterator[Store]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path, _, query = self.path.partition("?")
            store.asked.append((self.command, path, query))
            found = store.lie(self.command, path, query)
            if found is None:
                found = self.right(path, query) if store.anonymous or self.signed(path, query) else (403, {}, b"")
            self.send_response(found[0])
            for name, value in {"content-length": str(len(found[2]))}.items() | found[1].items():
                if name not in found[1] or found[1][name] == value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found[2])

        def signed(self, path: str, query: str) -> bool:
            given = self.headers.get("authorization", "")
            if not given.startswith(f"AWS4-HMAC-SHA256 Credential={KEY}/"):
                return False
            parts = dict(part.strip().split("=", 1) for part in given.removeprefix("AWS4-HMAC-SHA256 ").split(","))
            names, scope = parts["SignedHeaders"].split(";"), parts["Credential"].partition("/")[2]
            headers = {name.lower(): value for name, value in self.headers.items()}
            right = signature(self.command, path, query, headers, names, scope)
            return {"host", "x-amz-date"} <= set(names) and right == parts["Signature"]

        def right(self, path: str, query: str) -> tuple[int, dict[str, str], bytes]:
            bucket, _, key = urllib.parse.unquote(path).removeprefix("/").partition("/")
            if bucket != "models":
                return 404, {}, b""
            if not key:
                return 200, {}, listing(store, dict(urllib.parse.parse_qsl(query)))
            content = store.objects.get(key)
            if content is None:
                return 404, {}, b""
            etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
            if self.command == "HEAD":
                return 200, {"etag": etag, "content-length": str(len(content))}, b""
            begin, _, last = self.headers["range"].removeprefix("bytes=").partition("-")
            span = content[int(begin) : int(last) + 1]
            if self.headers.get("if-match", etag) != etag:
                return 412, {}, b""
            return 206, {"etag": etag, "content-range": f"bytes {begin}-{last}/{len(content)}"}, span

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def listing(store: Store, asked: dict[str, str]) -> bytes:
    keys = sorted(key for key in store.objects if key.startswith(asked.get("prefix", "")) and key > asked.get("continuation-token", ""))
    shown = keys[: store.page]
    more = len(keys) > len(shown)
    rows = "".join(
        f"<Contents><Key>{escape(urllib.parse.quote_plus(key, safe='/'))}</Key><Size>{len(store.objects[key])}</Size>"
        f'<ETag>"{hashlib.md5(store.objects[key], usedforsecurity=False).hexdigest()}"</ETag><Owner><ID>x</ID></Owner></Contents>'
        for key in shown
    )
    token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>models</Name>'
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{token}{rows}</ListBucketResult>"
    ).encode()


def access(store: Store, **changes: Any) -> S3Access:
    return replace(S3Access(endpoint=f"http://127.0.0.1:{store.port}", access_key=KEY, secret_key=SECRET), **changes)


def place(store: Store, address: str, **changes: Any) -> S3Place:
    return S3Place(address, access(store, **changes), now=lambda: NOW)


def read(found: S3Place, name: bytes = b"") -> bytes:
    descriptor = found.open(name)
    try:
        return os.pread(descriptor, 1 << 24, 0)
    finally:
        os.close(descriptor)


KEYS = ("plain", "a/b c", "a/ü+é", "a/%20", "a/x=1&y=2?z#", "a/~-_.!*'()", 'a/\\ "<>', "a/日本")


@pytest.mark.parametrize("key", KEYS)
def test_an_object_is_asked_for_with_a_signature_that_holds(key: str) -> None:
    with serving(Store({key: key.encode() * 9})) as store:
        found = place(store, f"s3://models/{key}")
        assert not found.is_folder
        assert [(entry.name, entry.size, entry.trouble) for entry in found.entries()] == [(b"", len(key.encode()) * 9, "")]
        assert read(found) == key.encode() * 9


@pytest.mark.parametrize("prefix", ["", "a/", "a b/ü/"])
def test_a_prefix_is_a_folder_page_by_page(prefix: str) -> None:
    with serving(Store({prefix + key: key.encode() for key in KEYS} | {"beside": b"x"}, page=3)) as store:
        found = place(store, f"s3://models/{prefix}")
        assert found.is_folder
        wanted = {*map(str.encode, KEYS), *([] if prefix else [b"beside"])}
        assert {entry.name for entry in found.entries()} == wanted
        for key in KEYS:
            assert read(found, key.encode()) == key.encode()
        assert sum(query != "" for _, _, query in store.asked) == -(-len(wanted) // 3)


def test_what_is_no_path_is_told_and_never_opened() -> None:
    odd = ("a/../x", "a//x", "a/./x", "a/..", "a/x\0y", "a//", "a/z/")
    with serving(Store(dict.fromkeys(odd, b"content") | {"a/": b"", "a/folder/": b"", "a/good": b"x"})) as store:
        found = place(store, "s3://models/a/")
        entries = {entry.name: entry.trouble for entry in found.entries()}
        assert {name for name, trouble in entries.items() if not trouble} == {b"good"}
        assert len(entries) == 1 + len(odd)
        for name, trouble in entries.items():
            if trouble:
                with pytest.raises(KeyError):
                    found.open(name)


@pytest.mark.parametrize(
    "changes", [{"secret_key": "wrong"}, {"access_key": "other"}, {"access_key": ""}, {"region": "eu-west-1", "secret_key": "wrong"}]
)
def test_who_may_not_read_is_told_what_to_set(changes: dict[str, str]) -> None:
    with serving(Store({"m": b"x"})) as store:
        for address in ("s3://models/m", "s3://models/"):
            with pytest.raises(NotPermitted, match="does not let") as told:
                place(store, address, **changes)
            assert "AWS_ACCESS_KEY_ID" in told.value.remedy


def test_without_a_key_nothing_is_signed_and_a_session_is_told() -> None:
    heard: list[str] = []
    with serving(Store({"m": b"x"}, anonymous=True)) as store:
        assert read(place(store, "s3://models/m", access_key="")) == b"x"
    with serving(Store({"m": b"x"})) as store:
        assert read(place(store, "s3://models/m", token="session", region="eu-west-1")) == b"x"
        heard += [path for _, path, _ in store.asked]
    assert heard == ["/models/m", "/models/m"]


@pytest.mark.parametrize(
    ("address", "style", "endpoint", "base"),
    [
        ("s3://models/k", "", "", "https://models.s3.us-east-1.amazonaws.com"),
        ("s3://models/k", "path", "", "https://s3.us-east-1.amazonaws.com/models"),
        ("s3://my.models/k", "", "", "https://s3.us-east-1.amazonaws.com/my.models"),
        ("s3://my.models/k", "virtual", "", "https://s3.us-east-1.amazonaws.com/my.models"),
        ("s3://models/k", "", "https://store.example:9000/", "https://store.example:9000/models"),
        ("s3://models/k", "virtual", "https://store.example:9000", "https://models.store.example:9000"),
    ],
)
def test_where_a_bucket_is_named(address: str, style: str, endpoint: str, base: str) -> None:
    bucket, key = s3_artifacts._apart(address)
    assert s3_artifacts._base(S3Access(style=style, endpoint=endpoint), bucket) == base
    assert key == "k"


@pytest.mark.parametrize(
    "address",
    [
        "s3://",
        "s3://B/k",
        "s3://a..b/k",
        "s3://-a/k",
        "s3:///k",
        "s3://m@x/k",
        "s3://models/../k",
        "s3://models/a\0",
        "s3://models/" + "k" * 1025,
    ],
)
def test_what_is_no_address_is_never_asked(address: str) -> None:
    with pytest.raises(InvalidInput):
        S3Place(address, S3Access(endpoint="http://127.0.0.1:1"), now=lambda: NOW)


@pytest.mark.parametrize("endpoint", ["http://store.example", "ftp://x", "https://u:p@x", "store.example", "https://x?y"])
def test_an_endpoint_is_https_and_names_nobody(endpoint: str) -> None:
    with pytest.raises(InvalidInput):
        S3Place("s3://models/k", S3Access(endpoint=endpoint), now=lambda: NOW)


def page(rows: str, *, top: str = "<IsTruncated>false</IsTruncated>", head: str = "") -> tuple[int, dict[str, str], bytes]:
    return 200, {}, f"<?xml version='1.0'?>{head}<ListBucketResult>{top}{rows}</ListBucketResult>".encode()


def row(key: str = "a/x", size: str = "1") -> str:
    return f"<Contents><Key>{key}</Key><Size>{size}</Size></Contents>"


LIES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "entities": page(row("&x;"), head='<!DOCTYPE l [<!ENTITY x "y">]>'),
    "many entities": page("", head='<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'),
    "a file of this machine": page("&x;", head='<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
    "no listing": (200, {}, b"<Other/>"),
    "no xml": (200, {}, b"{}"),
    "nothing": (200, {}, b""),
    "cut off": (200, {}, b"<ListBucketResult><Contents>"),
    "a key of another prefix": page(row("b/x")),
    "a key twice": page(row() + row()),
    "no size": page("<Contents><Key>a/x</Key></Contents>"),
    "a mad size": page(row(size="1e9")),
    "a negative size": page(row(size="-1")),
    "a huge size": page(row(size="9" * 30)),
    "no key": page("<Contents><Size>1</Size></Contents>"),
    "an endless key": page(row("a/" + "x" * 20_000)),
    "deep": page("<a>" * 50 + "</a>" * 50),
    "goes on and does not say where": page(row(), top="<IsTruncated>true</IsTruncated>"),
    "a redirect": (307, {"location": "http://127.0.0.1:1/"}, b""),
    "an error": (500, {}, b""),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_listing_that_lies_ends_it(lie: tuple[int, dict[str, str], bytes]) -> None:
    with serving(Store(lie=lambda method, path, query: lie)) as store, pytest.raises(VouchgateError) as told:
        place(store, "s3://models/a/")
    assert told.value.remedy
    assert isinstance(told.value, (Unavailable, NotPermitted))


def test_a_listing_that_never_ends_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_artifacts, "MAX_OBJECTS", 50)
    count = iter(range(10_000))

    def lie(method: str, path: str, query: str) -> tuple[int, dict[str, str], bytes]:
        number = next(count)
        return page(row(f"a/{number}"), top=f"<IsTruncated>true</IsTruncated><NextContinuationToken>{number}</NextContinuationToken>")

    with serving(Store(lie=lie)) as store, pytest.raises(LimitExceeded):
        place(store, "s3://models/a/")
    same = page("", top="<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")
    with serving(Store(lie=lambda method, path, query: same)) as store:
        assert list(place(store, "s3://models/a/").entries()) == []
        assert len(store.asked) == 2


def test_another_region_is_named_and_what_is_not_there() -> None:
    def elsewhere(method: str, path: str, query: str) -> tuple[int, dict[str, str], bytes]:
        return 301, {"x-amz-bucket-region": "eu-central-1"}, b""

    with serving(Store(lie=elsewhere)) as store, pytest.raises(NotPermitted) as told:
        place(store, "s3://models/m")
    assert told.value.remedy == "--s3-region eu-central-1"
    with serving(Store()) as store, pytest.raises(NotFound):
        place(store, "s3://models/m")


def test_what_was_replaced_since_it_was_listed_is_not_read() -> None:
    with serving(Store({"a/m": b"old"})) as store:
        found = place(store, "s3://models/a/")
        store.objects["a/m"] = b"new"
        with pytest.raises(Unavailable, match="replaced"):
            found.open(b"m")


def test_a_signed_request_goes_nowhere_else() -> None:
    """A redirect of the bytes themselves is refused: its target would be asked with the signature, or under another origin."""

    def elsewhere(method: str, path: str, query: str) -> tuple[int, dict[str, str], bytes] | None:
        return (302, {"location": "https://elsewhere.example/"}, b"") if method == "GET" else None

    with serving(Store({"m": b"x"}, lie=elsewhere)) as store, pytest.raises(VouchgateError):
        place(store, "s3://models/m").open(b"")


MOTO = os.environ.get("VOUCHGATE_MOTO", "") or shutil.which("moto_server") or ""


@pytest.mark.skipif(not MOTO, reason="moto_server is not installed (pip install 'moto[server]'), or set VOUCHGATE_MOTO to it")
def test_against_moto() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([MOTO, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            base = f"http://127.0.0.1:{port}/models"
            for _ in range(200):
                try:
                    put(base, b"")
                    break
                except OSError:
                    time.sleep(0.1)
            for key in KEYS:
                put(f"{base}/{urllib.parse.quote('p x/' + key)}", key.encode())
            store = Store(port=port)
            found = place(store, "s3://models/p x/")
            assert {entry.name.decode() for entry in found.entries()} == set(KEYS)
            assert {read(found, key.encode()) for key in KEYS} == set(map(str.encode, KEYS))
        finally:
            server.terminate()


def put(url: str, content: bytes) -> None:
    scope = "20270115/us-east-1/s3/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders=host, Signature=0",
        "content-type": "application/octet-stream",
    }
    with urllib.request.urlopen(urllib.request.Request(url, content, headers, method="PUT"), timeout=5):
        pass

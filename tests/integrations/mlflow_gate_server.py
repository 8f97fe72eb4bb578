"""A real MLflow server behind the gate, and its control plane's answers. MLflow stands in an environment of its own (`make test-packs`)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guard_control import Control

ROOT = Path(__file__).parents[2]
PACKS = Path(os.environ.get("VOUCHGATE_PACKS", ROOT / "build" / "packs"))
START_SECONDS = 240.0
THERE = bool(list((PACKS / "lib").glob("python3*/site-packages/vouchgate-*.dist-info"))) and (PACKS / "bin" / "mlflow").exists()
WHY_NOT = "MLflow and vouchgate are not installed for tests: run `make test-packs`"


class Mlflow:
    """The server, by its REST API."""

    def __init__(self, folder: Path, port: int, control: Control) -> None:
        self.folder, self.port, self.control, self.state = folder, port, control, folder / "state"
        self.artifacts = folder / "a"
        self.login = ""

    def ask(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None) -> tuple[int, Any]:
        """Status and answer of one request."""
        data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method)
        request.add_header("content-type", "application/octet-stream" if raw is not None else "application/json")
        if self.login:
            request.add_header("authorization", f"Basic {base64.b64encode(self.login.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, _json(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _json(error.read())

    def do(self, path: str, body: Any, method: str = "POST", prefix: str = "/api") -> Any:
        """An act that must succeed."""
        status, said = self.ask(method, f"{prefix}/2.0/mlflow/{path}", body)
        assert status == 200, said
        return said

    def upload(self, path: str, data: bytes, prefix: str = "/api") -> tuple[int, Any]:
        """A file into the artifact store."""
        return self.ask("PUT", f"{prefix}/2.0/mlflow-artifacts/artifacts/{path}", raw=data)

    def version(self, name: str, files: dict[str, bytes]) -> tuple[str, str]:
        """A new version of a model with these files; its number, and its folder in the store."""
        if self.ask("GET", f"/api/2.0/mlflow/registered-models/get?name={name}")[0] != 200:
            self.do("registered-models/create", {"name": name})
        run = self.do("runs/create", {"experiment_id": "0"})["run"]["info"]
        folder = run["artifact_uri"].removeprefix("mlflow-artifacts:/") + "/model"
        for path, data in files.items():
            assert self.upload(f"{folder}/{path}", data)[0] == 200
        source = {"name": name, "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
        return str(self.do("model-versions/create", source)["model_version"]["version"]), folder

    def alias(self, name: str, alias: str, version: str, prefix: str = "/api") -> tuple[int, str]:
        """Set an alias."""
        status, said = self.ask("POST", f"{prefix}/2.0/mlflow/registered-models/alias", {"name": name, "alias": alias, "version": version})
        return status, said.get("message", "") if isinstance(said, dict) else str(said)

    def sql(self, text: str, *values: str) -> None:
        """A change of the database past the server."""
        with contextlib.closing(sqlite3.connect(self.folder / "m.db", timeout=30)) as database, database:
            assert database.execute(text, values).rowcount == 1

    def resolved(self, name: str, alias: str) -> tuple[int, Any]:
        """Which version an alias names."""
        return self.ask("GET", f"/api/2.0/mlflow/registered-models/alias?name={name}&alias={alias}")


def _json(data: bytes) -> Any:
    try:
        return json.loads(data or b"{}")
    except ValueError:
        return data.decode("utf-8", "replace")


@contextlib.contextmanager
def running(
    *, workers: int = 2, expect: bool = True, options: tuple[str, ...] = (), more: dict[str, str] | None = None, **settings: str
) -> Iterator[Mlflow]:
    """A server with settings of the gate (`GUARD=...`) and `more` of its environment. With `expect` False it must not come up."""
    folder = Path(tempfile.mkdtemp(prefix="vgm", dir="/tmp"))
    control = Control(folder / "api.sock")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Mlflow(folder, port, control)
    command = [str(PACKS / "bin" / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(made.artifacts), "--serve-artifacts"]
    command += ["--app-name", "vouchgate", *options]
    told = {"SOCKET": str(control.path), "STATE": str(made.state)} | settings
    environment = {"PATH": f"{PACKS / 'bin'}:/usr/bin:/bin", "HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | (more or {})
    environment |= {f"VOUCHGATE_MLFLOW_{name}": value for name, value in told.items()}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        if expect:
            _until_up(port, server, folder / "log")
        else:
            _until_said(server, folder / "log")
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)
        control.close()
        shutil.rmtree(folder, ignore_errors=True)


def _until_up(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text("utf-8", "replace")[-3000:])


def _until_said(server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None and "InvalidSettings" not in log.read_text("utf-8", "replace"):
        time.sleep(0.2)

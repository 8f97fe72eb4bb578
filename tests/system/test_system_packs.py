"""The pack mlflow before a real MLflow server, with MLflow's own client over mTLS. `make test-packs` installs MLflow and runs this."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import ROOT, Caller, Installation
from test_system_gateway import free_port

PACKS = Path(os.environ.get("VOUCHGATE_PACKS", ROOT / "build" / "packs"))
EXAMPLE = ROOT / "examples" / "packs" / "mlflow" / "vouchgate.toml"
START_SECONDS = 240.0
CLIENT = """
import json, sys
from mlflow import MlflowClient
client, answers = MlflowClient(), []
def do(name, act):
    try:
        made = act()
        answers.append([name, "ok"])
        return made
    except Exception as error:
        answers.append([name, "refused" if "403" in str(error) or "Failed to download" in str(error) else "nowhere" if "404" in str(error) else str(error)[:300]])
experiment = do("look up", lambda: client.get_experiment_by_name("Default"))
run = do("begin a run", lambda: client.create_run("0"))
known = run.info.run_id if run else sys.argv[1]
do("log a metric", lambda: client.log_metric(known, "loss", 0.5))
open("card.txt", "w").write("figures")
do("log an artifact", lambda: client.log_artifact(known, "card.txt"))
do("read an artifact", lambda: client.download_artifacts(known, "card.txt"))
do("register a model", lambda: client.create_registered_model("digits"))
do("register a version", lambda: client.create_model_version("digits", f"mlflow-artifacts:/0/{known}/artifacts", known))
do("move an alias", lambda: client.set_registered_model_alias("digits", "live", "1"))
do("delete the run", lambda: client.delete_run(known))
do("delete the model", lambda: client.delete_registered_model("digits"))
print(json.dumps({"run": known, "answers": dict(answers)}))
"""
PREFIX = ROOT / "src" / "vouchgate" / "policy" / "packs" / "mlflow.cedar"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not (PACKS / "bin" / "mlflow").exists(), reason="MLflow is not installed for tests: run `make test-packs`"),
]


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="vg", dir="/tmp"))
    folder.chmod(0o755)
    store = folder / "m"
    store.mkdir()
    command = [str(PACKS / "bin" / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--serve-artifacts"]
    command += ["--backend-store-uri", f"sqlite:///{store}/m.db", "--artifacts-destination", str(store / "a")]
    environment = {"PATH": f"{PACKS / 'bin'}:/usr/bin:/bin", "HOME": str(store), "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=store, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _until_up(port, server)
        text = EXAMPLE.read_text()
        endpoint = text[text.index("[[endpoints]]") : text.index("[[identities]]")].replace("tcp:127.0.0.1:5000", f"tcp:127.0.0.1:{port}")
        more = f'\n[zones.register]\nlease_seconds = 10\n\n[[policies]]\npath = "{PREFIX}"\n\n{endpoint}'
        with Installation(more=more, folder=folder) as running:
            yield running
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _until_up(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("MLflow did not start")


def acts(house: Installation, caller: Caller, run: str = "none") -> dict:
    """What MLflow's client is answered under this identity."""
    both = house.folder / f"{caller.name}.both"
    both.write_text(caller.certificate.read_text() + caller.key.read_text())
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(house.folder),
        "MLFLOW_TRACKING_URI": f"https://localhost:{house.gateway[1]}",
        "MLFLOW_TRACKING_CLIENT_CERT_PATH": str(both),
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(house.folder / "bundle.pem"),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    work = house.folder / f"{caller.name}.work"
    work.mkdir(exist_ok=True)
    command = [str(PACKS / "bin" / "python"), "-c", CLIENT, run]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


LOGGER = {"look up": "ok", "begin a run": "ok", "log a metric": "ok", "log an artifact": "ok", "read an artifact": "refused"}
REFUSED = dict.fromkeys(("register a model", "register a version", "move an alias"), "refused")
NOWHERE = dict.fromkeys(("delete the run", "delete the model"), "nowhere")


def test_the_client_of_mlflow_is_let_do_what_its_groups_may(house: Installation) -> None:
    registrar = house.caller("push", ("mlflow-readers", "mlflow-registrars"))
    assert acts(house, registrar)["answers"]["register a model"] == "ok"
    job = acts(house, house.caller("fit", ("mlflow-readers", "mlflow-loggers"), kind="job"))
    assert job["answers"] == LOGGER | REFUSED | NOWHERE
    reader = acts(house, house.caller("rita", ("mlflow-readers",)), job["run"])
    wanted = {"look up": "ok"} | dict.fromkeys(("begin a run", "log a metric", "log an artifact", "read an artifact"), "refused")
    assert reader["answers"] == wanted | REFUSED | NOWHERE
    consumer = acts(house, house.caller("loader", ("mlflow-readers", "mlflow-consumers")), job["run"])
    assert consumer["answers"]["read an artifact"] == "ok"
    again = acts(house, registrar, job["run"])["answers"]
    assert again["register a version"] == "ok"
    assert again["move an alias"] == again["log a metric"] == "refused"


def test_a_release_waits_for_a_person(house: Installation) -> None:
    releaser = house.caller("ron", ("mlflow-releasers",))
    body = b'{"name":"digits","alias":"live","version":"1"}'
    answer = house.call(releaser, "/api/2.0/mlflow/registered-models/alias", body=body, headers={"content-type": "application/json"})
    assert answer.status == 403
    assert answer.problem["type"].endswith("approval-needed")

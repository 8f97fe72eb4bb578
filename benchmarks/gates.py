"""`make bench-gates`: how long a cluster's API server waits for the gate, with a control plane that decides and records each question.

Rules
1. The installation is the whole process tree, the gate `vouchgate gate kubernetes serve` beside it with client certificates, the API server a thread
   for each connection that is kept. t0 is the first byte of the review, t1 the last of its answer.
2. `asked`: each review names content of its own, so each is a decision and two durable entries. `held`: all name one model that was imported, so an allow
   of the last second answers.
3. An answer for another uid, or another answer than the one that is right, counts for nothing and fails the run. The entries in the log are counted.
4. Null: content that never came in is never allowed. Sabotage: with the control plane stopped nothing that names a model is allowed, and every answer
   comes before the API server's time is over.

Usage: python -m benchmarks.gates [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load.product import Product
from benchmarks.load.stack import Stack, start_models
from benchmarks.rows import Row, emit, exit_code
from vouchgate.edges.kubernetes.manifests import SECONDS
from vouchgate.vocabulary.answers import ImportOutcome

MODEL = Path(__file__).resolve().parents[1] / "build" / "digits" / "model.onnx"
CONNECTIONS = 8
COUNT = 2_500
"""Reviews of a kind: below what the control plane answers one gate within a minute (flows/gates.PER_MINUTE), or the limit would be measured."""
GOAL_MS = 100.0
"""p99 of a review that is asked: a rollout of a thousand pods waits some seconds in all, not minutes."""
POLICY = """
@id("bench-admits")
permit (principal, action in [Action::"import", Action::"admit", Action::"deploy"], resource is Artifact)
when { resource.vouches.containsAll(["scan", "structure"]) && context.risk < 60 };
"""


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """(CA, certificate, key) for both sides."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name, name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("bench CA", "bench"))

    def issue(subject: x509.Name, public: ec.EllipticCurvePublicKey, ca: bool) -> bytes:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        made = made.not_valid_after(now + datetime.timedelta(days=1)).add_extension(
            x509.BasicConstraints(ca=ca, path_length=None), critical=True
        )
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        return made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    paths = folder / "ca.pem", folder / "gate.pem", folder / "gate.key"
    paths[0].write_bytes(issue(ca_name, ca_key.public_key(), ca=True))
    paths[1].write_bytes(issue(name, key.public_key(), ca=False))
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[2].touch(0o600)
    paths[2].write_bytes(secret)
    return paths


@contextlib.contextmanager
def gate(api: Path, tls: tuple[Path, Path, Path]) -> Iterator[int]:
    """The gate as a process; its port."""
    command = [
        str(Path(sys.executable).with_name("vouchgate")),
        "gate",
        "kubernetes",
        "serve",
        "--socket",
        str(api),
        "--listen",
        "127.0.0.1:0",
    ]
    command += ["--client-ca", str(tls[0]), "--certificate", str(tls[1]), "--key", str(tls[2])]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield int(process.stderr.readline().rpartition(":")[2])
        finally:
            process.terminate()


def review(uid: str, digest: str) -> bytes:
    pod = {"metadata": {"name": uid, "annotations": {"vouchgate.dev/model": digest}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    request = {
        "uid": uid,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "bench",
        "name": uid,
        "object": pod,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


class Cluster:
    """`CONNECTIONS` at once."""

    def __init__(self, port: int, tls: tuple[Path, Path, Path]) -> None:
        self.port, self.context = port, ssl.create_default_context(cafile=str(tls[0]))
        self.context.load_cert_chain(tls[1], tls[2])

    def ask(self, digests: Sequence[str], *, right: bool, connections: int = CONNECTIONS) -> tuple[list[float], list[str]]:
        """Milliseconds of each right answer, and what was wrong."""
        took: list[float] = []
        wrong: list[str] = []

        def one(mine: Sequence[str], number: int) -> None:
            link = http.client.HTTPSConnection("localhost", self.port, context=self.context, timeout=30)
            link.connect()
            for index, digest in enumerate(mine):
                uid = f"{number}-{index}"
                body = review(uid, digest)
                began = time.perf_counter()
                link.request("POST", "/admit", body, {"content-type": "application/json"})
                answer = link.getresponse()
                said = answer.read()
                ended = time.perf_counter()
                found = json.loads(said)["response"] if answer.status == 200 else {}
                if found.get("uid") == uid and found.get("allowed") is right:
                    took.append(1000 * (ended - began))
                else:
                    wrong.append(said[:200].decode("utf-8", "replace"))
            link.close()

        threads = [threading.Thread(target=one, args=(digests[number::connections], number)) for number in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(took), wrong


def share(took: Sequence[float], part: float) -> float:
    """A quantile of sorted values; the largest where there are few."""
    return took[min(len(took) - 1, int(part * len(took)))] if took else float("inf")


def times(name: str, took: Sequence[float], wrong: Sequence[str], goal: float | None) -> list[Row]:
    p99 = share(took, 0.99)
    note = f"p50 {share(took, 0.5):.1f}, p90 {share(took, 0.9):.1f}, p95 {share(took, 0.95):.1f}, worst {share(took, 1.0):.1f} ms; {CONNECTIONS} connections"
    told = {"goal": f"<= {goal:g}", "met": p99 <= goal and not wrong} if goal is not None else {}
    return [
        Row(name=f"a review that is {name}, p99", value=p99, unit="ms", n=len(took), note=note, **told),  # type: ignore[arg-type]
        Row(name=f"wrong answers, {name}", value=len(wrong), unit="", goal="0", met=not wrong, n=len(took), note="; ".join(wrong)[:300]),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gates")
    parser.add_argument("--quick", action="store_true", help="fewer reviews; not for figures")
    count = 400 if parser.parse_args(arguments).quick else COUNT
    with Stack() as stack:
        policy = stack.directory / "gates.cedar"
        policy.write_text(POLICY)
        product = Product(stack, start_models(stack), more=f'\n[[policies]]\npath = "{policy}"\n').start()
        with MODEL.open("rb") as file:
            taken = product.client.send_file(ImportOutcome, "/api/v1/artifacts", file, MODEL.stat().st_size, name=MODEL.name, zone="serve")
        tls = certificates(stack.directory)
        with gate(product.layout.api_socket, tls) as port:
            rows = measured(product, Cluster(port, tls), taken.digest, count)
    emit("gates", rows)
    return exit_code(rows)


def measured(product: Product, cluster: Cluster, digest: str, count: int) -> list[Row]:
    """Rules 2 to 4."""
    rows: list[Row] = []
    cluster.ask([digest] * 50, right=True)
    rows += times("held", *cluster.ask([digest] * count, right=True), None)
    # a cluster's question waits for its refusal's answer as for any other: the API lets one caller wait for each refusal
    before = product.status().log_size
    rows += times("asked", *cluster.ask([f"sha256:{number:064x}" for number in range(count)], right=False), GOAL_MS)
    entries = product.status().log_size - before
    rows.append(
        Row(
            name="entries of the asked ones in the log",
            value=entries,
            unit=f"of {2 * count}",
            goal=f">= {2 * count}",
            met=entries >= 2 * count,
            n=count,
        )
    )
    control = product.stack.roles["vouchgate control"][0]
    time.sleep(1.1)
    os.kill(control, signal.SIGSTOP)
    try:
        took, wrong = cluster.ask([digest] * CONNECTIONS, right=False)
    finally:
        os.kill(control, signal.SIGCONT)
    slowest = share(took, 1.0) / 1000
    rows.append(
        Row(
            name="sabotage: the control plane stopped, seconds until the last refusal", value=slowest, unit="s", goal=f"< {SECONDS}",
            met=slowest < SECONDS and not wrong, n=CONNECTIONS, note=f"{len(wrong)} of {CONNECTIONS} were allowed or not answered",
        )
    )  # fmt: skip
    return rows


if __name__ == "__main__":
    sys.exit(main())

"""What a process does not need it does not hold: each of these costs megabytes in every process that has it by accident."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROTOBUF, CEDAR, SQL, X509 = "google.protobuf", "cedarpy", "sqlite3", "cryptography.x509"
PROCESSES = "vouchgate.edges.processes."


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        (PROCESSES + "tailer", {PROTOBUF, CEDAR, SQL, X509, "cryptography"}),
        (PROCESSES + "signer", {PROTOBUF, CEDAR, SQL}),
        (PROCESSES + "witness", {PROTOBUF, CEDAR, SQL, X509}),
        (PROCESSES + "pdp", {PROTOBUF, SQL}),
        (PROCESSES + "agent", {CEDAR, SQL}),
        (PROCESSES + "scanner", {PROTOBUF, CEDAR, SQL, X509, "asyncio"}),
        (PROCESSES + "tree", {PROTOBUF, CEDAR, SQL, X509}),
        (PROCESSES + "installation", {PROTOBUF, CEDAR, SQL, X509}),
        ("vouchgate.wiring", {PROTOBUF, CEDAR, SQL, "cryptography"}),
    ],
)
def test_a_process_holds_what_it_needs(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert absent & loaded == set()

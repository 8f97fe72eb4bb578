"""The Workload API of a whole installation, as a stranger uses it: `identity watch` under a model server's own user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "system"))
from installation import MODEL, TRUST_DOMAIN, Installation

from vouchgate.flows.units import server_uids
from vouchgate.vocabulary.answers import AuditPage
from vouchgate.vocabulary.layout import Users
from vouchgate.vocabulary.settings_file import parse_settings

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as other users"),
    pytest.mark.skipif(not MODEL.exists(), reason="the example model is not trained: `make example`"),
]


def watch(house: Installation, uid: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as that user."""
    command = ["import os, sys", f"os.setgroups([]); os.setgid({uid}); os.setuid({uid})", "sys.exit(main(sys.argv[1:]))"]
    code = "; ".join(["from vouchgate.edges.cli.commands import identity_watch", "from vouchgate.edges.cli.main import main", "import asyncio, grpclib.client, cryptography.x509, vouchgate.edges.spiffe.messages, vouchgate.edges.spiffe.der, vouchgate.identity.binding, vouchgate.identity.x509svid", *command])  # fmt: skip
    given = ("identity", "watch", "--agent", str(house.layout.workload_socket), *arguments)
    return subprocess.run([sys.executable, "-c", code, *given], check=False, capture_output=True, text=True, timeout=30)


def test_a_model_server_gets_its_own_bound_identity_and_a_stranger_nothing_and_parts_may_be_killed():
    with Installation(isolate="require") as house:
        house.folder.chmod(0o711)
        settings = parse_settings(house.settings.read_text(), house.settings)
        uids = server_uids(settings, Users(base=settings.uid_base, own=0))
        said = watch(house, uids["digits"], "--once", "--json")
        assert said.returncode == 0, said.stderr
        answer = json.loads(said.stdout)
        assert answer["principal"] == f"spiffe://{TRUST_DOMAIN}/server/serve/digits"
        assert answer["model"].startswith("sha256:") and len(answer["lineage"]) == 64
        assert (answer["certificates"], answer["bundle"], answer["crls"]) >= (2, 1, 1)
        token = watch(house, uids["chat"], "--jwt", "them")
        assert token.returncode == 0 and token.stdout.count(".") == 2
        stranger = watch(house, 54_321, "--once")
        assert stranger.returncode == 1 and "no registration matches" in stranger.stderr
        for name in ("agent", "control", "signer"):
            house.send(name, signal.SIGKILL)
            end = time.monotonic() + 20
            while (again := watch(house, uids["digits"], "--once", "--json")).returncode:
                assert time.monotonic() < end, (name, again.stderr, house.logged(name))
            assert json.loads(again.stdout)["principal"] == answer["principal"]
        log = house.client.get(AuditPage, "/api/v1/audit/entries", start=0, count=500)
        text = json.dumps([one if isinstance(one, str) else str(one) for one in log.entries])
        assert answer["serial"] in text and "not-registered" in text

"""Layout: where each process keeps its things below the data directory, and which uid owns them.

Rules
1. Each process has one folder, 0711, owned by its uid; files in it are 0600. Sockets are 0666 and check their peer by SO_PEERCRED.
2. What one process reads of another has a group for exactly that: the tailer reads the gateway's log folder.
3. The content store may be entered by its owner, and where the settings say so by one group or everybody; what is kept there is read-only.
4. A model server's socket lies in a 0700 folder of the gateway's uid; the listening descriptor is handed down to the server.
"""

from __future__ import annotations

from pathlib import Path

from vouchgate.vocabulary.processes import Folder
from vouchgate.vocabulary.settings import FIRST_SERVER_OFFSET
from vouchgate.vocabulary.wire import Noun

OFFSETS = {"signer": 1, "control": 2, "pdp": 3, "gateway": 4, "tailer": 5, "scanner": 6, "witness": 7, "agent": 8, "sts": 9}
"""Uid of each process, counted from `uid_base`."""
NOBODY = -1
"""Readers of the content store."""


class Users(Noun, frozen=True, kw_only=True):
    """The uids of the process tree; `base` None where everybody shares the caller's uid."""

    base: int | None
    own: int
    """The caller's uid."""

    @property
    def isolated(self) -> bool:
        """Whether each process has a uid of its own."""
        return self.base is not None

    def of(self, name: str) -> int:
        """Uid of a named process."""
        return self.own if self.base is None else self.base + OFFSETS[name]

    def server(self, number: int) -> int:
        """Uid of the n-th model server, from 0."""
        return self.own if self.base is None else self.base + FIRST_SERVER_OFFSET + number

    def drop_to(self, name: str) -> int | None:
        """Uid to start a process under; None where it stays the caller's."""
        return None if self.base is None else self.of(name)


class Layout:
    """Paths below one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.signer = data_dir / "signer"
        self.signer_socket = self.signer / "signer.sock"
        self.control = data_dir / "control"
        self.control_socket = self.control / "control.sock"
        self.api_socket = self.control / "api.sock"
        self.ads_socket = self.control / "ads.sock"
        self.settings = self.control / "settings.json"
        self.store = self.control / "store.db"
        self.staging = self.control / "staging"
        self.artifacts = self.control / "artifacts"
        self.pdp = data_dir / "pdp"
        self.pdp_socket = self.pdp / "pdp.sock"
        self.ext_authz_socket = self.pdp / "ext_authz.sock"
        self.authzen_socket = self.pdp / "authzen.sock"
        self.applications = self.pdp / "applications.json"
        self.gateway = data_dir / "gateway"
        self.bootstrap = self.gateway / "bootstrap.json"
        self.admin_socket = self.gateway / "admin.sock"
        self.gateway_logs = self.gateway / "logs"
        self.access_log = self.gateway_logs / "access.log"
        self.witness = data_dir / "witness"
        self.witness_socket = self.witness / "witness.sock"
        self.agent = data_dir / "agent"
        self.agent_socket = self.agent / "agent.sock"
        self.workload_socket = self.agent / "workload.sock"
        self.sts = data_dir / "sts"
        self.sts_socket = self.sts / "sts.sock"
        self.supervisor = data_dir / "supervisor"
        self.supervisor_socket = self.supervisor / "supervisor.sock"
        self.upstreams = data_dir / "upstreams"
        self.logs = data_dir / "logs"
        self.trust_root = data_dir / "trust-root.json"
        self.marker = data_dir / "vouchgate.json"

    def upstream_socket(self, name: str) -> Path:
        """Socket of a model server that vouchgate starts."""
        return self.upstreams / name / "server.sock"

    def folders(self, users: Users, *, readers: int | None = NOBODY) -> list[Folder]:
        """Every folder with its owner and mode, parents first. `readers` of the content store: `NOBODY`, a group's number, None for everybody."""

        def own(path: Path, name: str, mode: int = 0o711) -> Folder:
            return Folder(path=str(path), mode=mode, uid=users.of(name), gid=users.of(name))

        return [
            Folder(path=str(self.data_dir), mode=0o711, uid=users.own),
            own(self.signer, "signer"),
            own(self.control, "control"),
            own(self.staging, "control", 0o700),
            self._artifacts(users, readers),
            own(self.pdp, "pdp"),
            own(self.gateway, "gateway"),
            Folder(path=str(self.gateway_logs), mode=0o2750, uid=users.of("gateway"), gid=users.of("tailer")),
            own(self.witness, "witness"),
            own(self.agent, "agent"),
            own(self.sts, "sts"),
            Folder(path=str(self.supervisor), mode=0o711, uid=users.own),
            Folder(path=str(self.upstreams), mode=0o711, uid=users.own),
            Folder(path=str(self.logs), mode=0o700, uid=users.own),
        ]

    def _artifacts(self, users: Users, readers: int | None) -> Folder:
        """Rule 3: may be entered, and not listed."""
        owner = users.of("control")
        mode = 0o711 if readers is None else 0o700 if readers == NOBODY else 0o710
        return Folder(path=str(self.artifacts), mode=mode, uid=owner, gid=readers if readers is not None and readers != NOBODY else owner)

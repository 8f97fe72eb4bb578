"""What the commands that work without a control plane need of the process tree, loaded only when one of them runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from vouchgate.vocabulary.answers_upkeep import DoctorCheck, InitOutcome, RestoreOutcome
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.vouches import UnixMillis

if TYPE_CHECKING:
    from vouchgate.flows.scan_artifacts import Scanned, Wanted
    from vouchgate.scanning.settings import ScanSettings

Ask = Callable[[str], bytearray | None]
"""Ask at the terminal, without showing what is typed; None where there is no terminal."""


class Scan(Protocol):
    """A scan that is under way."""

    @property
    def count(self) -> int:
        """Artifacts."""

    @property
    def size(self) -> int:
        """Bytes of all of them, as they were found."""

    def results(self) -> Iterator[Scanned]:
        """Each artifact's, in the order of the paths."""


class Folder(Protocol):
    """A folder as one stream, read once; `size` is its length in bytes."""

    size: int

    def read(self, count: int = -1) -> bytes:
        """At most `count` bytes; nothing at the end."""


class Installation(Protocol):
    """Functions of `edges.processes.installation`; a test holds their parameters against these."""

    def up(self, settings: Settings, path: Path, ask: Ask) -> int:
        """Run the process tree in the foreground until it is ended; `path` is the settings file. Returns the exit code."""

    def init(self, settings: Settings, path: Path, ask: Ask) -> InitOutcome:
        """Make keys and store; `path` is the settings file. Raises `Conflict` where there are some."""

    def renew_ca(self, settings: Settings, ask: Ask) -> None:
        """A new certificate for the CA's key."""

    def renew_trust(
        self, settings: Settings, root_key: Path, ask: Ask, *, producers: Sequence[tuple[str, Path]] = (), dropped: Sequence[str] = ()
    ) -> InitOutcome:
        """Sign the next TrustRoot with the offline root key."""

    def move_keys(self, settings: Settings, *, generate: bool, old_passphrase: Path | None, ask: Ask) -> str:
        """Move the signer's keys to where the settings say; where they lay."""

    def change_passphrase(self, settings: Settings, *, old_passphrase: Path | None, new_passphrase: Path | None, ask: Ask) -> None:
        """Replace the passphrase of the signer's keys."""

    def forget_passphrase(self, settings: Settings) -> None:
        """Empty the kernel's keyring."""

    def try_pin(self, settings: Settings) -> None:
        """Let one PIN be tried again after the token refused one."""

    def restore(self, settings: Settings, backup: Path, *, revocations: Path | None, plan: bool) -> RestoreOutcome:
        """Put a backup back, or with `plan` say what would be."""

    def doctor(self, settings: Settings | None) -> list[DoctorCheck]:
        """Check machine and installation; without settings only the machine."""

    def scan(self, paths: Sequence[str], wanted: Wanted) -> AbstractContextManager[Scan]:
        """Scan files, folders and addresses in the scanner's processes. Raises `NotFound` for a path that cannot be read."""

    def scan_settings(self, path: Path) -> ScanSettings:
        """The bounds that a file asks for. Raises `InvalidInput`."""

    def allowances(self, files: Sequence[Path], trust_root: Path, root: str) -> tuple[Mapping[str, Any], list[str], int]:
        """What envelopes allow, by digest; why others do not count; the TrustRoot's version. Raises `Unverified`, `InvalidInput`."""

    def folder(self, path: str) -> AbstractContextManager[Folder]:
        """A folder that is one artifact, to be sent. Raises `NotFound`, `InvalidInput`, `LimitExceeded`."""

    def now(self) -> UnixMillis:
        """The time on this machine."""

    def disarm(self, path: Path, out: Path, *, bits: int = 0, target: str = "", report: Path | None = None) -> Any:
        """Rebuild a model file without running it; the `Rebuilding` of flows/disarm_artifact.py. Raises where nothing can be recovered."""


def installation() -> Installation:
    """`edges.processes.installation`."""
    return cast(Installation, import_module("vouchgate.edges.processes.installation"))

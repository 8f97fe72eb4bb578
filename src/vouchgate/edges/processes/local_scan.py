"""A scan on this machine, without a control plane: the warm scanner as this user, over the paths that were named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from vouchgate import wiring
from vouchgate.vocabulary.vouches import UnixMillis

if TYPE_CHECKING:
    from vouchgate.flows.scan_artifacts import Allowed, Artifact, Reader, Scanned
    from vouchgate.scanning.knowledge.entries import Entry


class LocalScan:
    """Artifacts that were found, and the reader of each."""

    def __init__(self, found: list[Artifact], reader: Reader, *, jobs: int, deep: bool, allowed: Allowed) -> None:
        self._found, self._reader, self._jobs, self._deep, self._allowed = found, reader, jobs, deep, allowed

    @property
    def count(self) -> int:
        """Artifacts."""
        return len(self._found)

    @property
    def size(self) -> int:
        """Bytes of all of them, as they were found."""
        return sum(artifact.size for artifact in self._found)

    def results(self) -> Iterator[Scanned]:
        """Each artifact's, in the order of the paths."""
        from vouchgate.flows.scan_artifacts import scan_all, scan_artifact

        one = partial(scan_artifact, reader=self._reader, folder_file=wiring.folder_file, deep=self._deep, allowed=self._allowed)
        return scan_all(self._found, one, jobs=self._jobs)


def now() -> UnixMillis:
    """The time on this machine."""
    return wiring.clock().now()


@contextmanager
def scan(paths: Sequence[str], *, jobs: int, deep: bool, allowed: Allowed = MappingProxyType({})) -> Iterator[LocalScan]:
    """Everything is found before the first artifact is read. Raises `NotFound`, `InvalidInput`."""
    from vouchgate.flows.scan_artifacts import artifacts

    with ExitStack() as stack:
        places = [wiring.scan_place(path) for path in paths]
        for place in places:
            stack.callback(place.close)
        found = [artifact for place in places for artifact in artifacts(place)]
        yield LocalScan(found, stack.enter_context(wiring.warm_scanner()), jobs=jobs, deep=deep, allowed=allowed)


def allowances(files: Sequence[Path], trust_root: Path, root: str) -> tuple[dict[str, tuple[Entry, ...]], list[str]]:
    """What these envelopes allow under this TrustRoot, whose root keys have the fingerprint `root`. Raises `Unverified`, `InvalidInput`."""
    from vouchgate.evidence.trustroot import verify_trust_root
    from vouchgate.flows.allowances import given
    from vouchgate.vocabulary import wire
    from vouchgate.vocabulary.trust import SignedTrustRoot

    signed = wire.decode(SignedTrustRoot, wiring.read_small(trust_root, "TrustRoot"), what="TrustRoot")
    checked = verify_trust_root(signed, root, now())
    return given([wiring.read_small(file, "allowance") for file in files], checked, now())

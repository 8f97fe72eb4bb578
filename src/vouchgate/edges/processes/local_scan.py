"""A scan on this machine, without a control plane: the warm scanner as this user, over the paths that were named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vouchgate import wiring
from vouchgate.vocabulary.vouches import UnixMillis

if TYPE_CHECKING:
    from vouchgate.flows.scan_artifacts import Artifact, Reader, Scanned, Wanted
    from vouchgate.scanning.knowledge.entries import Entry
    from vouchgate.scanning.settings import ScanSettings


class LocalScan:
    """Artifacts that were found, and the reader of each."""

    def __init__(self, found: list[Artifact], reader: Reader, wanted: Wanted) -> None:
        self._found, self._reader, self._wanted = found, reader, wanted

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

        wanted = self._wanted
        one = partial(
            scan_artifact,
            reader=self._reader,
            folder_file=wiring.folder_file,
            settings=wanted.settings,
            deep=wanted.deep,
            allowed=wanted.allowed,
        )
        return scan_all(self._found, one, jobs=wanted.jobs)


def now() -> UnixMillis:
    """The time on this machine."""
    return wiring.clock().now()


@contextmanager
def scan(paths: Sequence[str], wanted: Wanted) -> Iterator[LocalScan]:
    """Everything is found before the first artifact is read. Raises `NotFound`, `InvalidInput`, `NotPermitted`, and what asking a server raises."""
    from vouchgate.flows.scan_artifacts import artifacts

    with ExitStack() as stack:
        cache = wiring.scan_cache(wanted.cache, wanted.trust_root) if wanted.cache else None
        if cache is not None:
            stack.callback(cache.close)
        places = [stack.enter_context(wiring.opened_place(path, wanted.remote, deep=wanted.deep)) for path in paths]
        found = [artifact for place in places for artifact in artifacts(place)]
        yield LocalScan(found, stack.enter_context(wiring.warm_scanner(cache=cache, explain=wanted.explain)), wanted)


def scan_settings(path: Path) -> ScanSettings:
    """The bounds that a file asks for. Raises `InvalidInput`."""
    from vouchgate.scanning.settings_file import chosen

    return chosen(wiring.read_small(path, "settings of the scan"))


def allowances(files: Sequence[Path], trust_root: Path, root: str) -> tuple[dict[str, tuple[Entry, ...]], list[str], int]:
    """What these envelopes allow under this TrustRoot, whose root keys have the fingerprint `root`; why others do not; the TrustRoot's version.

    Raises `Unverified`, `InvalidInput`.
    """
    from vouchgate.evidence.trustroot import verify_trust_root
    from vouchgate.flows.allowances import given
    from vouchgate.vocabulary import wire
    from vouchgate.vocabulary.trust import SignedTrustRoot

    signed = wire.decode(SignedTrustRoot, wiring.read_small(trust_root, "TrustRoot"), what="TrustRoot")
    checked = verify_trust_root(signed, root, now())
    return (*given([wiring.read_small(file, "allowance") for file in files], checked, now()), checked.version)

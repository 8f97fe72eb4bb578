"""Artifacts of an MLflow server: where a version's lie, what they are, and that what went live is not written to any more.

Rules
1. Only artifacts that this server stores are looked at: behind its proxy, or below a place that the settings name. A version may name any address
   as its source, and a gate that fetched it would be the sender's errand boy. An address that names a host, or that a client could read otherwise
   than this server does (escapes, queries, empty steps), would be one content to the gate and another to who loads it, so it is none.
2. What a version is is the digest of its folder's files (or of its file), computed here. Links, devices and changing files are refused.
3. Two locations concern each other where one is the other or lies above it. They are compared in one spelling: a local path without links, any
   other address decoded, normalised and without regard to case, so that two spellings are rather taken for one than one for two.
4. Every way by which an artifact store can be written to says first where it writes, and is refused where that concerns a version that went live or
   is about to. Ways that are not known here end the server's start.
5. An address that lets somebody write to the store past this server (a presigned upload) is not handed out: nothing could hold it back later.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import posixpath
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from vouchgate import wiring
from vouchgate.evidence.merkle import content_digest
from vouchgate.flows.measure import Measuring, measure
from vouchgate.integrations.mlflow_gate_ledger import Ledger
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, InvalidSettings, LimitExceeded, NotPermitted

MAX_FILES = 100_000
"""Files of one version that are fetched from a store elsewhere."""
WRITES = frozenset(
    [
        "log_artifact",
        "log_artifacts",
        "log_artifact_from_stream",
        "log_artifact_from_async_stream",
        "delete_artifacts",
        "create_multipart_upload",
        "complete_multipart_upload",
        "upload_trace_data",
        "upload_archived_trace_data",
        "upload_archived_trace_data_bytes",
        "upload_attachment",
    ]
)
PAST_US = frozenset({"create_presigned_upload_url"})
PARTS_SCHEME = "s3"
"""Stores whose parts count for nothing until this server completes the upload. Elsewhere a part's address may itself end one (Azure's do)."""
HARMLESS = frozenset(
    [
        "flush_async_logging",
        "list_artifacts",
        "get_local_path",
        "download_artifacts",
        "max_workers",
        "download_trace_data_to_file",
        "download_trace_data",
        "download_archived_trace_data",
        "download_trace_attachment_to_file",
        "download_trace_attachment",
        "abort_multipart_upload",
        "get_download_presigned_url",
    ]
)
ELSEWHERE = frozenset({"http", "https", "mlflow-artifacts", "models", "runs"})
"""Schemes that lead to a server, this one or another, and not to a store."""


class Artifacts:
    """One server's. `sources` are places outside of the proxy at which versions may lie; `max_bytes` bounds what is fetched to be measured."""

    def __init__(self, ledger: Ledger, sources: tuple[str, ...], max_bytes: int) -> None:
        self._ledger, self._max_bytes = ledger, max_bytes
        self._sources = tuple(spelled(one) for one in sources)

    def location(self, uri: str) -> str:
        """The one spelling of where a version's artifacts lie. Raises `NotPermitted` (rule 1)."""
        repository, path = self._found(uri)
        return spelled(repository.artifact_uri, path)

    def digest(self, uri: str) -> Digest:
        """Rule 2. Raises `NotPermitted`, `InvalidInput`, `NotFound`, `LimitExceeded`, `Unavailable`."""
        repository, path = self._found(uri)
        local = _local(spelled(repository.artifact_uri, path))
        if local is not None:
            return _measured(local)
        self._check_size(repository, path)
        with tempfile.TemporaryDirectory(prefix="vouchgate-gate-") as folder:
            return _measured(repository.download_artifacts(path, folder))

    def _found(self, uri: str) -> tuple[Any, str]:
        """The store and the path in it (rule 1)."""
        from mlflow.server import handlers
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        parts = urlsplit(uri)
        if is_plain(uri) and parts.scheme == "mlflow-artifacts" and not parts.netloc:
            if handlers._is_servable_proxied_run_artifact_root(uri):
                path = handlers._get_proxied_run_artifact_destination_path(proxied_artifact_root=uri)
                return handlers._get_artifact_repo_mlflow_artifacts(), path
        elif is_plain(uri) and parts.scheme not in ELSEWHERE:
            place = spelled(uri)
            if any(_below(place, source) for source in self._sources):
                return get_artifact_repository(uri), ""
        raise NotPermitted(
            f"the version's source `{uri[:200]}` is not stored by this server",
            remedy="log the model through this server's artifact proxy, or name the place in VOUCHGATE_MLFLOW_SOURCES",
        )

    def _check_size(self, repository: Any, path: str) -> None:
        """Before anything is fetched."""
        files, size, waiting = 0, 0, [path]
        while waiting:
            for one in repository.list_artifacts(waiting.pop() or None):
                if one.is_dir:
                    waiting.append(one.path)
                files, size = files + 1, size + (one.file_size or 0)
                if files > MAX_FILES or size > self._max_bytes:
                    raise LimitExceeded(
                        f"the version has more than {MAX_FILES} files or {self._max_bytes} bytes", remedy="raise VOUCHGATE_MLFLOW_MAX_GIB"
                    )

    # -- rule 4

    def guard_stores(self, registry: Any) -> None:
        """From here on every store that this process opens refuses what rules 4 and 5 refuse. Raises `InvalidSettings` for unknown ways."""
        check_known_ways()
        opens = registry.get_artifact_repository

        @functools.wraps(opens)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self._guarded(opens(*args, **kwargs))

        registry.get_artifact_repository = guarded

    def _guarded(self, repository: Any) -> Any:
        for name in WRITES | PAST_US:
            way = getattr(repository, name, None)
            if way is not None:
                past = name in PAST_US or (
                    name == "create_multipart_upload" and urlsplit(str(repository.artifact_uri)).scheme != PARTS_SCHEME
                )
                setattr(repository, name, self._refusing(name) if past else self._announced(repository, way))
        return repository

    def _announced(self, repository: Any, way: Callable[..., Any]) -> Callable[..., Any]:
        names = inspect.signature(way)

        def where(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
            given = names.bind(*args, **kwargs).arguments
            file = given.get("local_file") or given.get("artifact_file_name") or given.get("file_name") or ""
            return spelled(repository.artifact_uri, given.get("artifact_path") or "", posixpath.basename(str(file)))

        if inspect.iscoroutinefunction(way):

            @functools.wraps(way)
            async def later(*args: Any, **kwargs: Any) -> Any:
                with self.writing(where(args, kwargs)):
                    return await way(*args, **kwargs)

            return later

        @functools.wraps(way)
        def now(*args: Any, **kwargs: Any) -> Any:
            with self.writing(where(args, kwargs)):
                return way(*args, **kwargs)

        return now

    @contextlib.contextmanager
    def writing(self, location: str) -> Iterator[None]:
        """Rule 4. Raises MLflow's own error, which its handlers answer as 403."""
        with self._ledger.say("writing", location), refusals():
            if any(concern(one, location) for one in self._ledger.said("going-live")):
                raise Conflict(f"`{location[:300]}` belongs to a version that is going live", remedy="register a new version")
            for one in self._ledger.live():
                if concern(one.location, location):
                    raise Conflict(
                        f"`{location[:300]}` belongs to version {one.version} of `{one.name}`, which went live",
                        remedy="log it again and register a new version, or delete that version first",
                    )
            yield

    def _refusing(self, name: str) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            with refusals():
                raise NotPermitted(f"`{name}` would let artifacts be written past this server", remedy="upload through the server")

        return refuse


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Our errors as MLflow's: whatever is refused is answered 403 with reason and remedy."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    from vouchgate.vocabulary.errors import VouchgateError

    try:
        yield
    except VouchgateError as error:
        told = f"{error.reason}; {error.remedy}" if error.remedy else error.reason
        raise MlflowException(f"vouchgate: {told}", error_code=PERMISSION_DENIED) from None


def check_known_ways() -> None:
    """Rule 4: what MLflow's artifact stores can do is what is known here. Raises `InvalidSettings`."""
    from mlflow.store.artifact import artifact_repo

    kinds = [one for one in vars(artifact_repo).values() if inspect.isclass(one) and one.__module__ == artifact_repo.__name__]
    ways = {name for kind in kinds for name in vars(kind) if not name.startswith("_") and not issubclass(kind, Exception)}
    unknown = sorted(ways - WRITES - PAST_US - HARMLESS)
    if unknown:
        raise InvalidSettings(
            f"this MLflow's artifact stores have ways that the gate does not know: {', '.join(unknown)[:300]}",
            remedy="use a version of MLflow that docs/gates.md names, or a newer vouchgate",
        )


def spelled(uri: str, *below: str) -> str:
    """Rule 3: `file:` and an absolute path without links, or scheme, host and path of any other address."""
    parts = urlsplit(str(uri))
    if parts.scheme in ("", "file"):
        path = Path(unquote(parts.path) if parts.scheme else str(uri)).joinpath(*(one.lstrip("/") for one in below if one))
        return "file:" + str(path.resolve())
    path_text = unquote(posixpath.join("/", parts.path.lstrip("/"), *(one.lstrip("/") for one in below if one)))
    return f"{parts.scheme}://{parts.netloc}{posixpath.normpath(path_text)}".casefold()


def concern(one: str, other: str) -> bool:
    """Rule 3."""
    return _below(one, other) or _below(other, one)


def _below(place: str, above: str) -> bool:
    return place == above or place.startswith(above.rstrip("/") + "/")


def is_plain(uri: str) -> bool:
    """Whether everybody reads an address the same way (rule 1)."""
    if not uri.isprintable() or any(one in uri for one in "%?#\\"):
        return False
    steps = urlsplit(uri).path.removeprefix("/").split("/")
    return all(step not in ("", ".", "..") for step in steps)


def _local(location: str) -> str | None:
    return location.removeprefix("file:") if location.startswith("file:") else None


def _measured(path: str) -> Digest:
    with closing(wiring.local_place(path)) as place:
        digest = content_digest(measure(place, Measuring(tensors=False)))
    if digest.size == 0:
        raise InvalidInput(f"`{path}` holds nothing", remedy="log the model again")
    return digest

"""Lock files: which archives an installer was bound to, by hash.

Rules
1. Read are pylock.toml (PEP 751), uv.lock and poetry.lock (TOML), and requirements files with `--hash` (pip, "Hash-checking mode").
2. Only what is pinned to one version with a SHA-256 locks anything. A line without is told, and locks nothing.
3. PEP 751 can say who publishes a package (`attestation-identities`); that pins a publisher as the command line does.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Protocol

from vouchgate.evidence.bom.python import comparable, normalised
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.wire import Noun

MAX_LOCK_BYTES = 64 * 1024 * 1024
"""Bytes of one lock file; large ones have some 2 MiB."""
GITHUB, GITLAB, GOOGLE = "https://token.actions.githubusercontent.com", "https://gitlab.com", "https://accounts.google.com"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_REMEDY = "write the lock file again with its own tool"


class Signer(Protocol):
    """Who signed for an archive, as the certificate names it."""

    @property
    def identity(self) -> str: ...
    @property
    def issuer(self) -> str: ...
    @property
    def repository(self) -> str: ...


class Locked(Noun, frozen=True, kw_only=True):
    """One version of one package, and the archives that may be installed for it."""

    name: str
    version: str
    archives: tuple[tuple[str, str], ...]
    """(file name, SHA-256); the name is empty where the lock has none."""
    identities: tuple[dict[str, str], ...] = ()
    """Rule 3."""


def read_lock(data: bytes) -> tuple[tuple[Locked, ...], tuple[str, ...]]:
    """What is locked, and which lines lock nothing. Raises `InvalidInput`."""
    if len(data) > MAX_LOCK_BYTES:
        raise InvalidInput(f"the lock file has {len(data)} bytes, the bound is {MAX_LOCK_BYTES}", remedy=_REMEDY)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput("the lock file is no UTF-8", remedy=_REMEDY) from None
    try:
        wire = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return _requirements(text)
    packages = wire.get("packages", wire.get("package"))
    if not isinstance(packages, list) or not packages:
        raise InvalidInput(
            "the lock file is none that is known", remedy="name pylock.toml, uv.lock, poetry.lock or requirements with hashes"
        )
    found = [_package(one) for one in packages if isinstance(one, dict)]
    return tuple(one for one in found if one.archives), tuple(f"{one.name} has no hash" for one in found if not one.archives)


def fits(publisher: Signer, identity: Mapping[str, str]) -> bool:
    """Whether a publisher is the one that a lock file or a person named (PEP 751, `attestation-identities`; kinds of the index)."""
    kind, repository = identity.get("kind", "").lower(), identity.get("repository", "").strip("/").lower()
    workflow = identity.get("workflow", identity.get("workflow_filepath", ""))
    if kind == "google":
        return publisher.issuer == GOOGLE and bool(identity.get("email")) and publisher.identity == identity["email"]
    issuer, host, between = {"github": (GITHUB, "https://github.com", "/.github/workflows/"), "gitlab": (GITLAB, GITLAB, "//")}.get(
        kind, ("", "", "")
    )
    if not issuer or publisher.issuer != issuer or not repository or publisher.repository.lower() != f"{host}/{repository}":
        return False
    begin = f"{host}/{repository}{between}{workflow}@".lower() if workflow else f"{host}/{repository}/".lower()
    return publisher.identity.lower().startswith(begin)


def identity_of(text: str) -> dict[str, str]:
    """`https://github.com/owner/name` or `https://gitlab.com/group/name` as an identity; any workflow of it. Raises `InvalidInput`."""
    for host, kind in (("https://github.com/", "GitHub"), ("https://gitlab.com/", "GitLab")):
        if text.startswith(host) and text.removeprefix(host).count("/") >= 1:
            return {"kind": kind, "repository": text.removeprefix(host)}
    raise InvalidInput(f"`{text[:100]}` is no repository", remedy="name it as https://github.com/owner/name")


def _package(wire: Mapping[str, Any]) -> Locked:
    """PEP 751: `wheels`, `sdist`, `archive` with `hashes`; uv: the same with `hash`; poetry: `files`."""
    name, version = wire.get("name"), wire.get("version", "")
    if not isinstance(name, str) or not isinstance(version, str):
        raise InvalidInput("a package of the lock file has no name", remedy=_REMEDY)
    parts = [*_list(wire.get("wheels")), *_list(wire.get("files")), wire.get("sdist"), wire.get("archive")]
    archives = [(_file(one), _hash(one)) for one in parts if isinstance(one, dict)]
    said = [
        {str(key): value for key, value in one.items() if isinstance(value, str)}
        for one in _list(wire.get("attestation-identities"))
        if isinstance(one, dict)
    ]
    return Locked(
        name=normalised(name),
        version=comparable(version),
        archives=tuple(one for one in archives if one[1] and version),
        identities=tuple(said),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _file(wire: Mapping[str, Any]) -> str:
    text = next((wire[key] for key in ("name", "file", "url", "path") if isinstance(wire.get(key), str)), "")
    return text.split("#")[0].split("?")[0].rpartition("/")[2]


def _hash(wire: Mapping[str, Any]) -> str:
    hashes, alone = wire.get("hashes"), wire.get("hash")
    found = hashes.get("sha256") if isinstance(hashes, dict) else alone.removeprefix("sha256:") if isinstance(alone, str) else ""
    return found if isinstance(found, str) and _SHA256.match(found) else ""


def _requirements(text: str) -> tuple[tuple[Locked, ...], tuple[str, ...]]:
    """pip's requirements file format: `name==version ; marker --hash=sha256:...`, continued by a backslash."""
    found: list[Locked] = []
    notes: list[str] = []
    for line in _lines(text):
        if line.startswith("-"):
            continue
        said, _, options = line.partition(" --")
        one = _pinned(said, _hashes(f"--{options}" if options else ""))
        if one is None:
            notes.append(f"`{said.strip()[:80]}` is not pinned to one version with a SHA-256")
        else:
            found.append(one)
    if not found:
        raise InvalidInput(
            "the lock file locks nothing by hash", remedy="name pylock.toml, uv.lock, poetry.lock or requirements with hashes"
        )
    return tuple(found), tuple(notes)


def _lines(text: str) -> Iterable[str]:
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        bare = re.sub(r"(^|\s)#.*", "", line).strip()
        if bare:
            yield re.sub(r"\s+", " ", bare)


def _hashes(options: str) -> list[str]:
    try:
        words = shlex.split(options)
    except ValueError:
        return []
    pairs = pairwise([*words, ""])
    given = [word.partition("=")[2] or following for word, following in pairs if word == "--hash" or word.startswith("--hash=")]
    return [one.removeprefix("sha256:") for one in given if one.startswith("sha256:") and _SHA256.match(one[7:])]


def _pinned(text: str, hashes: list[str]) -> Locked | None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    pins = list(requirement.specifier)
    if len(pins) != 1 or pins[0].operator not in ("==", "===") or pins[0].version.endswith(".*") or not hashes:
        return None
    return Locked(name=normalised(requirement.name), version=comparable(pins[0].version), archives=tuple(("", one) for one in hashes))

"""SLSA provenance v1 (slsa.dev/spec/v1.0/provenance, and "Verifying artifacts"): which builder made which bytes from which source; read and checked.

Rules
1. The statement is in-toto v1 with predicate `https://slsa.dev/provenance/v1`. Members that are not known are passed over (the specification lets
   producers add them); the ones that decide are each required.
2. The builder's id and, where the verifier names some, the build's type are the verifier's, exactly.
3. The source is what the build was told to build from, not what it happened to fetch: of a build type whose parameters are known it is read from
   them, and it has to be among the resolved dependencies with a commit. Of another build type the source cannot be told, and it is refused.
4. The source is one that the verifier allows, exactly, whatever the commit. A certificate that names a repository names this one.
5. Every file of the artifact is a subject, by its path and SHA-256; an artifact of one file by its SHA-256 alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vouchgate.evidence.statement import STATEMENT_TYPE
from vouchgate.evidence.strict_documents import member, parse
from vouchgate.vocabulary.errors import InvalidInput, Unverified

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
MAX_STATEMENT_BYTES = 16 * 1024 * 1024
"""Bytes of a statement: 65,536 subjects with long names."""
MAX_SUBJECTS = 65_536
MAX_DEPENDENCIES = 65_536
MAX_TEXT = 2048
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")
_WORKFLOWS = frozenset(
    {"https://actions.github.io/buildtypes/workflow/v1", "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1"}
)
"""GitHub Actions: `externalParameters.workflow.repository`."""
_WHAT = "provenance"
_REMEDY = "ask the builder for SLSA provenance v1 of exactly these files"


@dataclass(frozen=True)
class Provenance:
    """What a builder says; nobody has believed it yet."""

    builder: str
    build_type: str
    source: str
    """URI of the repository."""
    commit: str
    invocation: str
    subjects: Mapping[str, frozenset[str]]
    """SHA-256 -> the names it is given for."""


def read_provenance(payload: bytes) -> Provenance:
    """Rules 1 and 3. Raises `InvalidInput`, `Unverified`."""
    statement = parse(payload, limit=MAX_STATEMENT_BYTES, what=_WHAT)
    kinds = (member(statement, "_type", str, _WHAT), member(statement, "predicateType", str, _WHAT))
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise InvalidInput(f"the signature is over `{kinds[1][:100]}`, not over {PREDICATE_TYPE}", remedy=_REMEDY)
    predicate = member(statement, "predicate", dict, _WHAT)
    definition, details = member(predicate, "buildDefinition", dict, _WHAT), member(predicate, "runDetails", dict, _WHAT)
    build_type = _text(definition, "buildType")
    source = _source(build_type, member(definition, "externalParameters", dict, _WHAT))
    metadata = details.get("metadata")
    invocation = metadata.get("invocationId") if isinstance(metadata, dict) else None
    return Provenance(
        builder=_text(member(details, "builder", dict, _WHAT), "id"),
        build_type=build_type,
        source=source,
        commit=_commit(source, definition.get("resolvedDependencies")),
        invocation=invocation[:MAX_TEXT] if isinstance(invocation, str) else "",
        subjects=_subjects(member(statement, "subject", list, _WHAT)),
    )


def check_provenance(
    said: Provenance, *, builder: str, sources: Sequence[str], build_types: Sequence[str] = (), certified: Mapping[str, str] | None = None
) -> None:
    """Rules 2 and 4; `certified` is what a certificate of a build says. Raises `Unverified`."""
    if said.builder != builder:
        raise Unverified(f"it was built by `{said.builder[:200]}`, not by `{builder[:200]}`", remedy="ask who was meant to build it")
    if build_types and said.build_type not in build_types:
        raise Unverified(f"it was built as `{said.build_type[:200]}`, which is not taken", remedy="name that build type in [[builders]]")
    if said.source not in {_plain(one) for one in sources}:
        raise Unverified(
            f"it was built from `{said.source[:200]}`, which is not among the sources allowed", remedy="ask what was built there"
        )
    named, commit = (certified or {}).get("repository", ""), (certified or {}).get("commit", "")
    if (named and _plain(named) != said.source) or (commit and commit != said.commit):
        raise Unverified(
            f"the certificate is of a build of `{named[:200]}` at `{commit[:64]}`, and the provenance tells of another",
            remedy="treat it as forged: a build may only tell of itself",
        )


def check_covers(said: Provenance, files: Mapping[str, str]) -> None:
    """Rule 5; `files` are paths and SHA-256, with the empty path for an artifact that is one file. Raises `Unverified`."""
    for path, digest in files.items():
        names = said.subjects.get(digest)
        if names is None or (path and path not in names):
            raise Unverified(f"`{path or 'the file'}` is not what the provenance is about"[:400], remedy=_REMEDY)


def _source(build_type: str, parameters: dict[str, Any]) -> str:
    """Rule 3."""
    if build_type in _WORKFLOWS:
        return _plain(_text(member(parameters, "workflow", dict, _WHAT), "repository"))
    found = parameters.get("source")
    if isinstance(found, dict):
        found = found.get("uri") or found.get("repository")
    if isinstance(found, str) and 0 < len(found) <= MAX_TEXT:
        return _plain(found)
    raise Unverified(
        f"the source of a build of type `{build_type[:200]}` cannot be told",
        remedy="let the builder state it as `externalParameters.source`",
    )


def _commit(source: str, dependencies: Any) -> str:
    """Rule 3: the commit of the source among what was resolved."""
    if not isinstance(dependencies, list) or len(dependencies) > MAX_DEPENDENCIES:
        dependencies = []
    found = set()
    for one in dependencies:
        uri, digest = (one.get("uri"), one.get("digest")) if isinstance(one, dict) else (None, None)
        if isinstance(uri, str) and isinstance(digest, dict) and _plain(uri) == source:
            found |= {value for name in ("gitCommit", "sha1") if isinstance(value := digest.get(name), str) and _COMMIT.match(value)}
    if len(found) != 1:
        raise Unverified(f"the provenance does not name the one commit of `{source[:200]}` that was built", remedy=_REMEDY)
    return str(found.pop())


def _plain(uri: str) -> str:
    """A repository without how it is fetched and at which ref (SPDX download location): `git+https://host/path@ref` is `https://host/path`. Only
    with `git+` is what follows an `@` a ref; elsewhere it is part of the path."""
    scheme, separator, rest = uri.removeprefix("git+").partition("://")
    host, slash, path = rest.partition("/")
    path = path.partition("@")[0] if uri.startswith("git+") else path
    return f"{scheme}{separator}{host}{slash}{path.rstrip('/').removesuffix('.git')}"


def _subjects(wires: list[Any]) -> dict[str, frozenset[str]]:
    if not 1 <= len(wires) <= MAX_SUBJECTS:
        raise InvalidInput(f"the provenance has no subject, or more than {MAX_SUBJECTS}", remedy=_REMEDY)
    found: dict[str, set[str]] = {}
    for wire in wires:
        digest = member(wire, "digest", dict, _WHAT).get("sha256")
        name = wire.get("name")
        if isinstance(digest, str) and _HEX.match(digest):
            found.setdefault(digest, set()).add(name.removeprefix("./") if isinstance(name, str) else "")
    return {digest: frozenset(names) for digest, names in found.items()}


def _text(value: dict[str, Any], name: str) -> str:
    text: str = member(value, name, str, _WHAT)
    if not 0 < len(text) <= MAX_TEXT or not text.isprintable():
        raise InvalidInput(f"the provenance's `{name}` is empty, too long or cannot be shown", remedy=_REMEDY)
    return text

"""Settings of whose signatures and whose builds count as evidence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from vouchgate.vocabulary.wire import Noun

Complain = Callable[[tuple[str | int, ...], str, str], Any]
"""`(where, what, remedy) -> the error to raise` (settings_file.py)."""
MAX_SIGNERS = 64
"""Signers, and builders, of one installation: a bundle is held against one after the other."""
_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_KEY_ID = re.compile(r"[0-9a-f]{64}\Z")
_SIGNER_NEEDS = {"key": ("key_file",), "certificate": ("roots_file", "subject"), "sigstore": ("trusted_root", "identity", "issuer")}
_BUILDER_NEEDS = {"key": ("key_file",), "sigstore": ("trusted_root", "identity", "issuer")}
_FILES = ("key_file", "roots_file", "trusted_root")


class SignerSettings(Noun, frozen=True, kw_only=True):
    """[[signers]]"""

    name: Annotated[str, Meta(pattern=_NAME, description="How you call them; stands in the vouch.")]
    kind: Annotated[Literal["key", "certificate", "sigstore"], Meta(description="What they sign with.")]
    key_file: Annotated[str, Meta(description="key: their public key, PEM, P-256, P-384 or P-521.")] = ""
    roots_file: Annotated[str, Meta(description="certificate: PEM of the only roots of their certificate.")] = ""
    subject: Annotated[str, Meta(max_length=1024, description="certificate: its whole subject, such as CN=builder.")] = ""
    trusted_root: Annotated[str, Meta(description="sigstore: trusted_root.json of the instance that they sign through.")] = ""
    identity: Annotated[
        str,
        Meta(max_length=2048, description="sigstore: the mail address or URI of their certificate; a URI that ends in @* takes any ref."),
    ] = ""
    issuer: Annotated[str, Meta(max_length=2048, description="sigstore: the OpenID Connect provider of that identity.")] = ""
    same_as: Annotated[
        tuple[str, ...],
        Meta(max_length=16, description="Key ids of reviewers who are the same people: they may not answer for what this signer signed."),
    ] = ()
    days: Annotated[int, Meta(ge=1, le=365, description="Their signature counts this long before it is looked at again.")] = 90


class BuilderSettings(Noun, frozen=True, kw_only=True):
    """[[builders]]"""

    name: Annotated[str, Meta(pattern=_NAME, description="How you call it; stands in the vouch.")]
    kind: Annotated[Literal["key", "sigstore"], Meta(description="What it signs provenance with.")]
    builder: Annotated[str, Meta(min_length=1, max_length=2048, description="builder.id of its provenance, exactly.")]
    sources: Annotated[tuple[str, ...], Meta(min_length=1, max_length=256, description="Repositories that it may build from, as URIs.")]
    build_types: Annotated[
        tuple[str, ...], Meta(max_length=16, description="buildType of its provenance; empty: any whose source can be told.")
    ] = ()
    key_file: Annotated[str, Meta(description="key: its public key, PEM, Ed25519 or P-256, P-384, P-521.")] = ""
    trusted_root: Annotated[str, Meta(description="sigstore: trusted_root.json of the instance that it signs through.")] = ""
    identity: Annotated[
        str, Meta(max_length=2048, description="sigstore: the URI of its certificate; a URI that ends in @* takes any ref.")
    ] = ""
    issuer: Annotated[str, Meta(max_length=2048, description="sigstore: the OpenID Connect provider of that identity.")] = ""
    days: Annotated[int, Meta(ge=1, le=365, description="Its provenance counts this long before it is looked at again.")] = 90


def check_signers(signers: Sequence[SignerSettings], builders: Sequence[BuilderSettings], no: Complain) -> None:
    """What the types cannot say: each name once, and exactly what its kind needs. Raises by `no`."""
    tables: tuple[tuple[str, Sequence[Any], dict[str, tuple[str, ...]]], ...] = (
        ("signers", signers, _SIGNER_NEEDS),
        ("builders", builders, _BUILDER_NEEDS),
    )
    for table, many, needs in tables:
        if len(many) > MAX_SIGNERS:
            raise no((table,), f"{len(many)} are over the bound of {MAX_SIGNERS}", "take those away that you no longer take anything from")
        every = sorted({name for names in needs.values() for name in names})
        for number, one in enumerate(many):
            if one.name in [other.name for other in many[:number]]:
                raise no((table, number, "name"), "it is used twice", "each must be its own")
            for name in every:
                if bool(getattr(one, name)) != (name in needs[one.kind]):
                    what = "it is missing" if name in needs[one.kind] else f"it is nothing of a {one.kind}"
                    raise no((table, number, name), what, f"kind `{one.kind}` needs {', '.join(needs[one.kind])}")
    for number, signer in enumerate(signers):
        if not all(_KEY_ID.match(key) for key in signer.same_as):
            raise no(("signers", number, "same_as"), "it is no key id", "write the 64 hexadecimal digits of the reviewer's key")


def absolute_signers(signers: Sequence[SignerSettings], builders: Sequence[BuilderSettings], at: Callable[[str], str]) -> dict[str, Any]:
    """Files counted from the settings file."""

    def placed(one: Any) -> Any:
        return msgspec.structs.replace(one, **{name: at(getattr(one, name)) for name in _FILES if hasattr(one, name)})

    return {"signers": tuple(placed(one) for one in signers), "builders": tuple(placed(one) for one in builders)}


def files_of(signers: Sequence[SignerSettings], builders: Sequence[BuilderSettings]) -> tuple[str, ...]:
    """Every file that they name, once."""
    return tuple(sorted({getattr(one, name, "") for one in (*signers, *builders) for name in _FILES} - {""}))

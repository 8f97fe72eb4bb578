"""[authzen] and [[applications]]: deciding for enforcement points of others.

Rules
1. Nothing listens unless `enabled`; an application without it would never be asked.
2. An application has a name of its own; its files are read at the start, and checked as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from vouchgate.vocabulary.wire import Noun

Complain = Callable[[tuple[str | int, ...], str, str], Any]
MAX_APPLICATIONS = 64
"""Applications of one installation: each is a set of policies and entities in the decision point's memory."""


class AuthzenSettings(Noun, frozen=True, kw_only=True):
    """[authzen]"""

    enabled: Annotated[bool, Meta(description="Answer AuthZEN evaluations and searches on the unix socket pdp/authzen.sock.")] = False
    listen: Annotated[str, Meta(description="HTTPS address beside the socket, for callers with an X.509-SVID; empty: none.")] = ""
    hosts: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16, description="Host names in its certificate.")] = ("localhost",)
    url: Annotated[
        str,
        Meta(
            pattern=r"^(https://[A-Za-z0-9.:\[\]-]+)?$",
            description="How others reach it, without a final slash; empty: https://<first host>:<port>.",
        ),
    ] = ""
    requests_per_second: Annotated[int, Meta(ge=1, le=100_000, description="Requests of one caller, on average.")] = 20_000


class ApplicationSettings(Noun, frozen=True, kw_only=True):
    """[[applications]]"""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="It is asked under /applications/<name>/access/v1/...")]
    schema: Annotated[str, Meta(min_length=1, description="Its Cedar schema.")]
    policies: Annotated[tuple[str, ...], Meta(min_length=1, max_length=64, description="Its Cedar policies.")]
    entities: Annotated[str, Meta(description="Its entities, Cedar's JSON form; empty: none.")] = ""


def check_authzen(authzen: AuthzenSettings, applications: Sequence[ApplicationSettings], no: Complain) -> None:
    """Rules 1 and 2. Raises by `no`."""
    if authzen.listen and not authzen.enabled:
        raise no(("authzen", "listen"), "only with `enabled = true`", "set it, or remove `listen`")
    if applications and not authzen.enabled:
        raise no(("applications",), "nobody could ask about them", "set `[authzen] enabled = true`")
    if len(applications) > MAX_APPLICATIONS:
        raise no(("applications",), f"there are more than {MAX_APPLICATIONS}", "run a second installation for the others")
    for number, one in enumerate(applications):
        if one.name in [other.name for other in applications[:number]]:
            raise no(("applications", number, "name"), "it is used twice", "each must be its own")


def absolute_applications(applications: Sequence[ApplicationSettings], at: Callable[[str], str]) -> tuple[ApplicationSettings, ...]:
    """Files counted from the settings file."""
    return tuple(
        msgspec.structs.replace(one, schema=at(one.schema), policies=tuple(at(path) for path in one.policies), entities=at(one.entities))
        for one in applications
    )

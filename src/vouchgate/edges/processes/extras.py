"""Which extras the settings ask for, told before anything starts rather than by the first request that needs one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from vouchgate.flows.units import needs_sts
from vouchgate.vocabulary.answers_upkeep import DoctorCheck
from vouchgate.vocabulary.errors import Unsupported
from vouchgate.vocabulary.settings import Settings


def _database(settings: Settings) -> bool:
    return settings.store.engine == "postgres" or any(secret.rotator == "postgres" for secret in settings.secrets)


ASKED: tuple[tuple[str, tuple[str, ...], Callable[[Settings], bool]], ...] = (
    ("identity", ("joserfc", "httpx"), needs_sts),
    ("postgres", ("asyncpg",), _database),
    ("hsm", ("pkcs11",), lambda settings: settings.keys.place == "pkcs11"),
)
"""Extra, the modules that come with it, and whether the settings ask for it. What needs `gateway` is not started without it at all."""


def missing(settings: Settings) -> dict[str, str]:
    """Extra -> a module of it that is not installed."""
    return {
        extra: absent[0]
        for extra, modules, asked in ASKED
        if asked(settings) and (absent := [module for module in modules if importlib.util.find_spec(module) is None])
    }


def check(settings: Settings) -> None:
    """Raises `Unsupported` where something is missing."""
    absent = missing(settings)
    if absent:
        modules = ", ".join(f"`{module}`" for module in absent.values())
        raise Unsupported(f"the settings ask for what is not installed: no module {modules}", remedy=_remedy(absent))


def look_at_extras(settings: Settings) -> DoctorCheck:
    """What `doctor` says about it."""
    absent = missing(settings)
    if absent:
        return DoctorCheck(name="extras", state="failed", detail=f"not installed: {', '.join(absent)}", remedy=_remedy(absent))
    return DoctorCheck(name="extras", state="ok", detail="all that the settings ask for are installed")


def _remedy(absent: dict[str, str]) -> str:
    return f"pip install 'vouchgate[{','.join(absent)}]'"

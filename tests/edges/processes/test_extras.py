"""What the settings ask for is there, or the start says which extra is missing."""

from __future__ import annotations

import sys

import msgspec
import pytest

from vouchgate.edges.processes import extras
from vouchgate.edges.processes.maintenance import doctor
from vouchgate.vocabulary.errors import Unsupported
from vouchgate.vocabulary.settings import KeySettings, Settings, StoreSettings, StsSettings

PLAIN = Settings(trust_domain="test.local")
ASKING = {
    "identity": ("joserfc", msgspec.structs.replace(PLAIN, sts=StsSettings(listen="127.0.0.1:0"))),
    "postgres": ("asyncpg", msgspec.structs.replace(PLAIN, store=StoreSettings(engine="postgres", socket="/run/pg", database="v"))),
    "hsm": ("pkcs11", msgspec.structs.replace(PLAIN, keys=KeySettings(place="pkcs11", module="/lib/p11.so", token="vg"))),
}
every = pytest.mark.parametrize("extra", sorted(ASKING))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter without any extra."""
    for _, modules, _ in extras.ASKED:
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)


@every
def test_a_missing_extra_is_named_before_anything_starts(extra: str, bare: None) -> None:
    module, settings = ASKING[extra]
    with pytest.raises(Unsupported, match=f"`{module}`") as caught:
        extras.check(settings)
    assert caught.value.remedy == f"pip install 'vouchgate[{extra}]'"


def test_all_that_are_missing_are_named_at_once(bare: None) -> None:
    both = msgspec.structs.replace(ASKING["identity"][1], keys=ASKING["hsm"][1].keys)
    found = {one.name: one for one in doctor(both)}["extras"]
    assert (found.state, found.remedy) == ("failed", "pip install 'vouchgate[identity,hsm]'")


def test_what_is_not_asked_for_need_not_be_there(bare: None) -> None:
    extras.check(PLAIN)
    assert extras.missing(PLAIN) == {}


@every
def test_what_is_installed_is_enough(extra: str) -> None:
    extras.check(ASKING[extra][1])
    assert extras.look_at_extras(ASKING[extra][1]).state == "ok"

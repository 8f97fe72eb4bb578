"""A certificate is revoked by its serial number, in the one spelling that enforcement points compare."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.flows.revoke import meant
from vouchgate.identity.x509svid import serial_text
from vouchgate.vocabulary.errors import InvalidInput

CONTEXT = SimpleNamespace(facts=None)
SERIAL = "0a1b2c3d4e5f60718293a4b5c6d7e8f900112233"


@pytest.mark.parametrize(
    "shown",
    [SERIAL, SERIAL.upper(), ":".join(SERIAL[i : i + 2] for i in range(0, 40, 2)), SERIAL[1:], "00" + SERIAL, "00:" + SERIAL.upper()],
)
def test_however_a_tool_shows_the_serial_number_it_is_the_same_credential(shown: str) -> None:
    assert meant(CONTEXT, "credential", shown) == ("credential", SERIAL)


@given(st.integers(min_value=1 << 100, max_value=(1 << 159) - 1))
def test_what_is_meant_is_what_enforcement_points_compare(number: int) -> None:
    for shown in (f"{number:x}", f"{number:X}", serial_text(number)):
        assert meant(CONTEXT, "credential", shown)[1] == serial_text(number)


@pytest.mark.parametrize("token_id", ["AbCdEf0123456789AbCdEf", "0123456789ABCDEF0123AB", "j-1_x", "a" * 22, "A:B"])
def test_a_token_s_id_is_left_as_it_is(token_id: str) -> None:
    assert meant(CONTEXT, "credential", token_id)[1] == token_id


@pytest.mark.parametrize("fingerprint", ["ab" * 32, "AB:" * 31 + "AB"])
def test_a_fingerprint_is_refused_since_it_would_stop_nobody_for_long(fingerprint: str) -> None:
    with pytest.raises(InvalidInput, match="serial number"):
        meant(CONTEXT, "credential", fingerprint)

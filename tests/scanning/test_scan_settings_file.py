"""A file of bounds: what it may say, and that a bound that is given holds."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import asdict
from safetensors.numpy import save

from vouchgate.scanning.scan import scan
from vouchgate.scanning.settings import DEFAULTS, ScanSettings
from vouchgate.scanning.settings_file import DEPTHS, MAX_RAISE, chosen
from vouchgate.vocabulary.errors import InvalidInput


def test_what_is_not_said_is_the_default() -> None:
    assert chosen(b"") == DEFAULTS
    assert chosen(b"# nothing\nmax_members = 7\n") == ScanSettings(max_members=7)


@pytest.mark.parametrize("key", asdict(DEFAULTS))
def test_each_bound_may_be_tightened_to_one_and_raised_so_far(key: str) -> None:
    default = getattr(DEFAULTS, key)
    most = default if key in DEPTHS else default * MAX_RAISE
    for value in (1, default, most):
        assert getattr(chosen(f"{key} = {value}".encode()), key) == value
    for value in (0, -1, most + 1):
        with pytest.raises(InvalidInput, match=key) as told:
            chosen(f"{key} = {value}".encode())
        assert str(most) in told.value.remedy


@pytest.mark.parametrize("value", ["true", "1.0", '"7"', "[1]", "{}", "inf", "1979-05-27", "9" * 400])
def test_only_whole_numbers(value: str) -> None:
    with pytest.raises(InvalidInput):
        chosen(f"max_members = {value}".encode())


@pytest.mark.parametrize(
    "data", [b"max_members", b"\xff\xfe", b"max_members = 1\nmax_members = 2", b"a = " + b"[" * 5_000, b"[max_members]"]
)
def test_what_is_no_such_file_fails(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        chosen(data)


def test_an_unknown_bound_names_the_nearest() -> None:
    with pytest.raises(InvalidInput) as told:
        chosen(b"max_member = 7")
    assert "`max_members`" in told.value.remedy


def test_a_bound_that_is_tightened_refuses_what_is_clean_without_it() -> None:
    content = save({"w": np.zeros(4, np.int8), "v": np.zeros(4, np.int8)})
    assert scan(content).outcome == "clean"
    assert scan(content, settings=chosen(b"max_tensors = 1")).outcome == "refused"
    assert scan(content, settings=chosen(b"max_artifact_bytes = 10")).outcome == "refused"

"""What ships, beside gadgets that are known or were made up for this: none of them may be held, constructed or called."""

from functools import cache
from pathlib import Path

import pytest

from vouchgate.scanning.knowledge.base import Base, read
from vouchgate.scanning.knowledge.shipped import shipped_files
from vouchgate.scanning.pickles.judging import TYPES_BY_NAME

GADGETS = (Path(__file__).parent / "gadgets.txt").read_text().split()
ACTS_WHEN_MADE = ("stable_baselines3.common.monitor.ResultsWriter", "stable_baselines3.common.logger.HumanOutputFormat")
"""Open a file in their constructor, which unpickling never runs: never to be held or called."""
NAMED_ONLY = ("numpy.memmap", "numpy.core.memmap.memmap", "numpy._core.memmap.memmap")
"""joblib names this class for arrays it then reads itself; that it is never made with arguments is held by the tests of the pickle machine."""


@cache
def base() -> Base:
    return read(shipped_files())


@pytest.mark.parametrize("whole", GADGETS)
def test_a_gadget_is_not_known(whole):
    parts = whole.split(".")
    entries = [found for at in range(1, len(parts)) if (found := base().find(".".join(parts[:at]), ".".join(parts[at:])))]
    for entry in entries:
        by_rule = entry.state and entry.reviewer != "generated" and entry.uses == ("constructible",)
        by_rule = by_rule or (whole in ACTS_WHEN_MADE and entry.uses == ("constructible",))
        by_rule = by_rule or (entry.arguments in TYPES_BY_NAME and entry.uses == ("callable",))
        assert by_rule or (whole in NAMED_ONLY and entry.reviewer != "generated"), f"{entry.uses} by {entry.reviewer}"


def test_hundreds_of_gadgets_are_tried():
    assert len(GADGETS) == len(set(GADGETS)) > 400

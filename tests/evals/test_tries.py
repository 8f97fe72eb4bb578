"""The verdicts of `make eval-access`: what is let in, refused for another reason, or never tried fails its row."""

from __future__ import annotations

import pytest
from tries import ISSUE, Kind, Outcome, Said, Surface, bound, note, told


def surface(said: Said, *, only: bool = True, control: bool = True, doors: tuple[str, ...] = ("a", "b")) -> Surface[str]:
    made: Surface[str] = Surface("doors", doors)
    made.attempt({"nobody": Kind("none", lambda door: said, told("401 anonymous"), lambda door: only)})
    made.controls = {door: Said("200", let_in=control) for door in doors}
    return made


def verdicts(made: Surface[str]) -> dict[str, bool | None]:
    return {row.name.partition(": ")[2]: row.met for row in made.rows()}


def test_everybody_refused_for_the_right_reason_meets_the_goal() -> None:
    made = surface(Said("401 anonymous"))
    assert verdicts(made) == {"positive controls": True, "doors covered": True, "none": True}
    assert (made.tried, made.accepted, made.wrong) == (2, 0, 0)


@pytest.mark.parametrize(
    ("said", "only", "control", "missed"),
    [
        (Said("200", let_in=True), True, True, {"none"}),
        (Said("403 denied"), True, True, {"none"}),
        (Said("404 not-found"), True, True, {"none"}),
        (Said("nothing (TimeoutError)"), True, True, {"none"}),
        (Said("401 anonymous"), True, False, {"positive controls"}),
        (Said("401 anonymous"), False, True, {"doors covered"}),
    ],
)
def test_each_way_to_miss_it(said: Said, only: bool, control: bool, missed: set[str]) -> None:
    assert {name for name, met in verdicts(surface(said, only=only, control=control)).items() if not met} == missed


def test_a_surface_without_doors_covers_nothing() -> None:
    assert not any(verdicts(surface(Said("401 anonymous"), doors=())).values())


def test_a_door_without_a_control_has_none() -> None:
    made = surface(Said("401 anonymous"))
    made.controls.pop("b")
    assert verdicts(made)["positive controls"] is False


def test_a_variant_that_met_no_door_fails_the_row_of_its_kind() -> None:
    made = surface(Said("401 anonymous"))
    made.attempt({"never": Kind("none", lambda door: Said("401 anonymous"), told("401 anonymous"), lambda door: False)})
    assert verdicts(made)["none"] is False


def test_an_outcome_of_nothing_is_not_clean() -> None:
    assert not Outcome("none").clean
    one = Outcome("none")
    note(one, "a", Said("401 anonymous"), told("401 anonymous"))
    assert one.clean
    note(one, "b", Said("401 anonymous", let_in=True), told("401 anonymous"))
    assert not one.clean, "whoever was let in was, whatever was said"


@pytest.mark.parametrize(("tries", "upper"), [(1, 0.95), (12, 0.2209), (299, 0.00997)])
def test_nothing_of_n_is_shown_with_its_bound(tries: int, upper: float) -> None:
    found = bound(0, tries)
    assert found is not None
    assert found[0] == 0
    assert found[1] == pytest.approx(upper, rel=1e-2)
    assert bound(1, tries) is None


def test_the_kinds_are_the_goals() -> None:
    assert len(ISSUE) == len(set(ISSUE)) == 12

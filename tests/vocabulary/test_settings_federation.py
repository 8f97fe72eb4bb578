"""Partners in vouchgate.toml: what each profile needs, and who can be none."""

from __future__ import annotations

from pathlib import Path

import pytest

from vouchgate.vocabulary.errors import InvalidSettings
from vouchgate.vocabulary.settings_file import parse_settings

WEB = {"name": '"partner"', "trust_domain": '"partner.example"', "url": '"https://partner.example/bundle"'}
SPIFFE = {**WEB, "profile": '"https_spiffe"', "spiffe_id": '"spiffe://partner.example/bundle"', "bundle_file": '"partner.json"'}


def text(*partners: dict[str, str]) -> str:
    tables = ["[[federation]]\n" + "".join(f"{key} = {value}\n" for key, value in one.items()) for one in partners]
    return 'trust_domain = "ours.example"\n' + "".join(tables)


@pytest.mark.parametrize(
    "one", [WEB, SPIFFE, {"name": '"p"', "trust_domain": '"p.example"', "profile": '"file"', "bundle_file": '"p.json"'}]
)
def test_each_profile_with_what_it_needs(one: dict[str, str]):
    made = parse_settings(text(one), Path("/etc/vouchgate.toml")).federation[0]
    assert not made.bundle_file or made.bundle_file.startswith("/etc/")


def without(one: dict[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in one.items() if name != key}


@pytest.mark.parametrize(
    ("partners", "word"),
    [
        ([{**WEB, "trust_domain": '"ours.example"'}], "our own"),
        ([{**WEB, "trust_domain": '"Partner.example"'}], "trust_domain"),
        ([WEB, WEB], "twice"),
        ([WEB, {**WEB, "name": '"again"'}], "twice"),
        ([without(WEB, "url")], "address"),
        ([{**WEB, "url": '"http://partner.example/bundle"'}], "address"),
        ([{**WEB, "profile": '"merged"'}], "profile"),
        ([without(SPIFFE, "bundle_file")], "missing"),
        ([without(SPIFFE, "spiffe_id")], "not an id"),
        ([{**SPIFFE, "spiffe_id": '"spiffe://ours.example/bundle"'}], "not an id"),
        ([{**SPIFFE, "spiffe_id": '"spiffe://partner.example.evil/bundle"'}], "not an id"),
        ([{**WEB, "profile": '"file"'}], "missing"),
        ([{**WEB, "stale_hours": "0"}], "stale_hours"),
    ],
)
def test_what_is_refused(partners: list[dict[str, str]], word: str):
    with pytest.raises(InvalidSettings) as refused:
        parse_settings(text(*partners), Path("/etc/vouchgate.toml"))
    assert word in f"{refused.value.reason} {refused.value.remedy}"

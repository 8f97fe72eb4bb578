"""Networks and hours that `[[identities]]` declares: read once, refused with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from vouchgate.flows.start import registrations_of
from vouchgate.vocabulary.errors import InvalidSettings
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.settings_file import parse_settings
from vouchgate.vocabulary.vouches import UnixMillis

TEXT = 'trust_domain = "acme.example"\n[[identities]]\nname = "pricing"\nkind = "service"\nzone = "serve"\n'


def read(more: str) -> Settings:
    return parse_settings(TEXT + more, Path("/etc/vouchgate/vouchgate.toml"))


def test_what_is_declared_stands_in_the_registration() -> None:
    settings = read('networks = ["10.1.0.0/16", "2001:db8::/32"]\nhours = "22-6"\n')
    made = next(one for one in registrations_of(settings, UnixMillis(1), own_uid=1) if one.principal.endswith("/pricing"))
    assert (made.networks, made.hours) == (("10.1.0.0/16", "2001:db8::/32"), "22-6")


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('networks = ["10.1.0.1/16"]', "networks"),
        ('networks = ["office"]', "networks"),
        ('networks = ["10.0.0.0/33"]', "networks"),
        ('networks = "10.0.0.0/8"', "networks"),
        ('hours = "8"', "hours"),
        ('hours = "8-25"', "hours"),
        ('hours = "8-8"', "hours"),
        ('hours = "08:00-18:00"', "hours"),
        ("hours = 8", "hours"),
    ],
)
def test_what_is_no_network_and_no_hours(more: str, key: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        read(more + "\n")
    assert key in raised.value.reason

"""A process of a systemd unit, by its cgroup (systemd.slice(5), systemd.unit(5)).

Rules
1. Slices come first and are nested as their names say: `a-b.slice` stands in `a.slice`. The first part that is no slice is the unit; what is
   below it is the unit's own business.
2. A unit below `user@<uid>.service` is the user's own: the user's manager made it, and the user may write any name. It is
   `systemd:user_unit` = `<uid>/<unit>`, never `systemd:unit`.
3. A unit's name is taken as systemd spells it, escapes included: `a\\x2db@c.service` is another unit than `a-b@c.service`. Only
   `systemd:instance` is unescaped, and only where it has one spelling.
4. A process that is in no unit, or in groups that systemd did not make, establishes nothing.
5. With version 1 hierarchies, systemd's own (`name=systemd`) counts, and version 2 where that is mounted alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, selectors
from vouchgate.identity.cgroup_paths import is_path, read_groups
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_FIELDS = Fields(
    required={"cgroups": "texts"},
    ignored=(
        "pid", "uid", "gid", "real_uid", "real_gid", "groups", "exe_path", "exe_sha256", "exe_unread", "cgroup", "started_at",
        "contained", "argv",
    ),
)  # fmt: skip
_UNIT = re.compile(
    r"(?=.{1,255}\Z)(?P<stem>[A-Za-z0-9:_.\\-]+)(?P<at>@(?P<instance>[A-Za-z0-9:_.\\-]*))?\.(?P<kind>service|scope|socket|mount|swap)\Z"
)
_SLICE = re.compile(r"(?=.{1,255}\Z)(?P<name>[A-Za-z0-9:_.\\]+(?:-[A-Za-z0-9:_.\\]+)*)\.slice\Z")
_MANAGER = re.compile(r"user@(?P<uid>0|[1-9][0-9]{0,9})\.service\Z")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_PLAIN = re.compile(r"[A-Za-z0-9:_.]\Z")


def _establish(facts: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    path = _path(facts["cgroups"])
    if path is None or not is_path(path):
        return Attested(selectors=())
    slices, rest = _slices([_plain(part) for part in path.split("/")[1:]])
    if slices is None or not rest:
        return Attested(selectors=())
    manager = _MANAGER.match(rest[0])
    if manager and slices == ["user.slice", f"user-{manager['uid']}.slice"]:
        return _of_user(manager["uid"], rest)
    return _of_system(slices, rest[0])


def _path(lines: Any) -> str | None:
    groups = read_groups(lines)
    own = [group.path for group in groups if group.controllers == "name=systemd"]
    if own:
        return own[0] if len(own) == 1 else None
    unified = [group.path for group in groups if group.hierarchy == 0]
    return unified[0] if len(unified) == len(groups) == 1 else None


def _plain(part: str) -> str:
    """A group's name without the `_` that systemd puts before names that the kernel could mean, and before every name that begins with it."""
    return part.removeprefix("_")


def _slices(parts: list[str]) -> tuple[list[str] | None, list[str]]:
    """The slices at the beginning, None where they are not nested as their names say, and what follows."""
    found: list[str] = []
    for place, part in enumerate(parts):
        named = _SLICE.match(part)
        if not named:
            return found, parts[place:]
        parent = named["name"].rpartition("-")[0]
        if (found[-1].removesuffix(".slice") if found else "") != parent:
            return None, []
        found.append(part)
    return found, []


def _of_user(uid: str, rest: list[str]) -> Attested:
    _, below = _slices(rest[1:])
    facts: dict[str, Any] = {"user": uid}
    if below and _UNIT.match(below[0]):
        facts["user_unit"] = f"{uid}/{below[0]}"
    return Attested(selectors=selectors("systemd", facts))


def _of_system(slices: list[str], part: str) -> Attested:
    unit = _UNIT.match(part)
    if not unit:
        return Attested(selectors=())
    facts: dict[str, Any] = {"unit": part, "slice": slices[-1] if slices else "-.slice"}
    if unit["at"]:
        facts["template"] = f"{unit['stem']}@.{unit['kind']}"
        facts["instance"] = _unescaped(unit["instance"])
    return Attested(selectors=selectors("systemd", facts))


def _unescaped(text: str) -> str | None:
    """What an instance's name stands for (systemd-escape(1)), or None where systemd would have spelt that differently."""
    raw = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text.replace("-", "/"))
    if not raw.isprintable() or not raw.isascii():
        return None
    back = "".join(
        "-" if one == "/" else one if _PLAIN.match(one) and not (one == "." and place == 0) else f"\\x{ord(one):02x}"
        for place, one in enumerate(raw)
    )
    return raw if back == text else None


ATTESTOR = Attestor(name="systemd-unit", version=1, kind="collected", fields=_FIELDS, establish=_establish)

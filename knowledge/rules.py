"""Rules: rules.toml as questions. A name matches a line by its whole dotted text; `*` stands for any text."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import cached_property
from pathlib import Path
from typing import Any

from knowledge.places import RULES
from knowledge.resolve import is_standard


@dataclass(frozen=True)
class Rules:
    """What names outside the judged sources do."""

    document: dict[str, Any]

    @cached_property
    def left_out(self) -> re.Pattern[str]:
        """Modules that are not read."""
        return re.compile("(?:" + "|".join(re.escape(name) for name in self.document["read"]["left_out"]) + r")(?:\.|$)")

    def of_builtin(self, name: str) -> str:
        """The mark of using a builtin; empty for none."""
        if name in self.document["code"]["builtins"]:
            return "code"
        if name in self.document["pure"]["builtins"] or _is_exception(name):
            return ""
        return "outside"

    def of_library(self, path: str) -> str:
        """The mark of using a name of the standard library, or of a distribution that is not read."""
        said = self.said(path)
        if said:
            return "" if said == "pure" else "code"
        return "outside" if is_standard(path) else "foreign"

    def of_unknown(self, path: str) -> str:
        """The mark of using a name that cannot be found."""
        return {"pure": "", "code": "code"}.get(self.said(path), "unknown")

    def is_code(self, path: str) -> bool:
        """Whether a name of a judged library is known to run what it is given."""
        return self.said(path) == "code"

    def said(self, path: str) -> str:
        """`pure`, `code` or nothing: the longest line that matches; of two equally long ones `code`."""
        known = self._said.get(path)
        if known is None:
            pure, code = (max((len(line) for line in lines if line.match(path)), default=-1) for lines in (self._pure, self._code))
            known = self._said[path] = "code" if code >= pure and code >= 0 else "pure" if pure >= 0 else ""
        return known

    def of_native(self, path: str) -> str:
        """The mark of using a function without source."""
        said = self.said(path)
        if said:
            return "" if said == "pure" else "code"
        top = any(path.startswith(f"{name}.") for name in self.document["natives"]["pure"])
        return "" if top and not self._not_pure.match(path) else "unknown"

    def is_accepted(self, path: str) -> bool:
        """Whether a person looked at this function of a judged library, so that calling it marks nobody."""
        return bool(self._accepted.match(path))

    def state_of(self, path: str) -> str:
        """The rule for states that a class hands down; empty for none."""
        return str(self.document["states"].get(path, ""))

    def is_base(self, path: str) -> bool:
        """Whether a Python class may derive from this class without source."""
        return bool(self._bases.match(path))

    def of_attribute(self, written: str) -> str:
        """The mark of taking this attribute from a value that is not known; `written` ends in `()` where it is called with nothing,
        and holds a `*` where only a part of it is fixed."""
        name = written.removesuffix("()")
        if "*" in name:
            return self._of_pattern(name)
        if name != written and name in self.document["methods"]["called_only"]:
            return ""
        if name in self.document["methods"]["code"]:
            return "code"
        return "outside" if name in self.document["methods"]["outside"] else ""

    def _of_pattern(self, pattern: str) -> str:
        words = self.document["methods"]
        return next((sort for sort in ("code", "outside") if any(fnmatchcase(word, pattern) for word in words[sort])), "")

    @cached_property
    def _pure(self) -> list[_Line]:
        return [_Line(name) for name in self.document["pure"]["names"]]

    @cached_property
    def _code(self) -> list[_Line]:
        return [_Line(name) for name in self.document["code"]["names"]]

    @cached_property
    def _said(self) -> dict[str, str]:
        return {}

    @cached_property
    def _not_pure(self) -> re.Pattern[str]:
        return _any_of(self.document["natives"]["not_pure"])

    @cached_property
    def _accepted(self) -> re.Pattern[str]:
        return _any_of(list(self.document["accepted"]))

    @cached_property
    def _bases(self) -> re.Pattern[str]:
        return _any_of(self.document["natives"]["bases"])


class _Line:
    """A name with or without a `*`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pattern = re.compile(translate(text)) if "*" in text else None

    def __len__(self) -> int:
        return len(self.text)

    def match(self, path: str) -> bool:
        """Whether it names this."""
        return self.text == path if self.pattern is None else self.pattern.match(path) is not None


def load(path: Path = RULES) -> Rules:
    """Read them."""
    return Rules(tomllib.loads(path.read_text()))


def _any_of(names: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{translate(name)})" for name in names))


def _is_exception(name: str) -> bool:
    found = getattr(__import__("builtins"), name, None)
    return isinstance(found, type) and issubclass(found, BaseException)

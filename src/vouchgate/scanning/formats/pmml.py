"""PMML: predictive models in XML, whose functions are the standard's or its own.

Rules (PMML 4.4, dmg.org)
1. XML as in xml_elements.py, root `PMML`.
2. `Apply` calls a function of the standard, or one that the document defines (`DefineFunction`). A dotted name is a class to some engines,
   which load it.
3. `TableLocator` makes an engine open a data source; `script` elements (some producers' pre-processing) are code; a `model` that an
   extension names by path or class is loaded. Extensions that hold plain text are remarks, and engines skip them (section "Extension mechanism").
"""

from __future__ import annotations

from vouchgate.scanning.active_text import first_active
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.verdict import Reading, Reason, Refuse
from vouchgate.scanning.xml_elements import Attributes, read_xml, root_of

NAME = "pmml"
REMEDY = "export the model again with standard functions only, or as ONNX"
MAX_KEPT = 100_000
"""Functions remembered."""
_STANDARD = """
+ - * / min max sum avg median product log10 ln sqrt abs exp pow threshold floor ceil round modulo isMissing isNotMissing isValid isNotValid
equal notEqual lessThan lessOrEqual greaterThan greaterOrEqual and or not isIn isNotIn if uppercase lowercase stringLength substring trimBlanks
concat replace matches formatNumber formatDatetime dateDaysSinceYear dateSecondsSinceYear dateSecondsSinceMidnight normalCDF normalPDF stdNormalCDF
stdNormalPDF erf normalIDF stdNormalIDF expm1 hypot ln1p rint sin asin sinh cos acos cosh tan atan tanh
"""
FUNCTIONS = frozenset(_STANDARD.split())
"""Built-in functions of PMML 4.4."""
_LOCATORS = frozenset(("TableLocator", "x-TableLocator"))


def recognise(sight: Sight) -> Claim:
    """The root element."""
    if b"PMML" not in sight.head or root_of(sight.head, whole=len(sight.head) == len(sight)) != "PMML":
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="XML whose root is PMML", above=("xml", "text", "csv", "yaml"))


def read(sight: Sight, scope: Scope) -> Reading:
    """Every element."""
    del scope
    check = _Check()
    seen = read_xml(sight.view, NAME, check.begin, check.text)
    unknown = sorted(check.called - check.defined - FUNCTIONS)
    if unknown:
        raise Refuse(
            f"{NAME}:function",
            f"function `{_shown(unknown[0])}`",
            "it is neither the standard's nor defined in the document, so an engine takes it from elsewhere",
            REMEDY,
        )
    reasons = [*check.reasons, *(_reason("acts", f"line {line}", what) for line, what in seen.acts)]
    return Reading(covered=len(sight), reasons=tuple(reasons[:20]), facts={"elements": seen.elements, "models": sorted(check.models)})


class _Check:
    """Collects over the elements."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        self.defined: set[str] = set()
        self.models: set[str] = set()
        self.reasons: list[Reason] = []

    def begin(self, path: tuple[str, ...], attributes: Attributes) -> None:
        name = path[-1]
        if name.endswith("Model") and len(path) <= 8 and len(self.models) < 50:
            self.models.add(name[:60])
        if len(self.called) + len(self.defined) > MAX_KEPT:
            raise Refuse(f"{NAME}:functions", "document", f"more than {MAX_KEPT} functions", REMEDY)
        if name in ("Apply", "Aggregate"):
            self.called.update({attributes["function"]} if name == "Apply" and "function" in attributes else ())
        if name == "DefineFunction":
            self.defined.add(attributes.get("name", ""))
            if "." in attributes.get("name", ""):
                self.reasons.append(
                    _reason("function", f"function `{_shown(attributes['name'])}`", "a function of a class's name could stand in for it")
                )
        if name in _LOCATORS:
            self.reasons.append(_reason("locator", name, "it makes the engine open a data source that the document names"))
        if name == "Extension":
            self._extension(attributes)

    def _extension(self, attributes: Attributes) -> None:
        found = first_active({key: value for key, value in attributes.items() if len(value) < 100_000})
        if found and found.what != "markup":
            self.reasons.append(_reason("extension", f"extension `{_shown(attributes.get('name', ''))}`", f"it holds {found.what}"))

    def text(self, path: tuple[str, ...], data: str) -> None:
        if "Extension" in path:
            found = first_active({"": data[:100_000]})
            if found and found.what not in ("markup", "control characters"):
                self.reasons.append(_reason("extension", "Extension", f"it holds {found.what}"))


def _reason(rule: str, where: str, why: str) -> Reason:
    return Reason(rule=f"{NAME}:{rule}", where=where, why=why, remedy=REMEDY)


def _shown(text: str) -> str:
    return text[:80].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'")

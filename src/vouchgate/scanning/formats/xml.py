"""XML that no narrower format claims: annotations, reports, pictures.

Rules are those of xml_elements.py; what would run when the document is shown or loaded is refused.
"""

from __future__ import annotations

from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.verdict import Reading, Reason
from vouchgate.scanning.xml_elements import REMEDY, read_xml, root_of

NAME = "xml"
_SIGNS = (b"<?xml", b"\xef\xbb\xbf<?xml", "\ufeff<?xml".encode("utf-16-le"), "\ufeff<?xml".encode("utf-16-be"))


def recognise(sight: Sight) -> Claim:
    """A declaration, or one element that is all of the text."""
    if sight.head.startswith(_SIGNS):
        return Claim(strength="certain", kind=NAME, because="an XML declaration", above=("text", "csv", "yaml"))
    text = sight.text
    if text is None or text[:1] != "<" or not text.rstrip().endswith(">") or text[:14].lower().startswith(("<!doctype html", "<html")):
        return NOT_MINE
    root = root_of(sight.head, whole=len(sight.head) == len(sight))
    if not root or (root != "!doctype" and not text.rstrip().endswith(("/>", f"{root}>"))):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because=f"one XML element `{root[:40]}`", above=("text", "csv", "yaml"))


def read(sight: Sight, scope: Scope) -> Reading:
    """Every element."""
    del scope
    seen = read_xml(sight.view, NAME)
    reasons = tuple(
        Reason(rule=f"{NAME}:acts", where=f"line {line}", why=f"{what} when the document is opened", remedy=REMEDY)
        for line, what in seen.acts
    )
    return Reading(covered=len(sight), reasons=reasons, facts={"root": seen.root[:100], "elements": seen.elements})

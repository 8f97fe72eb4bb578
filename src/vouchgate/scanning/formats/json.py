"""JSON that no narrower format claims: vocabularies, configurations, metadata, labels.

Rules
1. It is read strictly (strict_json.py): one document, bounded depth and numbers. A key that occurs twice, which vocabularies have, is looked at in both
   its values: whichever a reader takes, it is data.
2. JSON is data, but some libraries rebuild objects from it: what names something to import, construct or call is refused.
"""

from __future__ import annotations

from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import NO_JSON, Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.strict_json import acting, strict
from vouchgate.scanning.verdict import Reading, Refuse

NAME = "json"
REMEDY = "keep only plain values in the file, and build the object in your own reviewed code"


def recognise(sight: Sight) -> Claim:
    """The whole text is one JSON object or array."""
    if sight.json is NO_JSON:
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="one JSON document", above=("text",))


def read(sight: Sight, scope: Scope) -> Reading:
    """Strictly, then rule 2."""
    del scope
    value = strict(sight, NAME, doubles=True)
    found = acting(value)
    if found:
        path, why = found
        raise Refuse(f"{NAME}:acting-key", f"key `{shown(path)}`", f"{why}, and the file chooses the name", REMEDY)
    return Reading(covered=len(sight), facts={"entries": len(value)})

"""[[crossings]] and [[assets]]: what may pass between zones, and what lies where; and everything that contradicts itself in them.

Rules
1. A crossing joins two different zones. Its target is one of [zones]; its source too, or the administrators', or a partner's.
2. Every action is done on one of the kinds that it names, and every kind has an action.
3. Of two crossings that cover the same act neither counts: the same twice is a mistake, and with other vouches the weaker would win.
4. vouchgate's own processes are in zone `control`; with crossings declared nothing of anybody else's is.
Left to others: which predicates there are (flows/assets.py), what crossings become (segmentation/crossings.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from vouchgate.vocabulary.crossing_words import ADMINISTRATORS, KINDS, expanded, kinds_of, known_actions
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import InvalidInput, InvalidName
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.principals import ALIAS_ZONE
from vouchgate.vocabulary.vouches import TIERS
from vouchgate.vocabulary.wire import Noun

OWN_ZONE = "control"
"""Zone of vouchgate's own processes."""
MAX_CROSSINGS = 2_000
"""Crossings of one installation; a person reads a few dozen."""
MAX_ASSETS = 10_000
"""Assets in one settings file."""
_ZONE = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_Zone = Annotated[str, Meta(pattern=_ZONE)]
_DIGEST = r"^(sha256(-[a-z]{1,16})?:[0-9a-f]{64})?$"
_VOUCH = rf"^[a-z][a-z0-9-]{{0,63}}(@({'|'.join(TIERS)}))?$"

AssetKind = Literal["dataset", "model", "adapter", "key", "artifact"]


class CrossingSettings(Noun, frozen=True, kw_only=True, rename={"source": "from", "target": "to"}):
    """[[crossings]]"""

    source: Annotated[
        str,
        Meta(
            pattern=_ZONE,
            description=f"Zone of whoever acts: one of [zones], `{ADMINISTRATORS}` for administrators, {ALIAS_ZONE}<partner> for partners'.",
        ),
    ]
    target: Annotated[str, Meta(pattern=_ZONE, description="Zone of the thing: one of [zones]. Once one crossing stands, no other passes.")]
    actions: Annotated[
        tuple[str, ...],
        Meta(min_length=1, max_length=32, description=f"What may be done: of {', '.join(known_actions())}."),
    ]
    kinds: Annotated[tuple[str, ...], Meta(min_length=1, max_length=8, description=f"On what: of {', '.join(KINDS)}.")] = ("endpoint",)
    vouches: Annotated[
        tuple[Annotated[str, Meta(pattern=_VOUCH)], ...],
        Meta(max_length=16, description="What must hold of the thing, for example scan or serves@rederived; all of them."),
    ] = ()
    why: Annotated[str, Meta(max_length=500, description="What it is for, for whoever reads the map.")] = ""


class AssetSettings(Noun, frozen=True, kw_only=True):
    """[[assets]]"""

    name: Annotated[str, Meta(min_length=1, max_length=96, description="Its id becomes vg://<trust domain>/<kind>/<name>.")]
    kind: Annotated[AssetKind, Meta(description="dataset, model, adapter, key (also a secret of [[secrets]], by its name) or artifact.")]
    zones: Annotated[
        tuple[_Zone, ...],
        Meta(min_length=1, max_length=16, description="Where it is put first; later `vouchgate assets move` says where it lies."),
    ]
    digest: Annotated[
        str, Meta(pattern=_DIGEST, description="Content that the name stands for; empty where not known. An artifact's is its name.")
    ] = ""
    base: Annotated[str, Meta(pattern=_DIGEST, description="With an adapter: digest of the model that it belongs to.")] = ""
    labels: Annotated[tuple[_Zone, ...], Meta(max_length=16, description="What it holds, for policies: personal, secret ...")] = ()
    purposes: Annotated[tuple[_Zone, ...], Meta(max_length=16, description="What it may be used for, for policies.")] = ()


def check_zones(settings: Any, no: Any) -> None:
    """Rules 1 to 4, and the assets. `no` makes the error of a place."""
    if len(settings.crossings) > MAX_CROSSINGS or len(settings.assets) > MAX_ASSETS:
        raise no(("crossings",), f"there are more than {MAX_CROSSINGS} crossings or {MAX_ASSETS} assets", "use groups of actions")
    if settings.crossings and OWN_ZONE in settings.zones:
        raise no(("zones", OWN_ZONE), "it is the zone of vouchgate's own processes", "name yours otherwise")
    covered: dict[tuple[str, str, str, str], tuple[int, tuple[str, ...]]] = {}
    sources = {*settings.zones, ADMINISTRATORS, *(f"{ALIAS_ZONE}{one.name}" for one in settings.federation)}
    for number, one in enumerate(settings.crossings):
        here = ("crossings", number)
        _check_ends(one, here, sources, settings.zones, no)
        _check_words(one, here, no)
        _check_vouches(one, here, no)
        _check_once(one, number, covered, no)
    _check_assets(settings, no)


def _check_ends(one: CrossingSettings, here: tuple[Any, ...], sources: set[str], zones: Any, no: Any) -> None:
    """Rule 1."""
    for key, name, known in (("from", one.source, sources), ("to", one.target, zones)):
        if name not in known:
            raise no((*here, key), f"there is no zone `{name}`", f"use one of {', '.join(sorted(known)) or 'none yet: add one'}")
    if one.source == one.target:
        raise no((*here, "to"), f"`{one.source}` would cross into itself", "leave it out: within a zone no crossing is needed")


def _check_words(one: CrossingSettings, here: tuple[Any, ...], no: Any) -> None:
    """Rule 2."""
    for key, given, known in (("actions", one.actions, known_actions()), ("kinds", one.kinds, KINDS)):
        wrong = [word for word in given if word not in known]
        if wrong:
            raise no((*here, key), f"`{wrong[0][:64]}` is not one of the {key} that zones hold", f"use of {', '.join(known)}")
        if len(set(given)) != len(given):
            raise no((*here, key), "one stands twice", "each once")
    for word in one.actions:
        if not any(kinds_of(action) & set(one.kinds) for action in expanded([word])):
            raise no((*here, "actions"), f"`{word}` is not done on {' or '.join(one.kinds)}", "name the kind of thing it is done on")
    for kind in one.kinds:
        if not any(kind in kinds_of(action) for action in expanded(one.actions)):
            raise no((*here, "kinds"), f"none of the actions is done on a thing of kind `{kind}`", "leave the kind out, or add the action")


def _check_vouches(one: CrossingSettings, here: tuple[Any, ...], no: Any) -> None:
    if len({text.partition("@")[0] for text in one.vouches}) != len(one.vouches):
        raise no((*here, "vouches"), "one predicate stands twice", "name the stronger tier alone")


def _check_once(one: CrossingSettings, number: int, covered: dict[Any, tuple[int, tuple[str, ...]]], no: Any) -> None:
    """Rule 3."""
    vouches = tuple(sorted(one.vouches))
    for action in sorted(expanded(one.actions)):
        for kind in kinds_of(action) & set(one.kinds):
            first, asked = covered.setdefault((one.source, one.target, action, kind), (number, vouches))
            if first != number:
                how = "is declared twice" if asked == vouches else "is declared twice, with other vouches"
                what = f"`{action}` on a thing of kind `{kind}` from `{one.source}` to `{one.target}` {how}"
                raise no(("crossings", number), what, f"keep one of both; the other is number {first + 1}")


def _check_assets(settings: Any, no: Any) -> None:
    seen: set[tuple[str, str]] = set()
    for number, one in enumerate(settings.assets):
        here = ("assets", number)
        try:
            resource(settings.trust_domain, one.kind, one.name)
            for text in (one.digest, one.base):
                if text:
                    parse_digest(text)
        except (InvalidName, InvalidInput) as error:
            raise no((*here, "name"), error.reason, error.remedy) from None
        for zone in one.zones:
            if zone not in settings.zones:
                known = ", ".join(settings.zones) or "none yet: add one"
                raise no((*here, "zones"), f"there is no zone `{zone}`", f"use one of {known}")
        if len(set(one.zones)) != len(one.zones):
            raise no((*here, "zones"), "one stands twice", "each once")
        if (one.kind, one.name) in seen:
            raise no((*here, "name"), "it is used twice", "each must be its own")
        seen.add((one.kind, one.name))
        if one.kind == "artifact" and one.digest:
            raise no((*here, "digest"), "an artifact's name is its digest", "leave `digest` out")
        if one.base and one.kind != "adapter":
            raise no((*here, "base"), f"a {one.kind} has no base model", "leave it out, or make it an adapter")

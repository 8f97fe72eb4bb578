"""The zone map as a picture: one SVG that stands by itself, and a page around it.

    svg(zone_map) -> str      html_page(zone_map) -> str

Rules
1. Zones stand on a ring, in the order of the lifecycle, so that an arrow meets no card but its own; arrows bend inwards.
2. Colour and stroke say the same twice: passed and declared (solid), declared and unused (dotted), refused (dashed), let through in observe
   (dashed, heavy). A number stands on every arrow that was passed.
3. Every text is escaped; the page loads nothing and runs nothing.
4. At most MAX_DRAWN zones, those that something passes first; what is left out is said.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from vouchgate.vocabulary.answers_zones import CrossingSeen, ZoneContents, ZoneMap

MAX_DRAWN = 24
"""Zones of one picture; beyond it a ring is no picture."""
ORDER = ("ingest", "prepare", "train", "evaluate", "register", "serve", "agents")
CARD_WIDTH, CARD_HEIGHT, MARGIN = 196, 86, 56
_STYLE = """
svg{font:13px system-ui,sans-serif;background:var(--paper)}
:root,svg{--paper:#fbfaf7;--card:#fff;--ink:#1d2733;--soft:#65717f;--line:#d5d9de;--good:#1f7a5c;--idle:#9aa5b1;--bad:#b3392f;--warn:#b7791f}
@media (prefers-color-scheme:dark){:root,svg{--paper:#14181d;--card:#1d232a;--ink:#e8ecf0;--soft:#98a4b0;--line:#39424c;--good:#4cc38a;
--idle:#65717f;--bad:#ff7b6e;--warn:#e5b567}}
.card{fill:var(--card);stroke:var(--line)}.card.loose{stroke:var(--warn);stroke-dasharray:5 4}.name{font-weight:650;font-size:15px;fill:var(--ink)}
.soft{fill:var(--soft);font-size:11.5px}.arrow{fill:none;stroke-width:1.6}.declared{stroke:var(--good)}.unused{stroke:var(--idle);stroke-dasharray:1.5 5;
stroke-linecap:round}.refused{stroke:var(--bad);stroke-dasharray:7 5}.observed{stroke:var(--warn);stroke-dasharray:7 3;stroke-width:2.6}
.tag{fill:var(--paper)}.count{font-weight:650;font-size:12px}.declared-ink{fill:var(--good)}.unused-ink{fill:var(--idle)}.refused-ink{fill:var(--bad)}
.observed-ink{fill:var(--warn)}
"""
_TOLD = {
    "declared": "declared, and passed",
    "unused": "declared, never passed",
    "refused": "refused, not declared",
    "observed": "let through by observe",
}


def svg(found: ZoneMap) -> str:
    """The picture."""
    drawn = _drawn(found)
    places, width, height = _places(drawn)
    passes = [one for one in found.passes if one.source != one.target and one.source in places and one.target in places]
    title = f"zones of {found.trust_domain}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{_safe(title)}</title><style>{_STYLE}</style><defs>",
        *(_head(kind) for kind in _TOLD),
        "</defs>",
        f'<text x="{MARGIN}" y="34" class="name">{_safe(title)}</text>',
        f'<text x="{MARGIN}" y="53" class="soft">{_safe(_under(found, len(drawn)))}</text>',
    ]
    parts += [_arrow(one, places) for one in passes]
    parts += [_card(zone, places[zone.name]) for zone in drawn]
    parts.append(_legend(height))
    return "".join([*parts, "</svg>\n"])


def html_page(found: ZoneMap) -> str:
    """The picture with the list of what passes."""
    rows = "".join(_row(one) for one in found.passes)
    head = "<tr><th>from</th><th>to</th><th>actions</th><th>on</th><th>vouches</th><th>passed</th><th>refused</th><th>why</th></tr>"
    extra = "body{margin:2rem;background:var(--paper);color:var(--ink);font:14px system-ui,sans-serif}svg{max-width:100%;height:auto}"
    extra += "table{border-collapse:collapse;margin-top:1.5rem}th{text-align:left;color:var(--soft);font-weight:500}"
    extra += "td,th{padding:.35rem .9rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}.none{color:var(--bad)}"
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{policy}<title>zones of {_safe(found.trust_domain)}</title>'
        f"<style>{_STYLE}{extra}</style></head><body>{svg(found)}<table>{head}{rows}</table></body></html>\n"
    )


def _drawn(found: ZoneMap) -> list[ZoneContents]:
    """Rules 1 and 4."""
    busy = {name for one in found.passes for name in (one.source, one.target)}
    rank = {name: number for number, name in enumerate(ORDER)}
    chosen = sorted(found.zones, key=lambda one: (one.name not in busy, not one.declared, rank.get(one.name, len(ORDER)), one.name))[
        :MAX_DRAWN
    ]
    return sorted(chosen, key=lambda one: (rank.get(one.name, len(ORDER)), one.name))


def _places(drawn: Sequence[ZoneContents]) -> tuple[dict[str, tuple[float, float]], int, int]:
    """Centre of each card."""
    count = max(len(drawn), 1)
    across = max(300.0, count * (CARD_WIDTH + 40) / math.pi)
    down = max(190.0, across * 0.58)
    width, height = int(2 * across + CARD_WIDTH + 2 * MARGIN), int(2 * down + CARD_HEIGHT + 2 * MARGIN + 70)
    places = {}
    for number, zone in enumerate(drawn):
        angle = -math.pi / 2 + 2 * math.pi * number / count
        places[zone.name] = (width / 2 + across * math.cos(angle), height / 2 + 12 + down * math.sin(angle))
    return places, width, height


def _kind(one: CrossingSeen) -> str:
    if one.declared:
        return "declared" if one.allowed else "unused"
    return "observed" if one.would_deny else "declared" if one.allowed else "refused"


def _arrow(one: CrossingSeen, places: dict[str, tuple[float, float]]) -> str:
    kind, (sx, sy), (tx, ty) = _kind(one), places[one.source], places[one.target]
    middle = (sum(x for x, _ in places.values()) / len(places), sum(y for _, y in places.values()) / len(places))
    # to one side by direction, so that the way there and the way back are two
    dx, dy = tx - sx, ty - sy
    length = math.hypot(dx, dy) or 1.0
    bend = ((sx + tx) / 2 * 0.62 + middle[0] * 0.38 - dy / length * 26, (sy + ty) / 2 * 0.62 + middle[1] * 0.38 + dx / length * 26)
    start, end = _edge((sx, sy), bend), _edge((tx, ty), bend)
    path = f"M{start[0]:.1f} {start[1]:.1f}Q{bend[0]:.1f} {bend[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
    at = (0.25 * start[0] + 0.5 * bend[0] + 0.25 * end[0], 0.25 * start[1] + 0.5 * bend[1] + 0.25 * end[1])
    passed = one.allowed or one.denied
    asked = sorted({vouch for crossing in one.declared for vouch in crossing.vouches})
    lines = [text for text in (_number(passed) if passed else "", ", ".join(asked)[:34]) if text]
    told = f"{one.source} to {one.target}: {_TOLD[kind]}" + (f", {one.allowed} passed, {one.denied} refused" if passed else "")
    label = "".join(
        f'<text x="{at[0]:.1f}" y="{at[1] + 4 + 13 * number:.1f}" text-anchor="middle" class="count {kind}-ink" '
        f'paint-order="stroke" stroke="var(--paper)" stroke-width="5">{_safe(text)}</text>'
        for number, text in enumerate(lines)
    )
    return f'<g><title>{_safe(told)}</title><path class="arrow {kind}" d="{path}" marker-end="url(#{kind})"/>{label}</g>'


def _edge(card: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Where a line from a card's centre leaves the card, with a little air."""
    dx, dy = towards[0] - card[0], towards[1] - card[1]
    half_width, half_height = CARD_WIDTH / 2 + 7, CARD_HEIGHT / 2 + 7
    scale = min(half_width / abs(dx) if dx else math.inf, half_height / abs(dy) if dy else math.inf)
    return (card[0] + dx * min(scale, 1.0), card[1] + dy * min(scale, 1.0))


def _card(zone: ZoneContents, at: tuple[float, float]) -> str:
    x, y = at[0] - CARD_WIDTH / 2, at[1] - CARD_HEIGHT / 2
    loose = "" if zone.declared and zone.mode != "observe" else " loose"
    what = [
        f"{zone.principals} {'identity' if zone.principals == 1 else 'identities'}",
        f"{len(zone.endpoints)} {'endpoint' if len(zone.endpoints) == 1 else 'endpoints'}, {len(zone.assets)} placed",
        zone.mode if zone.declared else "not declared: reaches nothing",
    ]
    lines = "".join(
        f'<text x="{x + 14:.1f}" y="{y + 43 + 15 * number:.1f}" class="soft">{_safe(text)}</text>' for number, text in enumerate(what)
    )
    named = ", ".join((*zone.names, *(name.rpartition("/")[2] for name in zone.endpoints)))
    return (
        f'<g><title>{_safe(f"{zone.name}: {named}")}</title><rect class="card{loose}" x="{x:.1f}" y="{y:.1f}" width="{CARD_WIDTH}" '
        f'height="{CARD_HEIGHT}" rx="10"/><text x="{x + 14:.1f}" y="{y + 25:.1f}" class="name">{_safe(_cut(zone.name, 22))}</text>{lines}</g>'
    )


def _head(kind: str) -> str:
    return (
        f'<marker id="{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        f'<path class="{kind}-ink" d="M0 1.2 10 5 0 8.8z"/></marker>'
    )


def _legend(height: int) -> str:
    x, parts = float(MARGIN), []
    for kind, told in _TOLD.items():
        parts.append(
            f'<path class="arrow {kind}" d="M{x:.0f} {height - 26}h34"/><text x="{x + 42:.0f}" y="{height - 22}" class="soft">{told}</text>'
        )
        x += 62 + 6.4 * len(told)
    return "".join(parts)


def _under(found: ZoneMap, drawn: int) -> str:
    left_out = f"; {len(found.zones) - drawn} more zones are not drawn" if drawn < len(found.zones) else ""
    if not found.holds:
        return f"no crossing is declared: zones hold nobody{left_out}"
    return f"{sum(len(one.declared) for one in found.passes)} crossings are declared; nothing else passes{left_out}"


def _row(one: CrossingSeen) -> str:
    declared = one.declared or (None,)
    cells = []
    for crossing in declared:
        words = (
            (", ".join(crossing.actions), ", ".join(crossing.kinds), ", ".join(crossing.vouches), crossing.why)
            if crossing is not None
            else ("none declared", "", "", "")
            if one.source != one.target
            else ("within the zone", "", "", "")
        )
        kind = ' class="none"' if crossing is None and one.source != one.target else ""
        cells.append(
            f"<tr><td>{_safe(one.source)}</td><td>{_safe(one.target)}</td><td{kind}>{_safe(words[0])}</td><td>{_safe(words[1])}</td>"
            f"<td>{_safe(words[2])}</td><td>{one.allowed}</td><td>{one.denied}</td><td>{_safe(words[3])}</td></tr>"
        )
    return "".join(cells)


def _number(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _safe(text: str) -> str:
    """Rule 3; characters that XML does not take are left out."""
    return html.escape("".join(one for one in text if one.isprintable()), quote=True)

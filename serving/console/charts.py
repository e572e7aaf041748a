"""Pictures as SVG inside the page: no script, no style of their own, a title for who listens instead of looking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 220, 46, 16, 12, 26

Spot = tuple[float, float]


def risk_over_time(history: Sequence[Mapping[str, Any]]) -> Markup:
    """The probability of each list, oldest first from left to right; empty below two of them.

    Parameters
    ----------
    history : newest first, with as_of, model_version and probability (None where the account was not scored)
    """
    known = [row for row in reversed(history) if row["probability"] is not None]
    if not known:
        return Markup('<p class="quiet">It was on no list yet.</p>')
    if len(known) == 1:
        only = known[0]
        return Markup('<p class="quiet">One list so far, {}: {:.1%}.</p>').format(only["as_of"], only["probability"])
    most = _ceiling(max(row["probability"] for row in known))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    spots = [
        (LEFT + width * place / (len(known) - 1), TOP + height * (1 - row["probability"] / most))
        for place, row in enumerate(known)
    ]
    parts = [_grid(most), *(_new_model(x, row["model_version"]) for x, row in _began(spots, known))]
    parts.append(Markup('<polyline class="line" points="{}"/>').format(" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)))
    for (x, y), row in zip(spots, known, strict=True):
        dot = '<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}: {:.1%}</title></circle>'
        parts.append(Markup(dot).format(x, y, row["as_of"], row["probability"]))
    for place, anchor in ((0, "start"), (-1, "end")):
        label = '<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>'
        parts.append(Markup(label).format(spots[place][0], HEIGHT - 8, anchor, known[place]["as_of"]))
    first, last = known[0], known[-1]
    said = f"Risk from {first['probability']:.1%} on {first['as_of']} to {last['probability']:.1%} on {last['as_of']}"
    said += "".join(f"; model {row['model_version']} from {row['as_of']}" for _, row in _began(spots, known))
    return _picture(said, HEIGHT, parts)


def _began(spots: Sequence[Spot], known: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """Where, and with which list, another version of the model began to speak."""
    for (x, _), before, row in zip(spots[1:], known, known[1:], strict=False):
        if row["model_version"] != before["model_version"]:
            yield x, row


def _new_model(x: float, version: str) -> Markup:
    """A line there: what moved at it may be the model's doing."""
    mark = (
        '<line class="version" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>'
        '<text x="{:.1f}" y="{}" text-anchor="middle">model {}</text>'
    )
    return Markup(mark).format(x, x, TOP, HEIGHT - BOTTOM, x, TOP - 2, version)


def _ceiling(most: float) -> float:
    """The next round share above the greatest value."""
    return next((step for step in (0.05, 0.1, 0.2, 0.3, 0.5, 0.75) if most <= step), 1.0)


def _grid(most: float) -> Markup:
    lines = []
    for part in (0.0, 0.5, 1.0):
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - part)
        line = (
            '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
            '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
        )
        shown = f"{most * part:.1%}" if most < 0.1 else f"{most * part:.0%}"
        lines.append(Markup(line).format(LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4, shown))
    return Markup("").join(lines)


def use_by_week(weeks: Sequence[Mapping[str, Any]]) -> Markup:
    """Rows of bars, a bar a week: days with use, core events, active people; what is not known is left out.

    Parameters
    ----------
    weeks : oldest first, with begins, active_days, core_events and active_users (None where it is not known)
    """
    told = [(name, title) for name, title in _USE if any(week[name] is not None for week in weeks)]
    if not told:
        return Markup('<p class="quiet">Use is not known by the week.</p>')
    parts = []
    for place, (name, title) in enumerate(told):
        parts += _bars([week[name] for week in weeks], [week["begins"] for week in weeks], title, ROW * place)
    height = ROW * len(told) + BOTTOM
    for place in range(0, len(weeks), RECENT_WEEKS):
        x = LEFT + (WIDTH - LEFT - RIGHT) * place / len(weeks)
        parts.append(Markup('<text x="{:.1f}" y="{}">{}</text>').format(x, height - 8, weeks[place]["begins"][5:]))
    said = "; ".join(_in_words(title, [week[name] for week in weeks]) for name, title in told)
    return _picture(f"Use in {len(weeks)} weeks from {weeks[0]['begins']}. {said}", height, parts)


_USE = (("active_days", "Days with use"), ("core_events", "Core events"), ("active_users", "Active people"))
ROW, RECENT_WEEKS = 96, 4
"""Height of a row of bars; the weeks that most reasons speak of."""


def _bars(values: Sequence[float | None], begins: Sequence[str], title: str, top: int) -> list[Markup]:
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    floor, reach, width = top + ROW - 10, ROW - 40, (WIDTH - LEFT - RIGHT) / len(values)
    line = '<text class="head" x="{}" y="{}">{}</text><line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
    parts = [Markup(line).format(LEFT, top + 18, title, LEFT, WIDTH - RIGHT, floor, floor)]
    for mark, label in ((most, floor - reach), (0.0, floor)):
        text = '<text x="{}" y="{}" text-anchor="end">{:,.0f}</text>'
        parts.append(Markup(text).format(LEFT - 6, label + 4, mark))
    for place, (value, begin) in enumerate(zip(values, begins, strict=True)):
        if value is None:
            continue
        tall = max(1.0, reach * value / most)  # Nothing used is a line on the floor; what is not known is a gap.
        kind = "week recent" if place >= len(values) - RECENT_WEEKS else "week"
        bar = (
            '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
            "<title>Week from {}: {:,.0f}</title></rect>"
        )
        parts.append(Markup(bar).format(kind, LEFT + width * place + 2, floor - tall, width - 4, tall, begin, value))
    return parts


def _in_words(title: str, values: Sequence[float | None]) -> str:
    """How the last four weeks compare with those before."""
    before, last = values[:-RECENT_WEEKS], values[-RECENT_WEEKS:]
    known = [value for value in before if value is not None]
    now = [value for value in last if value is not None]
    if not now:
        return f"{title}: not known in the last {RECENT_WEEKS} weeks"
    told = f"{title}: {sum(now) / len(now):,.1f} a week in the last {RECENT_WEEKS} weeks"
    return f"{told}, {sum(known) / len(known):,.1f} in the weeks before" if known else told


def moved_by(parts: Mapping[str, float]) -> Markup:
    """Bars to the left and right of nothing: what lowered and what raised the log-odds."""
    if not parts:
        return Markup("")
    row, middle, reach = 26, 430, 250
    most = max(abs(value) for value in parts.values()) or 1.0
    bars = []
    for place, (name, value) in enumerate(parts.items()):
        y, length = 6 + place * row, reach * abs(value) / most
        bar = (
            '<text x="150" y="{}" text-anchor="end">{}</text>'
            '<rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="14"/>'
            '<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>'
        )
        left = middle - length if value < 0 else middle
        beside = (left - 6, "end") if value < 0 else (left + length + 6, "start")
        kind = "down" if value < 0 else "up"
        shown = f"{value:+.2f}".replace("-", "−")
        bars.append(Markup(bar).format(y + 11, name, kind, left, y, length, beside[0], y + 11, beside[1], shown))
    height = 12 + row * len(parts)
    axis = Markup('<line class="axis" x1="{}" x2="{}" y1="0" y2="{}"/>').format(middle, middle, height)
    said = ", ".join(f"{name} {value:+.2f}" for name, value in parts.items())
    return _picture(f"What moved the score: {said}", height, [*bars, axis])


def _picture(said: str, height: int, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, height, said)
    return head + Markup("").join(parts) + Markup("</svg>")

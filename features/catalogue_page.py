"""The catalogue as a page for people: `features/CATALOGUE.md`, written by `make catalogue`."""

from __future__ import annotations

from collections.abc import Iterator

from features.catalogue import FAMILIES, ROOMS
from features.examples import Example
from features.family import Family, Feature

_SIGNS = {1: "raises risk", -1: "lowers risk", 0: "either way"}
_MISSING = {
    "Z": "0 where there are no rows",
    "D": "missing where the denominator is 0",
    "H": "missing until the account is as old as the window",
    "E": "missing where it never happened",
    "F": "0 or 1",
}


def catalogue_page() -> str:
    """The page as Markdown: every feature by the module that declares it, with its worked examples."""
    count = sum(len(family.all_features()) for family in FAMILIES)
    lines = [
        "# Feature catalogue",
        "",
        f"{count} features. This page is written by `make catalogue` from the declarations; do not edit it.",
        "",
        "An example shows the rows of an account, whose times are days from `as_of`, and the value worked out by hand.",
        "Every feature is missing where a table or column that it needs is not mapped.",
        "",
    ]
    for room in ROOMS:
        lines += [f"## {room.__name__.split('.')[-1]}", "", str(room.__doc__).strip(), ""]
        for family in room.FAMILIES:
            for item in family.all_features():
                lines += _told(family, item)
    return "\n".join(lines)


def _told(family: Family, item: Feature) -> Iterator[str]:
    window = f" · {item.window} days" if item.window else ""
    action = "a CSM can act on it" if item.actionable else "context"
    needs = ", ".join(sorted({family.source, *item.needs}))
    yield f"### {item.name}"
    yield ""
    yield item.meaning
    yield ""
    yield f"{item.unit}{window} · {_SIGNS[item.sign]} · {_MISSING[item.missing]} · {item.group}, {action}"
    yield f"· needs {needs} · owner: {family.owner}"
    if item.levels:
        yield ""
        yield "Values: " + ", ".join(f"{number} {level}" for number, level in enumerate(item.levels)) + "."
    yield ""
    for example in item.examples:
        yield _example(example)
    yield ""


def _example(example: Example) -> str:
    value = "missing" if example.value is None else f"{round(example.value, 6):g}"
    rows = "; ".join(f"{name}: `{' '.join(text.split())}`" for name, text in example.tables.items() if text.strip())
    why = f" ({example.why})" if example.why else ""
    return f"- **{value}**{why}{': ' + rows if rows else ''}"


if __name__ == "__main__":
    print(catalogue_page())

"""The company that all worked examples of all features make together."""

from __future__ import annotations

import csv
from pathlib import Path

from features.catalogue import FEATURES
from features.examples import Example

EXAMPLES: list[tuple[str, str, Example]] = [
    (item.name, f"{item.name}.{number}", example) for item in FEATURES for number, example in enumerate(item.examples)
]
"""Feature, account and example."""


def write_examples(folder: Path) -> Path:
    """Write the tables and return the path of their `tenure.toml`."""
    tables: dict[str, list[dict[str, str]]] = {}
    for _, account, example in EXAMPLES:
        for name, lines in example.rows(account).items():
            tables.setdefault(name, []).extend(lines)
    for name, lines in tables.items():
        columns = list(dict.fromkeys(column for line in lines for column in line))
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(lines)
    config = folder / "tenure.toml"
    config.write_text("\n".join(f'[tables.{name}]\npath = "{name}.csv"' for name in tables))
    return config

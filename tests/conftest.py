"""Small real companies for the tests: each table a few rows of CSV, read as a user's would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import pytest

from features.settings import Settings, read_settings
from features.tables import Tables, open_tables

NOW = datetime(2025, 6, 1)


class Company:
    """A folder with a `tenure.toml` and one CSV per table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables: dict[str, str] = {}
        self.extra = ""

    def write(self, name: str, text: str) -> Company:
        lines = [line.strip() for line in text.strip().splitlines()]
        (self.folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.tables.setdefault(name, f'path = "{name}.csv"')
        return self

    def map(self, name: str, toml: str) -> Company:
        self.tables[name] = toml
        return self

    def settings(self) -> Settings:
        sections = [f"[tables.{name}]\n{toml}" for name, toml in self.tables.items()]
        path = self.folder / "tenure.toml"
        path.write_text("\n".join([*sections, self.extra]), encoding="utf-8")
        return read_settings(path)

    def open(self) -> Tables:
        return open_tables(self.settings(), now=NOW)


@pytest.fixture
def company(tmp_path: Path) -> Company:
    """An empty company to write tables into."""
    return Company(tmp_path)


@pytest.fixture
def make_company(tmp_path: Path) -> Callable[[Mapping[str, str]], Company]:
    """A company from tables given as CSV text."""

    def make(tables: Mapping[str, str]) -> Company:
        made = Company(tmp_path)
        for name, text in tables.items():
            made.write(name, text)
        return made

    return make

"""Small real companies for the tests: each table a few rows of CSV, read as a user's would be."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

import tenure
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


@pytest.fixture(scope="session")
def trained_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated company with a champion and the list of 2025-05-01; what its commands said lies beside."""
    folder = tmp_path_factory.mktemp("company") / "world"
    config = f"--config={folder / 'tenure.toml'}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow still asks SQLAlchemy for a loader that it no longer likes.
        _run("world", str(folder), "--accounts=250", "--months=16", "--seed=3")
        settings = (folder / "tenure.toml").read_text()
        # Sixteen months are too few for windows of 90 days.
        (folder / "tenure.toml").write_text(settings.replace("horizon_days = 90", "horizon_days = 60"))
        trained = _run("train", "--draws=50", "--folds=2", "--json", config)
        (folder / "train.json").write_text(trained)
        (folder / "score.json").write_text(_run("score", "--as-of=2025-05-01", "--json", config))
    return folder


def _run(*arguments: str) -> str:
    done = CliRunner().invoke(tenure.main, arguments)
    assert done.exit_code == 0, f"tenure {' '.join(arguments)}: {done.stderr} {done.exception!r}"
    return done.stdout

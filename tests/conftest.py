"""Small real companies for the tests: each table a few rows of CSV, read as a user's would be."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from xdist.scheduler import LoadFileScheduling

import tenure
from features.model_settings import LeakageSettings
from features.settings import Settings, read_settings
from features.tables import Tables, open_tables
from features.world import write_world
from tests.servers import Postgres, postgres_programs
from training.train import Trained, prepare, train

NOW = datetime(2025, 6, 1)
YEAR_END = datetime(2026, 1, 1)
"""When the generated companies are looked at."""


def pytest_configure(config: pytest.Config) -> None:
    """Builds that one test compiled serve all others of the run, whichever process they run in.

    The processes of the tests share the cores among them: an engine on each takes one thread.
    """
    os.environ.setdefault("TENURE_THREADS", "1")
    if "TENURE_COMPILED_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="tenure-compiled-")
        os.environ["TENURE_COMPILED_DIR"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


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
    # The processes of one run share a folder: the first to come trains for all, and each takes a copy.
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "done").exists():
            _train_world(shared / "world")
            (shared / "done").touch()
    return Path(shutil.copytree(shared / "world", tmp_path_factory.mktemp("company") / "world"))


def _train_world(folder: Path) -> None:
    config = f"--config={folder / 'tenure.toml'}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow still asks SQLAlchemy for a loader that it no longer likes.
        _run("world", str(folder), "--accounts=250", "--months=16", "--seed=3")
        settings = (folder / "tenure.toml").read_text()
        # Sixteen months are too few for windows of 90 days.
        settings = settings.replace("horizon_days = 90", "horizon_days = 60")
        (folder / "tenure.toml").write_text(f"{settings}\n[leakage]\npermutations = 0\n")
        trained = _run("train", "--draws=50", "--folds=2", "--json", config)
        (folder / "train.json").write_text(trained)
        (folder / "score.json").write_text(_run("score", "--as-of=2025-05-01", "--json", config))


@pytest.fixture(scope="module")
def project(trained_world: Path) -> tenure.Project:
    """The trained company, opened for one file of tests."""
    return tenure.open(trained_world / "tenure.toml")


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Tables]:
    """A generated company of 400 accounts and 18 months, to be judged at one instant."""
    folder = tmp_path_factory.mktemp("generated")
    write_world(folder, accounts=400, months=18, seed=3)
    settings = read_settings(folder / "tenure.toml")
    settings = replace(
        settings, train=replace(settings.train, folds=1, draws=50), leakage=LeakageSettings(permutations=0)
    )
    return settings, open_tables(settings, now=YEAR_END)


@pytest.fixture(scope="session")
def trained(generated: tuple[Settings, Tables]) -> Trained:
    """What training on the generated company gives; nothing of it is registered."""
    settings, tables = generated
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ibis 12 still asks pandas 3 for an option that it lacks.
        ready = prepare(tables, settings, now=YEAR_END, progress=lambda line: None)
        return train(tables, settings, ready, progress=lambda line: None)


def _run(*arguments: str) -> str:
    done = CliRunner().invoke(tenure.main, arguments)
    assert done.exit_code == 0, f"tenure {' '.join(arguments)}: {done.stderr} {done.exception!r}"
    return done.stdout


@pytest.fixture(scope="session")
def new_company(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Company]:
    """Makes empty companies, each in a folder of its own: for tests that need one per example."""
    return lambda: Company(tmp_path_factory.mktemp("company"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real server for the whole session."""
    programs = postgres_programs()
    if programs is None:
        assert os.environ.get("CI") != "true", "PostgreSQL must be installed where CI=true; found no initdb."
        pytest.skip("PostgreSQL is not installed: no initdb in /usr/lib/postgresql/*/bin or on the path")
    # Not below pytest's own folder, which another user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="tenure-postgres-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    server = Postgres(folder, programs)
    try:
        server.create()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """The server with an empty database; it runs again after the test, whatever that did to it."""
    postgres_server.execute("drop schema if exists public cascade; create schema public")
    yield postgres_server
    if not postgres_server.is_running():
        postgres_server.start()


LONG = {
    "test_init", "test_identities", "test_corrections", "test_silence", "test_commercial_edges", "test_voice_edges",
    "test_lifecycle", "test_history", "test_world_tables", "test_world_causes", "test_labels", "test_bitemporal_edges",
    "test_schema_drift", "test_postgres", "test_training", "test_lists", "test_publication", "test_operation",
    "test_promotion", "test_command_line", "test_malicious_artefacts", "test_flat", "test_nightly", "test_check",
    "test_levers", "test_erasure", "test_maturity", "test_backtest", "test_tracking", "test_spark", "test_answers",
}  # fmt: skip
"""Files whose tests each open a company of their own: `make test` runs every fourth of them, `make test-full` all."""


TOGETHER = dict.fromkeys(
    ("test_model", "test_monitoring", "test_tracking", "test_training", "test_backtest", "test_maturity",
     "test_promotion", "test_malicious_artefacts", "test_mlflow_server"),
    "generated",
)  # fmt: skip
"""Files that share a costly fixture run in one process; every other file for itself."""


FIRST = (
    "generated", "test_spark", "test_workers", "test_operation", "test_service", "test_slow_clients", "test_overload",
    "test_books", "test_erasure", "test_notebooks",
)  # fmt: skip
"""Groups of long tests in the order in which they begin: one of them at the end would run alone."""


class FilesTogether(LoadFileScheduling):
    """xdist's scheduling by file, with the files of `TOGETHER` as one."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(Path(nodeid.split("::", 1)[0]))


def _group(path: Path) -> str:
    return TOGETHER.get(path.stem, path.stem)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    """How the tests are dealt out to processes."""
    return FilesTogether(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with `FIRST`; skip the long tests, and of the long files keep every fourth of the others."""
    places = {group: place for place, group in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(_group(item.path), len(FIRST)))
    if os.environ.get("HYPOTHESIS_PROFILE") == "full":
        return
    seen: dict[str, int] = {}
    kept, left = [], []
    are_named = any("::" in str(name) for name in config.args)
    for item in items:
        if (long := item.get_closest_marker("long")) and not are_named:
            item.add_marker(pytest.mark.skip(reason=f"{long.args[0]}: runs in `make test-full`"))
            kept.append(item)
            continue
        name = item.path.stem
        seen[name] = seen.get(name, -1) + 1
        (left if name in LONG and seen[name] % 4 and not are_named else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)

"""What `tenure.toml` says, read once and checked whole: here about the data, and beside it about models and service.

Paths are relative to the file. Defaults stand with each section and nowhere else. No engine is imported: the command
line must start at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from features.errors import ConfigurationError
from features.model_settings import LeakageSettings, PolicySettings, TrainSettings
from features.service_settings import LedgerSettings, ServeSettings
from features.settings_file import CONFIG_NAME, read_document, refuse_unknown, require, section

DATABASE_SUFFIXES = (".duckdb", ".ddb", ".db")

LabelKind = Literal["contracts", "silence"]
Anchor = Literal["decision", "end"]
Period = Literal["day", "month"]
History = Literal["none", "snapshot"]


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """Where one table of the data contract comes from."""

    path: str | None = None
    """A CSV, Parquet or DuckDB file, relative to `tenure.toml`; `*` stands for several CSV or Parquet files."""
    url: str | None = field(default=None, repr=False)
    """A PostgreSQL server, `postgresql://user:password@host/database`."""
    table: str | None = None
    """Which table of the DuckDB file or of the server, `name` or `schema.name`."""
    query: str | None = None
    """SQL that yields the table: for the server or the DuckDB file, else over the raw files (named as their tables or
    `[sources.NAME]`)."""
    incremental: str | None = None
    """Of a server's table: the column that says when a row was loaded; only newer rows are copied."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Contract column → name or SQL expression over the source's columns."""
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Contract column → source value → contract value."""
    timezone: str = "UTC"
    """Time zone of timestamps that carry none."""
    period: Period | None = None
    """Usage only: rows are aggregates of a day or a month that begins at `period_start`."""
    limit: float | None = None
    """Share of rows that may be set aside, instead of `[quarantine] limit`."""
    ids: str | None = None
    """Source of `identities` that account_id names accounts by; empty where it holds our own account_id."""
    history: History | None = None
    """"none": rows are overwritten and nothing keeps what they said; "snapshot": read from `tenure snapshot`."""
    loaded_at: str | None = None
    """Column, or SQL expression, that says when a row reached the warehouse: another way to map `known_at`."""
    immutable: Sequence[str] | None = None
    """With `history`: contract columns that are never overwritten, in place of the ones tenure takes for such."""

    @property
    def shown(self) -> str:
        """What the source is called in reports; never its url, which may hold a password."""
        return self.path or self.table or "query"

    @property
    def is_database(self) -> bool:
        """Whether `path` is a DuckDB file."""
        return self.path is not None and self.path.lower().endswith(DATABASE_SUFFIXES)

    @property
    def is_pattern(self) -> bool:
        """Whether `path` may stand for several files."""
        return self.path is not None and any(sign in self.path for sign in "*?[")

    @property
    def is_computed(self) -> bool:
        """Whether our own engine runs the query; a server runs its own."""
        return self.query is not None and self.url is None


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """What counts as churn; see the Time section of ARCHITECTURE.md."""

    kind: LabelKind = "contracts"
    """Who is lost: who gave up the contract, or, without contracts, who fell silent."""
    horizon_days: int = 90
    """Days after `as_of` in which a decision to leave counts."""
    grace_days: int = 30
    """A new contract within so many days of an end undoes the loss."""
    lead_days: int = 30
    """Decisions within so many days are reported as *now*, later ones as *act*."""
    anchor: Anchor = "decision"
    """Date of a loss: the day notice was given (else the end), or always the end."""
    silence_days: int = 90
    """With kind silence: the last use before so many days of none is the loss."""
    contraction_share: float = 0.10
    """Share of the recurring revenue whose loss counts as a contraction of an account that stays."""
    corrections: str | None = None
    """A CSV or Parquet file of labels put right by hand, relative to `tenure.toml`."""

    @property
    def settling_days(self) -> int:
        """Days after the window in which its outcome may still change: the grace, or the silence."""
        return self.silence_days if self.kind == "silence" else self.grace_days

    @property
    def loss(self) -> str:
        """What a lost account does, for a sentence about it."""
        return f"falls silent for {self.silence_days} days" if self.kind == "silence" else "decides to leave"

    def __post_init__(self) -> None:
        require(self.horizon_days >= 1, "[label] horizon_days", self.horizon_days, "at least 1 day")
        require(self.grace_days >= 0, "[label] grace_days", self.grace_days, "0 or more days")
        expected = f"0 or more and below horizon_days = {self.horizon_days}"
        lead = "[label] lead_days (by default 30)"
        require(0 <= self.lead_days < self.horizon_days, lead, self.lead_days, expected)
        require(self.anchor in get_args(Anchor), "[label] anchor", self.anchor, f"one of {list(get_args(Anchor))}")
        require(self.kind in get_args(LabelKind), "[label] kind", self.kind, f"one of {list(get_args(LabelKind))}")
        require(self.silence_days >= 7, "[label] silence_days", self.silence_days, "at least 7 days")
        share = self.contraction_share
        require(0 < share <= 1, "[label] contraction_share", share, "a share above 0, at most 1")


@dataclass(frozen=True, kw_only=True)
class QuarantineSettings:
    """How much bad input is tolerated."""

    limit: float = 0.05
    """Share of a table's rows that may be set aside before the run stops."""

    def __post_init__(self) -> None:
        require(0 <= self.limit <= 1, "[quarantine] limit", self.limit, "a share between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How much of the machine the engine may take."""

    threads: int = 0
    """Threads of the engine; 0 for as many as there are cores. TENURE_THREADS overrides it."""
    memory: str = "1.5GB"
    """Memory above which the engine works on disk."""

    @property
    def cores(self) -> int:
        """Threads that work beside the engine may take: as many, or as there are cores."""
        return self.threads or os.cpu_count() or 1

    def __post_init__(self) -> None:
        require(self.threads >= 0, "[engine] threads", self.threads, "0 or more")
        right = re.fullmatch(r"\d+(\.\d+)? ?(MB|GB|TB|MiB|GiB|TiB)", self.memory) is not None
        require(right, "[engine] memory", self.memory, "a size such as '1.5GB'")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole `tenure.toml`."""

    path: Path
    tables: Mapping[str, TableSource]
    sources: Mapping[str, TableSource] = field(default_factory=dict)
    label: LabelSettings = field(default_factory=LabelSettings)
    quarantine: QuarantineSettings = field(default_factory=QuarantineSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    leakage: LeakageSettings = field(default_factory=LeakageSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    serve: ServeSettings = field(default_factory=ServeSettings)
    state_dir: Path
    compiled_dir: Path
    """Folder of compiled builds: `compiled` in the state directory, or what TENURE_COMPILED_DIR says."""

    def resolve(self, path: str) -> Path:
        """`path` seen from the folder of `tenure.toml`."""
        return (self.path.parent / path).resolve()


def find_config(start: Path) -> Path:
    """The nearest `tenure.toml` in `start` or a folder above it."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder / CONFIG_NAME
    raise ConfigurationError(
        f"A {CONFIG_NAME} must stand in {start} or a folder above it; found none. "
        "Run `tenure demo` for one to look at, or pass --config FILE."
    )


def read_settings(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from `path`, with `${NAME}` taken from `environ` (default: the process's own)."""
    environ = os.environ if environ is None else environ
    document = read_document(path, environ)
    sections = {
        "tables", "sources", "label", "quarantine", "policy", "train", "leakage", "engine", "ledger", "serve", "state",
    }  # fmt: skip
    refuse_unknown(document, sections, f"{path.name}")
    root = path.resolve().parent
    state = document.get("state", {})
    require(isinstance(state, dict), "[state]", state, "a table of settings")
    refuse_unknown(state, {"dir"}, "[state]")
    require(isinstance(state.get("dir", ""), str), "[state] dir", state.get("dir"), "a folder's path")
    return Settings(
        path=path.resolve(),
        tables=_sources(document, "tables"),
        sources=_sources(document, "sources"),
        label=section(LabelSettings, document, "label"),
        quarantine=section(QuarantineSettings, document, "quarantine"),
        policy=section(PolicySettings, document, "policy"),
        engine=_engine(document, environ),
        train=section(TrainSettings, document, "train"),
        leakage=section(LeakageSettings, document, "leakage"),
        ledger=section(LedgerSettings, document, "ledger"),
        serve=section(ServeSettings, document, "serve"),
        state_dir=(state_dir := (root / state.get("dir", ".tenure")).resolve()),
        compiled_dir=Path(environ.get("TENURE_COMPILED_DIR") or state_dir / "compiled"),
    )


def _engine(document: Mapping[str, Any], environ: Mapping[str, str]) -> EngineSettings:
    engine: EngineSettings = section(EngineSettings, document, "engine")
    threads = environ.get("TENURE_THREADS", "")
    return replace(engine, threads=int(threads)) if threads.isdigit() else engine


def _sources(document: Mapping[str, Any], kind: str) -> dict[str, TableSource]:
    names = document.get(kind, {})
    require(isinstance(names, dict), f"[{kind}]", names, f"tables [{kind}.NAME]")
    sources = {}
    for name in names:
        source = section(TableSource, names, name, title=f"[{kind}.{name}]")
        _check_place(f"[{kind}.{name}]", source, names[name])
        require(source.limit is None or 0 <= source.limit <= 1, f"[{kind}.{name}] limit", source.limit, "a share")
        require(
            source.period in (None, *get_args(Period)),
            f"[{kind}.{name}] period",
            source.period,
            f"one of {list(get_args(Period))}",
        )
        _require_past(source, f"[{kind}.{name}]")
        sources[name] = source
    return sources


def _check_place(title: str, source: TableSource, given: Mapping[str, Any]) -> None:
    """A file, files, a database's table or a query, and nothing that contradicts it."""
    found = sorted(given)
    named = [key for key in ("table", "query") if given.get(key) is not None]
    if source.url is not None:
        require(source.path is None, title, found, "read from a path or from a url, not both")
        require(len(named) == 1, title, found, "given a table or a query beside its url")
        scheme = source.url.partition("://")[0]
        require(scheme in ("postgresql", "postgres"), f"{title} url", f"{scheme[:12]}…", "postgresql://…")
        return
    require(source.incremental is None, title, found, "given incremental only beside a url")
    if source.is_database:
        require(len(named) == 1, title, found, "given a table or a query of its DuckDB file")
        return
    require(source.path is not None or source.query is not None, title, found, "given a path, a url or a query")
    require(source.table is None, title, found, "given a table only of a DuckDB file or a url")


def _require_past(source: TableSource, title: str) -> None:
    """One way alone may say when rows became known."""
    choices = list(get_args(History))
    require(source.history in (None, *choices), f"{title} history", source.history, f"one of {choices}")
    names = source.immutable
    listed = names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
    require(listed, f"{title} immutable", names, "a list of contract columns")
    given = (source.history, source.loaded_at, source.columns.get("known_at"))
    said = [value for value in given if value is not None]
    require(len(said) <= 1, f"{title} history, loaded_at and columns.known_at", said, "one of the three, or none")

"""What `tenure.toml` says, read once and checked whole.

`${NAME}`, or `${NAME:-default}`, is replaced from the environment in every text value.
Paths are relative to the file. Defaults stand here and nowhere else. No engine is imported: the command line
must start at once.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import ceil
from pathlib import Path
from typing import Any, Literal, get_args

from features.errors import ConfigurationError

CONFIG_NAME = "tenure.toml"

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(:-(?P<default>[^}]*))?\}")

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
        _require(self.horizon_days >= 1, "[label] horizon_days", self.horizon_days, "at least 1 day")
        _require(self.grace_days >= 0, "[label] grace_days", self.grace_days, "0 or more days")
        expected = f"0 or more and below horizon_days = {self.horizon_days}"
        lead = "[label] lead_days (by default 30)"
        _require(0 <= self.lead_days < self.horizon_days, lead, self.lead_days, expected)
        _require(self.anchor in get_args(Anchor), "[label] anchor", self.anchor, f"one of {list(get_args(Anchor))}")
        _require(self.kind in get_args(LabelKind), "[label] kind", self.kind, f"one of {list(get_args(LabelKind))}")
        _require(self.silence_days >= 7, "[label] silence_days", self.silence_days, "at least 7 days")
        share = self.contraction_share
        _require(0 < share <= 1, "[label] contraction_share", share, "a share above 0, at most 1")


@dataclass(frozen=True, kw_only=True)
class QuarantineSettings:
    """How much bad input is tolerated."""

    limit: float = 0.05
    """Share of a table's rows that may be set aside before the run stops."""

    def __post_init__(self) -> None:
        _require(0 <= self.limit <= 1, "[quarantine] limit", self.limit, "a share between 0 and 1")


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
        _require(self.threads >= 0, "[engine] threads", self.threads, "0 or more")
        right = re.fullmatch(r"\d+(\.\d+)? ?(MB|GB|TB|MiB|GiB|TiB)", self.memory) is not None
        _require(right, "[engine] memory", self.memory, "a size such as '1.5GB'")


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """How a list is cut."""

    capacity: float = 0.10
    """Share of the scored accounts the team can contact per list, in (0, 1]."""
    hours_per_contact: float = 2.5
    """CSM hours one listed account costs; used by the back-test."""
    offer_share: float = 0.05
    """Offer to a contacted account as a share of its yearly value, taken by those who stay."""
    contact_cost: float = 150.0
    """Money that contacting one account costs."""
    saved_share: float = 0.3
    """Share of the contacted losses that stay: assumed, until outcomes have measured it."""
    stale_days: int = 3
    """Newest usage may be this many days older than `as_of`."""

    def __post_init__(self) -> None:
        _require(0 < self.capacity <= 1, "[policy] capacity", self.capacity, "a share above 0, at most 1")
        _require(self.hours_per_contact >= 0, "[policy] hours_per_contact", self.hours_per_contact, "0 or more hours")
        for name in ("offer_share", "saved_share"):
            _require(0 <= getattr(self, name) <= 1, f"[policy] {name}", getattr(self, name), "a share from 0 to 1")
        _require(self.contact_cost >= 0, "[policy] contact_cost", self.contact_cost, "0 or more")
        _require(self.stale_days >= 0, "[policy] stale_days", self.stale_days, "0 or more days")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training run; each field is an option of `tenure train`."""

    seed: int = 7
    """Same seed, same data: same model."""
    folds: int = 6
    """Latest instants at which the recipe is judged on labels it could not know."""
    min_lost: int = 20
    """Lost accounts below which nothing is learned."""
    draws: int = 2000
    """Bootstrap draws behind each 95 % interval."""

    def __post_init__(self) -> None:
        _require(self.folds >= 1, "[train] folds", self.folds, "at least 1")
        _require(self.draws >= 50, "[train] draws", self.draws, "at least 50")
        _require(self.min_lost >= 20, "[train] min_lost", self.min_lost, "at least 20")


@dataclass(frozen=True, kw_only=True)
class LeakageSettings:
    """What the leakage gate lets pass."""

    accept: Mapping[str, str] = field(default_factory=dict)
    """Feature → why it may be beyond a limit; the certificate says so."""
    permutations: int = 10
    """Times the labels are swapped between accounts to show that the procedure learns nothing from nothing."""

    def __post_init__(self) -> None:
        _require(self.permutations >= 0, "[leakage] permutations", self.permutations, "0 or more")
        unsaid = sorted(name for name, why in self.accept.items() if not why.strip())
        _require(not unsaid, "[leakage.accept]", unsaid, "features with a reason each")


@dataclass(frozen=True, kw_only=True)
class LedgerSettings:
    """Where runs, lists, tokens and the audit are kept."""

    url: str | None = field(default=None, repr=False)
    """`postgresql://user:password@host/database`; by default `ledger.db`, an SQLite file in the state directory."""

    def __post_init__(self) -> None:
        scheme = None if self.url is None else self.url.partition("://")[0]
        known = (None, "postgresql", "postgres", "postgresql+psycopg")
        _require(scheme in known, "[ledger] url", f"{scheme}…"[:16], "postgresql://…, or left out")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How the service behaves."""

    follow_s: float = 5.0
    """Seconds between two looks at the champion's alias."""
    requests_per_s: float = 200.0
    """Of each token, in the long run."""
    burst: int = 400
    """Of each token, at once."""

    def __post_init__(self) -> None:
        _require(self.follow_s > 0, "[serve] follow_s", self.follow_s, "above 0 seconds")
        _require(self.requests_per_s > 0, "[serve] requests_per_s", self.requests_per_s, "above 0")
        _require(self.burst >= 1, "[serve] burst", self.burst, "at least 1")


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


def places(scored: int, capacity: float) -> int:
    """How many of `scored` accounts a list has room for: `capacity` of them, rounded up."""
    return ceil(round(scored * capacity, 9))


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
    document = _expanded(_parsed(path), environ, path)
    sections = {
        "tables",
        "sources",
        "label",
        "quarantine",
        "policy",
        "train",
        "leakage",
        "engine",
        "ledger",
        "serve",
        "state",
    }
    _refuse_unknown(document, sections, f"{path.name}")
    root = path.resolve().parent
    state = document.get("state", {})
    _require(isinstance(state, dict), "[state]", state, "a table of settings")
    _refuse_unknown(state, {"dir"}, "[state]")
    _require(isinstance(state.get("dir", ""), str), "[state] dir", state.get("dir"), "a folder's path")
    return Settings(
        path=path.resolve(),
        tables=_sources(document, "tables"),
        sources=_sources(document, "sources"),
        label=_section(LabelSettings, document, "label"),
        quarantine=_section(QuarantineSettings, document, "quarantine"),
        policy=_section(PolicySettings, document, "policy"),
        engine=_engine(document, environ),
        train=_section(TrainSettings, document, "train"),
        leakage=_section(LeakageSettings, document, "leakage"),
        ledger=_section(LedgerSettings, document, "ledger"),
        serve=_section(ServeSettings, document, "serve"),
        state_dir=(state_dir := (root / state.get("dir", ".tenure")).resolve()),
        compiled_dir=Path(environ.get("TENURE_COMPILED_DIR") or state_dir / "compiled"),
    )


def _engine(document: Mapping[str, Any], environ: Mapping[str, str]) -> EngineSettings:
    engine: EngineSettings = _section(EngineSettings, document, "engine")
    threads = environ.get("TENURE_THREADS", "")
    return replace(engine, threads=int(threads)) if threads.isdigit() else engine


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"Settings must be at {path}; found nothing there. Pass --config FILE.") from error
    except OSError as error:
        raise ConfigurationError(
            f"Settings must be a readable file; {path}: {error.strerror}. Pass --config FILE."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} must be valid TOML; {error}. Correct that line.") from error


def _expanded(value: Any, environ: Mapping[str, str], path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(item, environ, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, environ, path) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match, environ, path), value)
    return value


def _variable(match: re.Match[str], environ: Mapping[str, str], path: Path) -> str:
    name, default = match["name"], match["default"]
    if environ.get(name) or (name in environ and default is None):
        return environ[name]
    if default is not None:
        return default
    raise ConfigurationError(
        f"Environment variable {name} must be set, {path.name} uses it; found none. Export it, then run again."
    )


def _sources(document: Mapping[str, Any], section: str) -> dict[str, TableSource]:
    names = document.get(section, {})
    _require(isinstance(names, dict), f"[{section}]", names, f"tables [{section}.NAME]")
    sources = {}
    for name in names:
        source = _section(TableSource, names, name, title=f"[{section}.{name}]")
        _check_place(f"[{section}.{name}]", source, names[name])
        _require(source.limit is None or 0 <= source.limit <= 1, f"[{section}.{name}] limit", source.limit, "a share")
        _require(
            source.period in (None, *get_args(Period)),
            f"[{section}.{name}] period",
            source.period,
            f"one of {list(get_args(Period))}",
        )
        _require_past(source, f"[{section}.{name}]")
        sources[name] = source
    return sources


def _check_place(title: str, source: TableSource, given: Mapping[str, Any]) -> None:
    """A file, files, a database's table or a query, and nothing that contradicts it."""
    found = sorted(given)
    named = [key for key in ("table", "query") if given.get(key) is not None]
    if source.url is not None:
        _require(source.path is None, title, found, "read from a path or from a url, not both")
        _require(len(named) == 1, title, found, "given a table or a query beside its url")
        scheme = source.url.partition("://")[0]
        _require(scheme in ("postgresql", "postgres"), f"{title} url", f"{scheme[:12]}…", "postgresql://…")
        return
    _require(source.incremental is None, title, found, "given incremental only beside a url")
    if source.is_database:
        _require(len(named) == 1, title, found, "given a table or a query of its DuckDB file")
        return
    _require(source.path is not None or source.query is not None, title, found, "given a path, a url or a query")
    _require(source.table is None, title, found, "given a table only of a DuckDB file or a url")


def _require_past(source: TableSource, title: str) -> None:
    """One way alone may say when rows became known."""
    choices = list(get_args(History))
    _require(source.history in (None, *choices), f"{title} history", source.history, f"one of {choices}")
    names = source.immutable
    listed = names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
    _require(listed, f"{title} immutable", names, "a list of contract columns")
    given = (source.history, source.loaded_at, source.columns.get("known_at"))
    said = [value for value in given if value is not None]
    _require(len(said) <= 1, f"{title} history, loaded_at and columns.known_at", said, "one of the three, or none")


def _section(kind: type[Any], document: Mapping[str, Any], name: str, *, title: str | None = None) -> Any:
    given = document.get(name, {})
    title = title or f"[{name}]"
    _require(isinstance(given, dict), title, given, "a table of settings")
    known = {item.name: item for item in fields(kind)}
    _refuse_unknown(given, known, title)
    for key, value in given.items():
        shown = "a value of another type" if known[key].repr is False else value
        _require_kind(f"{title} {key}", value, str(known[key].type), shown=shown)
    return kind(**given)


def _require_kind(subject: str, value: object, annotation: str, *, shown: object) -> None:
    expected = {
        "int": (int,),
        "float": (int, float),
        "float | None": (int, float),
        "str": (str,),
        "str | None": (str,),
    }.get(annotation)
    if annotation.startswith("Mapping"):
        inner = dict if annotation.endswith("Any]]") else str
        right = isinstance(value, dict) and all(isinstance(item, inner) for item in value.values())
        _require(right, subject, shown, "a table of names" if inner is str else "a table of tables")
        return
    wrong = expected is not None and (not isinstance(value, expected) or isinstance(value, bool))
    _require(not wrong, subject, shown, f"of type {annotation.split(' ')[0]}")


def _refuse_unknown(given: Iterable[str], known: Iterable[str], title: str) -> None:
    known = sorted(known)
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise ConfigurationError(f"{title} must hold only {known}; found '{key}'.{hint}")


def _require(holds: bool, subject: str, found: object, expected: str) -> None:
    if not holds:
        raise ConfigurationError(f"{subject} must be {expected}; found {found!r}. Correct it in {CONFIG_NAME}.")

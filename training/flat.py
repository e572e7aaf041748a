"""A table of features that was made elsewhere: trained, judged, registered and scored by the same rules.

Text becomes one column of 0 and 1 per value; a column of more values than `MOST_VALUES`, of dates, or of one value is
left out and named. Where the table has a time, folds are later in time, else repeated stratified folds in which no id
is both learned from and judged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from features.csv_files import csv_reader, quoted
from features.errors import DataError, TooFewChurns
from features.model_settings import PolicySettings, TrainSettings
from features.settings import Settings
from training import metrics, views
from training.audit import Audit
from training.baselines import BASELINES, logistic, prior
from training.card import figures_table, told_views
from training.dataset import identity_of
from training.evaluation import VIEW_DRAWS, Evaluation
from training.fit import Fitted, fit
from training.intervals import ece_noise_floor, evaluate_rows, paired_difference
from training.leakage import inspected, permuted
from training.learners import Trees
from training.model import ChurnModel, golden_rows
from training.train import Trained, medians, percentiles

Progress = Callable[[str], None]

MOST_VALUES = 25
"""Values of a text column that become columns of their own."""
FOLDS, REPEATS, PERIODS = 5, 3, 4
YES, NO = {"1", "1.0", "true", "t", "yes", "y", "churned", "lost"}, {"0", "0.0", "false", "f", "no", "n", "kept"}
NO_TIME = datetime(1970, 1, 1)
"""The instant of all rows of a table without time."""


@dataclass(frozen=True, kw_only=True)
class FlatTable:
    """Rows with account_id, as_of, churned (missing where it is to be predicted) and the features, all numbers."""

    name: str
    rows: pd.DataFrame
    features: tuple[str, ...]
    has_time: bool
    left_out: tuple[str, ...]
    """Columns that are no features, each with why."""

    @property
    def identity(self) -> str:
        """sha256 of all rows."""
        return identity_of(self.rows)

    @property
    def labelled(self) -> pd.DataFrame:
        """The rows with a label."""
        rows = self.rows[self.rows.churned.notna()]
        return rows.assign(churned=rows.churned.astype(int)).reset_index(drop=True).assign(row=lambda each: each.index)


def read_table(path: Path, *, id_column: str | None, label_column: str, time_column: str | None) -> FlatTable:
    """The table in a CSV or Parquet file; without an id column each row is an account of its own, named by its number.

    Raises
    ------
    DataError
        The file or a column is missing, or the label holds something else than two values that mean yes and no.
    """
    raw = _raw(path)
    asked = {"--id": id_column, "--label": label_column, "--time": time_column}
    named = {option: column for option, column in asked.items() if column is not None}
    for option, column in named.items():
        if column not in raw:
            raise DataError(f"{path.name} must have the column '{column}' of {option}; found {sorted(raw.columns)}.")
    ids = raw[id_column] if id_column else pd.Series(np.arange(1, len(raw) + 1))
    rows = pd.DataFrame({"account_id": ids.astype(str), "churned": _labels(raw[label_column], path.name)})
    rows["as_of"] = _times(raw[time_column], path.name) if time_column else pd.Timestamp(NO_TIME)
    others = raw.drop(columns=list(dict.fromkeys(named.values())))
    columns: dict[str, pd.Series] = {}
    left_out = []
    for name in others:
        made = _encoded(str(name), others[name])
        if isinstance(made, str):
            left_out.append(f"{name} ({made})")
        else:
            columns |= {_free(feature, columns): values for feature, values in made.items()}
    rows = pd.concat([rows, pd.DataFrame(columns, index=rows.index)], axis=1)
    # What the figures of a company know beside; nobody tells it of a table.
    rows = rows.assign(parent_id=None, segment=None, mrr=np.nan, part=None, decided_at=np.datetime64("NaT", "us"))
    order = rows.sort_values(["as_of", "account_id"], kind="stable").reset_index(drop=True)
    return FlatTable(name=path.stem, rows=order, features=tuple(columns), has_time=time_column is not None,
                     left_out=tuple(left_out))  # fmt: skip


def _raw(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"--table must be a CSV or Parquet file; found nothing at {path}.")
    reader = f"read_parquet({quoted(path)})" if path.suffix == ".parquet" else csv_reader("table", path)
    try:
        return duckdb.connect().execute(f"select * from {reader}").df()
    except duckdb.Error as error:
        raise DataError(f"{path.name} must be readable as a table; {str(error).splitlines()[0]}.") from error


def _labels(values: pd.Series, table: str) -> pd.Series:
    text = values.astype("string").str.strip().str.lower()
    meant = {**dict.fromkeys(YES, 1.0), **dict.fromkeys(NO, 0.0), "": np.nan}
    strange = sorted(set(text.dropna()) - set(meant))
    if strange:
        raise DataError(
            f"{table} must say with '{values.name}' who was lost: yes or no, true or false, 1 or 0; "
            f"found {strange[:5]}. Name another column with --label, or rewrite its values."
        )
    return pd.Series(text.map(meant).astype(float))


def _times(values: pd.Series, table: str) -> pd.Series:
    times = pd.to_datetime(values.astype("string"), errors="coerce", utc=True, format="ISO8601").dt.tz_localize(None)
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise DataError(f"{table} must have a time in each '{values.name}'; row {row + 1} holds {values.iloc[row]!r}.")
    return times


def _encoded(name: str, values: pd.Series) -> dict[str, pd.Series] | str:
    """The columns of numbers that a column becomes, or why it becomes none."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return "dates"
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    given = values.notna() & (values.astype("string").str.strip() != "")
    if given.sum() == 0 or values[given].nunique() < 2:
        return "one value"
    if (numbers.notna() | ~given).all():
        return {_clean(name): numbers.where(np.isfinite(numbers))}
    text = values.astype("string").str.strip().where(given)
    kinds = sorted(text.dropna().unique())
    if len(kinds) > MOST_VALUES:
        return f"{len(kinds)} different texts"
    if len(kinds) == 2:
        kinds = kinds[1:]
    return {_clean(f"{name}_{kind}"): (text == kind).astype(float).where(given) for kind in kinds}


def _clean(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_") or "column"


def _free(name: str, taken: dict[str, pd.Series]) -> str:
    reserved = {"account_id", "as_of", "churned", "parent_id", "segment", "mrr", "part", "decided_at"}
    while name in taken or name in reserved:
        name += "_x"
    return name


def train_table(table: FlatTable, settings: Settings, *, progress: Progress) -> Trained:
    """Judge the recipe on rows it did not learn from, then fit it on all labelled rows.

    Raises
    ------
    TooFewChurns
        Fewer ids were lost than `[train] min_lost`.
    """
    options, rows = settings.train, table.labelled
    lost = int(rows.loc[rows.churned == 1, "account_id"].nunique())
    if lost < options.min_lost or rows.churned.nunique() < 2:
        raise TooFewChurns(lost, needed=options.min_lost, instants=rows.as_of.nunique(), advice="Bring more rows.")
    progress(f"{len(rows):,} labelled rows, {lost:,} of them lost, {len(table.features)} features")
    evaluation = evaluate_table(table, options, settings.policy, progress=progress)
    audit = _audit(table, evaluation, settings)
    progress(audit.verdict)
    fitted = fit(rows, table.features, seed=options.seed, rounds=evaluation.rounds)
    recipe = {**Trees().recipe, "features": list(table.features)}
    story = _card(table, evaluation, audit, fitted)
    model = ChurnModel(
        booster=fitted.learned.booster,
        features=table.features,
        calibrator=fitted.calibrator,
        base_rate=float(rows.churned.mean()),
        no_signal=evaluation.why_no_signal() is not None,
        horizon_days=settings.label.horizon_days,
        catalogue=hashlib.sha256("\n".join(table.features).encode()).hexdigest(),
        typical=medians(rows, table.features),
        percentiles=percentiles(rows, table.features),
        golden=golden_rows(rows, fitted.learned.booster, table.features),
        evaluation=evaluation.as_dict() | {"recipe": recipe, "learned_until": f"{rows.as_of.max():%Y-%m-%d}"},
        certificate=audit.as_dict(),
        card=story,
    )
    return Trained(model=model, card=story, evaluation=evaluation, dataset=table, audit=audit, recipe=recipe)


def evaluate_table(
    table: FlatTable, options: TrainSettings, policy: PolicySettings, *, progress: Progress
) -> Evaluation:
    """Every labelled row that can be judged, scored by a model that did not learn from it."""
    parts, rounds = [], []
    for number, (learned, held) in enumerate(_folds(table, options), start=1):
        fitted = fit(learned, table.features, seed=options.seed)
        raw = fitted.raw_scores(held, table.features)
        baselines = {"prior": prior(learned, held, table.features), "logistic": logistic(learned, held, table.features)}
        parts.append(held.assign(raw_score=raw, probability=fitted.calibrator.probability(raw), **baselines))
        rounds.append(fitted.rounds)
        progress(f"fold {number}: learned from {len(learned):,} rows, judged on {len(held):,}")
    judged = _averaged(pd.concat(parts, ignore_index=True))
    seed, draws = options.seed, options.draws
    names = [name for name in BASELINES if name in judged]
    return Evaluation(
        predictions=judged,
        figures=evaluate_rows(judged, "probability", draws=draws, seed=seed),
        baselines={name: evaluate_rows(judged, name, draws=draws, seed=seed) for name in names},
        against_prior=paired_difference(judged, "probability", "prior", "log_loss", draws=draws, seed=seed),
        ece_floor=ece_noise_floor(judged.probability.to_numpy(), seed=seed),
        instants=tuple(at.to_pydatetime() for at in sorted(judged.as_of.unique())),
        rounds=sorted(rounds)[len(rounds) // 2],
        views={
            "instants": views.by_instant(judged),
            "capacity": views.at_capacity(judged, policy, draws=min(draws, VIEW_DRAWS), seed=seed),
            "money": views.in_money(judged, policy),
            "optimism": _optimism(table, judged, options),
        },
    )


def _folds(table: FlatTable, options: TrainSettings) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    rows = table.labelled
    if table.has_time:
        yield from _later(rows)
        return
    for repeat in range(REPEATS):
        yield from _random(rows, seed=options.seed + repeat)


def _later(rows: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """The last half of the rows in `PERIODS` periods, each judged by what was learned from the rows before it."""
    cuts = rows.as_of.quantile(np.linspace(0.5, 1, PERIODS + 1)).to_list()
    for number, (start, end) in enumerate(pairwise(cuts)):
        last = number == PERIODS - 1
        learned = rows[rows.as_of < start]
        held = rows[(rows.as_of >= start) & ((rows.as_of <= end) if last else (rows.as_of < end))]
        if len(held) and learned.churned.nunique() == 2:
            yield learned, held.assign(as_of=start)


def _random(rows: pd.DataFrame, *, seed: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for learned, held in splitter.split(rows, rows.churned, rows.account_id):
        yield rows.iloc[learned], rows.iloc[held]


def _averaged(parts: pd.DataFrame) -> pd.DataFrame:
    """One row per row of the table: the mean of what the repeats said."""
    scores = [name for name in ("raw_score", "probability", *BASELINES) if name in parts]
    rows = parts.groupby("row", sort=True)
    once = rows.first()
    once[scores] = rows[scores].mean()
    return once.reset_index()


def _optimism(table: FlatTable, judged: pd.DataFrame, options: TrainSettings) -> dict[str, float | None]:
    """What random folds of a table with time would have claimed; nothing where folds are random anyway."""
    in_time = metrics.roc_auc(judged.churned, judged.raw_score)
    in_random = None
    if table.has_time:
        learned, held = next(_random(table.labelled, seed=options.seed))
        raw = fit(learned, table.features, seed=options.seed).raw_scores(held, table.features)
        in_random = metrics.roc_auc(held.churned, raw)
    gap = None if in_random is None or in_time is None else in_random - in_time
    return {"random_split_auc": in_random, "later_in_time_auc": in_time, "optimism": gap}


def _audit(table: FlatTable, evaluation: Evaluation, settings: Settings) -> Audit:
    """The checks that need no tables behind the features: single features, and labels that mean nothing."""
    rows, names = table.labelled, list(table.features)
    seed = settings.train.seed
    held = np.random.default_rng(seed).random(len(rows)) < 1 / FOLDS

    def procedure(mixed: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        learned, judged = mixed[~held], mixed[held]
        lost = judged.churned.to_numpy(float)
        if learned.churned.nunique() < 2:
            return lost, np.zeros(len(judged))
        matrix, churned = learned[names].to_numpy(np.float64), learned.churned.to_numpy(np.int8)
        model = Trees().learn(matrix, churned, table.features, seed=seed, rounds=evaluation.rounds)
        return lost, model.raw_scores(judged[names].to_numpy(np.float64))

    # Each row is swapped for itself: an id may have any number of rows at one time.
    alone = rows.assign(account_id=np.arange(len(rows)).astype(str), as_of=0)
    return Audit(
        planted=None,
        findings=tuple(inspected(rows, table.features)),
        accepted=settings.leakage.accept,
        permuted=permuted(alone, procedure, times=settings.leakage.permutations, seed=seed),
        embargo={"holds": True, "last_final": None, "judged_at": None, "days": 0},
        hashes={"data": table.identity},
        optimism=evaluation.views["optimism"],
        trained_at=rows.as_of.max().to_pydatetime(),
    )


def _card(table: FlatTable, evaluation: Evaluation, audit: Audit, fitted: Fitted) -> str:
    rows = table.labelled
    how = (
        "each time learned from the rows before" if table.has_time else f"{REPEATS} × {FOLDS} folds, ids kept together"
    )
    lines = [
        f"# Churn model of {table.name}",
        "",
        "Probability that a row of this table is one of a lost account.",
        "",
        f"- Learned from {len(rows):,} rows, {int(rows.churned.sum()):,} of them lost; data {table.identity[:16]}.",
        f"- Calibrated on {fitted.calibrated_on}.",
        f"- Judged on {len(evaluation.predictions):,} rows that were not learned from: {how}.",
        f"- Leakage: {audit.verdict}. Nobody can tell from a table when its values were written down.",
        *([f"- Left out: {', '.join(table.left_out)}."] if table.left_out else []),
        *(f"- {line}" for line in told_views(evaluation.views)),
        *(f"- Warning: {warning}." for warning in evaluation.warnings),
        "",
        *figures_table(evaluation),
        "",
        "Not for: deciding terms, prices or service of an account, or judging a person.",
    ]
    return "\n".join(lines) + "\n"


def scored(table: FlatTable, trained: Trained) -> pd.DataFrame:
    """Every row by falling probability: what was said of it when it was held out, else what the model says now."""
    model = trained.model
    assert model is not None
    judged = trained.evaluation.predictions.set_index("row").probability
    place = np.flatnonzero(table.rows.churned.notna())[judged.index]
    probability = model.probabilities(table.rows)
    probability[place] = judged
    held_out = np.zeros(len(table.rows), dtype=bool)
    held_out[place] = True
    rows = table.rows.assign(probability=probability, held_out=held_out)
    rows["band"] = rows.probability.map(model.band)
    order = rows.sort_values(["probability", "account_id"], ascending=[False, True])
    shown = ["account_id", *(["as_of"] if table.has_time else []), "probability", "band", "churned", "held_out"]
    return order[shown].reset_index(drop=True)


def flat_settings(path: Path, settings: Settings | None) -> Settings:
    """Those of the company, or defaults with the state beside the table where there is none."""
    if settings is not None:
        return settings
    home = path.resolve().parent
    return Settings(path=path, tables={}, state_dir=home / ".tenure", compiled_dir=home / ".tenure" / "compiled")

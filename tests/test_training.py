"""A model is judged by what it could have known: no label, loss or feature of a later day reaches an earlier fit."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

import training.fit
from features.build import feature_table
from features.families import classes, peers
from features.maturity import maturity
from features.model_settings import TrainSettings
from features.settings import read_settings
from features.snapshots import data_span
from features.tables import Tables, open_tables
from training.baselines import BASELINES
from training.calibration import fit_calibrator
from training.evaluation import evaluate, rolling_predictions
from training.fit import fit
from training.intervals import evaluate_rows

# ibis 12 still asks pandas 3 for this option.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning")

TOLD = [name for name in BASELINES if name != "health_score"]
"""The generated company gives itself no scores."""
SCORES = ["account_id", "as_of", "raw_score", "probability", *TOLD]


@pytest.fixture(scope="module")
def company(generated):
    return generated


@pytest.fixture(scope="module")
def dataset(trained):
    return trained.dataset


@pytest.fixture(scope="module")
def evaluation(dataset):
    return evaluate(dataset, TrainSettings(folds=2, seed=7, draws=50))


@pytest.fixture
def early_calibration(monkeypatch):
    """Let a few losses among earlier predictions do, so that calibration on them is judged too."""
    monkeypatch.setattr(training.fit, "MIN_LOST_TO_CALIBRATE", 3)


def same(left, right):
    pd.testing.assert_frame_equal(left.reset_index(drop=True), right.reset_index(drop=True), check_exact=True)


# What may be learned from


def test_every_fold_learns_only_from_labels_that_were_final(dataset):
    known = dataset.maturity
    needed = timedelta(days=known.label.horizon_days + known.label.grace_days + known.delay_days)

    assert known.folds()
    for instant in known.folds():
        assert dataset.known_at(instant).as_of.max() + needed <= instant
        assert known.known_at(instant).as_of.max() + needed <= instant


def test_a_label_is_known_on_the_very_day_it_is_final_and_not_a_moment_earlier(dataset):
    first = dataset.rows.as_of.min().to_pydatetime()
    final = first + dataset.maturity.final_after

    assert set(dataset.known_at(final).as_of) == {pd.Timestamp(first)}
    assert dataset.known_at(final - timedelta(microseconds=1)).empty


def test_a_decision_learned_only_later_counts_as_none(dataset):
    instant = dataset.maturity.folds()[-1]
    rows = dataset.maturity.rows
    lost = dataset.maturity.known_at(instant).query("churned == 1")
    late = (rows.account_id == lost.account_id.iloc[0]) & rows.decided_at.notna()

    def churned_if_known_at(moment):
        told = rows.assign(decision_known_at=rows.decision_known_at.mask(late, pd.Timestamp(moment)))
        then = replace(dataset, maturity=replace(dataset.maturity, rows=told)).known_at(instant)
        return then[then.account_id == lost.account_id.iloc[0]].churned.sum()

    assert churned_if_known_at(instant + timedelta(microseconds=1)) == 0
    assert churned_if_known_at(instant) == (lost.account_id == lost.account_id.iloc[0]).sum()


def test_rows_learned_from_keep_features_beside_their_own_labels(dataset):
    instant = dataset.maturity.folds()[-1]
    known = dataset.known_at(instant)
    labels = dataset.maturity.known_at(instant)

    assert len(known) == len(labels)
    same(known[["account_id", "as_of", "churned"]], labels[["account_id", "as_of", "churned"]])
    same(known[list(dataset.features)], dataset.rows[dataset.rows.as_of.isin(labels.as_of)][list(dataset.features)])


def test_labels_as_known_then_are_those_of_the_tables_as_they_were_then(company, dataset, tmp_path):
    """Contract versions that were written later say nothing about an earlier fit."""
    settings, _ = company
    instant = dataset.maturity.folds()[-1]
    for source in settings.path.parent.glob("*.parquet"):
        rows = pd.read_parquet(source)
        known = rows[rows.known_at <= instant] if "known_at" in rows else rows
        known.to_parquet(tmp_path / source.name)
    (tmp_path / "tenure.toml").write_text(settings.path.read_text())
    tables = open_tables(read_settings(tmp_path / "tenure.toml"), now=instant)
    then = maturity(tables, data_span(tables, instant), settings.label, min_lost=20)

    assert then.delay_days == dataset.maturity.delay_days
    columns = ["account_id", "as_of", "churned"]
    same(then.mature[columns].astype({"churned": "int8"}), dataset.maturity.known_at(instant)[columns])


def poisoned(dataset, instant):
    """Everything that nobody could know at `instant`, made false: labels, losses and features of later rows."""
    past_labels = pd.Timestamp(instant - dataset.maturity.final_after)
    rows, known = dataset.rows.copy(), dataset.maturity.rows.copy()
    for frame in (rows, known):
        frame["churned"] = frame.churned.astype("float64")
        late = (frame.as_of > past_labels) | ~(frame.decision_known_at <= pd.Timestamp(instant))
        later = frame.as_of > past_labels
        frame.loc[later, "churned"] = 1.0
        frame.loc[late & ~later, "churned"] = 0.0
        frame.loc[late, ["decided_at", "lost_at"]] = pd.Timestamp("2031-01-01")
        frame.loc[late, "decision_known_at"] = pd.Timestamp("2031-01-01")
    ahead = rows.as_of > pd.Timestamp(instant)
    rows.loc[ahead, list(dataset.features)] = 1e6
    assert ahead.any()
    return replace(dataset, rows=rows, maturity=replace(dataset.maturity, rows=known))


@pytest.mark.parametrize("place", [0, -1])
def test_the_future_changes_no_prediction(dataset, early_calibration, place):
    instants = [dataset.maturity.folds()[place]]
    honest, rounds = rolling_predictions(dataset, instants, seed=7)
    blinded, same_rounds = rolling_predictions(poisoned(dataset, instants[0]), instants, seed=7)

    assert rounds == same_rounds
    same(honest[SCORES], blinded[SCORES])


def test_the_future_changes_no_calibration_on_earlier_predictions(dataset, early_calibration):
    folds = dataset.maturity.folds()
    instants = [folds[0], folds[-1]]
    honest, _ = rolling_predictions(dataset, instants, seed=7)
    blinded, _ = rolling_predictions(poisoned(dataset, instants[-1]), instants, seed=7)

    same(honest[SCORES], blinded[SCORES])


def test_earlier_predictions_calibrate_once_enough_of_them_came_true(dataset, early_calibration):
    instant = dataset.maturity.folds()[-1]
    known = dataset.known_at(instant)
    earlier = known[["account_id", "as_of", "churned"]].assign(raw_score=np.linspace(-4, 1, len(known)))

    fitted = fit(known, dataset.features, seed=7, earlier=earlier, rounds=10)

    assert fitted.calibrated_on == "earlier predictions"
    assert fitted.calibrator == fit_calibrator(earlier.raw_score.to_numpy(), earlier.churned.to_numpy())


# Features


OF_OTHERS = {item.name for room in (peers, classes) for family in room.FAMILIES for item in family.all_features()}
OF_OTHERS |= {"csm_account_load"}


@dataclass(frozen=True, kw_only=True)
class OnlyAccounts(Tables):
    """The tables of a company that has no other accounts."""

    accounts: frozenset[str]

    @property
    def shape(self):
        return super().shape, tuple(sorted(self.accounts))

    def __getitem__(self, name):
        rows = super().__getitem__(name)
        return rows.filter(rows.account_id.isin(sorted(self.accounts)))


def test_rows_learned_from_are_those_of_a_batch_at_the_same_instant(company, dataset):
    settings, tables = company
    instant = dataset.maturity.folds()[0]
    batch = feature_table(tables, [instant], settings.label).to_pandas()
    columns = ["account_id", "as_of", *dataset.features]

    same(dataset.at(instant)[columns], batch[columns])


def test_an_account_alone_has_the_features_and_the_probability_it_has_among_all(company, dataset):
    settings, tables = company
    mature = dataset.rows[dataset.rows.state == "labelled"]
    fitted = fit(mature.astype({"churned": int}), dataset.features, seed=7, rounds=20)
    drawn = mature[mature.account_id.isin(mature.account_id.value_counts().index[:60])]
    accounts = drawn.account_id.drop_duplicates().sample(4, random_state=4)
    names = list(dataset.features)
    among = fitted.calibrator.probability(fitted.raw_scores(mature, dataset.features))
    compared = 0
    for account in accounts:
        among_all = drawn[drawn.account_id == account].sort_values("as_of")
        opened = {item.name: getattr(tables, item.name) for item in fields(tables)}
        only = OnlyAccounts(**opened, accounts=frozenset([account]))
        alone = feature_table(only, among_all.as_of.dt.to_pydatetime().tolist(), settings.label).to_pandas()
        # What compares an account with the others is not there without them.
        of_others = [name for name in names if name in OF_OTHERS]
        alone[of_others] = among_all[of_others].to_numpy()
        same(alone[["account_id", "as_of", *names]], among_all[["account_id", "as_of", *names]])
        scored = [fitted.raw_scores(alone.iloc[[row]], dataset.features)[0] for row in range(len(alone))]
        probability = fitted.calibrator.probability(np.array(scored))
        np.testing.assert_array_equal(probability, among[mature.index.get_indexer(among_all.index)])
        compared += len(alone)

    assert compared >= 50


# Judging


def shuffled(dataset, seed):
    """Each account with the decisions of another one."""
    rows, known = dataset.rows, dataset.maturity.rows
    lost = known.dropna(subset=["decided_at"]).drop_duplicates(["account_id", "decided_at"])
    accounts = np.sort(rows.account_id.unique())
    other = dict(zip(accounts, np.random.default_rng(seed).permutation(accounts), strict=True))
    taken = lost.assign(account_id=lost.account_id.map({there: here for here, there in other.items()}))
    taken = taken[["account_id", "decided_at", "decision_known_at", "lost_at"]]
    horizon = timedelta(days=dataset.maturity.label.horizon_days)

    def relabelled(frame):
        bare = frame.drop(columns=["decided_at", "decision_known_at", "lost_at"]).reset_index()
        pairs = bare[["index", "account_id", "as_of"]].merge(taken, on="account_id")
        pairs = pairs[(pairs.decided_at > pairs.as_of) & (pairs.decided_at <= pairs.as_of + horizon)]
        told = bare.merge(pairs.drop_duplicates("index").drop(columns=["account_id", "as_of"]), on="index", how="left")
        is_lost = told.decided_at.notna().astype(float)
        return told.drop(columns="index").assign(churned=is_lost.where(told.state == "labelled"))

    return replace(dataset, rows=relabelled(rows), maturity=replace(dataset.maturity, rows=relabelled(known)))


def test_decisions_dealt_to_other_accounts_leave_no_signal(dataset):
    judged = evaluate(shuffled(dataset, 5), TrainSettings(folds=6, seed=7, draws=200))

    assert judged.why_no_signal() is not None
    assert [warning.split(":")[0] for warning in judged.warnings] == ["no_signal"]


def test_the_model_and_every_baseline_are_judged_on_the_same_rows(dataset, evaluation):
    rows = evaluation.predictions

    assert set(rows.as_of) == {pd.Timestamp(instant) for instant in evaluation.instants}
    assert rows[["probability", *TOLD]].notna().all(axis=None)
    assert rows[["probability", *TOLD]].min(axis=None) >= 0
    assert rows[["probability", *TOLD]].max(axis=None) <= 1
    assert set(evaluation.baselines) == set(TOLD)
    for name, figures in evaluation.baselines.items():
        assert figures == evaluate_rows(rows, name, draws=50, seed=7)


def test_every_account_that_was_active_is_judged(dataset, evaluation):
    for instant in evaluation.instants:
        judged = evaluation.predictions[evaluation.predictions.as_of == pd.Timestamp(instant)]
        same(judged[["account_id"]], dataset.at(instant)[["account_id"]])


def test_the_prior_is_the_share_lost_among_the_labels_known_then(dataset, evaluation):
    for instant in evaluation.instants:
        judged = evaluation.predictions[evaluation.predictions.as_of == pd.Timestamp(instant)]
        assert set(judged.prior) == {dataset.known_at(instant).churned.mean()}

"""A feature that knows too much is named; a clean set passes, and labels that mean nothing teach nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from training.leakage import Permuted, faded, inspected, permuted

HONEST = ("usage", "tickets", "age")


def company(accounts=600, instants=3, seed=0):
    """Rows of honest features: use tells a little of who leaves, the rest nothing."""
    rng = np.random.default_rng(seed)
    size = accounts * instants
    usage = rng.normal(size=size)
    churned = (rng.random(size) < 1 / (1 + np.exp(2.5 + 0.8 * usage))).astype(int)
    return pd.DataFrame(
        {
            "account_id": np.tile([f"a{number}" for number in range(accounts)], instants),
            "as_of": np.repeat(pd.date_range("2024-01-01", periods=instants, freq="MS"), accounts),
            "churned": churned,
            "usage": usage,
            "tickets": rng.poisson(1.0, size).astype(float),
            "age": np.where(rng.random(size) < 0.2, np.nan, rng.uniform(30, 900, size)),
        }
    )


def named(rows, features):
    return {(finding.feature, finding.check) for finding in inspected(rows, features)}


@pytest.mark.parametrize("seed", range(5))
def test_a_clean_set_passes(seed):
    assert named(company(seed=seed), HONEST) == set()


def test_a_status_field_is_named_by_its_values_and_by_its_name():
    rows = company().assign(account_status=lambda each: each.churned.astype(float))

    assert {
        ("account_status", "denied_field"),
        ("account_status", "single_auc"),
        ("account_status", "pure_value"),
    } == named(rows, (*HONEST, "account_status"))


def test_a_field_filled_for_a_third_of_the_lost_accounts_is_named():
    rng = np.random.default_rng(1)
    rows = company()
    third = (rows.churned == 1) & (rng.random(len(rows)) < 1 / 3)
    rows["offboarding_score"] = np.where(third, rng.normal(size=len(rows)), np.nan)

    assert ("offboarding_score", "pure_value") in named(rows, (*HONEST, "offboarding_score"))
    (finding,) = [one for one in inspected(rows, ("offboarding_score",)) if one.check == "pure_value"]
    assert finding.value == 1.0
    assert "rows where it is given were lost" in finding.said


def test_a_score_written_down_afterwards_is_named():
    rng = np.random.default_rng(2)
    rows = company().assign(nps=lambda each: np.where(each.churned == 1, 0.0, 9.0) + rng.normal(size=len(each)))

    assert ("nps", "single_auc") in named(rows, (*HONEST, "nps"))


def test_a_ticket_that_is_filed_when_the_account_leaves_fades_a_week_earlier():
    rows = company()
    rows["offboarding_tickets"] = rows.churned * 1.0
    earlier = rows[["account_id", "as_of", *HONEST]].assign(offboarding_tickets=0.0)

    found = faded(rows, earlier, (*HONEST, "offboarding_tickets"))

    assert [finding.feature for finding in found] == ["offboarding_tickets"]
    assert found[0].said == "|AUC - 0.5| is 0.500, and 0.000 when built 7 days earlier"


def test_a_few_lost_rows_of_one_account_prove_nothing():
    """Twelve snapshots of one account that was lost are one account."""
    rows = company(accounts=50, instants=12).assign(churned=0)
    rows.loc[rows.account_id == "a1", "churned"] = 1
    rows["rare"] = np.where(rows.account_id == "a1", 1.0, 0.0)

    assert ("rare", "pure_value") not in named(rows, ("rare",))


def test_needs_of_a_feature_are_denied_and_not_its_name():
    rows = company().assign(lost_tickets=1.0)

    assert inspected(rows, ("lost_tickets",), needs={"lost_tickets": ("tickets.closed_at",)}) == []
    (finding,) = inspected(rows, ("lost_tickets",), needs={"lost_tickets": ("contracts.end_reason",)})
    assert finding.said == "it reads contracts.end_reason, filled in when an account leaves"


def split(rows):
    later = rows.as_of == rows.as_of.max()
    return rows[~later], rows[later]


def honest_procedure(rows):
    past, later = split(rows)
    means = past.groupby(past.usage.round()).churned.mean()
    return later.churned.to_numpy(float), later.usage.round().map(means).fillna(past.churned.mean()).to_numpy()


def peeking_procedure(rows):
    _, later = split(rows)
    means = later.groupby(later.account_id.str[-2:]).churned.mean()
    return later.churned.to_numpy(float), later.account_id.str[-2:].map(means).to_numpy()


def test_an_honest_procedure_learns_nothing_from_labels_that_mean_nothing():
    found = permuted(company(), honest_procedure, times=20, seed=0)

    assert found.is_clean
    assert found.times == 20


def test_a_procedure_that_learns_from_what_it_is_judged_on_is_found():
    found = permuted(company(), peeking_procedure, times=20, seed=0)

    assert not found.is_clean
    assert found.mean_auc > found.high


def test_no_permutation_claims_nothing():
    assert permuted(company(), honest_procedure, times=0, seed=0) == Permuted(mean_auc=0.5, low=0.0, high=1.0, times=0)

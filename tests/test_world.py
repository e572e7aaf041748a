"""Claims about the generated company: it repeats, it keeps its past, and its truth is true."""

from datetime import date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import roc_auc_score

from features.world import World, write_world

START = date(2024, 1, 1)
OUTCOMES = {"emails": ["unsubscribed_at"], "incidents": ["ended_at"]}


def played(accounts, months, actions=None, **options):
    world = World(accounts, start=START, **options)
    for month in range(months):
        world.advance(month, (actions or {}).get(month))
    return world


def first_of(month):
    return pd.Timestamp(START) + pd.DateOffset(months=month)


def frames(tables):
    return {name: table.to_pandas() for name, table in tables.items()}


def decided_within_90_days(probability, decisions):
    """(rows,) of bool: whether the account decided to leave in the 90 days after each row's `as_of`."""
    rows = probability[["account_id", "as_of"]].reset_index(drop=True).reset_index(names="row")
    both = rows.merge(decisions, on="account_id")
    days = (both["decided_at"] - both["as_of"]) / pd.Timedelta(days=1)
    return rows["row"].isin(both["row"][(days > 0) & (days <= 90)]).to_numpy()


@pytest.fixture(scope="module")
def medium():
    return played(1500, 14, seed=7)


@pytest.fixture(scope="module")
def tables(medium):
    return frames(medium.tables())


@pytest.fixture(scope="module")
def truth(medium):
    return frames(medium.truth())


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_world(tmp_path / name, accounts=150, months=6, seed=3)

    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))

    assert [str(path) for path in files] == [
        "accounts.parquet",
        "assignments.parquet",
        "contacts.parquet",
        "contracts.parquet",
        "emails.parquet",
        "entitlements.parquet",
        "goals.parquet",
        "incidents.parquet",
        "invoices.parquet",
        "milestones.parquet",
        "opportunities.parquet",
        "surveys.parquet",
        "tasks.parquet",
        "tenure.toml",
        "tickets.parquet",
        "touches.parquet",
        "truth/decisions.parquet",
        "truth/effects.parquet",
        "truth/probability.parquet",
        "usage.parquet",
    ]
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in files)


def test_another_seed_is_another_company():
    one, two = (played(150, 3, seed=seed).tables() for seed in (3, 4))

    assert not one["accounts"].equals(two["accounts"])
    assert not one["usage"].equals(two["usage"])


def test_progress_is_told_month_by_month(tmp_path):
    told = []

    write_world(tmp_path, accounts=20, months=3, seed=1, progress=told.append)

    assert told == ["month 1 of 3", "month 2 of 3", "month 3 of 3"]


def test_nothing_has_happened_at_or_after_the_end_of_the_simulated_time(tables):
    end = first_of(14)
    observed = {
        "accounts": ["started_at"],
        "contracts": ["start_at", "cancelled_at", "ended_at", "signed_at", "known_at"],
        "usage": ["event_at"],
        "tickets": ["opened_at", "first_response_at", "resolved_at"],
        "surveys": ["sent_at", "responded_at"],
        "invoices": ["issued_at", "paid_at", "failed_at", "disputed_at", "known_at"],
        "touches": ["event_at", "answered_at", "replied_at", "known_at"],
        "contacts": ["event_at", "left_at", "known_at"],
        "milestones": ["event_at", "completed_at", "known_at"],
        "incidents": ["started_at", "ended_at", "known_at"],
        "tasks": ["event_at", "done_at", "known_at"],
        "emails": ["event_at", "unsubscribed_at", "known_at"],
        "entitlements": ["event_at", "known_at"],
        "opportunities": ["opened_at", "stage_entered_at", "closed_at", "known_at"],
        "goals": ["event_at", "known_at"],
        "assignments": ["from_at", "to_at", "known_at"],
    }

    late = {name: (tables[name][columns] >= end).any(axis=None) for name, columns in observed.items()}

    assert not any(late.values()), late


@pytest.mark.parametrize(("name", "column"), [("usage", "event_at"), ("tickets", "opened_at"), ("surveys", "sent_at")])
def test_accounts_act_only_while_they_hold_a_contract(tables, name, column):
    contracts = tables["contracts"].groupby(["account_id", "contract_id"]).last().reset_index()
    held = contracts[["account_id", "start_at", "ended_at"]]
    rows = tables[name][["account_id", column]].drop_duplicates().reset_index(names="row")
    both = rows.merge(held, on="account_id")
    inside = (both[column] >= both["start_at"]) & ~(both[column] >= both["ended_at"])

    assert set(both.loc[inside, "row"]) == set(rows["row"])


def test_versions_of_a_contract_become_known_one_after_the_other(tables):
    contracts = tables["contracts"]
    steps = contracts.groupby("contract_id")["known_at"].diff().dropna()

    assert (steps > pd.Timedelta(0)).all()
    assert not (contracts["cancelled_at"] > contracts["known_at"]).any()
    assert not (contracts["ended_at"] > contracts["known_at"]).any()
    assert not (contracts["signed_at"] > contracts["start_at"]).any()


def test_most_leave_by_a_notice_before_its_deadline_at_the_end_of_the_term(tables):
    last = tables["contracts"].drop_duplicates("contract_id", keep="last")
    ended = last[last["ended_at"].notna()]
    noticed = ended[ended["cancelled_at"].notna()]
    lapsed = ended[ended["cancelled_at"].isna() & (ended["ended_at"] == ended["term_end_at"])]
    bound = noticed[noticed["auto_renew"]]
    deadline = bound["term_end_at"] - pd.to_timedelta(bound["notice_days"], unit="D")

    assert len(noticed) > 0.6 * len(ended)
    assert (noticed["ended_at"] == noticed["term_end_at"]).all()
    assert (bound["cancelled_at"].dt.floor("D") <= deadline).all()
    assert len(lapsed) > 0
    assert not lapsed["auto_renew"].any()


def test_some_notices_are_withdrawn_and_some_accounts_come_back(tables):
    contracts = tables["contracts"]
    noticed_before = contracts.groupby("contract_id")["cancelled_at"].shift().notna()
    back = contracts.groupby("account_id")["contract_id"].nunique() > 1

    assert (noticed_before & contracts["cancelled_at"].isna()).any()
    assert back.any()


def test_a_later_export_repeats_the_earlier_one():
    """What was known at an instant stays as it was: bitemporal tables are never restated."""
    world = played(200, 6, seed=5)
    early = world.tables()
    for month in range(6, 9):
        world.advance(month)
    late = world.tables()
    end = first_of(6)

    for name in ("contracts", "usage", "emails", "goals", "entitlements", "incidents"):
        before = late[name].filter(pc.less(late[name]["known_at"], pa.scalar(end.to_pydatetime(), pa.timestamp("us"))))
        assert before.drop_columns(OUTCOMES.get(name, [])).equals(early[name].drop_columns(OUTCOMES.get(name, [])))


def test_the_truth_ranks_well_and_is_calibrated(truth):
    probability = truth["probability"]
    mature = probability[probability["as_of"] <= first_of(14) - pd.Timedelta(days=90)]
    churned = pd.Series(decided_within_90_days(mature, truth["decisions"]), index=mature.index)
    aucs = [roc_auc_score(churned[part.index], part["probability"]) for _, part in mature.groupby("as_of")]

    assert 0.80 < np.mean(aucs) < 0.93
    assert 0.04 < churned.mean() < 0.07
    assert mature["probability"].mean() == pytest.approx(churned.mean(), rel=0.15)


def test_one_to_two_percent_decide_to_leave_in_a_month(truth):
    active = truth["probability"].groupby("as_of").size()

    assert 0.01 < len(truth["decisions"]) / active.iloc[:-1].sum() < 0.02


def test_causes_leave_different_fingerprints(tables, truth):
    """Service losses have more tickets a user, adoption losses less core use, price losses fewer seats."""
    usage, tickets = tables["usage"], tables["tickets"]
    lost = truth["decisions"].dropna(subset="cause")
    lost = lost[lost["decided_at"] >= first_of(0) + pd.Timedelta(days=91)].reset_index(names="row")
    events = lost.merge(usage[usage["is_core"]], on="account_id")
    age_days = (events["decided_at"] - events["event_at"]) / pd.Timedelta(days=1)
    used = events["quantity"].groupby([events["row"], pd.cut(age_days, [0, 28, 91])], observed=False).sum().unstack()
    recent, earlier = used.reindex(lost["row"], fill_value=0).to_numpy().T
    users = events[(age_days > 0) & (age_days <= 91)].groupby("row")["user_id"].nunique()
    opened = lost.merge(tickets, on="account_id")
    ticket_days = (opened["decided_at"] - opened["opened_at"]) / pd.Timedelta(days=1)
    opened = opened[ticket_days.between(0, 91)].groupby("row").size().reindex(lost["row"], fill_value=0)
    lost["trend"] = np.log((recent + 1) / (earlier * 28 / 63 + 1))
    lost["tickets_per_user"] = (opened / users.reindex(lost["row"], fill_value=0).clip(lower=1)).to_numpy()
    signs = lost.groupby("cause")[["trend", "tickets_per_user"]].mean()

    assert signs.loc["adoption", "trend"] < signs.loc[["service", "price"], "trend"].min() - 0.1
    assert signs.loc["service", "tickets_per_user"] > 1.3 * signs.loc["adoption", "tickets_per_user"]
    assert signs.loc["service", "tickets_per_user"] > 1.3 * signs.loc["price", "tickets_per_user"]


def test_a_play_changes_only_the_future_of_its_account():
    usual = played(200, 8, seed=5)
    first_to_last = usual.tables()["usage"].to_pandas().groupby("account_id")["event_at"].agg(["min", "max"])
    account = first_to_last.query("min < @first_of(1) and max > @first_of(7)").index[0]
    opened_at = datetime(2024, 4, 10, 9)
    action = pd.DataFrame({"account_id": [account], "play": ["pb_usage_drop"], "opened_at": [opened_at]})
    helped = played(200, 8, {3: pa.Table.from_pandas(action)}, seed=5)
    moment = {"contracts": "known_at", "usage": "event_at", "tickets": "opened_at", "surveys": "sent_at"}
    moment |= {"invoices": "issued_at", "touches": "event_at", "contacts": "known_at", "milestones": "event_at"}
    moment |= {"incidents": "started_at", "tasks": "event_at", "emails": "event_at", "goals": "event_at"}
    moment |= {"entitlements": "event_at", "opportunities": "stage_entered_at", "assignments": "from_at"}
    before, after = frames(usual.tables()), frames(helped.tables())

    for name, column in moment.items():
        kept = [
            part[(part["account_id"] != account) | (part[column] < opened_at)] for part in (before[name], after[name])
        ]
        pd.testing.assert_frame_equal(*(part.reset_index(drop=True) for part in kept))
    assert len(after["usage"]) > len(before["usage"])


@pytest.mark.parametrize(
    ("effect", "play"),
    [("by_cause", "pb_usage_drop"), ("by_cause", "pb_sla_breach"), ("by_engagement", "pb_renewal")],
)
def test_a_play_saves_as_many_as_the_truth_says(effect, play):
    """Where the truth sees a gain, the same world with the play loses so many fewer."""
    options = {"seed": 2, "churn_rate": 0.3, "effect": effect}
    usual = played(2000, 6, **options)
    known = frames(usual.truth())
    effects = known["effects"].query("as_of == @first_of(2) and play == @play and effect < -0.01")
    actions = effects[["account_id", "play"]].assign(opened_at=first_of(2))
    helped = frames(played(2000, 6, {2: actions}, **options).truth())
    lost, lost_with_play = (decided_within_90_days(effects, part["decisions"]).sum() for part in (known, helped))
    expected = effects["effect"].sum()

    assert expected < -10
    assert lost_with_play - lost == pytest.approx(expected, abs=3 * np.sqrt(-expected))


def test_effects_follow_the_cause_or_the_engagement():
    by_cause, by_engagement = (frames(played(300, 4, effect=name).truth()) for name in ("by_cause", "by_engagement"))
    joined = by_cause["effects"].merge(by_cause["probability"], on=["account_id", "as_of"])
    mean = joined.groupby(["play", "cause"])["effect"].mean()

    assert mean["pb_usage_drop", "adoption"] < 5 * mean["pb_usage_drop", "service"] < 0
    assert (by_cause["effects"].query("play == 'pb_renewal'")["effect"] > 0).any(), "an offer can wake a loyal account"
    assert (by_engagement["effects"]["effect"] > 0).mean() > 0.02, "sleeping dogs"


def test_a_play_without_known_effect_changes_nothing():
    action = pd.DataFrame({"account_id": ["acc-00001"], "play": ["pb_none"], "opened_at": [first_of(1)]})
    usual, touched = played(150, 3), played(150, 3, {1: action})

    assert all(usual.tables()[name].equals(table) for name, table in touched.tables().items())


def test_months_are_played_in_order():
    world = played(50, 1)

    with pytest.raises(ValueError, match="month must be 1, the next one; found 0"):
        world.advance(0)
    with pytest.raises(ValueError, match="month must be 1, the next one; found 3"):
        world.advance(3)


@pytest.mark.parametrize(
    ("account", "opened_at"), [("acc-99999", first_of(0)), ("acc-00001", first_of(1)), ("acc-00001", first_of(-1))]
)
def test_actions_on_strangers_or_in_other_months_are_refused(account, opened_at):
    action = pd.DataFrame({"account_id": [account], "play": ["pb_renewal"], "opened_at": [opened_at]})

    with pytest.raises(ValueError, match="actions must be on accounts of this world"):
        World(50).advance(0, action)


def test_a_world_needs_accounts_and_a_first_of_a_month():
    with pytest.raises(ValueError, match="start on the first of a month"):
        World(0, start=date(2024, 1, 2))
    with pytest.raises(ValueError, match="must have played a month"):
        World(50).tables()

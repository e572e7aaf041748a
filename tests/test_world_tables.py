"""Claims about each table of the generated company: keys, relations, dates, and what lies behind the rows."""

from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from features.data_contract import CONTRACT
from features.settings import read_settings
from features.tables import open_tables
from features.world import World, write_world

NOW = datetime(2025, 6, 1)
DAY = pd.Timedelta(days=1)


def played(accounts, months, **options):
    world = World(accounts, start=date(2024, 1, 1), **options)
    for month in range(months):
        world.advance(month)
    return world


@pytest.fixture(scope="module")
def world():
    return played(800, 14, seed=5)


@pytest.fixture(scope="module")
def tables(world):
    return {name: table.to_pandas() for name, table in world.tables().items()}


@pytest.fixture(scope="module")
def truth(world):
    return {name: table.to_pandas() for name, table in world.truth().items()}


def read(folder, accounts=40, months=5, **options):
    """The clean tables of a written world as sorted lists of rows, and what was set aside."""
    write_world(folder, accounts=accounts, months=months, seed=3, **options)
    opened = open_tables(read_settings(folder / "tenure.toml"), now=NOW)
    rows = {name: sorted(map(str, opened[name].to_pyarrow().to_pylist())) for name in opened.loaded}
    return rows, opened.quarantine.to_pandas()


def test_every_row_keeps_the_contract_and_every_table_says_when_it_was_known(tmp_path):
    write_world(tmp_path, accounts=60, months=8, seed=3)

    opened = open_tables(read_settings(tmp_path / "tenure.toml"), now=NOW)

    assert opened.quarantine.num_rows == 0
    assert set(opened.loaded) == {table.name for table in CONTRACT} - {"actions", "health_scores", "identities"}
    assert {name for name, loaded in opened.loaded.items() if not loaded.recorded} == {"accounts"}
    assert all(loaded.rows > 0 for loaded in opened.loaded.values())


def test_csv_and_parquet_tell_the_same(tmp_path):
    one, two = (read(tmp_path / form, accounts=20, months=2, format=form) for form in ("csv", "parquet"))

    assert one[0] == two[0]
    assert len(one[1]) == len(two[1]) == 0


@pytest.mark.parametrize("table", [table for table in CONTRACT if table.key], ids=lambda table: table.name)
def test_keys_are_unique(tables, table):
    if table.name in tables:
        key = [name for name in table.key if name in tables[table.name]]

        assert not tables[table.name].duplicated(key).any()


def test_every_row_is_of_an_account(tables):
    known = set(tables["accounts"]["account_id"])

    assert [name for name, rows in tables.items() if not set(rows["account_id"]) <= known] == []


def test_users_who_act_answer_and_speak_are_contacts(tables):
    contacts = set(tables["contacts"]["contact_id"])

    assert set(tables["usage"]["user_id"]) <= contacts
    assert set(tables["surveys"]["contact_id"]) <= contacts
    assert set(tables["touches"]["contact_id"]) <= contacts


def test_nobody_uses_the_product_after_leaving_or_before_coming(tables):
    people = tables["contacts"].groupby("contact_id").agg(came=("event_at", "min"), left=("left_at", "max"))
    use = tables["usage"].merge(people, left_on="user_id", right_index=True)

    assert not (use["event_at"] > use["left"]).any()
    assert not (use["event_at"].dt.floor("D") < use["came"].dt.floor("D")).any()
    assert use["left"].notna().any(), "champions who left had used the product"


def test_a_champion_who_leaves_is_followed_by_another(tables):
    champions = tables["contacts"].query("is_champion").sort_values("event_at")
    left = champions.dropna(subset="left_at")
    later = left.merge(champions, on="account_id", suffixes=("", "_next")).query("event_at_next > left_at")
    wait = later.groupby("contact_id")["event_at_next"].min() - left.set_index("contact_id")["left_at"]

    assert len(later) > 20
    assert wait.dropna().between(30 * DAY, 135 * DAY).all()


def test_the_loss_of_a_champion_raises_the_true_risk(tables, truth):
    risk = truth["probability"].pivot(index="as_of", columns="account_id", values="probability")
    left = tables["contacts"].dropna(subset="left_at")
    steps = []
    for account, day in zip(left["account_id"], left["left_at"], strict=True):
        before, after = day.to_period("M").to_timestamp(), (day + pd.offsets.MonthBegin(1)).normalize()
        if account in risk and {before, after} <= set(risk.index):
            steps.append(risk.loc[after, account] - risk.loc[before, account])

    assert len(steps) > 30
    assert np.nanmean(steps) > 0.02
    assert (truth["decisions"]["cause"] == "champion").any()


def test_invoices_follow_the_contract_and_a_payment_follows_the_invoice(tables):
    invoices, contracts = tables["invoices"], tables["contracts"]
    amounts = set(zip(contracts["account_id"], contracts["mrr"], strict=True))

    assert set(zip(invoices["account_id"], invoices["amount"], strict=True)) <= amounts
    assert not (invoices["paid_at"] < invoices["issued_at"]).any()
    assert not (invoices["failed_at"] > invoices["paid_at"]).any()
    assert (invoices["paid_at"] > invoices["due_at"]).mean() < 0.35
    assert invoices["disputed_at"].notna().any()


def test_who_was_cut_off_had_failed_to_pay(tables):
    cut = tables["contracts"].query("end_reason == 'non_payment'").drop_duplicates("contract_id", keep="last")
    owed = tables["invoices"].merge(cut[["account_id", "ended_at"]], on="account_id")
    open_ = owed[owed["paid_at"].isna() & owed["failed_at"].notna() & (owed["issued_at"] < owed["ended_at"])]

    assert len(cut) > 2
    assert set(open_["account_id"]) == set(cut["account_id"])
    assert (open_.groupby("account_id")["failed_at"].min() < cut.groupby("account_id")["ended_at"].max()).all()


def test_touches_go_to_those_in_trouble(tables, truth):
    """A confounder: more touches in the month, more risk at its start."""
    risk = truth["probability"].assign(month=lambda rows: rows["as_of"].dt.to_period("M"))
    touches = tables["touches"].assign(month=tables["touches"]["event_at"].dt.to_period("M"))
    count = touches.groupby(["account_id", "month"]).size().rename("touches").reset_index()
    both = risk.merge(count, how="left", on=["account_id", "month"]).fillna({"touches": 0})
    both = both.merge(tables["accounts"][["account_id", "segment"]], on="account_id")

    assert both.groupby("segment")[["probability", "touches"]].corr().xs("touches", level=1)["probability"].min() > 0.02


def test_dates_are_in_order(tables):
    later = {
        "tasks": ("done_at", "event_at"),
        "incidents": ("ended_at", "started_at"),
        "opportunities": ("stage_entered_at", "opened_at"),
        "assignments": ("to_at", "from_at"),
        "milestones": ("completed_at", "event_at"),
        "touches": ("replied_at", "event_at"),
        "emails": ("unsubscribed_at", "event_at"),
    }

    assert [name for name, (end, start) in later.items() if (tables[name][end] < tables[name][start]).any()] == []
    assert [name for name, rows in tables.items() if "known_at" in rows and rows["known_at"].isna().any()] == []


def test_no_row_is_known_before_it_happened(tables):
    happened = {"usage": "event_at", "tickets": "opened_at", "surveys": "sent_at", "invoices": "issued_at",
                "touches": "event_at", "incidents": "started_at", "opportunities": "stage_entered_at"}  # fmt: skip

    assert [name for name, at in happened.items() if (tables[name]["known_at"] < tables[name][at]).any()] == []


def test_a_won_or_lost_deal_closes_once_and_after_its_other_stages(tables):
    deals = tables["opportunities"]
    closed = deals.dropna(subset="closed_at")
    last = deals.groupby("opportunity_id")["stage_entered_at"].max()

    assert not closed.duplicated("opportunity_id").any()
    assert (closed.set_index("opportunity_id")["closed_at"] == last.loc[closed["opportunity_id"]]).all()
    assert set(closed["stage"]) == {"won", "lost"}


def test_each_account_has_one_csm_at_a_time(tables):
    periods = tables["assignments"].sort_values(["account_id", "from_at"])
    following = periods.groupby("account_id")["from_at"].shift(-1)
    now = periods.drop_duplicates("account_id", keep="last").set_index("account_id")["csm_id"]

    assert periods["to_at"].dropna().equals(following.dropna())
    assert (tables["accounts"].set_index("account_id")["csm_id"] == now).all()


def test_only_bought_and_released_features_are_used(tables):
    bought = tables["entitlements"][["account_id", "feature_id", "event_at"]]
    use = tables["usage"].query("is_core").groupby(["account_id", "feature_id"])["event_at"].min().reset_index()
    both = use.merge(bought, how="left", on=["account_id", "feature_id"], suffixes=("", "_bought"))

    assert both["event_at_bought"].notna().all()
    assert (both["event_at"] >= both["event_at_bought"]).all()


def test_wrong_rows_are_set_aside_exactly_and_nothing_else_changes(tmp_path):
    good, none = read(tmp_path / "good")
    mended, quarantine = read(tmp_path / "wrong", wrong_share=0.03)
    listed = pd.read_parquet(tmp_path / "wrong" / "truth" / "wrong_rows.parquet")
    columns = ["table", "row_number", "rule"]

    assert len(none) == 0
    assert len(listed) > 200
    pd.testing.assert_frame_equal(*(part[columns].sort_values(columns).reset_index(drop=True)
                                    for part in (quarantine, listed)))  # fmt: skip
    assert set(listed["rule"]) == {"required", "unknown_account", "duplicate_key", "range", "enum", "time_order"}
    assert mended == good


def test_the_share_of_late_rows_is_the_one_asked_for():
    on_time, late = (played(200, 4, seed=5, late_share=share).tables()["usage"].to_pandas() for share in (0.0, 0.1))

    assert (on_time["known_at"] - on_time["event_at"]).max() <= pd.Timedelta(hours=1)
    is_late = late["known_at"] - late["event_at"] > DAY
    assert is_late.mean() == pytest.approx(0.1, abs=0.03)
    assert len(late) < len(on_time), "what comes after the end is not exported"

"""The phases of life: every entry and every exit for accounts made by hand, as of 2025-03-01.

A path names the phases of the last instants, 28 days apart and the oldest first; `USES[name]` are days before.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.families.lifecycle import CODE, LIFECYCLE, PHASES, phases
from features.settings import read_settings
from features.tables import open_tables
from features.windows import instants_table

AS_OF = datetime(2025, 3, 1)
STEADY = range(1, 700, 10)


def day(age):
    return f"{AS_OF - timedelta(days=age):%Y-%m-%d}" if age is not None else ""


# account, contract_id, start, cancelled, ended, signed; ten seats each.
CONTRACTS = [
    ("begins", "c", 85, None, None, 130),
    ("slow", "c", 100, None, None, 100),
    ("sleeps", "c", 400, None, None, 400),
    ("stirs", "c", 400, None, None, 400),
    ("wakes", "c", 400, None, None, 400),
    ("nearly", "c", 400, None, None, 400),
    ("grows", "c", 145, None, None, 145),
    ("shrinks", "c", 145, None, None, 145),
    ("unknown", "c", 145, None, None, 145),
    ("returns", "c1", 700, 250, 200, 700),
    ("returns", "c2", 120, None, None, 120),
    ("replaces", "c1", 700, 100, None, 700),
    ("replaces", "c2", 50, None, None, 50),
]

USES = {
    "begins": (80, 60, 35, 20, 5),
    "slow": (95, 70, 40, 20, 3),
    "sleeps": range(200, 396, 10),
    "stirs": (*range(200, 396, 10), 60, 50, 3, 2, 1),
    "wakes": (*range(105, 396, 10), 35, 30, 13, 6, 3),
    "nearly": (*range(105, 396, 10), 35, 30, 15, 6, 3),
    "returns": STEADY,
    "replaces": STEADY,
}

# Features of ten and users of ten seats in the periods of 28 days, the oldest first.
BREADTH = {
    "grows": [(6, 5), (6, 5), (5, 4), (4, 5), (6, 5), (6, 5)],
    "shrinks": [(6, 5), (6, 5), (6, 3), (6, 4), (6, 5), (5, 5)],
    "unknown": [(6, 5)] * 6,
}

PATHS = {
    "begins": "potential onboarding onboarding developing developing",
    "slow": "onboarding onboarding onboarding developing",
    # Silent for 4, 32, 60, 88 and 116 days.
    "sleeps": "developing dormant dormant dormant frozen frozen frozen frozen",
    # Two days of use do not end a silence, and it is frozen though the last use is 22 days old.
    "stirs": "frozen frozen frozen developing",
    "wakes": "developing dormant dormant developing",
    "nearly": "developing dormant dormant dormant",
    # Breadth 0.6 and utilisation 0.5 twice running; kept at 0.5 and 0.4, lost at 0.4 of breadth.
    "grows": "developing developed developed developing developing developed",
    # Lost at 0.3 of utilisation; 0.4 and then 0.5 of breadth keep, but do not begin, the phase.
    "shrinks": "developing developed developing developing developing developing",
    # It bought no feature that is on file.
    "unknown": "developing developing developing developing developing developing",
    # Ended 4 and then 32 days ago; back for 8, 36, 64 and 92 days.
    "returns": "developing notice notice lost lost won_back won_back won_back developing developing",
    "replaces": "developing notice notice developing developing",
}


def breadth_rows():
    for name, periods in BREADTH.items():
        for back, (n_features, n_users) in enumerate(reversed(periods)):
            for number in range(max(n_features, n_users)):
                yield f"{name},{day(28 * back + 1)},u{number % n_users},f{number % n_features},true,"


def tables():
    names = dict.fromkeys(row[0] for row in CONTRACTS)
    contracts = [
        f"{name},{contract},{day(start)},{day(cancelled)},{day(ended)},{day(signed)},10,100,"
        for name, contract, start, cancelled, ended, signed in CONTRACTS
    ]
    uses = [f"{name},{day(age)},u0,,true," for name, ages in USES.items() for age in ages]
    owned = [f"{name},f{number},{day(150)}," for name in ("grows", "shrinks") for number in range(10)]
    return {
        "accounts": ["account_id", *names],
        "contracts": ["account_id,contract_id,start_at,cancelled_at,ended_at,signed_at,seats,mrr,known_at", *contracts],
        "usage": ["account_id,event_at,user_id,feature_id,is_core,known_at", *uses, *breadth_rows()],
        "milestones": [
            "account_id,step,required,completed_at,event_at,known_at",
            f"begins,train,true,{day(40)},{day(130)},",
            f"slow,train,true,,{day(100)},",
        ],
        "entitlements": ["account_id,feature_id,event_at,known_at", *owned],
    }


def paths(folder, given):
    """Account → names of its phases, the oldest first."""
    for name, lines in given.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tenure.toml").write_text("\n".join(f'[tables.{name}]\npath = "{name}.csv"' for name in given))
    opened = open_tables(read_settings(folder / "tenure.toml"), now=datetime(2025, 6, 1))
    assert opened.quarantine.num_rows == 0
    moments = instants_table(opened.backend, [AS_OF])
    rows = LIFECYCLE.rows(opened, moments).order_by("back").to_pyarrow().to_pylist()
    found = {}
    for row in rows:
        found.setdefault(row["account_id"], []).insert(0, PHASES[row["phase"]])
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return paths(tmp_path_factory.mktemp("company"), tables())


@pytest.mark.parametrize("name", PATHS)
def test_an_account_goes_through_the_phases_that_its_past_implies(found, name):
    expected = PATHS[name].split()

    assert found[name][-len(expected) :] == expected


def test_every_phase_is_reached_by_some_account(found):
    assert {phase for path in found.values() for phase in path} == set(PHASES)


def test_the_path_holds_at_most_fourteen_instants(found):
    assert {len(path) for path in found.values()} == {4, 5, 6, 14}


PAST = st.integers(1, 400)
LATER = st.sampled_from([AS_OF + timedelta(microseconds=1), AS_OF + timedelta(days=40)])
LATE_ROWS = st.one_of(
    st.tuples(st.just("usage"), st.builds("{},{},u9,f1,true,{}".format, st.sampled_from(list(PATHS)),
                                          PAST.map(day), LATER)),
    st.tuples(st.just("contracts"), st.builds("{},c,{},{},,,1,5,{}".format, st.sampled_from(["sleeps", "grows"]),
                                              st.just(day(600)), st.integers(1, 99).map(day), LATER)),
    st.tuples(st.just("milestones"), st.builds("{},train,true,{},{},{}".format, st.sampled_from(["begins", "slow"]),
                                               PAST.map(day), st.just(day(401)), LATER)),
    st.tuples(st.just("entitlements"), st.builds("{},f0{},{},{}".format, st.sampled_from(list(BREADTH)),
                                                 st.integers(0, 99), PAST.map(day), LATER)),
)  # fmt: skip


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(late=st.lists(LATE_ROWS, min_size=1, max_size=30, unique=True))
def test_rows_learned_later_never_change_a_phase(found, tmp_path, late):
    given = tables()
    keys = {}
    for name, line in late:  # one version per key and time
        keys.setdefault((name, line.split(",")[0], line.rsplit(",", 1)[-1], line.split(",")[1], len(keys)
                         if name == "usage" else 0), (name, line))  # fmt: skip
    for name, line in keys.values():
        given[name].append(line)

    assert paths(tmp_path, given) == found


def next_phase(held, step, before):
    """The rules read one by one: first match wins, a held phase is left only by its exit."""
    if not step["is_customer"]:
        return "potential"
    if step["contract"] is not None:
        return PHASES[step["contract"]]
    if held in ("frozen", "dormant") and (step["active_days_14"] or 0) < 3:
        return "frozen" if held == "frozen" or step["idle_days"] >= 90 else "dormant"
    entered = entry(step, before)
    if held == "developed" and entered not in ("frozen", "dormant") and reaches(step, 0.5, 0.4):
        return "developed"
    return entered


def entry(step, before):
    if (step["open_steps"] or 0) > 0 and step["tenure"] < 90:
        return "onboarding"
    if step["idle_days"] >= 28:
        return "frozen" if step["idle_days"] >= 90 else "dormant"
    return "developed" if reaches(step, 0.6, 0.5) and reaches(before, 0.6, 0.5) else "developing"


def reaches(step, least_breadth, least_utilisation):
    told = step["breadth"] is not None and step["utilisation"] is not None
    return told and step["breadth"] >= least_breadth and step["utilisation"] >= least_utilisation


CHOICES = {
    "contract": [None] * 12 + [CODE[name] for name in ("lost", "notice", "potential", "won_back")],
    "is_customer": [1] * 15 + [None],
    "tenure": [1, 89, 90, 400],
    "idle_days": [1, 27, 28, 89, 90, 300],
    "active_days_14": [None, 0, 2, 3, 9],
    "open_steps": [None, 0, 0, 1],
    "breadth": [None, 0.4, 0.5, 0.6, 0.6, 1.0],
    "utilisation": [None, 0.3, 0.4, 0.5, 0.5, 1.2],
}


def test_the_phases_are_those_of_the_rules_read_one_by_one(company):
    tables = company.write("accounts", "account_id,started_at,churned_at\na,2024-01-01,").open()
    chosen = random.Random(5)
    facts = {(name, back): {key: chosen.choice(values) for key, values in CHOICES.items()}
             for name in range(1500) for back in range(15)}  # fmt: skip
    lines = ", ".join(
        f"('{name}', timestamp '{AS_OF}', {back}, "
        + ", ".join("null" if value is None else str(value) for value in step.values())
        + ")"
        for (name, back), step in facts.items()
    )
    tables.backend.raw_sql(
        f"create table facts as select * from (values {lines}) as v(account_id, as_of, back, {', '.join(CHOICES)})"
    )

    rows = phases(tables.backend.table("facts")).to_pyarrow().to_pylist()

    expected, held = {}, {}
    for name in range(1500):
        for back in range(13, -1, -1):
            held[name] = next_phase(held.get(name), facts[name, back], facts[name, back + 1])
            expected[str(name), back] = held[name]
    assert {(row["account_id"], row["back"]): PHASES[row["phase"]] for row in rows} == expected

"""Every metric gives the value worked out by hand, and none of the wrong ones that are easily taken for it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import metrics as m

DAY = timedelta(days=1)
S = datetime(2025, 1, 1)
NAN = math.nan


def scores(*counts, first=1):
    """So many answers of each score from `first` on."""
    return [score for score, count in enumerate(counts, first) for _ in range(count)]


ACCOUNTS = {
    "A": [(datetime(2024, 1, 1), datetime(2025, 1, 15))],
    "B": [(datetime(2024, 1, 1), None)],
    "C": [(datetime(2024, 1, 1), datetime(2025, 1, 20)), (datetime(2025, 2, 5), None)],
    "D": [(datetime(2025, 1, 5), datetime(2025, 1, 25))],
    "E": [(datetime(2025, 1, 10), None)],
}
ANSWERS = [5, 5, 5, 4, 1, 3, 2, 4, 3, 3]
COUNTED = scores(5, 10, 15, 30, 40)
EFFORT_7, EFFORT_5 = [7, 4, 3, 2, 5, 6, 4, 1, 7, 6], scores(2, 8, 15, 18, 7)
MONEY = (100000, 12000, 3000, 5000)
BY_ID = ({"A": 100, "B": 100, "C": 100}, {"A": 150, "B": 60, "C": 0, "D": 80})
SLA = [*[(hours, True) for hours in (1, 2, 3, 4, 5, 6, 24)], (30, True), (40, False), (5, False)]
FIRST_VALUE = ([5, 8, 12, 14, 20, 21, 40, 60], [True, True, False, True, False, True, False, False])
SURVIVAL = [0.98**t for t in range(12)]

GOLDEN = [
    # metric, arguments, value by hand, wrong values
    (m.churn_rate, (1000, 100), 0.10, [100, 100 / 900, 100 / 950]),
    (m.churn_rate, (100, 10), 0.10, [10, 10 / 90]),
    (m.churn_rate, (0, 0), None, [0]),
    (m.churn_by_reason, ({"voluntary": 6, "involuntary": 3, "silent": 1}, 200),
     {"voluntary": 0.03, "involuntary": 0.015, "silent": 0.005}, [0.05]),
    (m.cohort_churn, ([20, 60, 95, *[None] * 5, 10], 90, [*[120] * 8, 119]), 0.25, [0.375, 3 / 9]),
    (m.annualise_churn, (0.05, 12), 0.459640, [0.60]),
    (m.annualise_churn, (0.10, 12), 0.717570, [1.20]),
    (m.annualise_churn, (0.14, 12), 0.836325, [1.68]),
    (m.annualise_churn, (0.10, 4), 0.3439, [0.40]),
    (m.annualise_churn, (0.05, 2), 0.0975, [0.10]),
    (m.deannualise_churn, (0.05, 6), 0.008512, [0.05 / 6]),
    (m.wilson_ci, (10, 100), (0.05523, 0.17437), [0.0412, 0.1588]),
    (m.wilson_ci, (0, 20), (0.0, 0.16113), [(0, 0)]),
    (m.wilson_ci, (100, 1000), (0.08291, 0.12015), [0.0814]),
    (m.wilson_ci, (0, 0), None, [0]),
    (m.revenue_churn_gross, MONEY, 0.08, [8000, -0.04]),
    (m.revenue_churn_net, MONEY, -0.04, [0, 0.08]),
    (m.grr, MONEY, 0.92, [1.04, 104000]),
    (m.nrr, MONEY, 1.04, [104000, 0.92]),
    (m.grr_accounts, BY_ID, 160 / 300, [0.70, 0.966667]),
    (m.nrr_accounts, BY_ID, 0.70, [0.966667]),
    (m.crr, (200, 206, 16), 0.95, [1.03, 0.93]),
    (m.renewal_rate, (45, 5), 0.90, [0.225]),
    (m.renewal_rate, (0, 0), None, [0]),
    (m.renewal_rate_value, ([120, 30], [100, 50]), 130 / 150, [1.0]),
    (m.nps, (100, 50, 50), 25, [33.333333, 20, -25, 0.25]),
    (m.nps, (50, 30, 20), 30, [42.857, -30, 0.30]),
    (m.nps_ci, (50, 30, 20), (14.69, 45.31), [15.31]),
    (m.nps_ci, (15, 9, 6), (2.05, 57.95), [27.95]),
    (m.nps_ci, (5, 3, 2), (-18.41, 78.41), [48.41]),
    (m.nps_ci, (100, 50, 50), (13.51, 36.49), [11.49]),
    (m.response_rate, (200, 250), 0.80, [200]),
    (m.response_rate, (10, 15), 0.666667, [1.5]),
    (m.csat_top1, (COUNTED,), 40, [70]),
    (m.csat_top2, (COUNTED,), 70, [3040, 30.4]),
    (m.csat_top1, (ANSWERS,), 30, [50]),
    (m.csat_top2, (ANSWERS,), 50, [30, 70]),
    (m.csat_mean, (COUNTED,), 3.90, [78]),
    (m.csat_rescaled, (COUNTED, 1, 5), 72.5, [78]),
    (m.csat_mean, (ANSWERS,), 3.5, [70]),
    (m.csat_rescaled, (ANSWERS, 1, 5), 62.5, [70]),
    (m.csat_percent_of_max, (COUNTED,), 78, [72.5, 70]),
    (m.csat_percent_of_max, (ANSWERS,), 70, [53.85, 62.5]),
    (m.ces_mean, (EFFORT_7, (1, 7), "ease"), 4.5, [3.5]),
    (m.ces_mean, (EFFORT_5, (1, 5), "ease"), 3.4, [2.6]),
    (m.ces_top, (EFFORT_7, (1, 7), "ease"), 50, [70]),
    (m.ces_bottom, (EFFORT_7, (1, 7), "ease"), 30, [20]),
    (m.ces_top, (EFFORT_5, (1, 5), "ease"), 50, [14]),
    (m.ces_bottom, (EFFORT_5, (1, 5), "ease"), 20, [50]),
    (m.ces_top, (EFFORT_7, (1, 7), "effort"), 30, [50]),
    (m.ces_bottom, (EFFORT_7, (1, 7), "effort"), 50, [30]),
    (m.ease01, (4.5, 1, 7, "ease"), 0.583333, [4.5 / 7]),
    (m.ease01, (3.4, 1, 5, "ease"), 0.6, [0.68]),
    (m.ease01, (3.4, 1, 5, "effort"), 0.4, [0.6]),
    (m.clv_purchase, (200, 12, 5), 12000, [2400]),
    (m.clv_purchase, (200, 80, 11), 176000, [16000]),
    (m.ltv, (500, 0.8, 0.02), 20000, [25000]),
    (m.lifespan, (0.02,), 50, [0.02]),
    (m.ltv, (500, 0.8, 0), None, [0]),
    (m.clv_survival, (400, SURVIVAL, 0.01), 4088.53, [4305.67, 4800]),
    (m.arpa, (50000, 100), 500, [50000]),
    (m.expected_saved_value, (0.3, 0.3, 12000, 600, 1, 150), 456, [-90, 330, 3450]),
    (m.expected_saved_value, (0.3, 0.3, 12000, 0, 1, 200), 880, [3400]),
    (m.expected_saved_value, (0.05, 0.3, 12000, 600, 1, 150), -549, [0]),
    (m.expected_saved_value, (0.3, None, 12000, 600), None, [0]),
    (m.trial_conversion, (18, 100), 0.18, [18]),
    (m.activation_rate, (30, 40), 0.75, [30]),
    (m.onboarding_completion_rate, (12, 25), 0.48, [0.40]),
    (m.avg_onboarding_days, ([20, 30] * 5,), 25.0, [250]),
    (m.time_to_value, ([10, 20, 30, 45, 60], [True] * 4 + [False]), 30, [26.25]),
    (m.time_to_value, FIRST_VALUE, 21, [11]),
    (m.time_to_value, ([5, 30, 30, 30], [True, False, False, False]), None, [5]),
    (m.onboarding_tickets, (30, 10, 15), (3.0, 0.2), [30]),
    (m.feature_adoption, (30, 120), 0.25, [0.05]),
    (m.seat_utilisation, (45, 60), 0.75, [45]),
    (m.seat_utilisation, (66, 60), 1.10, [1.0]),
    (m.active_share, (160, 200), 0.80, [0.5]),
    (m.resolution_time, ([2, 4, 6, 8, 10, 30], [True] * 4 + [False] * 2), 6, [5]),
    (m.first_response, ([2, 4, 6, 8, 10, 30], [True] * 4 + [False] * 2), 6, [5]),
    (m.sla_share, (SLA, 24), 7 / 9, [7 / 8, 7 / 10]),
    (m.call_service_level, (80, 100), 0.80, [80]),
    (m.call_service_level, (80, 100, 4), 0.833333, [0.80]),
    (m.touches_per_resolution, (60, 20), 3.0, [60 / 25]),
    (m.reopen_rate, (3, 30), 0.10, [3]),
    (m.complaint_share, (6, 120), 0.05, [6]),
    (m.contacted_share, (18, 24), 0.75, [18]),
    (m.proactive_share, (12, 20), 0.60, [12]),
    (m.closed_loop_rate, (9, 12), 0.75, [9]),
    (m.kpi_attainment, (160, 100, 150), 120, [3000, 106.67, 100]),
    (m.kpi_attainment, (5, 8, 4), 75, [125]),
    (m.kpi_attainment, (3, 8, 4), 125, [100, 75]),
    (m.kpi_attainment, (100, 100, 150), 0, [66.67]),
    (m.kpi_attainment, (90, 100, 150), -20, [0]),
    (m.plan_completion, (160, 150), 106.67, [120]),
    (m.weighted_kpi, ({"a": 120, "b": 75}, {"a": 0.4, "b": 0.6}), (93, ()), [97.5]),
    (m.weighted_kpi, ({"a": 120, "b": None}, {"a": 0.4, "b": 0.6}), (None, ("b",)), [(120, ()), (48, ())]),
    (m.usage_trend, (40, 220), -0.680877, [40 - 220, 40 - 180 * 28 / 63]),
    (m.usage_trend, (100, 325), 0, [100 - 325]),
    (m.own_z, (60, [100, 110, 90, 105, 95, 100]), -5.3655, [-6.3246]),
    (m.own_z, (60, [100, 110]), None, [0]),
    (m.abc_classes, (dict(zip("abcde", (500, 250, 150, 60, 40), strict=True)),),
     dict(zip("abcde", "AAABC", strict=True)), [dict(zip("abcde", "AABCC", strict=True))]),
]  # fmt: skip


def close(found, expected):
    """Equal: of numbers to half a unit of the last digit that the value was worked out to."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, tuple):
        return isinstance(found, tuple) and len(found) >= len(expected) and all(map(close, found, expected))
    if isinstance(expected, float | int):
        digits = len(f"{expected!r}".partition(".")[2])
        slack = 0.5 * 10**-digits if 2 <= digits <= 6 else 1e-9
        return isinstance(found, float | int) and abs(found - expected) <= slack * 1.0001
    return found == expected


@pytest.mark.parametrize(
    ("metric", "arguments", "expected", "wrong"),
    [pytest.param(*case, id=f"{case[0].__name__}-{place}") for place, case in enumerate(GOLDEN)],
)
def test_a_metric_is_what_was_worked_out_by_hand_and_no_wrong_value(metric, arguments, expected, wrong):
    found = metric(*arguments)

    assert close(found, expected)
    for value in wrong:
        assert not close(found, value), "a wrong formula would pass for the right one"


def test_churn_of_accounts_counts_neither_joiners_nor_who_comes_back_within_the_grace():
    end = datetime(2025, 2, 1)
    found = m.churn_rate_accounts(ACCOUNTS, S, end, grace_days=30)

    assert found == pytest.approx(1 / 3)
    assert found not in (2 / 3, 2 / 5, 1.0)
    # Who comes back later than the grace was lost.
    assert m.churn_rate_accounts(ACCOUNTS, S, end, grace_days=15) == pytest.approx(2 / 3)
    assert m.churn_rate_accounts({}, S, end, grace_days=30) is None


def test_who_leaves_on_the_first_instant_was_not_there_and_on_the_last_is_lost():
    ends = {name: [(datetime(2024, 1, 1), end)] for name, end in {"a": S, "b": S + 31 * DAY, "c": S + 32 * DAY}.items()}

    assert m.churn_rate_accounts(ends, S, S + 31 * DAY, grace_days=30) == 1 / 2


@pytest.mark.parametrize(
    ("score", "category"),
    [(0, "detractor"), (6, "detractor"), (7, "passive"), (8, "passive"), (9, "promoter"), (10, "promoter")],
)
def test_every_nps_score_has_its_category(score, category):
    assert m.nps_category(score) == category


def test_an_interval_of_nps_says_why_there_is_none():
    assert m.nps_ci(0, 0, 0) == (None, None, "nobody answered")
    assert m.nps_ci(7, 0, 0) == (None, None, "all answers are of one category")
    # One account's three answers tell next to nothing.
    low, high, _ = m.nps_ci(2, 0, 1)
    assert low < -70
    assert high == 100


INVOICED = [S - 30 * number * DAY for number in range(1, 40)]
STEADY = [(at, at + 45 * DAY) for at in INVOICED]
SLOWED = [(at, at + (60 if at >= S - 182 * DAY else 45) * DAY) for at in INVOICED]


def test_a_payer_as_slow_as_ever_has_no_trend_and_one_who_slows_has():
    assert (m.days_to_pay(STEADY, S, 182), m.days_to_pay_trend(STEADY, S, 182)) == (45, 0)
    assert (m.days_to_pay(SLOWED, S, 182), m.days_to_pay_trend(SLOWED, S, 182)) == (60, 15)
    assert m.days_to_pay([], S, 182) is None
    assert m.days_to_pay_trend(STEADY[:3], S, 182) is None


@given(st.integers(0, 29))
def test_the_trend_of_a_steady_payer_does_not_depend_on_when_it_is_asked(shift):
    at = S - shift * DAY

    assert m.days_to_pay_trend(STEADY, at, 182) == 0


@pytest.mark.parametrize(
    ("users", "letter"), [([100, 105, 95, 100], "X"), ([10, 12, 8, 14], "Y"), ([1, 5, 0, 10], "Z"), ([0, 0], None)]
)
def test_steadiness_is_by_the_variation_of_use(users, letter):
    assert m.xyz_class(users, fewest=1) == letter
    assert m.xyz_class(users) is None


def test_equal_revenues_are_classed_by_account_and_no_revenue_not_at_all():
    assert m.abc_classes({"b": 80, "a": 80}) == {"a": "A", "b": "A"}
    assert m.abc_classes({"a": 0, "b": 0}) == {"a": None, "b": None}


@pytest.mark.parametrize(
    ("value", "asg", "cx_book"),
    [
        (-100, "unsatisfactory", "alarming"),
        (-5, "unsatisfactory", "alarming"),
        (0, "unsatisfactory", "neutral"),
        (5, "unsatisfactory", "good_sign"),
        (10, "satisfactory", "good_sign"),
        (30, "satisfactory", "good_sign"),
        (50, "good", "good_sign"),
        (60, "good", "excellent"),
        (70, "good", "excellent"),
        (75, "good", "world_class"),
        (80, "good_extended", "world_class"),
        (90, "good_extended", "world_class"),
        (100, "good_extended", "world_class"),
        (None, "no_data", "no_data"),
    ],
)
def test_two_published_sets_of_bands_contradict_each_other_as_they_are(value, asg, cx_book):
    assert (m.band_of(value, m.NPS_BANDS_ASG), m.band_of(value, m.NPS_BANDS_CX_BOOK)) == (asg, cx_book)


def test_every_attainment_and_effort_has_a_band():
    lights = [m.band_of(value, m.TRAFFIC_LIGHT) for value in (-20, 69.99, 70, 99.99, 100, 250)]

    assert lights == ["red", "red", "amber", "amber", "green", "green"]
    assert [m.band_of(value, m.CES7_BANDS) for value in (1, 4, 5.4, 6, 7)] == [
        "poor", "good", "good", "excellent", "excellent",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "bands",
    [
        (m.Band("a", 0, 1), m.Band("b", 2, 3)),
        (m.Band("a", 0, 2), m.Band("b", 1, 3)),
        (m.Band("a", 0, 1, "both"), m.Band("b", 1, 2)),
        (m.Band("a", 0, 1), m.Band("b", 1, 2, "high")),
    ],
)
def test_bands_with_a_gap_or_an_overlap_are_refused(bands):
    with pytest.raises(ValueError, match=r"bands of x must meet without gap or overlap; found .*; correct"):
        m.BandSet("x", bands)


def test_a_trend_needs_its_history():
    assert m.usage_trend(40, 220, history_days=90) is None
    assert m.usage_trend(40, 220, history_days=91) is not None


REFUSED = [
    (m.churn_rate, (-1, 0)),
    (m.churn_rate, (10, 11)),
    (m.churn_rate, (NAN, 1)),
    (m.churn_by_reason, ({"a": 6, "b": 5}, 10)),
    (m.cohort_churn, ([1], 90, [])),
    (m.annualise_churn, (1.2, 12)),
    (m.annualise_churn, (-0.1, 12)),
    (m.deannualise_churn, (NAN, 12)),
    (m.wilson_ci, (3, 2)),
    (m.crr, (200, 10, 16)),
    (m.crr, (200, 300, 16)),
    (m.grr, (100, 0, 60, 60)),
    (m.nrr, (100, -1, 0, 0)),
    (m.renewal_rate_value, ([1, 2], [1])),
    (m.nps, (-1, 2, 3)),
    (m.nps_category, (-1,)),
    (m.nps_category, (11,)),
    (m.nps_category, (6.5,)),
    (m.nps_category, (NAN,)),
    (m.csat_top2, ([6],)),
    (m.csat_mean, ([1, NAN],)),
    (m.csat_rescaled, ([1], 5, 5)),
    (m.ces_mean, ([1], None, "ease")),
    (m.ces_mean, ([1], (1, 7), None)),
    (m.ces_mean, ([8], (1, 7), "ease")),
    (m.ces_top, ([3], (1, 6), "ease")),
    (m.ease01, (8, 1, 7, "ease")),
    (m.ltv, (500, 0.8, 1.5)),
    (m.clv_survival, (400, [0.98], 0.01)),
    (m.expected_saved_value, (1.3, 0.3, 1, 1)),
    (m.time_to_value, ([1, 2], [True])),
    (m.time_to_value, ([-1], [True])),
    (m.feature_adoption, (5, 4)),
    (m.seat_utilisation, (-1, 4)),
    (m.call_service_level, (80, 100, 30)),
    (m.usage_trend, (5, 4)),
    (m.own_z, (1, [1] * 7)),
    (m.kpi_attainment, (1, 2, 2)),
    (m.weighted_kpi, ({"a": 1, "b": 1}, {"a": 0.5, "b": 0.4})),
    (m.weighted_kpi, ({"a": 1}, {"b": 1})),
    (m.abc_classes, ({"a": -1},)),
    (m.band_of, (101, m.NPS_BANDS_ASG)),
    (m.band_of, (NAN, m.TRAFFIC_LIGHT)),
]


@pytest.mark.parametrize(
    ("metric", "arguments"),
    [pytest.param(*case, id=f"{case[0].__name__}-{place}") for place, case in enumerate(REFUSED)],
)
def test_what_cannot_be_is_refused_in_a_sentence(metric, arguments):
    with pytest.raises(ValueError, match=r"must .*; found .*; \w+"):
        metric(*arguments)


SHARES = [
    m.churn_rate, m.response_rate, m.trial_conversion, m.activation_rate, m.onboarding_completion_rate,
    m.feature_adoption, m.active_share, m.reopen_rate, m.complaint_share, m.contacted_share, m.proactive_share,
    m.closed_loop_rate,
]  # fmt: skip
FIRST_IS_WHOLE = {m.churn_rate}


@pytest.mark.parametrize("metric", SHARES, ids=lambda metric: metric.__name__)
@given(whole=st.integers(0, 10**6), part=st.floats(0, 1))
def test_a_share_is_from_0_to_1_and_missing_where_there_is_nothing_to_share(metric, whole, part):
    counted = int(part * whole)
    found = metric(whole, counted) if metric in FIRST_IS_WHOLE else metric(counted, whole)

    if whole == 0:
        assert found is None
    else:
        assert 0 <= found <= 1


COUNT = st.integers(0, 10**6)


@given(COUNT, COUNT, COUNT)
def test_nps_lies_within_its_interval_and_its_interval_within_the_scale(promoters, passives, detractors):
    value, interval = m.nps(promoters, passives, detractors), m.nps_ci(promoters, passives, detractors)

    if value is None:
        assert interval.reason == "nobody answered"
    elif interval.low is not None:
        assert -100 <= interval.low <= value <= interval.high <= 100


@given(COUNT, st.floats(0, 1))
def test_wilsons_interval_holds_the_share_and_is_never_of_zero_width(n, part):
    k = int(part * n)
    found = m.wilson_ci(k, n)

    if n == 0:
        assert found is None
    else:
        assert 0 <= found[0] <= k / n <= found[1] <= 1
        assert found[0] < found[1]


MONEY_OF_IDS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**6))


@given(MONEY_OF_IDS, MONEY_OF_IDS)
def test_gross_retention_is_at_most_1_and_at_most_the_net(start, end):
    gross, net = m.grr_accounts(start, end), m.nrr_accounts(start, end)

    if sum(start.values()) == 0:
        assert gross is None
        assert net is None
    else:
        assert 0 <= gross <= min(1, net)


@given(st.floats(0, 0.3), st.integers(1, 24))
def test_a_year_of_losses_taken_apart_is_the_loss_of_a_month(rate, months):
    assert m.deannualise_churn(m.annualise_churn(rate, months), months) == pytest.approx(rate, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30))
def test_what_is_still_open_never_makes_a_median_quicker(spans):
    durations, ended = [span for span, _ in spans], [over for _, over in spans]
    found = m.time_to_value(durations, ended)
    finished = m.time_to_value(durations, [True] * len(durations))

    if found is not None:
        assert found >= finished
        assert found in durations
    if not any(ended):
        assert found is None


@given(st.lists(st.integers(1, 5), max_size=40))
def test_satisfaction_stays_on_its_scale(answers):
    top1, top2, percent = m.csat_top1(answers), m.csat_top2(answers), m.csat_percent_of_max(answers)

    if not answers:
        assert (top1, top2, percent, m.csat_mean(answers), m.csat_rescaled(answers, 1, 5)) == (None,) * 5
    else:
        assert 0 <= top1 <= top2 <= 100
        assert 20 <= percent <= 100
        assert 0 <= m.csat_rescaled(answers, 1, 5) <= percent


@given(st.lists(st.integers(1, 7), min_size=1, max_size=40))
def test_mirroring_the_scale_and_its_polarity_changes_nothing(answers):
    mirrored = [8 - score for score in answers]

    for metric in (m.ces_top, m.ces_bottom):
        assert metric(answers, (1, 7), "ease") == metric(mirrored, (1, 7), "effort")


@given(st.integers(-100, 100))
def test_every_nps_has_one_band_of_each_set(value):
    for bands in (m.NPS_BANDS_ASG, m.NPS_BANDS_CX_BOOK):
        assert sum(band.holds(value) for band in bands.bands) == 1


@given(st.lists(st.tuples(st.integers(1, 100), st.booleans()), max_size=40), st.integers(1, 50))
def test_a_promise_not_yet_due_neither_helps_nor_hurts(tickets, limit):
    found = m.sla_share(tickets, limit)

    assert found == m.sla_share([*tickets, (limit, False)], limit)
    assert found is None or 0 <= found <= 1


@given(COUNT, COUNT)
def test_a_trend_is_0_where_the_pace_is_unchanged_and_falls_with_use(recent, earlier):
    found = m.usage_trend(recent, recent + earlier)

    assert math.isfinite(found)
    assert m.usage_trend(4 * recent, 13 * recent) == pytest.approx(0, abs=1e-12)
    assert m.usage_trend(recent + 1, recent + 1 + earlier) > found

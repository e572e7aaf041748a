"""Two pictures of a model: may its probabilities be believed, and does its list find the accounts that leave.

`rows` holds one row per account and `as_of` with `as_of`, `churned` (0 or 1) and columns of scores. Where there is
nothing to draw, the figure holds the reason as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter
from numpy.typing import NDArray
from scipy.stats import binomtest

from training import metrics

Vector = NDArray[np.float64]

SHARES = np.linspace(0, 1, 201)
TOP_SHARE = 0.1
LOST_PER_GROUP = 10
INK, MODEL, FAINT = "#222222", "#0b5394", "#8a8a8a"
STYLES = (
    (MODEL, "-"),
    ("#c77700", "--"),
    ("#3f8f5b", "-."),
    ("#a64d79", ":"),
    ("#6d5c9c", (0, (6, 1.5, 1, 1.5, 1, 1.5))),
    ("#7a5230", (0, (8, 3))),
)
"""Model first; lines differ in grey print as well."""
SMALL_PERCENTAGES = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


def calibration_plot(rows: pd.DataFrame, column: str = "probability") -> Figure:
    """Churn rate against predicted probability in groups of equal size, above a histogram.

    There are as many groups as hold ten lost accounts on average, from 3 to the bins of `metrics.ece`. Bars are 95 %
    Wilson intervals. They take rows as independent: the same account at several instants makes them a little too
    narrow. Both axes go by the square root, since most probabilities are small.
    """
    churned, probability = _numbers(rows, "churned"), _numbers(rows, column)
    if reason := metrics.why_undefined(churned, probability, ranking=False):
        return _only_text(reason)
    figure = _figure(height=7.4)
    reliability, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    bins = _reliability(churned, probability)
    end = min(1.0, 1.08 * max(bins["high"].max(), probability.max()))
    _draw_reliability(reliability, bins, end)
    _draw_histogram(histogram, probability, end)
    _title(reliability, *_calibration_title(bins, churned, probability))
    return figure


def lift_plot(rows: pd.DataFrame, columns: Mapping[str, str]) -> Figure:
    """Share of lost accounts found against share of accounts contacted, with a mark at the top 10 %.

    Each curve is drawn within each `as_of` and averaged with the lost accounts as weight; ties are straight
    lines, the expected value over their order.

    Parameters
    ----------
    columns : mapping of label to column
        The first is the model and drawn in front, the others are baselines. A column with missing scores is
        named in the legend and not drawn.
    """
    curves = {label: _gains_curve(rows, column) for label, column in columns.items()}
    drawn = {label: curve for label, curve in curves.items() if curve is not None}
    if not drawn:
        return _only_text("No list can be judged: no instant has both lost accounts and complete scores.")
    figure = _figure(height=5.6)
    axes = figure.subplots()
    _draw_gains(axes, drawn)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, label=f"Random order ({_percent(TOP_SHARE)})")
    for label in curves.keys() - drawn.keys():
        axes.plot([], [], " ", label=f"{label}: not drawn, scores missing")
    axes.legend(loc="lower right", frameon=False, title="Lost accounts found in the top 10 %", alignment="left")
    first, found = next((label, np.interp(TOP_SHARE, SHARES, curve)) for label, curve in drawn.items())
    headline = f"{first}: the top 10 % of the list holds {_percent(found)} of the lost accounts"
    lost, instants = int(_numbers(rows, "churned").sum()), rows["as_of"].nunique()
    _title(axes, headline, f"Lost accounts: {lost:,}, instants: {instants}; the steeper at the left, the better")
    return figure


def profit_plot(money: Mapping[str, Any]) -> Figure:
    """Expected profit per account of contacting the top of the list, from `views.in_money`."""
    if money["empb"] is None:
        return _only_text(str(money["reason"]))
    figure = _figure(height=4.6)
    axes = figure.subplots()
    shares, profit = money["curve"]["share"], money["curve"]["profit"]
    axes.plot(shares, profit, color=MODEL, linewidth=2.4)
    axes.axhline(0, color=FAINT, linewidth=1)
    axes.plot(money["best_share"], money["empb"], "o", color=MODEL, markersize=7)
    axes.set(xlim=(0, 1), xlabel="Accounts contacted, by falling score (%)", ylabel="Profit per account (money)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.grid(color="#eeeeee")
    terms = money["assumed"]
    _title(
        axes,
        f"At best {money['empb']:,.0f} per account, contacting {_percent(money['best_share'])} of them",
        f"assumed: {_percent(terms['gamma'])} of the contacted stay, the offer is {_percent(terms['delta'])} of a "
        f"year, a contact costs {terms['contact_cost']:g}",
    )
    return figure


def _figure(*, height: float) -> Figure:
    figure = Figure(figsize=(6.8, height), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _only_text(reason: str) -> Figure:
    figure = _figure(height=2.0)
    figure.text(0.5, 0.5, reason, ha="center", va="center", color=INK, wrap=True)
    return figure


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def _numbers(rows: pd.DataFrame, column: str) -> Vector:
    return rows[column].to_numpy(dtype=float, na_value=np.nan)


def _title(axes: Axes, headline: str, detail: str) -> None:
    axes.set_title(f"{headline}\n", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.text(0, 1.015, detail, transform=axes.transAxes, fontsize=9, color="#555555")
    axes.spines[["top", "right"]].set_visible(False)


def _reliability(churned: Vector, probability: Vector) -> pd.DataFrame:
    """One row per bin: mean probability, churn rate and its interval."""
    enough_lost = int(np.clip(churned.sum() // LOST_PER_GROUP, 3, metrics.ECE_BINS))
    bins = metrics.equal_mass_bins(probability, bins=enough_lost)
    by_bin = pd.DataFrame({"predicted": probability, "lost": churned}).groupby(bins)
    table = by_bin.agg(predicted=("predicted", "mean"), lost=("lost", "sum"), rows=("lost", "size"))
    intervals = [
        binomtest(int(lost), int(size)).proportion_ci(method="wilson")
        for lost, size in zip(table["lost"], table["rows"], strict=True)
    ]
    return table.assign(
        rate=table["lost"] / table["rows"],
        low=[float(interval.low) for interval in intervals],
        high=[float(interval.high) for interval in intervals],
    )


def _calibration_title(bins: pd.DataFrame, churned: Vector, probability: Vector) -> tuple[str, str]:
    agree = bins["predicted"].between(bins["low"], bins["high"]).sum()
    headline = f"{_percent(probability.mean(), 1)} predicted to leave on average, {_percent(churned.mean(), 1)} left"
    counts = f"{int(churned.sum()):,} of {churned.size:,} rows lost"
    return headline, f"{counts}; {agree} of {len(bins)} groups meet the line; below it, risk is overstated"


def _draw_reliability(axes: Axes, bins: pd.DataFrame, end: float) -> None:
    axes.plot([0, end], [0, end], color=FAINT, linewidth=1, label="Predicted = actual")
    whiskers = [bins["rate"] - bins["low"], bins["high"] - bins["rate"]]
    label = f"Group of about {bins['rows'].median():,.0f} rows, 95 % interval"
    at, rate = bins["predicted"], bins["rate"]
    axes.errorbar(at, rate, whiskers, fmt="none", ecolor=MODEL, elinewidth=1.2)
    axes.plot(at, rate, "o", color=MODEL, markersize=5, clip_on=False, zorder=3, label=label)
    axes.set_ylabel("Accounts that left (%)")
    axes.legend(loc="upper left", frameon=False)
    _square_root_percent(axes, axes.yaxis, end)
    _square_root_percent(axes, axes.xaxis, end)


def _draw_histogram(axes: Axes, probability: Vector, end: float) -> None:
    axes.hist(probability, bins=list(np.linspace(0, np.sqrt(end), 41) ** 2), color=MODEL, alpha=0.75)
    axes.set_xlabel("Predicted probability of churn (%), square-root scale")
    axes.set_ylabel("Rows")
    axes.spines[["top", "right"]].set_visible(False)


def _square_root_percent(axes: Axes, axis: Axis, end: float) -> None:
    scale = axes.set_xscale if axis is axes.xaxis else axes.set_yscale
    limit = axes.set_xlim if axis is axes.xaxis else axes.set_ylim
    scale("function", functions=(lambda share: np.sqrt(np.maximum(share, 0)), np.square))
    limit(0, end)
    axis.set_major_locator(FixedLocator([tick for tick in SMALL_PERCENTAGES if tick <= end]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))
    axis.grid(color="#eeeeee")


def _gains_curve(rows: pd.DataFrame, column: str) -> Vector | None:
    """Share of lost accounts found at each of `SHARES`, or None where a score or every lost account is missing."""
    churned, score = _numbers(rows, "churned"), _numbers(rows, column)
    if not np.isfinite(churned + score).all() or not churned.any():
        return None
    found, lost = np.zeros_like(SHARES), 0.0
    instant, _ = pd.factorize(rows["as_of"])
    for at in (instant == code for code in np.unique(instant)):
        listed, hits = metrics.gains(churned[at], score[at], np.ones(at.sum()))
        found += np.interp(SHARES, listed / listed[-1], hits)  # in accounts, so larger losses weigh more
        lost += hits[-1]
    return found / lost


def _draw_gains(axes: Axes, curves: Mapping[str, Vector]) -> None:
    axes.axvline(TOP_SHARE, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.text(TOP_SHARE + 0.01, 0.97, f"top {_percent(TOP_SHARE)}", fontsize=9, color="#555555")
    for place, (label, curve) in enumerate(curves.items()):
        color, dash = STYLES[place % len(STYLES)]
        at_top = float(np.interp(TOP_SHARE, SHARES, curve))
        front = len(curves) - place + 2
        text = f"{label} ({_percent(at_top)})"
        width = 2.4 if place == 0 else 1.4
        axes.plot(SHARES, curve, color=color, linestyle=dash, linewidth=width, label=text, zorder=front)
        axes.plot(TOP_SHARE, at_top, "o", color=color, markersize=6, zorder=front)
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="Accounts contacted, by falling score (%)")
    axes.set_ylabel("Lost accounts found (%)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(list(np.linspace(0, 1, 11))))
        axis.set_major_formatter(PercentFormatter(1, symbol=""))
        axis.grid(color="#eeeeee")

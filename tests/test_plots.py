"""The pictures show the numbers they claim to show, and say so where there is nothing to show."""

from __future__ import annotations

import io
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from training import metrics
from training.plots import calibration_plot, lift_plot


@pytest.fixture(scope="module")
def rows():
    """Three instants, honest probabilities, a column without information."""
    rng = np.random.default_rng(4)
    probability = rng.beta(1, 12, 1500)
    return pd.DataFrame(
        {
            "as_of": np.repeat(pd.to_datetime(["2024-01-01", "2024-02-01", "2024-03-01"]), 500),
            "churned": (rng.random(1500) < probability).astype(int),
            "probability": probability,
            "noise": rng.random(1500),
            "constant": 0.08,
        }
    )


def png(figure):
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=50)
    return target.getvalue()


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        legend = axes.get_legend()
        found += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in [*axes.texts, *(legend.get_texts() if legend else [])]]
    return " | ".join(found)


def line(figure, label):
    return next(line for line in figure.axes[0].lines if str(line.get_label()).startswith(label))


def test_every_point_of_the_calibration_plot_is_the_churn_rate_of_its_group(rows):
    groups = int(rows["churned"].sum() // 10)
    bins = metrics.equal_mass_bins(rows["probability"], bins=groups)
    expected = rows.groupby(bins)[["probability", "churned"]].mean()
    points = line(calibration_plot(rows), "Group of about")

    assert 3 < groups < 15
    np.testing.assert_allclose(points.get_xdata(), expected["probability"])
    np.testing.assert_allclose(points.get_ydata(), expected["churned"])


def test_the_calibration_bars_hold_their_points_and_stay_between_nobody_and_everybody(rows):
    figure = calibration_plot(rows)
    bars = figure.axes[0].collections[0].get_segments()
    points = line(figure, "Group of about").get_ydata()

    for (_, low), (_, high) in bars:
        assert 0 <= low < high <= 1
    assert all(bar[0][1] - 1e-12 <= point <= bar[1][1] + 1e-12 for bar, point in zip(bars, points, strict=True))


def test_the_histogram_counts_every_row(rows):
    histogram = calibration_plot(rows).axes[1]

    assert sum(bar.get_height() for bar in histogram.patches) == len(rows)


def test_the_calibration_title_says_what_was_predicted_and_what_happened(rows):
    said = texts(calibration_plot(rows))

    assert f"{100 * rows['probability'].mean():.1f} % predicted to leave on average" in said
    assert f"{100 * rows['churned'].mean():.1f} % left" in said
    assert f"{rows['churned'].sum()} of 1,500 rows lost" in said


def test_the_calibration_plot_reads_the_column_it_is_given(rows):
    assert "8.0 % predicted to leave" in texts(calibration_plot(rows, "constant"))


def test_the_lift_curve_at_ten_percent_is_the_lift_averaged_over_instants(rows):
    figure = lift_plot(rows, {"Model": "probability", "Noise": "noise"})
    instants = [at for _, at in rows.groupby("as_of")]
    lift = np.average(
        [metrics.lift_at(at["churned"], at["probability"]) for at in instants],
        weights=[at["churned"].sum() for at in instants],
    )
    curve = line(figure, "Model")
    found = np.interp(0.1, curve.get_xdata(), curve.get_ydata())

    assert found == pytest.approx(0.1 * lift, abs=1e-12)
    assert f"Model: the top 10 % of the list holds {100 * found:.0f} % of the lost accounts" in texts(figure)


def test_lift_curves_start_at_nobody_end_at_everybody_and_never_fall(rows):
    figure = lift_plot(rows, {"Model": "probability", "Noise": "noise"})

    for label in ("Model", "Noise"):
        found = line(figure, label).get_ydata()
        assert found[0] == 0
        assert found[-1] == pytest.approx(1)
        assert (np.diff(found) >= 0).all()


def test_accounts_that_cannot_be_told_apart_lie_on_the_chance_line(rows):
    flat = line(lift_plot(rows, {"Same for all": "constant"}), "Same for all")

    np.testing.assert_allclose(flat.get_ydata(), flat.get_xdata(), atol=1e-12)


def test_a_baseline_with_missing_scores_is_named_and_not_drawn(rows):
    gaps = rows.assign(health=rows["noise"].where(rows["noise"] > 0.1))
    figure = lift_plot(gaps, {"Model": "probability", "Health score": "health"})

    assert "Health score: not drawn, scores missing" in texts(figure)
    assert len(line(figure, "Health score").get_xdata()) == 0


@pytest.mark.parametrize("change", [{"churned": 0}, {"probability": np.nan}])
def test_rows_that_show_nothing_give_a_reason_as_text(rows, change):
    useless = rows.assign(**change)

    assert "A metric needs" in texts(calibration_plot(useless))
    assert "No list can be judged" in texts(lift_plot(useless, {"Model": "probability"}))


def test_no_rows_give_a_reason_as_text(rows):
    assert "found 0" in texts(calibration_plot(rows.iloc[:0]))
    assert "No list can be judged" in texts(lift_plot(rows.iloc[:0], {"Model": "probability"}))


@pytest.mark.parametrize("lost", [1, 12])
def test_few_lost_accounts_can_be_drawn(rows, lost):
    few = rows.iloc[:60].assign(churned=[1] * lost + [0] * (60 - lost))

    assert png(calibration_plot(few)).startswith(b"\x89PNG")
    assert png(lift_plot(few, {"Model": "probability"})).startswith(b"\x89PNG")


def test_drawing_leaves_no_global_figure_behind(rows):
    figures = [calibration_plot(rows), lift_plot(rows, {"Model": "probability"})]
    pyplot = sys.modules.get("matplotlib.pyplot")

    assert all(isinstance(figure, Figure) for figure in figures)
    assert pyplot is None or not pyplot.get_fignums()


def test_the_same_rows_give_the_same_picture(rows):
    assert png(calibration_plot(rows)) == png(calibration_plot(rows))
    assert png(lift_plot(rows, {"Model": "probability"})) == png(lift_plot(rows, {"Model": "probability"}))

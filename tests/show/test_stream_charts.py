"""Charts of direct attribution, the logit lens, and patches at positions with a name show what was found."""

from __future__ import annotations

import numpy as np

import scrub
from scrub.data.examples import PROMPTS, Examples
from scrub.study.settings import Settings

QUIET = Settings(progress=False, device="cpu")
ROWS, POSITIONS = 5, 7
RNG = np.random.default_rng(1)
TOKENS = RNG.integers(3, 99, (ROWS, POSITIONS + 1))
OTHER = np.where(np.arange(POSITIONS + 1)[None] == 2, TOKENS + 1, TOKENS)
PAIRS = Examples(
    TOKENS, np.arange(POSITIONS)[None].repeat(ROWS, 0) == POSITIONS - 1, PROMPTS, "made", other=OTHER,
    wrong=RNG.integers(3, 99, (ROWS, 1)), positions={"S2": np.array([2, 3, 2, 4, 2]), "IO": np.full(ROWS, 1)},
)  # fmt: skip


def test_direct_attribution_is_a_table_of_heads_and_mlps() -> None:
    from scrub.show.charts.stream import direct_chart

    found = scrub.direct_attribution("gpt2-mini", PAIRS, settings=QUIET)
    chart = direct_chart(found)
    assert "logit_diff" in chart.title
    assert chart.values.equals(found.frame().assign(metric="logit_diff", unit="logits"))
    assert "emb" in chart.title
    assert "positions and biases" in chart.title
    axes = chart.figure().axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[-1] == "MLP"
    assert "positions and biases" in chart.caption


def test_the_lens_and_patches_have_the_names_at_the_axis() -> None:
    from scrub.show.charts.stream import lens_chart

    model = scrub.load_model("attn2l")
    lens = scrub.logit_lens(model, PAIRS, ["logit_diff", "prob"], settings=QUIET)
    patching = scrub.patch(model, PAIRS, "streams", by_name=True, settings=QUIET)
    for chart, name in (
        (lens_chart(lens, "logit_diff"), "logit_diff"),
        (lens_chart(lens, "prob"), "prob"),
        (scrub.patching_chart(patching), "logit_diff recovered"),
    ):
        axes = chart.figure().axes[0]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["IO", "S2", "end"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["stream 0", "stream 1", "stream 2"]
        assert name in chart.title
    by_position = scrub.patching_chart(scrub.patch(model, PAIRS, "streams", settings=QUIET))
    labels = [label.get_text() for label in by_position.figure().axes[0].get_xticklabels()]
    assert [label.replace("·", " ") for label in labels] == ["0", "1 IO", "2", "3", "4", "5", "6 end"]


def test_every_metric_is_drawn_and_named_with_its_unit() -> None:
    """A panel for each, under its name; their values one below another."""
    from scrub.show.charts.stream import lens_chart

    model, metrics = scrub.load_model("attn2l"), ["logit_diff", "prob"]
    few = {"metric": metrics, "settings": QUIET}
    charts = (
        (lens_chart(scrub.logit_lens(model, PAIRS, **few)), ["logits", "probability"], 3 * 3),
        (scrub.ablation_chart(scrub.ablate(model, PAIRS, "heads", **few)), ["logits", "probability"], 16),
        (scrub.ablation_chart(scrub.ablate(model, PAIRS, ["a0", "a1"], **few)), ["logits", "probability"], 3),
        (scrub.patching_chart(scrub.patch(model, PAIRS, "heads", **few)), ["percent recovered"] * 2, 16),
        (scrub.patching_chart(scrub.patch(model, PAIRS, "a1", **few)), ["percent recovered"] * 2, 1),
    )
    for chart, units, rows in charts:
        panels = [axes for axes in chart.figure().axes if axes.get_title(loc="left")]
        assert [axes.get_title(loc="left").split()[0] for axes in panels] == metrics
        assert all(metric in chart.title for metric in metrics)
        named = [(metric, unit) for metric, unit in zip(metrics, units, strict=True) for _ in range(rows)]
        assert list(zip(chart.values["metric"], chart.values["unit"], strict=True)) == named


def test_what_is_taken_away_is_drawn_as_lost() -> None:
    found = scrub.patch("attn2l", PAIRS, "heads", "corrupted into clean", metric="kl", settings=QUIET)
    chart = scrub.patching_chart(found)
    lost = 100 - found.frame()["kl recovered"]
    assert lost.notna().all()
    assert np.allclose(chart.values["lost"], lost)
    assert np.allclose(chart.values["low"], 100 - found.frame()["kl recovered, high"])
    reach = chart.figure().axes[0].collections[0].get_clim()
    assert np.allclose(reach, (-lost.abs().max(), lost.abs().max()))
    both = scrub.patch("attn2l", PAIRS, ["a0", "a1"], "corrupted into clean", metric="kl", settings=QUIET)
    bars = scrub.patching_chart(both)
    assert bars.values["estimate"].is_monotonic_decreasing
    assert "lost" in bars.title


def test_small_numbers_beside_large_ones_are_no_zeros() -> None:
    from scrub.show.charts.heatmap import heat_map

    chart = heat_map([[15.5, 0.21, 2.34, 0.0]], ["a"], list("bcde"))
    assert {"16", "0.21", "2.3"} <= {text.get_text() for text in chart.figure().axes[0].texts}

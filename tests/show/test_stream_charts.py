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
    assert chart.values.equals(found.frame())
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
        (lens_chart(lens), "logit_diff"),
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

"""The paren study: what heads of the shipped model carry, and the published claims on the published weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import scrub
from scrub.study.result import Result

BRACKETS = Path(__file__).parents[3] / "shared/reference/brackets"  # beside the checkout, where somebody has them
FIELDS = {
    "n_layers": 3, "n_heads": 2, "d_model": 56, "d_head": 28, "d_mlp": 56, "n_ctx": 42, "d_vocab": 5,
    "d_vocab_out": 2, "act_fn": "relu", "normalization_type": "LN", "attention_dir": "bidirectional",
    "pad_token_id": 1, "bos_token_id": 0,
}  # fmt: skip
# asserted losses and what is allowed around them, in nats, of Redwood's code; see docs/parens.md for what 2.1 carries
ASSERTED = {"1a": (0.52, 0.04), "1b": (0.30, 0.04), "2a": (0.55, 0.04), "2b": (0.53, 0.04), "3a": (1.124, 0.1)}
ASSERTED |= {"3b": (1.140, 0.1), "4": (1.7, 0.1)}
POST = {"1b": 93, "2b": 88, "3b": 84, "4": 72}  # percent recovered
ONE_BIT = {"3a": "horizons_hold", "3b": "adjusted_hold", "4": "adjusted_hold"}


def test_what_heads_of_the_shipped_model_carry() -> None:
    """Its features are clearly better given to these heads than otherwise, and the label alone recovers more."""
    settings = scrub.Settings(sequences=400, parts=("label",), progress=False)
    found = scrub.run("parens/trained", settings=settings)
    recovered = found.recovered("trained/label")
    assert 80 < recovered.low < 91.3 < recovered.high < 100  # of 2,000 in the card
    assert "clearly better than every reassignment" in " ".join(found.verdicts)
    assert "the label alone recovers more" in " ".join(found.verdicts)


def on_redwoods(claim: str, **parameters: str) -> Result:
    state = torch.load(BRACKETS / "brackets_model_state_dict.pt", map_location="cpu", weights_only=True)
    model = scrub.load_model((FIELDS, state))
    settings = scrub.Settings(sequences=20_000, parts=("label",), controls=False, progress=False)
    given = {name: (value,) for name, value in parameters.items()}
    return scrub.run(f"parens/claim_{claim}", model, BRACKETS / "parens.parquet", settings, given)


@pytest.mark.real
@pytest.mark.skipif(not BRACKETS.is_dir(), reason="Redwood's weights aren't there")
@pytest.mark.parametrize("claim", ASSERTED)
def test_losses_are_those_that_were_asserted(claim: str) -> None:
    found = on_redwoods(claim, **({"carried": ONE_BIT[claim]} if claim in ONE_BIT else {}))
    (row,) = (row for row in found.table if row.part == "label")
    loss, bracket = ASSERTED[claim]
    assert abs(row.loss.estimate - loss) < 4 * bracket  # as the published code allows


@pytest.mark.real
@pytest.mark.skipif(not BRACKETS.is_dir(), reason="Redwood's weights aren't there")
@pytest.mark.parametrize("claim", POST)
def test_what_is_recovered_is_what_was_published(claim: str) -> None:
    (row,) = (row for row in on_redwoods(claim).table if row.part == "label")
    assert row.recovered.low - 1.5 < POST[claim] < row.recovered.high + 1.5

"""What scores of heads are read from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scrub.graph.node import Node, node
from scrub.measure.heads.scores import score_heads
from scrub.models.model import Model, load_model
from scrub.text.errors import ScrubError


def ending_in(model: Model, last: Node) -> Model:
    """The model with another node in front of its unembedding."""
    table = model.graph.inputs[1]
    return replace(model, graph=node("unembed", last, table, label="out"))


def test_a_last_norm_that_is_not_known_is_one_line() -> None:
    """Instead of a score by the formula of another norm, or an error amid it."""
    model = load_model("attn2l")
    tokens = np.arange(24).reshape(2, 12)
    norm = model.graph.inputs[0]
    assert score_heads(ending_in(model, norm), tokens, ["direct effect"])
    with pytest.raises(ScrubError, match="reads the residual stream through 'centre'") as caught:
        score_heads(ending_in(model, node("centre", norm.inputs[0])), tokens, ["direct effect"])
    assert "\n" not in str(caught.value)

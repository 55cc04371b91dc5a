"""The claims of the paren study on random models, against each written out in plain torch, of the same rows."""

from __future__ import annotations

import numpy as np
import paren_oracle
import pytest
import torch
from small import small_decoder

import scrub
from scrub.data.parens.reading import labelled
from scrub.data.parens.recipe import draw_rows
from scrub.data.prompts.table import Reader
from scrub.models.model import Model
from scrub.study.draws import Pairing

CLAIMS = {
    "claim_1a": ("", ""),
    "claim_1b": ("", ""),
    "claim_2a": ("2a", ""),
    "claim_2b": ("2b", ""),
    "claim_3a": ("", "3"),
    "claim_3b": ("", "3"),
    "claim_4": ("2b", "3"),
}


def encoder() -> Model:
    """A random classifier of parens, in float64, of three layers with two heads of 7 and d_model 11."""
    biases = ("q", "k", "v", "o", "mlp", "unembed")
    sizes = {
        "n_heads": 2,
        "n_kv_heads": 2,
        "d_head": 7,
        "n_ctx": 42,
        "vocab_size": 5,
        "d_mlp": 13,
        "bos_token_id": None,
    }
    more = {"windows": (None,), "biases": biases, "tied": False, "activation": "relu"}
    return small_decoder("gptneo", 3, seed=5, causal=False, pad_token_id=1, n_classes=2, **sizes, **more)


def drawn_in(pairing: Pairing) -> dict[str, torch.Tensor]:
    """The rows that were drawn for each name, and for each pattern of an `any`."""
    return {
        str(getattr(source, "name", source)): torch.from_numpy(np.array(rows))
        for source, rows in pairing.partners.items()
    }


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_what_it_says(name: str) -> None:
    model = encoder()
    data = labelled(*draw_rows(211, 3), 23, "some", [], Reader(None, 5, 42, None))
    trial = scrub.prepare(f"parens/{name}", model, data, scrub.Settings(dtype="float64", batch=16, progress=False))
    assert trial.examples.labels is not None
    pairing, labels = trial.pairing(0), torch.from_numpy(trial.examples.labels)
    rows, drawn = torch.from_numpy(pairing.pool[:, :-1]), drawn_in(pairing)
    losses = trial.token_losses(f"{name}/all")
    params = paren_oracle.params_of(model.params)
    expected = paren_oracle.claim(params, rows, labels, drawn, *CLAIMS[name])
    assert losses[f"{name}/all"].to_numpy() == pytest.approx(expected.numpy(), abs=1e-9)
    whole = paren_oracle.logits(params, rows[: len(labels)])
    unscrubbed = torch.nn.functional.cross_entropy(whole, labels, reduction="none")
    assert losses["unscrubbed"].to_numpy() == pytest.approx(unscrubbed.numpy(), abs=1e-9)
    assert float((expected - unscrubbed).abs().min()) > 1e-6, "every row's loss changes"

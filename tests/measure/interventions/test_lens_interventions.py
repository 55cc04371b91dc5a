"""Ablations, forced attention and patches of attention-only models against the hooks of TransformerLens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from doubles import Predicted, lens
from small import small
from torch import Tensor

from scrub.data.examples import Examples
from scrub.measure.interventions.ablation import ablate
from scrub.models.model import make_model
from scrub.study.settings import Settings

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookPoint

pytestmark = pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
SPAN = [1, 3, 4]
EXACT = Settings(dtype="float64", device="cpu", progress=False, batch=2)


@pytest.mark.parametrize("positions", ["shortformer", "standard"])
def test_sites_are_those_of_hooks(positions: str) -> None:
    ours = small(positions, n_layers=2)
    theirs, model = lens(ours), make_model("random", ours.config, ours.params)
    rng = np.random.default_rng(2)
    tokens, other = rng.integers(13, size=(2, 3, 8))
    examples = Examples(tokens, rng.random((3, 7)) < 0.7)
    x, y = (torch.from_numpy(each[:, :-1]) for each in (tokens, other))
    _, cache = theirs.run_with_cache(y)

    def head(value: Tensor, hook: HookPoint, at: int, where: list[int] | slice = slice(None)) -> Tensor:
        value[:, where, at] = cache[hook.name][:, where, at]
        return value

    def stream(value: Tensor, hook: HookPoint) -> Tensor:
        value[:, SPAN] = cache[hook.name][:, SPAN]
        return value

    def uniform(pattern: Tensor, **_: object) -> Tensor:
        pattern[:, 3] = torch.ones(7, 7, dtype=pattern.dtype).tril() / torch.arange(1, 8)[:, None]
        return pattern

    resampled = {
        "a0.1": [("blocks.0.attn.hook_z", lambda v, hook: head(v, hook, 1))],
        "a1.4@1,3..4": [("blocks.1.attn.hook_z", lambda v, hook: head(v, hook, 4, SPAN))],
        "a1.2/k": [("blocks.1.attn.hook_k", lambda v, hook: head(v, hook, 2))],
        "a1.0/v@1,3..4": [("blocks.1.attn.hook_v", lambda v, hook: head(v, hook, 0, SPAN))],
        "stream 1@1,3..4": [("blocks.1.hook_resid_pre", stream)],
        "a1": [("blocks.1.hook_attn_out", lambda _, hook: cache[hook.name])],
    }
    found = ablate(model, examples, list(resampled), how="resample", other=other, settings=EXACT)
    forced = ablate(model, examples, attend={"a1.3": "uniform"}, settings=EXACT)
    for name, hooks in resampled.items():
        expected = Predicted.of(theirs.run_with_hooks(x, fwd_hooks=hooks).detach(), tokens, examples.scored)
        row = found.effects.names.index(name)
        np.testing.assert_allclose(found.effects.values["loss"][row], expected.loss, rtol=0, atol=1e-9, err_msg=name)
        assert np.abs(found.effects.values["loss"][row] - found.effects.values["loss"][0]).max() > 1e-3
    logits = theirs.run_with_hooks(x, fwd_hooks=[("blocks.1.attn.hook_pattern", uniform)]).detach()
    expected = Predicted.of(logits, tokens, examples.scored)
    np.testing.assert_allclose(forced.effects.values["loss"][1], expected.loss, rtol=0, atol=1e-9)

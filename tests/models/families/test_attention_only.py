"""Attention-only models against TransformerLens: logits, attention patterns, and experiments done with its hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from doubles import lens
from pydantic import ValidationError
from small import rules, small
from torch import Tensor

from scrub.graph.node import walk
from scrub.models.families import architectures
from scrub.models.families.attention_only import Config

if TYPE_CHECKING:
    from transformer_lens import ActivationCache, HookedTransformer

pytestmark = pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
PREV, IND, SELF = [1], [2, 3], [0, 4]  # the heads of the roles in small.py
GROUPS = ("**/a0 by heads prev self", "**/a1 by heads ind")


def hooked(theirs: HookedTransformer, tokens: Tensor, **hooks: Callable[[Tensor], Tensor]) -> Tensor:
    """The logits with hooks, each of which must really be called (names with __ for dots)."""
    called = set()

    def wrap(name: str, change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        def hook(value: Tensor, hook: object) -> Tensor:  # noqa: ARG001
            called.add(name)
            return change(value.clone())

        return hook

    named = {name.replace("__", "."): change for name, change in hooks.items()}
    logits = theirs.run_with_hooks(tokens, fwd_hooks=[(name, wrap(name, change)) for name, change in named.items()])
    assert called == set(named)
    return logits


class Both:
    """A model, its double, and the double's caches on the reference and on the other."""

    def __init__(self, positions: str) -> None:
        self.ours = small(positions)
        self.theirs = lens(self.ours)
        self.x, self.y = self.ours.inputs["x"], self.ours.inputs["y"]
        self.on_x, self.on_y = self.cache(self.x), self.cache(self.y)
        self.split = self.ours.split(*GROUPS)

    def cache(self, tokens: Tensor) -> ActivationCache:
        return self.theirs.run_with_cache(tokens)[1]

    def written(self, cache: ActivationCache, layer: int, heads: list[int]) -> Tensor:
        """What some heads write into the residual stream."""
        name = f"blocks.{layer}.attn"
        return torch.einsum("bphd,hdm->bpm", cache[f"{name}.hook_z"][:, :, heads], self.theirs.W_O[layer][heads])

    def check(self, rule: list[str], **hooks: Callable[[Tensor], Tensor]) -> None:
        """Our rules and their hooks say the same, and something other than no rules at all."""
        ours = self.ours.logits(rules(self.split, *rule))
        with torch.no_grad():
            torch.testing.assert_close(ours, hooked(self.theirs, self.x, **hooks), rtol=0, atol=1e-9)
        assert not torch.allclose(ours, self.ours.logits(self.split), rtol=0, atol=1e-3)


@pytest.fixture(scope="module", params=["shortformer", "standard"])
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


@pytest.mark.parametrize("biases", [(), ("v", "o"), ("q", "k", "unembed")], ids=str)
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("positions", ["shortformer", "standard"])
def test_logits_and_patterns_are_those_of_transformer_lens(
    positions: str, n_layers: int, biases: tuple[str, ...]
) -> None:
    model = small(positions, n_layers, biases=biases)
    with torch.no_grad():
        logits, cache = lens(model).run_with_cache(model.inputs["x"])
    torch.testing.assert_close(model.logits(model.graph), logits, rtol=0, atol=1e-9)
    patterns = [each for each in walk([model.graph]) if each.op == "attention_pattern"]
    assert len(patterns) == n_layers
    ours = model.run({str(layer): pattern for layer, pattern in enumerate(patterns)})
    for layer in range(n_layers):
        theirs = cache[f"blocks.{layer}.attn.hook_pattern"]
        torch.testing.assert_close(ours[str(layer)], theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("slot", ["q", "k", "v"])
def test_the_input_of_one_slot_of_a_group_of_heads(both: Both, slot: str) -> None:
    def change(value: Tensor) -> Tensor:
        value[:, :, IND] = both.on_y["blocks.1.hook_resid_pre"][:, :, None]
        return value

    both.check([f"a1.ind/{slot}/** -> y"], **{f"blocks__1__hook_{slot}_input": change})


def test_an_edge_between_groups_of_heads(both: Both) -> None:
    difference = both.written(both.on_y, 0, PREV) - both.written(both.on_x, 0, PREV)

    def change(value: Tensor) -> Tensor:
        value[:, :, IND] += difference[:, :, None]
        return value

    both.check(["a1.ind/k/a0.prev -> y"], blocks__1__hook_k_input=change)


def test_everything_but_one_edge(both: Both) -> None:
    kept = both.written(both.on_x, 0, PREV) - both.written(both.on_y, 0, PREV)

    def change(value: Tensor) -> Tensor:
        value[:, :, IND] = (both.on_y["blocks.1.hook_resid_pre"] + kept)[:, :, None]
        return value

    both.check(["a1.ind/k/** -> y", "a1.ind/k/a0.prev/** -> x"], blocks__1__hook_k_input=change)


def test_attention_patterns_of_the_other(both: Both) -> None:
    def change(value: Tensor) -> Tensor:
        value[:, IND] = both.on_y["blocks.1.attn.hook_pattern"][:, IND]
        return value

    both.check(["a1.ind/{q,k} -> y"], blocks__1__attn__hook_pattern=change)


def test_the_direct_path_of_a_group_to_the_output(both: Both) -> None:
    difference = both.written(both.on_y, 0, SELF) - both.written(both.on_x, 0, SELF)
    both.check(["a0.self -> y"], blocks__1__hook_resid_post=lambda value: value + difference)


def test_a_group_wherever_it_is_read(both: Both) -> None:
    difference = both.written(both.on_y, 0, SELF) - both.written(both.on_x, 0, SELF)
    both.check(["**/a0.self -> y"], blocks__0__hook_attn_out=lambda value: value + difference)


def test_a_value_of_the_other_under_the_pattern_of_the_reference(both: Both) -> None:
    def change(value: Tensor) -> Tensor:
        value[:, :, PREV] = both.on_y["blocks.0.attn.hook_v"][:, :, PREV]
        return value

    both.check(["**/a0.prev/v -> y"], blocks__0__attn__hook_v=change)


def test_a_mask_keeps_the_values_inside_it(both: Both) -> None:
    split = both.ours.split(*GROUPS, 'a0.prev by mask "previous"')
    ours = both.ours.logits(rules(split, "a0.prev* -> y", "a0.prev[previous]/v -> x"))
    pattern = both.on_y["blocks.0.attn.hook_pattern"][:, PREV]
    inside = torch.diag(torch.ones(pattern.shape[-1] - 1, dtype=torch.float64), -1)
    v_x, v_y = (cache["blocks.0.attn.hook_v"][:, :, PREV].transpose(1, 2) for cache in (both.on_x, both.on_y))
    z = (pattern * inside) @ v_x + (pattern * (1 - inside)) @ v_y
    written = torch.einsum("bhpd,hdm->bpm", z, both.theirs.W_O[0][PREV])
    difference = written - both.written(both.on_x, 0, PREV)
    with torch.no_grad():
        theirs = hooked(both.theirs, both.x, blocks__1__hook_resid_post=lambda value: value + difference)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_the_family_is_found_by_its_name() -> None:
    assert architectures()["attention_only"].Config is Config


@pytest.mark.parametrize("change", [{"n_layers": 0}, {"positions": "rotary"}, {"d_head": "2"}, {"layer_norm_eps": 0.0}])
def test_a_config_out_of_range_is_refused(change: dict[str, object]) -> None:
    fields = small().config.model_dump() | change
    with pytest.raises(ValidationError):
        Config.model_validate(fields)

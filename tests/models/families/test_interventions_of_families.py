"""Path experiments on decoders against the same interventions on transformers' models, done with plain torch hooks.

One family of each kind: rotary positions with grouped queries, with a window, parallel, norms behind with soft caps.
In the twin every query head has a copy of the keys and values that it shares, as it has in a path. A path `a/b/** -> y`
is patched in two runs: in the first, `a` reads what `b` writes on y, everything else as it is on x; the second, on x,
gets what the layer of `a` wrote there where the path goes on, and nowhere else.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small import Small
from torch import Tensor
from twins import GROUPED, VOCAB, Change, Seen, Shape, exact, layers_of, made, run

from scrub.models.model import load_model
from scrub.study.hypothesis import Hypothesis

EARLY, ONE, BESIDE = 2, 3, 4  # a head of layer 0, and two of layer 1 that share keys and values
SPLITS = f"splits  **/a0 by heads {EARLY}\n        **/a1 by heads {ONE} {BESIDE}\n"
KINDS = {"llama": GROUPED, "mistral": GROUPED, "neox": GROUPED, "gemma2": GROUPED}
X, Y = torch.randint(VOCAB, (2, 3, 11), generator=torch.Generator().manual_seed(5))


class Both:
    """A model and its twin, what the twin does on the reference and on the other, and what hooks it needs."""

    def __init__(self, kind: str) -> None:
        shape = KINDS[kind]
        with exact():
            theirs = made(kind, shape)
            ours = load_model(theirs, dtype=torch.float64)
            self.twin = theirs if kind == "neox" else copied(theirs, made(kind, Shape(kv_heads=shape.heads)), shape)
        self.ours = Small(ours.config, ours.params, {"x": X, "y": Y})
        self.d_head, self.heads = shape.d_head, shape.heads
        self.x, self.y = self.run(X), self.run(Y)
        with exact():
            torch.testing.assert_close(self.x.logits, run(theirs, X).logits, rtol=0, atol=1e-9)

    def run(self, tokens: Tensor, changes: dict[tuple[str, int], Change] | None = None) -> Seen:
        with exact():
            return run(self.twin, tokens, changes)

    def check(self, rules: str, expected: Tensor) -> None:
        """The rules give these logits, which aren't those of no rules at all."""
        found = self.ours.logits(Hypothesis(SPLITS + "part  " + rules).scrub(self.ours.graph, {}))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
        assert (expected - self.x.logits).abs().max() > 1e-3

    def columns(self, head: int, slot: str = "") -> slice:
        """Where a head stands among all side by side: in z, or in what projections give."""
        at = 3 * head + "qkv".index(slot) if self.fused and slot else head
        return slice(at * self.d_head, (at + 1) * self.d_head)

    @property
    def fused(self) -> bool:
        return ("qkv", 0) in self.x.at

    def head_is(self, layer: int, head: int, other: Seen) -> dict[tuple[str, int], Change]:
        """A head has read what it read in another run."""
        return {("z", layer): put(other.at["z", layer], self.columns(head))}

    def reads(self, slot: str, heads: list[int], stream: Tensor, layer: int = 1) -> dict[tuple[str, int], Change]:
        """A slot of some heads reads another stream than the one there is."""
        block = layers_of(self.twin)[layer]
        with exact(), torch.no_grad():
            normed = block.input_layernorm(stream)
            maps: Any = block.attention.query_key_value if self.fused else getattr(block.self_attn, f"{slot}_proj")
            instead = maps(normed)

        def change(value: Tensor) -> Tensor:
            for head in heads:
                value = put(instead, self.columns(head, slot))(value)
            return value

        return {("qkv" if self.fused else slot, layer): change}

    def written(self, seen: Seen, layer: int) -> Tensor:
        """What a layer's heads write in a run, behind a norm where there is one, less what they write on x."""
        return seen.at["attention", layer] - self.x.at["attention", layer]

    def directly(self, change: Tensor) -> Tensor:
        """The logits when the last norm alone reads a change of the stream."""
        return self.run(X, {("stream", len(layers_of(self.twin))): lambda stream: stream + change}).logits


def copied(theirs: Any, twin: Any, shape: Shape) -> Any:
    """A model with a copy of shared keys and values for every query head."""
    state = theirs.state_dict()
    for name, value in state.items():
        if ".k_proj." in name or ".v_proj." in name:
            by_head = value.unflatten(0, (shape.kv_heads, -1))
            state[name] = by_head.repeat_interleave(shape.heads // shape.kv_heads, 0).flatten(0, 1)
    twin.load_state_dict(state)
    return twin


def put(other: Tensor, where: slice) -> Change:
    """Something else stands in some columns."""

    def change(value: Tensor) -> Tensor:
        value[..., where] = other[..., where]
        return value

    return change


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


def test_a_head_wherever_it_is_read_and_where_the_logits_read_it(both: Both) -> None:
    """Behind a norm, the path of a single head is the norm of all heads of its layer, of which one is resampled."""
    seen = both.run(X, both.head_is(1, ONE, both.y))
    both.check(f"**/a1.{ONE}/** -> y", seen.logits)
    both.check(f"a1.{ONE}/** -> y", both.directly(both.written(seen, 1)))


def test_the_path_of_a_head_behind_a_norm_is_no_sum() -> None:
    """Two heads that are resampled together aren't the sum of each alone; in front of no norm they are."""
    apart = {}
    for kind in ("llama", "gemma2"):
        both = Both(kind)
        changes = [both.written(both.run(X, both.head_is(1, head, both.y)), 1) for head in (ONE, BESIDE)]
        change = both.head_is(1, ONE, both.y)["z", 1], both.head_is(1, BESIDE, both.y)["z", 1]
        together = both.run(X, {("z", 1): lambda z, change=change: change[1](change[0](z))})
        both.check(f"a1.{{{ONE},{BESIDE}}}/** -> y", both.directly(both.written(together, 1)))
        apart[kind] = float((both.written(together, 1) - sum(changes)).abs().max())
    assert apart["llama"] < 1e-9
    assert apart["gemma2"] > 1e-3


@pytest.mark.parametrize("slot", ["q", "k", "v"])
def test_a_slot_of_a_head_that_shares_its_keys(both: Both, slot: str) -> None:
    """It alone reads the other: the head beside it, with the same keys and values, doesn't, or both do."""
    stream = both.y.at["stream", 1]
    for heads in ([ONE], [BESIDE], [ONE, BESIDE]):
        seen = both.run(X, both.reads(slot, heads, stream))
        names = ",".join(map(str, heads))
        both.check(f"**/a1.{{{names}}}/{slot}/** -> y", seen.logits)
        both.check(f"a1.{{{names}}}/{slot}/** -> y", both.directly(both.written(seen, 1)))


@pytest.mark.parametrize("slot", ["q", "k", "v"])
def test_a_path_through_the_values_of_an_earlier_head(both: Both, slot: str) -> None:
    early = both.run(X, both.reads("v", [EARLY], both.y.at["stream", 0], layer=0))
    seen = both.run(X, both.reads(slot, [ONE], both.x.at["stream", 1] + both.written(early, 0)))
    both.check(f"**/a1.{ONE}/{slot}/a0.{EARLY}/v/** -> y", seen.logits)
    both.check(f"a1.{ONE}/{slot}/a0.{EARLY}/v/** -> y", both.directly(both.written(seen, 1)))


def test_an_edge_from_a_head_to_an_mlp(both: Both) -> None:
    early = both.run(X, both.head_is(0, EARLY, both.y))
    seen = both.run(X, {("into mlp", 1): lambda stream: stream + both.written(early, 0)})
    both.check(f"**/m1/a0.{EARLY}/** -> y", seen.logits)


def test_everything_is_the_run_on_the_other(both: Both) -> None:
    both.check("** -> y", both.y.logits)

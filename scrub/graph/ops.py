"""The table of operations: what a graph may hold, how each is computed, and which axes it carries.

Layouts. Residual stream [batch, position, d_model]; q, k, v and z [batch, head, position, d_head];
attention pattern [batch, head, query, key]. The position (query) axis is always the last but one, so
that rows can be selected from any of them in one way.

`rows` lists the inputs whose rows are the rows of the output: an operation on selected rows needs only
those rows of them. `heads` lists the inputs that carry heads, under the output's numbers. `optional` static arguments
may be left out. That is all that rewrites need to know of an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from torch import Tensor

from scrub.graph.arithmetic import (
    absolute,
    activate,
    add,
    add_bias,
    cap_slope,
    centre,
    dot,
    embed,
    inverse_deviation,
    inverse_rms,
    layer_norm,
    linear,
    multiply,
    part,
    rms_norm,
    scale,
    soft_cap,
    sub,
    transpose,
)
from scrub.graph.attention import (
    attend,
    attend_masked,
    attention,
    attention_pattern,
    heads_scale,
    in_reach,
    masked_scores,
    output,
    project,
    repeat_kv,
    rotary,
    rotate,
    scale_heads,
    select_heads,
    take_heads,
)
from scrub.graph.logits import (
    above,
    call,
    is_top,
    log_normaliser,
    look_up,
    look_up_mean,
    look_up_some,
    mean_embedding,
    mean_logit,
    mean_row,
    pick_mean,
    pick_some,
    probabilities,
    probability,
)
from scrub.graph.lowrank import change, changed, fold_bias, fold_output, log_normalisers_changed, log_normalisers_of
from scrub.graph.rows import at_positions, batch, fill, gather_rows, join, later, pack, part_of_batch, take_places
from scrub.graph.sums import spread, stack, sums
from scrub.graph.terms import estimate, onto, typed

NONE, ONE, TWO, THREE, FOUR = (range(n, n + 1) for n in range(5))
ANY = range(1, 1 << 16)
Heads = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """One row of the table."""

    run: Callable[..., Tensor] | None  # None for a leaf: a parameter or an input of the run
    arity: range  # how many inputs it may have
    static: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()  # static arguments that may be left out
    rows: tuple[int, ...] | None = ()  # None for all inputs
    together: bool = False  # whether rows of a sequence stay together: other inputs belong to the same sequence
    heads: tuple[int, ...] | None = ()  # None for all inputs
    blocks: bool = False  # whether it takes `at_once`, how many numbers to work on at once: all, unless a place says so
    expression: Callable[..., Tensor] | None = None  # that a place may have compiled, for it to take as `expression`

    def check(self, name: str, inputs: int, static: Mapping[str, Hashable]) -> None:
        """Raise ValueError unless the table allows this many inputs and these static arguments."""
        if inputs not in self.arity:
            raise ValueError(f"{name} takes {self.arity.start} to {self.arity.stop - 1} inputs, not {inputs}")
        if set(static) - set(self.optional) != set(self.static):
            raise ValueError(f"{name} takes the static arguments {sorted(self.static)}, not {sorted(static)}")

    def function(self) -> Callable[..., Tensor]:
        """Give what computes it."""
        assert self.run is not None, "a leaf is bound"
        return self.run

    def row_inputs(self, inputs: int) -> tuple[int, ...]:
        """List the inputs whose rows are the rows of the output."""
        return tuple(range(inputs)) if self.rows is None else self.rows

    def head_inputs(self, inputs: int) -> tuple[int, ...]:
        """List the inputs that carry heads, which have the numbers of the output's."""
        return tuple(at for at in (range(inputs) if self.heads is None else self.heads) if at < inputs)


OPS: dict[str, Op] = {
    # leaves: parameters of the model, and what a run binds for every batch
    "param": Op(None, NONE, ("name", "shape")),
    "tokens": Op(None, NONE, ("source",)),  # [batch, position]
    "donor": Op(None, NONE, ("source",)),  # [batch, position], see gather_rows
    "drawn_at": Op(None, NONE, ("source",)),  # the same
    "position": Op(None, NONE),  # [1, position]
    "pooled": Op(None, NONE, ("of", "source")),  # rows of the node `of`, with its shape: see plan/pooled.py
    "few_rows": Op(None, NONE, ("of",)),  # of a table [token, ...] the rows of some tokens: see study/looks.py
    "held": Op(None, NONE, ("of", "source")),  # stands for the node `of`, with its shape but one sequence: see rules.py
    "selected": Op(None, NONE),  # [batch, some]: positions, filled to the same number in every sequence
    "rows": Op(None, NONE),  # [3, row]: of each selected position its sequence, its number there, and itself
    "target": Op(None, NONE),  # [batch, position, 1]
    "other_target": Op(None, NONE, ("name",)),  # the same, of the examples' own targets
    "place": Op(None, NONE),  # [batch, position, 1]: which row of what is held by name stands there
    "place_in_template": Op(None, NONE),  # the same of what is held by template
    "choices": Op(None, NONE, ("of",)),  # [batch, position, some]: answers, wrong ones, or both
    "weights": Op(None, NONE, ("of",)),  # the same, of each in the mean: see Examples.choices
    "given": Op(None, NONE, ("name",)),  # whatever stands there by that name: see paths/taps.py
    "unit": Op(None, NONE),  # [1]: of the type that the model computes in
    "directions": Op(None, NONE, ("of",)),  # [number, width], see onto
    "estimated": Op(None, NONE, ("source", "of", "width")),  # [batch, position, width], see estimate
    "places": Op(None, NONE, ("positions",)),  # [batch, position, 1]: which positions of each example some spans mean
    # the model
    "embed": Op(embed, TWO),
    "add": Op(add, ANY, rows=None, heads=None),
    "add_bias": Op(add_bias, TWO, rows=(0,)),
    "sub": Op(sub, TWO, rows=(0, 1), heads=(0, 1)),
    "layer_norm": Op(layer_norm, THREE, ("eps",), rows=(0,)),
    "rms_norm": Op(rms_norm, TWO, ("eps",), rows=(0,), heads=(0,)),
    "heads_scale": Op(heads_scale, ONE, ("eps",), rows=(0,)),
    "scale_heads": Op(scale_heads, THREE, rows=(0, 2), heads=(0, 1)),
    "scale": Op(scale, ONE, ("by",), rows=(0,)),
    "soft_cap": Op(soft_cap, ONE, ("cap",), rows=(0,)),
    "rotary": Op(rotary, ONE, ("width", "base"), ("scaling",)),
    "rotate": Op(rotate, TWO, rows=(0, 1), heads=(0,)),
    "repeat_kv": Op(repeat_kv, ONE, ("times",)),
    "take_heads": Op(take_heads, ONE, ("indices",), heads=(0,)),
    "select_heads": Op(select_heads, ONE, ("indices",), rows=(0,), heads=(0,)),
    "project": Op(project, range(2, 4), rows=(0,), heads=(1, 2)),
    "attention_pattern": Op(
        attention_pattern, range(3, 5), optional=("window", "cap", "causal"), rows=(0, 2), heads=(0, 1), together=True
    ),
    "masked_scores": Op(masked_scores, ONE, ("pad",)),
    "attention": Op(attention, range(3, 5), optional=("window",), heads=(0, 1, 2)),
    "in_reach": Op(in_reach, TWO, optional=("window",), rows=(0,)),
    "attend": Op(attend, TWO, rows=(0,), heads=(0, 1), together=True),
    "attend_masked": Op(attend_masked, THREE, ("mask",), rows=(0, 2), heads=(0, 1), together=True),
    "output": Op(output, TWO, rows=(0,), heads=(0, 1)),
    "linear": Op(linear, range(2, 4), rows=(0,)),
    "activate": Op(activate, ONE, ("kind",), rows=(0,)),
    "unembed": Op(linear, TWO, rows=(0,)),
    # what a study does with it
    "gather_rows": Op(gather_rows, range(2, 4), heads=(0,)),
    "at_positions": Op(at_positions, TWO, ("positions", "inside"), rows=(0, 1), heads=(0,), together=True),
    "onto": Op(onto, TWO, rows=(0,), heads=(0,)),
    "estimate": Op(estimate, TWO, ("of", "width")),
    "typed": Op(typed, TWO, rows=(0,)),
    "take_places": Op(take_places, TWO, rows=(1,), together=True),
    "pack": Op(pack, TWO, ("of",)),
    "fill": Op(fill, THREE),
    "batch": Op(batch, ANY),
    "part_of_batch": Op(part_of_batch, ONE, ("index", "of")),
    "later": Op(later, ONE, ("first", "axis"), heads=(0,)),
    "join": Op(join, TWO, ("first",), heads=(0, 1)),
    "log_normaliser": Op(log_normaliser, ONE, rows=(0,)),
    "mean_logit": Op(mean_logit, ONE, rows=(0,)),
    "mean_row": Op(mean_row, ONE),
    "pick": Op(pick_some, TWO, rows=(0, 1)),
    "look_up": Op(look_up, TWO, rows=(0,)),
    # apart from `pick`, whose one logit needs no unembedding
    "pick_some": Op(pick_some, TWO, rows=(0, 1)),
    "look_up_some": Op(look_up_some, THREE, rows=(0, 1)),
    "pick_mean": Op(pick_mean, THREE, rows=(0, 1, 2)),
    "look_up_mean": Op(look_up_mean, THREE, rows=(0, 1)),
    "probability": Op(probability, THREE, ("log",), rows=(0, 1, 2)),
    "above": Op(above, TWO, rows=(0, 1)),
    "is_top": Op(is_top, THREE, rows=(0, 1, 2)),
    "call": Op(call, ANY, ("function",), rows=None),
    "probabilities": Op(probabilities, ONE, rows=(0,)),
    "expect": Op(dot, TWO, rows=(0, 1)),  # of logits, under a distribution
    "mean_embedding": Op(mean_embedding, TWO, rows=(0,)),
    "absolute": Op(absolute, ONE, rows=(0,), heads=(0,)),
    "dot": Op(dot, TWO, rows=(0, 1)),
    "centre": Op(centre, ONE, rows=(0,)),
    "inverse_deviation": Op(inverse_deviation, ONE, ("eps",), rows=(0,)),
    "inverse_rms": Op(inverse_rms, ONE, ("eps",), rows=(0,)),
    "cap_slope": Op(cap_slope, ONE, ("cap",), rows=(0,)),
    "fold_output": Op(fold_output, range(2, 4), optional=("centred",)),
    "fold_bias": Op(fold_bias, TWO),
    "transpose": Op(transpose, ONE),
    "change": Op(change, TWO, rows=(0, 1)),
    "changed": Op(changed, FOUR, rows=(0, 1, 3)),
    "log_normalisers_changed": Op(log_normalisers_changed, ANY, blocks=True, expression=log_normalisers_of),
    "part": Op(part, ONE, ("index",), rows=(0,)),
    "spread": Op(spread, TWO, rows=(1,)),
    "stack": Op(stack, ANY, rows=None),
    "sums": Op(sums, ANY, ("terms",), rows=None, blocks=True),
    "multiply": Op(multiply, TWO, rows=(0, 1)),
}

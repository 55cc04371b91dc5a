"""The mean of the other sequences, where a hypothesis would draw one: `y` is then what components give on average."""

from __future__ import annotations

from enum import Enum

from scrub.graph.node import Node, unroll
from scrub.paths.gathered import fed_by
from scrub.paths.pattern import INPUTS, MASK
from scrub.paths.rules import held_at
from scrub.paths.sources import Held, Y
from scrub.text.errors import ScrubError


class _At(Enum):
    """Place of a node relative to the components that read y alone."""

    ABOVE = "above"
    HERE = "here"
    BELOW = "below"


def with_means(root: Node, source: Held) -> Node:
    """Hold each component that reads y alone, and that something reads which doesn't, at its mean over the others.

    Those are the components at the ends of the paths that the rules feed by y. What stands above them (a sum, a
    LayerNorm, an attention pattern) is made of the means: it is no mean itself.
    """
    fed = fed_by(root)

    def advance(at: _At, current: Node) -> _At:
        if at is not _At.ABOVE:
            return _At.BELOW
        name = (current.label or "").partition("[")[0]
        if name == MASK and fed[current] == {Y}:
            raise ScrubError(
                "a rule feeds a mask by y, and a mean over the others has none: it says which keys of one are pads, so "
                "feed the mask by x, or draw an other"
            )
        component = current.label is not None and current.label not in INPUTS
        return _At.HERE if component and fed[current] == {Y} else _At.ABOVE

    def build(current: Node, at: _At, inputs: tuple[Node, ...]) -> Node:
        return held_at(current, source, current.label) if at is _At.HERE else current.with_inputs(inputs)

    return unroll(root, _At.ABOVE, advance, build, over=_At.BELOW)

"""What somebody's functions say of tokens, as leaves of a plan: asked when a batch is bound, and never inside a plan.

So a card may capture the plan, memory is told without asking, and gates that embed by the rows of a few tokens ask of
the tokens themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

from scrub.graph.node import Node, node, rewrite


def as_leaves(roots: Iterable[Node]) -> dict[Node, Node]:
    """Map each node to one in which every estimate of a source's tokens is a leaf, in the type of the model."""

    def build(current: Node) -> Node:
        if current.op != "estimate" or current.inputs[0].op != "tokens":
            return current
        tokens, unit = current.inputs
        said = current.arguments
        leaf = node("estimated", source=tokens.arguments["source"], of=said["of"], width=said["width"])
        return node("typed", leaf, unit)

    return rewrite(roots, build)

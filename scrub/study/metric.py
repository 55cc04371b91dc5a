"""Metrics: what is measured of every experiment at every scored position, as nodes on its logits.

Adding one is a row here, or a `Metric` of one's own. Loss, change and KL are what every study measures; the others are
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scrub.graph.node import Node, node


@dataclass(frozen=True)
class Metric:
    """A number [batch, position, 1] made of an experiment's logits and the unscrubbed model's, with its name and unit.

    `Metric("logit", "logits", lambda logits, unscrubbed: node("pick", logits, node("target")))`
    """

    name: str
    unit: str
    nodes: Callable[[Node, Node], Node]

    def of(self, logits: Node, unscrubbed: Node) -> Node:
        """Make the node that computes it for one experiment."""
        return self.nodes(logits, unscrubbed)


def losses(logits: Node) -> Node:
    """Compute the loss of every position, in nats: log sum exp of the logits less the target's."""
    return node("sub", node("log_normaliser", logits), node("pick", logits, node("target")))


def divergence(logits: Node, unscrubbed: Node) -> Node:
    """Compute KL(unscrubbed || scrubbed) of the predictions at every position, in nats.

    It is the difference of two cross entropies, so graphs that are the same give exactly 0.
    """
    weight = node("probabilities", unscrubbed)

    def cross_entropy(of: Node) -> Node:
        return node("sub", node("log_normaliser", of), node("expect", weight, of))

    return node("sub", cross_entropy(logits), cross_entropy(unscrubbed))


LOSS = Metric("loss", "nats", lambda logits, _: losses(logits))
CHANGE = Metric("change", "nats", lambda of, unscrubbed: node("absolute", node("sub", losses(of), losses(unscrubbed))))
KL = Metric("kl", "nats", divergence)
LOGIT = Metric("logit", "logits", lambda logits, _: node("pick", logits, node("target")))
MEAN_LOGIT = Metric("mean logit", "logits", lambda logits, _: node("mean_logit", logits))

STUDIED = (LOSS, CHANGE, KL)  # what every study measures

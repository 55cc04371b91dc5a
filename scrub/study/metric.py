"""Metrics: what is measured of every experiment at every scored position, as nodes on its logits.

Adding one is a row here, or a `Metric` of one's own. A study measures one metric, by default the loss; how much that
changes at a position; and the KL divergence from the unscrubbed model's predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from scrub.data.choices import ANSWERS, EITHER
from scrub.graph.node import Node, node
from scrub.paths.hashes import hash_graph, hash_of
from scrub.text.errors import ScrubError
from scrub.text.fields import Named, check_fields, theirs


@dataclass(frozen=True, eq=False)
class Metric:
    """A number [batch, position, 1] made of an experiment's logits and the unscrubbed model's, with its name and unit.

    `Metric("logit", "logits", lambda logits, unscrubbed: node("pick", logits, node("target")))`. Another target that
    examples come with is `node("other_target", name="a name")`. Two are equal if their names, units and what their
    `nodes` make are.
    """

    name: Named
    unit: str
    nodes: Callable[[Node, Node], Node]
    of_all: bool = False  # whether a prompt counts as a whole: 1 where all of its scored positions are 1, else 0

    def __post_init__(self) -> None:
        check_fields(self, "the metric's ")

    @cached_property
    def digest(self) -> str:
        """The hash of what it computes, however it is written. Raises ScrubError if it makes no nodes."""
        logits, unscrubbed = (node("param", name=name, shape=()) for name in ("logits", "unscrubbed logits"))
        return hash_of(self.name, self.unit, hash_graph(self.measure(logits, unscrubbed), {}))

    def measure(self, logits: Node, unscrubbed: Node) -> Node:
        """Make its node of an experiment's logits and the unscrubbed model's. It is the user's own code.

        Raises ScrubError if that fails, or makes no node.
        """
        with theirs(f"the metric {self.name!r} fails", "mend it"):
            made = self.nodes(logits, unscrubbed)
        if not isinstance(made, Node):
            raise ScrubError(f"the metric {self.name!r} gives {type(made).__name__}: give a node on the logits")
        return made

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Metric) and self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)


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


def _probability(of: str, log: bool = False) -> Callable[[Node, Node], Node]:
    def nodes(logits: Node, _: Node) -> Node:
        picked = node("pick_some", logits, node("choices", of=of))
        return node("probability", picked, node("log_normaliser", logits), node("weights", of=of), log=log)

    return nodes


def _of_choices(op: str, of: str) -> Callable[[Node, Node], Node]:
    return lambda logits, _: node(op, logits, node("choices", of=of), node("weights", of=of))


def _above(logits: Node, _: Node) -> Node:
    return node("above", node("pick_some", logits, node("choices", of=EITHER)), node("weights", of=EITHER))


LOSS = Metric("loss", "nats", lambda logits, _: losses(logits))
KL = Metric("kl", "nats", divergence)
LOGIT_DIFF = Metric("logit_diff", "logits", _of_choices("pick_mean", EITHER))
METRICS: Mapping[str, Metric] = {
    each.name: each
    for each in (
        LOSS,
        LOGIT_DIFF,
        Metric("prob", "probability", _probability(ANSWERS)),
        Metric("prob_diff", "probability", _probability(EITHER)),
        Metric("logprob", "nats", _probability(ANSWERS, log=True)),
        Metric("accuracy", "fraction", _of_choices("is_top", ANSWERS), of_all=True),
        Metric("pair_accuracy", "fraction", _above, of_all=True),
        KL,
    )
}
LOGIT = Metric("logit", "logits", lambda logits, _: node("pick", logits, node("target")))
MEAN_LOGIT = Metric("mean logit", "logits", lambda logits, _: node("mean_logit", logits))


def as_metric(given: Metric | str) -> Metric:
    """Give a metric by its name, one of METRICS, or as it is: `as_metric("logit_diff")`.

    Raises ScrubError for another name.
    """
    if isinstance(given, Metric):
        return given
    if given not in METRICS:
        raise ScrubError(f"there is no metric {given!r}: there are {', '.join(METRICS)}, and your own")
    return METRICS[given]


ROLES = ("loss", "change", "kl")  # the names of those of a study, in results too, whichever its metric


def studied(metric: Metric = LOSS) -> tuple[Metric, Metric, Metric]:
    """List what a study measures, by ROLES: its metric, its absolute change from the unscrubbed model's, and the KL."""

    def change(of: Node, unscrubbed: Node) -> Node:
        return node("absolute", node("sub", metric.measure(of, unscrubbed), metric.measure(unscrubbed, unscrubbed)))

    return Metric("loss", metric.unit, metric.measure), Metric("change", metric.unit, change), KL

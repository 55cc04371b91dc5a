"""Metrics: what is measured of every experiment at every scored position, as nodes on its logits.

Adding one is a row here, or a `Metric` of one's own: of nodes, or of a function (scrub/study/own_metric.py). A study
measures a metric, by default the loss; how much that changes at a position; and the KL divergence from the unscrubbed
model's predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from scrub.data.choices import ANSWERS, EITHER
from scrub.graph.node import Node, node, walk
from scrub.paths.hashes import hash_graph, hash_of
from scrub.study.own_metric import Own, name_of
from scrub.text.errors import ScrubError
from scrub.text.fields import Named, check_fields, theirs
from scrub.text.wording import short

if TYPE_CHECKING:
    from scrub.data.examples import Examples


@dataclass(frozen=True, eq=False)
class Metric:
    """A number [batch, position, 1] made of an experiment's logits and the unscrubbed model's, with its name and unit.

    `Metric("logit", "logits", lambda logits, unscrubbed: node("pick", logits, node("target")))`. Another target that
    examples come with is `node("other_target", name="a name")`. Two are equal if their names, units and what their
    `nodes` make are. :meth:`of` makes one of a function of tensors.
    `of_all` says that a prompt counts as a whole where several of its positions are scored: 1 if all of them are 1, and
    else what the least of them is, at each. On other data it is a number of each position as well. `with_ratio` says
    that its plain ratio to the unscrubbed model's stands beside the percent recovered.
    """

    name: Named
    unit: str
    nodes: Callable[[Node, Node], Node]
    of_all: bool = False
    with_ratio: bool = False
    less_is_better: bool = False
    change_of: str = ""  # the metric by name whose absolute change it is, for prompts that count as a whole

    def __post_init__(self) -> None:
        check_fields(self, "the metric's ")

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        unit: str = "",
        name: str | None = None,
        of_all: bool = False,
        less_is_better: bool = False,
    ) -> Metric:
        """Make a metric of a function of tensors, one number a row: `Metric.of(margin, unit="logits")`.

        `def margin(logits, targets, unscrubbed)` gets logits [row, vocab], targets [row] (the next tokens), and the
        unscrubbed model's logits [row, vocab], of scored positions in any order, and gives [row]; parameters called
        `answers` and `wrong` get ids [row, some], -1 where there are fewer. It leaves out what it doesn't need. In
        results it is told apart by the hash of its code and of what that uses. By default it is called as the function
        is. Scores of edges are above 0 where it gets worse: less of it, unless `less_is_better`.
        Raises ScrubError for a function that it can't be, or a name that another metric has.
        """
        if not callable(function):
            raise ScrubError(f"a metric is {short(function)}, but must be one of {', '.join(METRICS)}, or a function")
        called = name_of(function) if name is None else name
        if called in METRICS:
            raise ScrubError(
                f"your own metric is called {called!r}, as one of scrub's is: give it another name, as in "
                "Metric.of(function, name='mine')"
            )
        return cls(called, unit, Own.of(function, called).nodes, of_all, less_is_better=less_is_better)

    @cached_property
    def digest(self) -> str:
        """The hash of what it computes, however it is written. Raises ScrubError if it makes no nodes."""
        return hash_of(self.name, self.unit, hash_graph(self._alone, {}), *(["of all"] if self.of_all else []))

    @property
    def _alone(self) -> Node:
        """Its node, of stand-ins for logits."""
        return self.measure(*(node("param", name=name, shape=()) for name in ("logits", "unscrubbed logits")))

    def check(self, examples: Examples) -> None:
        """Raise ScrubError unless examples come with the tokens that it looks at."""
        for each in walk([self._alone]):
            if each.op == "choices":
                examples.choices(str(each.arguments["of"]), f"the metric {self.name!r}")

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
        if not isinstance(other, Metric) or self is other:
            return self is other
        return self.digest == other.digest and self.less_is_better == other.less_is_better

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Be pickled by name, as nodes that are made of lambdas can't be, if it is one of METRICS."""
        return (as_metric, (self.name,)) if METRICS.get(self.name) is self else super().__reduce__()


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


LOSS = Metric("loss", "nats", lambda logits, _: losses(logits), less_is_better=True)
KL = Metric("kl", "nats", divergence, less_is_better=True)
LOGIT_DIFF = Metric("logit_diff", "logits", _of_choices("pick_mean", EITHER), with_ratio=True)
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


GivenMetric: TypeAlias = Any  # Metric, one's name or one's own function: what `as_metric` takes


def as_metric(given: GivenMetric, own: Metric | None = None) -> Metric:
    """Give a metric as it is, by its name, one of METRICS, or of one's own function: `as_metric("logit_diff")`.

    A study's `own` has a name too.
    Raises ScrubError for another name, or a function that is none: see :meth:`Metric.of`.
    """
    if isinstance(given, Metric):
        return given
    if isinstance(given, str):
        known = {**({} if own is None else {own.name: own}), **METRICS}
        if given not in known:
            yours = "and your own" if own is None or own.name in METRICS else f"and the study's own, {short(own.name)}"
            raise ScrubError(f"there is no metric {short(given)}: there are {', '.join(METRICS)}, {yours}")
        return known[given]
    return Metric.of(given)


def check_unchanged(metrics: Sequence[Metric]) -> None:
    """Raise ScrubError for a metric that says nothing of a model by itself, as it compares a model with that."""
    if KL in metrics:
        raise ScrubError(
            "kl is how far predictions are from the unchanged model's, and here nothing is changed, so it is 0 by "
            "definition: leave it out"
        )


def as_metrics(given: GivenMetric | Sequence[GivenMetric] | None, own: Metric | None = None) -> tuple[Metric, ...]:
    """Give one or several metrics, each as :func:`as_metric` takes it, or none: `as_metrics(["loss", "kl"])`.

    Raises ScrubError if there is none in a list, or two have one name.
    """
    if given is None:
        return ()
    found = tuple(as_metric(each, own) for each in (given if isinstance(given, list | tuple) else [given]))
    if not found:
        raise ScrubError(f"no metric was named: name some of {', '.join(METRICS)}, or leave it out")
    names = [each.name for each in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ScrubError(f"two metrics are called {twice[0]!r}: name each once")
    return found


ROLES = ("loss", "change", "kl")  # the names of those of a study, in results too, whichever its metric


def role_of(role: str, metric: Metric | None = None) -> str:
    """Name what a study measures in a role; of a further metric, its own."""
    return role if metric is None or role == KL.name else f"{role} of {metric.name}"


def studied(metric: Metric = LOSS, *others: Metric) -> tuple[Metric, ...]:
    """List what a study measures, by ROLES: its metric, its absolute change from the unscrubbed model's, and the KL.

    Then the first two of each of the `others`.
    """
    more = (each for other in others for each in _with_change(other, other))
    return (*_with_change(metric), KL, *more)


def _with_change(metric: Metric, further: Metric | None = None) -> tuple[Metric, Metric]:
    def change(of: Node, unscrubbed: Node) -> Node:
        return node("absolute", node("sub", metric.measure(of, unscrubbed), metric.measure(unscrubbed, unscrubbed)))

    loss, changed = (role_of(role, further) for role in ROLES[:2])
    whole = loss if metric.of_all else ""
    return (
        Metric(loss, metric.unit, metric.measure, metric.of_all),
        Metric(changed, metric.unit, change, change_of=whole),
    )

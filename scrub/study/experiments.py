"""The experiments of a study as graphs, and what is measured of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scrub.graph.node import Node, node
from scrub.paths.locate import locate
from scrub.paths.rules import Rule, resample, sources
from scrub.paths.splits import Roles
from scrub.study.hypothesis import Hypothesis, split_roles
from scrub.study.study import Study
from scrub.text.errors import ScrubError

UNSCRUBBED, BASELINE, ALL_SCRUBBED = "unscrubbed", "baseline", "all_scrubbed"
ANCHORS = (UNSCRUBBED, BASELINE, ALL_SCRUBBED)


@dataclass(frozen=True)
class Experiment:
    """One scrubbed graph. `name` is an anchor's, or hypothesis/part; `before` is the graph it resamples."""

    name: str
    before: Node
    rules: tuple[Rule, ...]
    graph: Node
    hypothesis: Hypothesis | None = None
    part: str = ""

    @property
    def sources(self) -> set[str]:
        """What feeds it."""
        return sources(self.graph)


def experiments(
    study: Study, hypotheses: Sequence[Hypothesis], model: Node, roles: Roles, parts: Sequence[str] | None = None
) -> list[Experiment]:
    """The anchors and every part of every hypothesis, in order.

    Raises ScrubError for a rule or split that matches nothing, or a part that no hypothesis has.
    """
    found = anchors(study, model, roles)
    check_parts(hypotheses, parts)
    for hypothesis in hypotheses:
        found += parts_of(hypothesis, model, roles, parts)
    return found


def anchors(study: Study, model: Node, roles: Roles) -> list[Experiment]:
    """The unscrubbed model, the baseline, and the model with everything scrubbed. Raises ScrubError as above."""
    split = split_roles(model, roles)
    everything = (Rule.parse("** -> y"),)
    found = [Experiment(UNSCRUBBED, split, (), split)]
    for name, rules in ((BASELINE, study.baseline_rules), (ALL_SCRUBBED, everything)):
        try:
            found.append(_experiment(name, split, rules))
        except ScrubError as error:
            raise ScrubError(f"{name} of the study {study.name!r}: {error}{_unknown(roles)}") from error
    if found[1].graph is split:
        raise ScrubError("the baseline is the unscrubbed model: 0 % and 100 % must differ, so resample something in it")
    return found


def parts_of(hypothesis: Hypothesis, model: Node, roles: Roles, parts: Sequence[str] | None = None) -> list[Experiment]:
    """Every part of a hypothesis, or those of some that it has. Raises ScrubError as above."""
    try:
        before = hypothesis.split(model, roles)
        return [
            _experiment(f"{hypothesis.name}/{part}", before, hypothesis.part(part), hypothesis, part)
            for part in hypothesis.parts
            if parts is None or part in parts
        ]
    except ScrubError as error:
        raise ScrubError(f"{hypothesis.path or hypothesis.name}: {error}{_unknown(roles)}") from error


def check_parts(hypotheses: Sequence[Hypothesis], parts: Sequence[str] | None) -> None:
    """Raise ScrubError for a part that no hypothesis has."""
    known = dict.fromkeys(part for h in hypotheses for part in h.parts)
    for part in parts or ():
        if part not in known:
            raise ScrubError(f"no hypothesis has a part {part!r}: they have {', '.join(known)}")


def _unknown(roles: Roles) -> str:
    """What a mistake may come from where a model's roles aren't known."""
    return "" if roles else "; this model's heads have no roles yet: `scrub roles MODEL --write` measures them"


def _experiment(
    name: str, before: Node, rules: tuple[Rule, ...], hypothesis: Hypothesis | None = None, part: str = ""
) -> Experiment:
    for rule in rules:
        locate(rule.pattern, before)
    return Experiment(name, before, rules, resample(before, rules), hypothesis, part)


def losses(logits: Node) -> Node:
    """The loss of every position, in nats: log sum exp of the logits less the target's."""
    return node("sub", node("log_normaliser", logits), node("pick", logits, node("target")))


def divergence(logits: Node, unscrubbed: Node) -> Node:
    """KL(unscrubbed || scrubbed) of the predictions at every position, in nats.

    It is the difference of two cross entropies, so graphs that are the same give exactly 0.
    """
    weight = node("probabilities", unscrubbed)

    def cross_entropy(of: Node) -> Node:
        return node("sub", node("log_normaliser", of), node("expect", weight, of))

    return node("sub", cross_entropy(logits), cross_entropy(unscrubbed))


def measured(of: Sequence[Experiment]) -> dict[str, Node]:
    """The outputs of the plan: `loss:NAME` and `kl:NAME` for every experiment."""
    unscrubbed = of[0].graph
    outputs: dict[str, Node] = {}
    for each in of:
        outputs[f"loss:{each.name}"] = losses(each.graph)
        outputs[f"kl:{each.name}"] = divergence(each.graph, unscrubbed)
    return outputs

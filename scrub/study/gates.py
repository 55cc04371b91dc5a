"""The gates that every number passes.

1. Every split graph computes the model's own loss.
2. With every source bound to x, every experiment gives the unscrubbed loss.
3. Every rule changes something; one that doesn't is a warning, where somebody wrote it.
4. Resampled paths really carry what they say: where a source's sequences are replaced by one whose embedding is NaN,
   NaN comes out of exactly the experiments that the source feeds, and out of every single rule that has it. No sequence
   is its own other; a source that often has to draw the reference itself, because nothing else agrees with it, is a
   warning. A value at which components are held is NaN too, and comes out of exactly the experiments it is held in.
Masks of pads, which an encoder's heads read beside embeddings, are NaN alone as well, those of each source in turn.

Where an intervention holds a component at a value, gate 2 holds it at what the component itself gives on x.

5. Where y stands for a mean over the others, an experiment whose means are each over one of them, that which would be
   drawn, gives the loss with that one drawn: means stand where y does. No y is drawn beside them, and means of some
   components are taken anew (scrub/study/mean_gate.py).

6. Of a set of edges, x comes along exactly those that are kept and lie on whole paths.

7. Where first rows are taken from the unscrubbed model, since all sources begin alike, an experiment gives what it
gives with every row computed.

The first two are passed in float64, where the tolerance is tight, and in the type that is measured in, on its device;
the others in that type. They look at a few late positions of two examples, or one (scrub/study/looks.py). Splits are
looked at together, in a model each component of which stands there as the mean of what each split makes of it: of n, a
wrong one shows by an n-th of its deviation, which float64 sees all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from scrub.graph.heads import is_mask
from scrub.graph.node import Node, node, rewrite, walk
from scrub.models.model import Model
from scrub.paths.edges import fed_along
from scrub.paths.gathered import draws
from scrub.paths.rules import Resampling, Rule, held, held_by
from scrub.paths.sources import Draw, Drawn, Like, Source, X, Y, ordered
from scrub.study.draws import Pairing
from scrub.study.experiments import Experiment, Experiments
from scrub.study.hypothesis import ALL
from scrub.study.looks import MORE_EXAMPLES, Basis, Held, Look, few_of, in_the_mean, looks, off_by
from scrub.study.mean_gate import check_means
from scrub.study.metric import losses
from scrub.study.settings import TF32
from scrub.text.errors import GateError, ScrubError

# the largest deviation at any position: some ten times what rounding does to the shipped studies, of TF32 2e-3
TOLERANCE_NATS = {"float64": 1e-9, "float32": 1e-4, TF32: 0.03, "bfloat16": 0.5}
TIGHT_NATS = 1e-3  # a tolerance in which examples that are mixed up show
EXACT = "float64"
ROUNDING_NATS = 1e-12  # a change below it is rounding in float64
OWN_FRACTION = 0.01  # of a source's draws that may be the reference itself without a warning
PROBE = Like("_probe")  # stands in for a rule's source, so that what comes of that rule alone is seen


@dataclass(frozen=True)
class Gates:
    """Outcome of the gates: the largest deviations in nats, by name, and warnings."""

    deviations: Mapping[str, float]
    warnings: tuple[str, ...]

    @classmethod
    def joined(cls, parts: Sequence[Gates]) -> Gates:
        """Join the outcomes for several plans: the largest deviations, and all warnings once."""
        deviations: dict[str, float] = {}
        for name, value in (item for part in parts for item in part.deviations.items()):
            deviations[name] = max(value, deviations.get(name, 0.0))
        return cls(deviations, tuple(dict.fromkeys(text for part in parts for text in part.warnings)))


def check_gates(
    experiments: Experiments,
    model: Model,
    pairing: Pairing,
    dtype: str,
    values: Held | None = None,
    quiet: bool = False,
) -> Gates:
    """Pass every gate on a few examples of a pairing, or raise GateError. `values` are those of held components.

    The model computes in `dtype`, one of TOLERANCE_NATS. If `quiet`, no rule is warned of that changes nothing.
    """
    few = few_of(pairing)
    all_x = few.all_itself
    own = {"model": losses(model.graph)}
    splits = {f"split of {e.name}": losses(e.before) for e in experiments}
    bound = {f"{e.name} with every source bound to x": losses(e.graph) for e in experiments}
    # the target's logit, since it is NaN where any of its row is, and costs no unembedding
    carried = {str(e.name): _target_logit(e.graph) for e in experiments}
    scrubbed, carriers = looks(own | bound | (carried if pairing.first else {}), carried, pairing, dtype)
    averaged = {e.name: f"{e.name} at means over one" for e in experiments if e.drawn is not None}
    graphs = {averaged[e.name]: losses(e.graph) for e in experiments if e.drawn is not None}
    means = Look(graphs | {e.name: losses(e.resampled) for e in experiments if e.drawn is not None})
    bases = {kind: Basis(model, few, kind) for kind in dict.fromkeys([EXACT, dtype])}
    deviations: dict[str, float] = {}
    for kind, basis in bases.items():
        # float64 costs as much for one; that examples are kept apart, a type shows whose tolerance is tight
        alone = kind != dtype and TOLERANCE_NATS[dtype] <= TIGHT_NATS
        some = few.order[:1] if alone else few.order
        deviations[f"split graph and model, {basis}"] = _of_splits(own, splits, basis, replace(few, order=some))
        of = f"scrubbed with y = x and unscrubbed, {basis}"
        deviations[of] = _deviation(scrubbed, basis, replace(all_x, order=some), dict.fromkeys(bound, "model"))
        if averaged:
            one = {name: str(drawn) for drawn, name in averaged.items()}
            deviations[f"mean over one other and that drawn, {basis}"] = _deviation(means, basis, few, one)
    if averaged:
        of = f"means over the others, {dtype}"
        deviations[of] = check_means(experiments, model, pairing, values or {}, TOLERANCE_NATS[dtype])
    if pairing.first:
        first = replace(few, order=few.order[:1])
        each, whole = (look(bases[dtype], first, values or {}) for look in (scrubbed, carriers))
        deviations[f"first rows shared and computed, {dtype}"] = _of_first_rows(
            {name: (each[name], whole[name]) for name in carried}, dtype
        )
    _check_sources(experiments, carriers, bases[dtype], few, values or {})
    _check_edges(experiments)
    # a rule that does nothing is worth knowing where somebody wrote it; random ones have many, and it costs to see
    written = [e for e in experiments if not (quiet or (e.hypothesis and e.hypothesis.generated))]
    rules = [_Without(experiment) for experiment in written]
    notes = dict.fromkeys(f"{e.name.hypothesis}: {text}" for e in written for text in e.warnings)
    drawn = (*own_draws(told := _but_of_controls(pairing, experiments)), *vague_features(told))
    found = (*notes, *idle(rules), *ineffective(rules, bases[EXACT], few, values, pairing), *drawn)
    return Gates(deviations, found)


def _of_splits(own: dict[str, Node], splits: Mapping[str, Node], basis: Basis, few: Pairing) -> float:
    """Measure the deviation of all splits together from the model. Raises GateError, which names a split.

    They are computed as written: simplified, a split that nothing tells apart would be the model again, and prove
    nothing.
    """
    (name, model), *_ = own.items()
    made = in_the_mean(model.value, [graph.value for graph in splits.values()])
    together = {f"model with every split, {number}": graph for number, graph in enumerate(made)}
    try:
        return _deviation(Look(own | together, simplified=False), basis, few)
    except GateError:  # which says nothing of the one that it is
        each = [
            _deviation(Look({name: model, split: graph}, simplified=False), basis, few)
            for split, graph in splits.items()
        ]
        return max(each)


def _deviation(look: Look, basis: Basis, pairing: Pairing, same: Mapping[str, str] | None = None) -> float:
    """Measure the largest deviation of any losses from the first, or from those that they are the `same` as.

    Raises GateError above the tolerance, in nats.
    """
    found = look(basis, pairing)
    first, *others = found
    tolerance, worst = TOLERANCE_NATS[basis.dtype], 0.0
    for name, wanted in (dict.fromkeys(others, first) if same is None else same).items():
        deviation = float((found[name] - found[wanted]).abs().max())
        worst = max(worst, deviation)
        if not deviation <= tolerance:
            raise GateError(
                f"the {name} gives another loss than the {wanted}: by {deviation:.2e} nats at a position, where "
                f"{tolerance:.0e} is allowed in {basis}; no number of this run can be trusted"
            )
    return worst


def _of_first_rows(found: Mapping[str, tuple[Tensor, Tensor]], dtype: str) -> float:
    """Measure how far the target's logit is at most from what it is with every row computed.

    Relative to its size where that is over 1. Raises GateError above the tolerance.
    """
    worst, tolerance = 0.0, TOLERANCE_NATS[dtype]
    for name, (shared, computed) in found.items():
        deviation = off_by(shared, computed)
        worst = max(worst, deviation)
        if not deviation <= tolerance:
            raise GateError(
                f"{name} gives another logit where first rows are taken from the unscrubbed model: off by "
                f"{deviation:.2e}, where {tolerance:.0e} is allowed in {dtype}; no number of this run can be trusted"
            )
    return worst


def _check_edges(experiments: Experiments) -> None:
    """Raise GateError unless the graph of each set of edges is fed by x along those edges, and along no other."""
    for each in experiments:
        if each.kept is not None and (wrong := fed_along(each.resampled) ^ each.kept):
            raise GateError(
                f"{each.name}: {min(wrong)} is {'not ' * (min(wrong) in each.kept)}fed by x, unlike the set of edges "
                "says: no number of this can be trusted"
            )


class _Without:
    """An experiment without one of its rules at a time, each graph built once. A rule may stand there twice."""

    def __init__(self, of: Experiment) -> None:
        self.of = of
        self._resampling = Resampling(of.before, of.rules)
        self.graphs = [(rule, self._graph(at)) for at, rule in enumerate(of.rules)]

    def _graph(self, at: int) -> Node | None:
        """Build the graph without a rule; None if the others can't be alone, as with half of a whole pattern."""
        try:
            return self._resampling.without(at)
        except ScrubError:
            return None

    @property
    def idle(self) -> list[Rule]:
        """The rules without which the graph would be the same."""
        return [rule for rule, graph in self.graphs if graph is self.of.resampled]


def idle(of: Iterable[_Without]) -> list[str]:
    """Warn of every rule without which its experiment would be the same."""
    names = {f"{without.of.name}: the rule '{rule}'": None for without in of for rule in without.idle}
    return [f"{name} changes nothing: its paths are fed so without it" for name in names]


def ineffective(
    of: Iterable[_Without], basis: Basis, pairing: Pairing, values: Held | None = None, every: Pairing | None = None
) -> list[str]:
    """Warn of every rule without which no loss would differ, though other paths are fed.

    A rule is looked at in each part of a hypothesis that has it, and not again in all parts together. In a few examples
    two rows that agree on a feature may say the same by chance: where a hypothesis declares draws, more of `every`
    example are looked at before a rule of it is told.
    """
    graphs: dict[str, Node] = {}
    changed: dict[str, str] = {}
    declared: set[str] = set()  # experiments that such draws feed
    seen: set[tuple[str, Rule]] = set()
    for without in of:
        whole = without.of
        graphs[whole.name] = whole.resampled
        declared |= {whole.name} if any(isinstance(source, Drawn) for source in whole.draws) else set()
        for rule, graph in without.graphs:
            if graph is None or graph is whole.resampled:
                continue
            if whole.part == ALL and (whole.name.hypothesis, rule) in seen:
                continue
            if not draws(graph) <= pairing.partners.keys():
                continue  # another rule, which changes nothing beside this one, feeds it then what nobody drew
            # what it holds then may have no value
            if values is None or not any(rule.holds for rule in whole.rules) or values.keys() >= set(held([graph])):
                name = f"{whole.name}: the rule '{rule}'"
                graphs[name], changed[name] = graph, whole.name
                seen.add((whole.name.hypothesis, rule))
    # most rules change the target's logit in the first example, which costs no unembedding; only of the others losses
    # are compared
    logits = Look({name: _target_logit(graph) for name, graph in graphs.items()})
    silent = _same(logits(basis, replace(pairing, order=pairing.order[:1]), values), changed)
    if silent:
        suspects = {name: losses(graphs[name]) for name in dict.fromkeys([*silent, *silent.values()])}
        silent = _same(Look(suspects)(basis, pairing, values), silent)
    told = dict.fromkeys(silent, len(pairing.order))
    if every is not None and (by_chance := {name: of for name, of in silent.items() if of in declared}):
        more = few_of(every, MORE_EXAMPLES)
        suspects = {name: losses(graphs[name]) for name in dict.fromkeys([*by_chance, *by_chance.values()])}
        still = _same(Look(suspects)(Basis(basis.model, more, basis.dtype), more, values), by_chance)
        left = {name for name in silent if name in still or name not in by_chance}
        told = {name: len((more if name in still else pairing).order) for name in silent if name in left}
    return [
        f"{name} changes no loss: what it feeds carries nothing to the positions looked at, in {count} "
        f"example{'s' * (count > 1)}"
        for name, count in told.items()
    ]


def _same(found: Mapping[Any, Tensor], changed: Mapping[str, str]) -> dict[str, str]:
    """Keep those of `changed` whose numbers are those of the experiment that they are compared with."""
    return {name: of for name, of in changed.items() if float((found[name] - found[of]).abs().max()) < ROUNDING_NATS}


def own_draws(pairing: Pairing) -> list[str]:
    """Warn of every source that often draws the reference itself: what it feeds is then not resampled."""
    warnings = []
    for source in ordered(pairing.partners.keys() - {X, Y}):
        assert isinstance(source, Draw)
        own = pairing.drew_itself(source)
        share = float((own if own.ndim == 1 else own[pairing.examples.real]).mean())
        if share > OWN_FRACTION:
            why = (
                "which is of its own class as any other that agrees"
                if isinstance(source, Drawn)
                else "where no other sequence agrees with it"
            )
            warnings.append(
                f"'{source}' draws the reference itself in {share:.0%} of places, {why}: nothing is resampled there; "
                "take more sequences, or a feature with fewer classes"
            )
    return warnings


def _but_of_controls(pairing: Pairing, experiments: Experiments) -> Pairing:
    """Leave out what controls alone draw: nobody wrote that."""
    controls = [each for each in experiments if each.hypothesis and each.hypothesis.control_of]
    if not controls:
        return pairing
    kept = {X, Y}.union(*(each.draws for each in experiments if each not in controls))
    known = {feature for source in kept for feature in source.features}
    partners = {source: rows for source, rows in pairing.partners.items() if source in kept}
    return replace(pairing, partners=partners, vague=[name for name in pairing.vague if name in known])


def vague_features(pairing: Pairing) -> list[str]:
    """Warn of every feature that says the same of all sequences: whoever agrees on it agrees on nothing."""
    return [
        f"the feature {name!r} has one class in all sequences, so what is drawn like it is drawn from any: nothing is "
        "claimed of it; take other data, or a feature that tells them apart"
        for name in pairing.vague
    ]


def _check_sources(experiments: Experiments, look: Look, basis: Basis, pairing: Pairing, values: Held) -> None:
    """Feed a source with NaN, and see that it comes out where, and only where, the source feeds."""
    partners = pairing.partners
    if Y in partners and (partners[Y] == partners[X]).any():
        raise GateError("a sequence is its own other: what is resampled must come from another")
    fed: dict[str, Set[Source]] = {
        e.name: {*e.draws, *(held_by(leaf) for leaf in held([e.graph]))} for e in experiments
    }
    sources = ordered(set[Source]().union(*fed.values()))
    carrying = look.carrying(basis, pairing, sources, values)
    for source in sources:
        for name, feeds in fed.items():
            if (name in carrying[source]) != (source in feeds):
                does, should = ("does not carry", "feeds") if source in feeds else ("carries", "should not feed")
                raise GateError(
                    f"{name} {does} the source '{source}', which {should} it: no number of this run can be trusted"
                )
    probes = {name: _target_logit(graph) for name, graph in _probes(experiments)}
    masks = {name: _target_logit(graph) for name, graph in _masks_probed(experiments)}
    if probes or masks:
        probed = replace(pairing, partners={**partners, PROBE: partners[X]})
        reached = Look(probes | masks).carrying(basis, probed, [PROBE], values)[PROBE]
        for name in probes | masks:
            if name not in reached:
                what = (
                    ": the paths of this rule carry nothing of what feeds them"
                    if name in probes
                    else " carry none of it"
                )
                raise GateError(f"{name}{what}")


def _target_logit(logits: Node) -> Node:
    return node("pick", logits, node("target"))


def _masks_probed(experiments: Experiments) -> Iterator[tuple[str, Node]]:
    """Give a source of their own to the masks that each source feeds in an experiment, of an encoder that has some."""
    for experiment in experiments:
        fed = {mask: draws(mask) for mask in walk([experiment.resampled]) if is_mask(mask)}
        for source in ordered(set[Draw]().union(*fed.values())):
            if not source.by_row:
                probed = rewrite([experiment.resampled], partial(_probing, source=source))
                yield f"{experiment.name}: the masks that '{source}' feeds", probed[experiment.resampled]


def _probing(current: Node, source: Draw) -> Node:
    """Feed a mask by the probe, if it is fed by a source."""
    if not is_mask(current) or draws(current) != {source}:
        return current
    return current.with_inputs((node("tokens", source=PROBE), *current.inputs[1:]))


def _probes(experiments: Iterable[Experiment]) -> Iterator[tuple[str, Node]]:
    """Give a source of its own to every rule that resamples whole sequences beside another rule of the same source.

    One rule at a time. A rule that is alone with its source is probed where that source is poisoned.
    """
    for experiment in experiments:
        rules_of = Counter(rule.source for rule in experiment.rules)
        resampling = Resampling(experiment.before, experiment.rules, PROBE)
        for at, rule in enumerate(experiment.rules):
            alone = rules_of[rule.source] == 1
            if not isinstance(rule.source, Draw) or rule.source == X or rule.source.by_row or alone:
                continue
            graph = resampling.probed(at)
            if graph is not experiment.resampled and PROBE in draws(
                graph
            ):  # else other rules win everywhere, which is a warning
                yield f"{experiment.name}: {rule}", graph

"""The gates that every number passes.

1. Every split graph computes the model's own loss.
2. With every source bound to x, every experiment gives the unscrubbed loss.
3. Every rule changes something; one that doesn't is a warning, where somebody wrote it.
4. Resampled paths really carry what they say: where a source's sequences are replaced by one whose embedding is NaN,
   NaN comes out of exactly the experiments that the source feeds, and out of every single rule that has it. No sequence
   is its own other; a source that often has to draw the reference itself, because nothing else agrees with it, is a
   warning. A value at which components are held is NaN too, and comes out of exactly the experiments it is held in.

Where an intervention holds a component at a value, gate 2 holds it at what the component itself gives on x.

5. Where y stands for a mean over the others, an experiment whose means are each over one of them, that which would be
   drawn, gives the loss with that one drawn: means stand where y does. No y is drawn beside them, and means of some
   components are taken anew (scrub/study/mean_gate.py).

6. Of a set of edges, x comes along exactly those that are kept and lie on whole paths.

The first two are passed in float64, where the tolerance is tight, and in the type that is measured in, on its device;
the last in that type. They look at a few late positions of two examples, or one, so of the embedding only the rows of
those tokens are converted: a model's own parameters are copied once, to float64, and not where it is float64 already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scrub.graph.node import Node, node, rewrite, walk
from scrub.models.model import Model
from scrub.paths.edges import fed_along
from scrub.paths.rules import Resampling, Rule, draws, held, held_by
from scrub.paths.sources import Draw, Like, Source, X, Y, ordered
from scrub.paths.sources import Held as HeldSource
from scrub.plan.plan import Plan, compile_plan
from scrub.plan.runner import Runner
from scrub.study.binding import bind
from scrub.study.draws import Pairing
from scrub.study.experiments import Experiment, Experiments
from scrub.study.held import stands_for
from scrub.study.hypothesis import ALL
from scrub.study.mean_gate import check_means
from scrub.study.metric import losses
from scrub.study.settings import TF32, type_of
from scrub.text.errors import GateError, ScrubError

# the largest deviation at any position: some ten times what rounding does to the shipped studies, of TF32 2e-3
TOLERANCE_NATS = {"float64": 1e-9, "float32": 1e-4, TF32: 0.03, "bfloat16": 0.5}
SOURCES_AT_ONCE = 4  # that are poisoned together, in a batch that has an example for each
CANDIDATES = 64  # examples with most scored positions, of which the first few that differ are looked at
TIGHT_NATS = 1e-3  # a tolerance in which examples that are mixed up show
EXAMPLES, POSITIONS, DONORS = 2, 16, 4  # that the gates look at: positions late in a sequence have most context
EXACT = "float64"
ROUNDING_NATS = 1e-12  # a change below it is rounding in float64
OWN_FRACTION = 0.01  # of a source's draws that may be the reference itself without a warning
PROBE = Like("_probe")  # stands in for a rule's source, so that what comes of that rule alone is seen
FEW_TOKENS_SUFFIX = ", rows of a few tokens"  # of the name of an embedding, whose table may be the unembedding too
Graphs = Mapping[Any, Node]  # by name
Held = Mapping[Node, Tensor]  # the values of leaves at which a component is held


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
    few = _few(pairing)
    all_x = replace(few, partners={source: few.itself(source) for source in few.partners})
    own = {"model": losses(model.graph)}
    splits = {f"split of {e.name}": losses(e.before) for e in experiments}
    bound = {f"{e.name} with every source bound to x": losses(e.graph) for e in experiments}
    same = {
        # as written: simplified, a split that nothing tells apart would be the model again, and prove nothing
        "split graph and model": (_Look(own | splits, simplified=False), few),
        "scrubbed with y = x and unscrubbed": (_Look(own | bound), all_x),
    }
    averaged = {e.name: f"{e.name} at means over one" for e in experiments if e.drawn is not None}
    graphs = {averaged[e.name]: losses(e.graph) for e in experiments if e.drawn is not None}
    means = _Look(graphs | {e.name: losses(e.resampled) for e in experiments if e.drawn is not None})
    bases = {kind: _Basis(model, few, kind) for kind in dict.fromkeys([EXACT, dtype])}
    deviations: dict[str, float] = {}
    for kind, basis in bases.items():
        # float64 costs as much for one; that examples are kept apart, a type shows whose tolerance is tight
        alone = kind != dtype and TOLERANCE_NATS[dtype] <= TIGHT_NATS
        some = few.order[:1] if alone else few.order
        for of, (look, on) in same.items():
            deviations[f"{of}, {basis}"] = look.deviation(basis, replace(on, order=some))
        if averaged:
            one = {name: str(drawn) for drawn, name in averaged.items()}
            deviations[f"mean over one other and that drawn, {basis}"] = means.deviation(basis, few, one)
    if averaged:
        of = f"means over the others, {dtype}"
        deviations[of] = check_means(experiments, model, pairing, values or {}, TOLERANCE_NATS[dtype])
    _check_sources(experiments, bases[dtype], few, values or {})
    _check_edges(experiments)
    # a rule that does nothing is worth knowing where somebody wrote it; random ones have many, and it costs to see
    written = [e for e in experiments if not (quiet or (e.hypothesis and e.hypothesis.null_of))]
    rules = [_Without(experiment) for experiment in written]
    notes = dict.fromkeys(f"{e.name.hypothesis}: {text}" for e in written for text in e.warnings)
    drawn = (*own_draws(pairing), *vague_features(pairing))
    found = (*notes, *idle(rules), *ineffective(rules, bases[EXACT], few, values), *drawn)
    return Gates(deviations, found)


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


def ineffective(of: Iterable[_Without], basis: _Basis, pairing: Pairing, values: Held | None = None) -> list[str]:
    """Warn of every rule without which no loss would differ, though other paths are fed.

    A rule is looked at in each part of a hypothesis that has it, and not again in all parts together.
    """
    graphs: dict[str, Node] = {}
    changed: dict[str, str] = {}
    seen: set[tuple[str, Rule]] = set()
    for without in of:
        whole = without.of
        graphs[whole.name] = whole.resampled
        for rule, graph in without.graphs:
            if graph is None or graph is whole.resampled:
                continue
            if whole.part == ALL and (whole.name.hypothesis, rule) in seen:
                continue
            # what it holds then may have no value
            if values is None or not any(rule.holds for rule in whole.rules) or values.keys() >= set(held([graph])):
                name = f"{whole.name}: the rule '{rule}'"
                graphs[name], changed[name] = graph, whole.name
                seen.add((whole.name.hypothesis, rule))
    # most rules change the target's logit in the first example, which costs no unembedding; only of the others losses
    # are compared
    logits = _Look({name: _target_logit(graph) for name, graph in graphs.items()}, values)
    silent = _same(logits(basis, replace(pairing, order=pairing.order[:1])), changed)
    if silent:
        suspects = {name: losses(graphs[name]) for name in dict.fromkeys([*silent, *silent.values()])}
        silent = _same(_Look(suspects, values)(basis, pairing), silent)
    return [f"{name} changes no loss: what it feeds carries nothing to the positions looked at" for name in silent]


def _same(found: Mapping[Any, Tensor], changed: Mapping[str, str]) -> dict[str, str]:
    """Keep those of `changed` whose numbers are those of the experiment that they are compared with."""
    return {name: of for name, of in changed.items() if float((found[name] - found[of]).abs().max()) < ROUNDING_NATS}


def own_draws(pairing: Pairing) -> list[str]:
    """Warn of every source that often draws the reference itself: what it feeds is then not resampled."""
    warnings = []
    for source in ordered(pairing.partners.keys() - {X, Y}):
        assert isinstance(source, Draw)
        own = pairing.partners[source] == pairing.itself(source)
        share = float((own if own.ndim == 1 else own[pairing.examples.real]).mean())
        if share > OWN_FRACTION:
            warnings.append(
                f"'{source}' draws the reference itself in {share:.0%} of places, where no other sequence agrees with "
                "it: nothing is resampled there; take more sequences, or a feature with fewer classes"
            )
    return warnings


def vague_features(pairing: Pairing) -> list[str]:
    """Warn of every feature that says the same of all sequences: whoever agrees on it agrees on nothing."""
    return [
        f"the feature {name!r} has one class in all sequences, so what is drawn like it is drawn from any: nothing is "
        "claimed of it; take other data, or a feature that tells them apart"
        for name in pairing.vague
    ]


def _few(pairing: Pairing) -> Pairing:
    """Narrow a pairing to the examples with most scored positions, of those to the last few, and to few donors of rows.

    Examples differ in what they read, or a mix-up would go unseen. Where another donor was drawn for a row, the example
    itself stands in.
    """
    scored = pairing.examples.scored
    most = np.argsort(-scored.sum(1), kind="stable")[:CANDIDATES]
    _, distinct = np.unique(pairing.examples.inputs[most], axis=0, return_index=True)
    most = most[np.sort(distinct)[:EXAMPLES]]
    from_the_end = scored[:, ::-1].cumsum(1)[:, ::-1]
    late = replace(pairing.examples, scored=scored & (from_the_end <= POSITIONS))
    partners = dict(pairing.partners)
    for source, donors in partners.items():
        if donors.ndim == 2:  # every one of which would be computed in full
            drawn, count = np.unique(donors[most], return_counts=True)
            few = drawn[np.argsort(-count, kind="stable")[:DONORS]]
            partners[source] = np.where(np.isin(donors, few), donors, pairing.itself(source))
    return replace(pairing, examples=late, partners=partners, order=most)


class _Basis:
    """A model in one type, of whose embeddings only the rows of the tokens that the gates look at are there.

    One more row of them is NaN: a pool row of that token alone poisons whatever it feeds. It can't be predicted.
    """

    def __init__(self, model: Model, few: Pairing, dtype: str) -> None:
        self.model, self.dtype, self._type = model, dtype, type_of(dtype)
        rows = {row for partners in few.partners.values() for row in np.unique(partners[few.order])}
        self.ids = np.unique(few.pool[sorted({*rows, *few.order.tolist()})])
        self._converted: dict[str, Tensor] = {}

    def __str__(self) -> str:
        return self.dtype

    def runner(self, plan: Plan, outputs: Graphs, positions: int, values: Held) -> Runner:
        """Make the plan of some outputs ready to run in this type, with components held at values."""
        device = self.model.device
        cast = {leaf: value.to(device, self._type) for leaf, value in values.items()}
        return Runner(plan, self.params(outputs.values()), positions, device, cast, tf32=self.dtype == TF32)

    def params(self, roots: Iterable[Node]) -> Mapping[str, Tensor]:
        """Convert the parameters that some graphs read, once each."""
        names = {str(leaf.arguments["name"]) for leaf in walk(roots) if leaf.op == "param"}
        for name in names - self._converted.keys():
            table = self.model.params[name.removesuffix(FEW_TOKENS_SUFFIX)]
            if name.endswith(FEW_TOKENS_SUFFIX):
                rows = table[torch.from_numpy(self.ids).to(table.device)].to(self._type)
                table = torch.cat([rows, rows.new_full((1, *rows.shape[1:]), torch.nan)])
            self._converted[name] = table.to(self._type)
        return self._converted


class _Look:
    """Outputs of graphs at the scored positions of a few examples, from one plan for any type and whatever is poisoned.

    Without `values`, held components give what they give by themselves.
    """

    def __init__(self, outputs: Graphs, values: Held | None = None, simplified: bool = True) -> None:
        self._values = values
        self._leaves = {leaf: stands_for(leaf) for leaf in held(outputs.values())}
        self._outputs = _by_few_tokens(outputs)
        # every split as written has weights of its own, once each: of 270 heads more than the model has
        self._plan = compile_plan(self._outputs, simplified=simplified, kept=simplified)

    def __call__(self, basis: _Basis, pairing: Pairing, poisoned: HeldSource | None = None) -> dict[Any, Tensor]:
        """Compute them, [position]. What a poisoned source holds is NaN."""
        seen = _seen(pairing, basis.ids)
        values = self._own(basis, seen) if self._values is None else {leaf: self._values[leaf] for leaf in self._leaves}
        values = {
            leaf: torch.full_like(value, torch.nan) if held_by(leaf) == poisoned else value
            for leaf, value in values.items()
        }
        runner = basis.runner(self._plan, self._outputs, pairing.examples.context, values)
        own = self._values is None
        bound, real = bind(runner.leaves, seen, seen.order, runner.place.device, own=own)
        return {name: value[..., 0][real] for name, value in runner(bound).items()}

    def deviation(self, basis: _Basis, pairing: Pairing, same: Mapping[str, str] | None = None) -> float:
        """Measure the largest deviation of any losses from the first, or from those that they are the `same` as.

        Raises GateError above the tolerance, in nats.
        """
        found = self(basis, pairing)
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

    def carrying(self, basis: _Basis, pairing: Pairing, sources: Iterable[Source]) -> dict[Source, Set[Any]]:
        """Find for each source the outputs that are NaN when what it feeds, or holds, is. Look at the first example."""
        first = replace(pairing, order=pairing.order[:1])
        found: dict[Source, Set[Any]] = {}
        drawn = [source for source in sources if isinstance(source, Draw)]
        # products in bfloat16 read a little of the next row, times zero, where a width is odd: NaN would come of it
        at_once = 1 if basis.dtype == "bfloat16" else SOURCES_AT_ONCE
        for start in range(0, len(drawn), at_once):
            here = drawn[start : start + at_once]
            of = {
                name: value.reshape(len(here), -1).isnan().any(1).tolist()
                for name, value in self(basis, _poisoned(first, here)).items()
            }
            found |= {source: {name for name, nan in of.items() if nan[at]} for at, source in enumerate(here)}
        for source in sources:
            if isinstance(source, HeldSource):
                outputs = self(basis, first, source).items()
                found[source] = {name for name, value in outputs if bool(value.isnan().any())}
        return found

    def _own(self, basis: _Basis, seen: Pairing) -> Held:
        """Compute what the components that leaves stand for give by themselves."""
        if not self._leaves:
            return {}
        outputs = _by_few_tokens({str(number): of for number, of in enumerate(self._leaves.values())})
        runner = basis.runner(compile_plan(outputs, selected=False), outputs, seen.examples.context, {})
        values = runner(bind(runner.leaves, seen, seen.order, runner.place.device)[0])
        return {leaf: values[str(number)] for number, leaf in enumerate(self._leaves)}


def _by_few_tokens(outputs: Graphs) -> Graphs:
    """Make graphs embed by the rows of a few tokens; a tied unembedding stays, or NaN would enter every softmax."""

    def build(current: Node) -> Node:
        if current.op != "embed" or current.inputs[0].op != "tokens":
            return current
        tokens, table = current.inputs
        name = f"{table.arguments['name']}{FEW_TOKENS_SUFFIX}"
        return current.with_inputs((tokens, node("param", name=name, shape=table.arguments["shape"])))

    rebuilt = rewrite(
        [graph.value for graph in outputs.values()], build
    )  # without labels, which tell equal values apart
    return {name: rebuilt[graph.value] for name, graph in outputs.items()}


def _seen(pairing: Pairing, ids: np.ndarray) -> Pairing:
    """Renumber a pairing's tokens as rows of a few, and put a row that is NaN behind the pool."""
    numbers = np.searchsorted(ids, np.clip(pairing.pool, ids[0], ids[-1]))
    return replace(pairing, pool=np.concatenate([numbers, np.full_like(numbers[:1], len(ids))]))


def _poisoned(pairing: Pairing, sources: Sequence[Draw]) -> Pairing:
    """Repeat a pairing's one example for each source, whose every sequence there is the row behind the pool."""
    rows = np.repeat(pairing.order, len(sources))
    partners = {source: donors[rows] for source, donors in pairing.partners.items()}
    for at, source in enumerate(sources):
        partners[source][at] = len(pairing.pool)
    return replace(pairing, examples=pairing.examples.some(rows), partners=partners, order=np.arange(len(rows)))


def _check_sources(experiments: Experiments, basis: _Basis, pairing: Pairing, values: Held) -> None:
    """Feed a source with NaN, and see that it comes out where, and only where, the source feeds."""
    partners = pairing.partners
    if Y in partners and (partners[Y] == partners[X]).any():
        raise GateError("a sequence is its own other: what is resampled must come from another")
    fed: dict[str, Set[Source]] = {
        e.name: {*e.draws, *(held_by(leaf) for leaf in held([e.graph]))} for e in experiments
    }
    # the target's logit, since it is NaN where any of its row is, and costs no unembedding
    graphs = {e.name: _target_logit(e.graph) for e in experiments}
    sources = ordered(set[Source]().union(*fed.values()))
    carrying = _Look(graphs, values).carrying(basis, pairing, sources)
    for source in sources:
        for name, feeds in fed.items():
            if (name in carrying[source]) != (source in feeds):
                does, should = ("does not carry", "feeds") if source in feeds else ("carries", "should not feed")
                raise GateError(
                    f"{name} {does} the source '{source}', which {should} it: no number of this run can be trusted"
                )
    probes = {name: _target_logit(graph) for name, graph in _probes(experiments)}
    if probes:
        probed = replace(pairing, partners={**partners, PROBE: partners[X]})
        reached = _Look(probes, values).carrying(basis, probed, [PROBE])[PROBE]
        for name in probes:
            if name not in reached:
                raise GateError(f"{name}: the paths of this rule carry nothing of what feeds them")


def _target_logit(logits: Node) -> Node:
    return node("pick", logits, node("target"))


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

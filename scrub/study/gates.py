"""The gates that every run passes before it prints a number.

1. Every split graph computes the model's own loss.
2. With every source bound to x, every experiment gives the unscrubbed loss.
3. Every rule changes something; one that doesn't is a warning, where somebody wrote it.
4. Resampled paths really carry what they say: where a source's sequences are replaced by one whose embedding
   is not a number, that comes out of exactly the experiments that the source feeds, and out of every single
   rule that has it. No sequence is its own other; a source that often has to draw the reference itself,
   because nothing else agrees with it, is a warning. A value at which components are held is what is not a
   number too, and comes out of exactly the experiments that it is held in.

Where an intervention holds a component at a value, gate 2 holds it at what the component itself gives on x.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scrub.graph.node import Node, node, rewrite
from scrub.paths.rules import OTHER, REFERENCE, Rule, held, resample, sources
from scrub.plan.runner import Runner
from scrub.study.binding import Draw, bind
from scrub.study.experiments import Experiment, losses
from scrub.text.errors import GateError, ScrubError

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.5}  # nats, largest of any position
SEQUENCES, POSITIONS = 2, 16  # that the gates look at: positions late in a sequence have most context
NOTHING = 1e-12  # nats; a change below it is rounding in float64
OWN = 0.01  # fraction of a source's draws that may be the reference itself without a warning
LENGTHENED = " with one token more"  # after the name of an embedding
PROBE = "like _probe"
Held = Mapping[Node, Tensor]  # the values of leaves at which a component is held


@dataclass(frozen=True)
class Gates:
    """What the gates saw: the largest deviations in nats, by name, and warnings."""

    deviations: Mapping[str, float]
    warnings: tuple[str, ...]


def check_gates(
    experiments: Sequence[Experiment],
    model: Node,
    params: Mapping[str, Tensor],
    draw: Draw,
    dtypes: Sequence[torch.dtype],
    values: Held | None = None,
    quiet: bool = False,
) -> Gates:
    """Pass every gate on a few sequences of the draw, or raise GateError. `values` are those of held components.

    If `quiet`, no rule is warned of that changes nothing: in a sweep over sites many do, which its numbers show.
    """
    few = _few(draw)
    deviations: dict[str, float] = {}
    for dtype in dtypes:
        typed = {name: value.to("cpu", dtype) for name, value in params.items()}
        kind = str(dtype).removeprefix("torch.")
        splits = {f"split of {e.name}": e.before for e in experiments}
        own = {"model": model}
        # as written: simplified, a split that nothing tells apart would be the model again, and prove nothing
        deviations[f"split graph and model, {kind}"] = _compare(own | splits, typed, few, TOLERANCE[dtype], False)
        all_x = replace(few, partners={source: _itself(few, source) for source in few.partners})
        graphs = own | {f"{e.name} with every source bound to x": e.graph for e in experiments}
        deviations[f"scrubbed with y = x and unscrubbed, {kind}"] = _compare(graphs, typed, all_x, TOLERANCE[dtype])
    single, double = (
        {name: value.to("cpu", t) for name, value in params.items()} for t in (torch.float32, torch.float64)
    )
    _check_sources(experiments, single, few, values or {})
    # a rule that does nothing is worth knowing where somebody wrote it; random ones have many, and it costs to see
    written = [each for each in experiments if not (quiet or (each.hypothesis and each.hypothesis.null_of))]
    return Gates(deviations, (*idle(written), *ineffective(written, double, few, values), *own_draws(draw)))


def idle(experiments: Iterable[Experiment]) -> list[str]:
    """A warning for every rule without which its experiment would be the same."""
    found = {f"{each.name}: the rule '{rule}'": None for each in experiments for rule in idle_rules(each)}
    return [f"{name} changes nothing: its paths are fed so without it" for name in found]


def idle_rules(experiment: Experiment) -> list[Rule]:
    """The rules without which the experiment's graph would be the same."""
    return [rule for at, rule in enumerate(experiment.rules) if _without(experiment, at) is experiment.graph]


def ineffective(
    experiments: Iterable[Experiment], params: Mapping[str, Tensor], draw: Draw, values: Held | None = None
) -> list[str]:
    """A warning for every rule without which no loss would differ, though other paths are fed."""
    graphs: dict[str, Node] = {}
    changed: dict[str, str] = {}
    for each in experiments:
        graphs[each.name] = each.graph
        for at, rule in enumerate(each.rules):
            without = _without(each, at)
            if without is None or without is each.graph:
                continue
            if values is None or values.keys() >= set(held([without])):  # what it holds then may have no value
                name = f"{each.name}: the rule '{rule}'"
                graphs[name], changed[name] = without, each.name
    found = _run(graphs, params, draw, values)
    silent = [name for name, whole in changed.items() if float((found[name] - found[whole]).abs().max()) < NOTHING]
    return [f"{name} changes no loss: what it feeds carries nothing to the positions looked at" for name in silent]


def _without(experiment: Experiment, at: int) -> Node | None:
    """The experiment without one of its rules; None if the others can't be alone, as with half of a whole pattern."""
    try:
        return resample(experiment.before, (*experiment.rules[:at], *experiment.rules[at + 1 :]))
    except ScrubError:
        return None


def own_draws(draw: Draw) -> list[str]:
    """A warning for every source that often draws the reference itself: what it feeds is then not resampled."""
    found = []
    for source in sorted(draw.partners.keys() - {REFERENCE, OTHER}):
        share = float((draw.partners[source] == _itself(draw, source)).mean())
        if share > OWN:
            found.append(
                f"'{source}' draws the reference itself in {share:.0%} of places, where no other sequence agrees with "
                "it: nothing is resampled there; take more sequences, or a feature with fewer classes"
            )
    return found


def _few(draw: Draw) -> Draw:
    """The draw with only the sequences computed that have most selected positions, and of them the last few."""
    most = np.argsort(-draw.selected.sum(1), kind="stable")[:SEQUENCES]
    from_the_end = draw.selected[:, ::-1].cumsum(1)[:, ::-1]
    return replace(draw, order=most, selected=draw.selected & (from_the_end <= POSITIONS))


def _itself(draw: Draw, source: str) -> np.ndarray:
    itself = np.arange(len(draw.tokens))
    shape = draw.partners[source].shape
    return itself if len(shape) == 1 else np.broadcast_to(itself[:, None], shape)


def _run(
    graphs: Mapping[str, Node],
    params: Mapping[str, Tensor],
    draw: Draw,
    values: Held | None = None,
    poisoned: str | None = None,
    simplified: bool = True,
) -> dict[str, Tensor]:
    """The losses at the selected positions of the draw's sequences, [position].

    The sequences of a poisoned source are replaced by one that is embedded as what is not a number. Without `values`,
    held components give what they give by themselves.
    """
    outputs = {name: losses(graph) for name, graph in graphs.items()}
    if poisoned is not None:
        outputs, params = _lengthened(outputs, params)
        draw = _with_poison(draw, poisoned, min(len(params[name]) for name in params if name.endswith(LENGTHENED)) - 1)
    dtype = next(iter(params.values())).dtype
    typed = _own_values(held(outputs.values()), params, draw) if values is None else _typed(values, dtype)
    running = Runner(outputs, params, draw.selected.shape[1], held=typed, simplified=simplified)
    bound, real = bind(running.leaves, draw, draw.order)
    return {name: value[..., 0][real] for name, value in running(bound).items()}


def _own_values(leaves: Sequence[Node], params: Mapping[str, Tensor], draw: Draw) -> dict[Node, Tensor]:
    """What the components that leaves stand for give by themselves, on the draw's sequences."""
    of = {str(at): leaf.arguments["of"] for at, leaf in enumerate(leaves)}
    outputs = {name: each for name, each in of.items() if isinstance(each, Node)}
    running = Runner(outputs, params, draw.selected.shape[1], selected=False)
    found = running(bind(running.leaves, draw, draw.order)[0])
    return {leaf: found[str(at)] for at, leaf in enumerate(leaves)}


def _typed(values: Held, dtype: torch.dtype) -> dict[Node, Tensor]:
    return {leaf: value.to("cpu", dtype) for leaf, value in values.items()}


def _lengthened(outputs: Mapping[str, Node], params: Mapping[str, Tensor]) -> tuple[dict[str, Node], dict[str, Tensor]]:
    """The graphs with one more token, which is embedded as what is not a number. It can't be predicted."""
    longer = dict(params)

    def build(current: Node) -> Node:
        if current.op != "embed" or current.inputs[0].op != "tokens":
            return current
        tokens, table = current.inputs
        name = str(table.arguments["name"])  # the same table may be the unembedding, which stays as it is
        row = params[name].new_full((1, *params[name].shape[1:]), torch.nan)
        longer[name + LENGTHENED] = torch.cat([params[name], row])
        return current.with_inputs((tokens, node("param", name=name + LENGTHENED, shape=table.arguments["shape"])))

    rebuilt = rewrite(outputs.values(), build)
    return {name: rebuilt[each] for name, each in outputs.items()}, longer


def _with_poison(draw: Draw, source: str, token: int) -> Draw:
    """The draw with one more sequence, all of one token, that stands in for every sequence of a source."""
    poison = np.full_like(draw.tokens[:1], token)
    partners = {**draw.partners, source: np.full_like(draw.partners[source], len(draw.tokens))}
    selected = np.concatenate([draw.selected, np.zeros_like(draw.selected[:1])])
    return replace(draw, tokens=np.concatenate([draw.tokens, poison]), selected=selected, partners=partners)


def _compare(
    graphs: Mapping[str, Node], params: Mapping[str, Tensor], draw: Draw, tolerance: float, simplified: bool = True
) -> float:
    """The largest deviation of any graph's losses from the first's. Raises GateError above the tolerance."""
    found = _run(graphs, params, draw, simplified=simplified)
    (first, wanted), *others = found.items()
    worst = 0.0
    for name, value in others:
        deviation = float((value - wanted).abs().max())
        worst = max(worst, deviation)
        if not deviation <= tolerance:
            raise GateError(
                f"the {name} gives another loss than the {first}: by {deviation:.2e} nats at a position, where "
                f"{tolerance:.0e} is allowed in {wanted.dtype}; no number of this run can be trusted"
            )
    return worst


def _check_sources(experiments: Sequence[Experiment], params: Mapping[str, Tensor], draw: Draw, values: Held) -> None:
    """Feed a source with what is not a number, and see that come out where, and only where, the source feeds."""
    if OTHER in draw.partners and (draw.partners[OTHER] == draw.partners[REFERENCE]).any():
        raise GateError("a sequence is its own other: what is resampled must come from another")
    for source in sorted({s for e in experiments for s in e.sources}):
        found = _run({e.name: e.graph for e in experiments}, params, draw, values, source)
        _check_carried(found, source, {e.name for e in experiments if source in e.sources})
    leaves = {e.name: {str(leaf.arguments["source"]) for leaf in held([e.graph])} for e in experiments}
    for source in sorted(set().union(*leaves.values())):
        poisoned = {
            leaf: torch.full_like(value, torch.nan) if leaf.arguments["source"] == source else value
            for leaf, value in values.items()
        }
        found = _run({e.name: e.graph for e in experiments}, params, draw, poisoned)
        _check_carried(found, source, {name for name, feeds in leaves.items() if source in feeds})
    if not (probed := dict(_probes(experiments))):
        return
    with_probe = replace(draw, partners={**draw.partners, PROBE: draw.partners[OTHER]})
    for name, value in _run(probed, params, with_probe, values, PROBE).items():
        if not value.isnan().any():
            raise GateError(f"{name}: the paths of this rule carry nothing of what feeds them")


def _check_carried(found: Mapping[str, Tensor], source: str, fed: Set[str]) -> None:
    """Raise GateError unless what is not a number came out of exactly the experiments that the source feeds."""
    for name, value in found.items():
        if bool(value.isnan().any()) != (name in fed):
            raise GateError(
                f"{name} {'does not carry' if name in fed else 'carries'} the source '{source}', "
                f"which {'feeds' if name in fed else 'should not feed'} it: no number of this run can be trusted"
            )


def _probes(experiments: Iterable[Experiment]) -> Iterator[tuple[str, Node]]:
    """For every rule that resamples whole sequences: its experiment, with a source of its own in that rule."""
    for each in experiments:
        for at, rule in enumerate(each.rules):
            if rule.source == REFERENCE or rule.holds or rule.source.startswith("rows "):
                continue
            rules = [*each.rules[:at], Rule(rule.pattern, PROBE), *each.rules[at + 1 :]]
            graph = resample(each.before, rules)
            if PROBE in sources(graph):  # else other rules win everywhere, which is a warning
                yield f"{each.name}: {rule}", graph

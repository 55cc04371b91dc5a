"""What the golden files take from inside scrub, all in one place: where the public package has no way to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from scrub.data.examples import Examples
from scrub.measure.heads.mechanism import mechanism
from scrub.measure.heads.single_paths import SinglePaths
from scrub.measure.interventions.intervention import Intervention, ablate_sites, feed
from scrub.measure.weights.composition import composition
from scrub.models.model import Model
from scrub.paths.cut import Cut
from scrub.paths.rules import Rule
from scrub.paths.sites import expanded, read_sites
from scrub.paths.sources import Y
from scrub.plan.plan import Plan, compile_plan
from scrub.study.experiments import UNSCRUBBED, Experiments, build
from scrub.study.metric import LOGIT, LOSS, MEAN_LOGIT
from scrub.study.settings import COMPUTING

__all__ = ["COMPUTING", "Examples", "ablation_plan", "composition", "mechanism", "mechanism_plans", "patching_plan"]


def ablation_plan(
    model: Model,
    what: str = "",
    how: str = "zero",
    positions: str | None = None,
    attend: Mapping[str, str] | None = None,
) -> Plan:
    """The plan of `scrub.ablate(model, ..., what, how=how, positions=positions, attend=attend)`."""
    texts = expanded(what, model.graph) if what else [""]
    forced = ", ".join(f"{heads} by {pattern}" for heads, pattern in (attend or {}).items())
    rest = {"how": how, "attend": attend, "positions": positions}
    found = [ablate_sites(text or forced, model.graph, model.roles, sites=text, **rest) for text in texts]
    return _plan(model, found, logits=True)


def patching_plan(model: Model, sites: str | Sequence[str], every: int | None = None) -> Plan:
    """The plan of `scrub.patch(model, ..., sites)`; each of the first `every` positions by itself, if that is given."""
    found = [Intervention("everything", (), (Rule.parse("** -> y"),))]
    for text in expanded(sites, model.graph):
        for at in [None] if every is None else map(str, range(every)):
            name = text if at is None else f"{text}@{at}"
            found.append(feed(name, read_sites(text, model.graph, model.roles, at), Y))
    return _plan(model, found, logits=False)


def mechanism_plans(model: Model, head: tuple[int, int], masks: Sequence[str], most: int) -> Iterator[tuple[str, Plan]]:
    """A plan of `mechanism` for each slot of a head, and one where all three slots keep a path: `most` hypotheses."""
    found = SinglePaths(model.graph, head, masks=masks)
    paths = {slot: found.paths(slot) for slot in "qkv"}
    tested = [(slot, [{slot: path} for path in some]) for slot, some in paths.items()]
    tested.append(("q k v", [dict(zip("qkv", some, strict=True)) for some in zip(*paths.values(), strict=False)]))
    for name, some in tested:
        kept = (found.keeping(each) for each in some[:most])
        experiments = Experiments(found.unscrubbed, (found.resampled(some[0]), *kept))
        yield name, compile_plan(experiments.outputs([LOSS]))


def _plan(model: Model, interventions: Sequence[Intervention], logits: bool) -> Plan:
    every = tuple(each.experiment(model.graph, model.roles) for each in interventions)
    experiments = Experiments(build(UNSCRUBBED, Cut(model.graph)), every)
    return compile_plan(experiments.outputs([LOSS, LOGIT, MEAN_LOGIT] if logits else [LOSS]))

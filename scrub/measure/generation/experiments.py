"""The interventions under which a model writes, and the positions at which they hold.

What has a value at every position (zero, an array, forced attention) holds at those that are written too. What comes
from other prompts (a patch, a mean, another row) has none behind the prompt: it holds at the positions `0..end`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scrub.data.examples import Examples
from scrub.graph.node import walk
from scrub.measure.generation.asked import check_meant
from scrub.measure.interventions.intervention import Intervention, ablations, feed
from scrub.models.model import Model
from scrub.paths.sites import expanded, read_sites
from scrub.paths.sources import Mean, Y
from scrub.study.experiments import Experiment, Experiments
from scrub.text.errors import ScrubError
from scrub.text.spans import depends, spans

OF_PROMPT = "0..end"  # the positions of a prompt
EVERYWHERE, IN_PROMPT = "every position, those written too", "the prompt's positions only"


def interventions_of(
    model: Model,
    what: str | Sequence[str] | None,
    how: str,
    positions: str | None,
    attend: Mapping[str, str],
    only: bool,
    patch: str | Sequence[str] | None,
    prompts: Examples,
) -> tuple[list[Intervention], tuple[str, ...]]:
    """Make the interventions that are asked for, and say of each kind what is done, and where.

    Raises ScrubError as :func:`scrub.measure.interventions.intervention.ablate_sites` does, and for what means nothing.
    """
    made, said = list[Intervention](), list[str]()
    texts = expanded(what, model.graph) if what is not None else [""] if attend else []
    check_meant(any(texts), bool(texts), how, positions, only, patch is not None)
    within = OF_PROMPT if how in ("mean", "resample") else None
    if texts:
        rules = {"how": how, "attend": attend, "only": only, "positions": positions, "within": within}
        made += ablations(texts, model.graph, model.roles, **rules)  # type: ignore[arg-type]
    if only or any(texts):
        but = ", all but what is named" if only else ""
        said.append(f"ablated: {how}{but}, at {_where(texts, positions, IN_PROMPT if within else EVERYWHERE)}")
    said += [f"{heads} attend by {pattern}, at {EVERYWHERE}" for heads, pattern in attend.items()]
    if patch is not None:
        prompts.swapped()  # which there must be
        places = expanded(patch, model.graph)
        for text in places:
            sites = read_sites(text, model.graph, model.roles, positions or OF_PROMPT)
            made.append(feed(f"patch {text}", sites, Y))
        said.append(f"patched: as on the corrupted prompt, at {_where(places, positions, IN_PROMPT)}")
    return made, tuple(said)


def _where(texts: Sequence[str], positions: str | None, else_at: str) -> str:
    """Say at which positions something holds."""
    own = ["@" in text for text in texts]
    places = [*["the positions that sites name"] * any(own)]
    if not (own and all(own)):
        places.append(f"positions {positions}" if positions else else_at)
    relative = any(own) or (positions is not None and depends(positions))
    counted = " (those with names, and those from the end, are the prompt's)" if relative else ""
    return f"{' or else '.join(places)}{counted}"


def check_positions(experiments: Experiments, examples: Examples) -> None:
    """Raise ScrubError for positions that aren't read, or that another prompt can't give."""
    for each in experiments:
        of_prompt = any(isinstance(rule.source, Mean) or rule.source == Y for rule in each.rules)
        for text in sorted(_positions_of(each)):
            if of_prompt or depends(text):
                examples.at(text)
            elif max(last for _, last in spans(text)) >= examples.context:
                raise ScrubError(
                    f"there are no positions {text}: {examples.context} are read, 0 to {examples.context - 1}, of a "
                    f"prompt of {examples.sizes} tokens and of what is written behind it"
                )


def _positions_of(experiment: Experiment) -> set[str]:
    split = (each for each in walk([experiment.graph]) if each.op == "at_positions")
    return {str(each.arguments["positions"]) for each in split}

"""Charts of what interventions did: of ablations and of patches."""

from __future__ import annotations

from collections.abc import Sequence

from scrub.data.examples import PROMPTS, Examples
from scrub.data.prompts.generate import GIVEN
from scrub.measure.interventions.ablation import EFFECT, Ablation
from scrub.measure.interventions.patching import PROBABILITY, Patching
from scrub.paths.sites import STREAM, heads
from scrub.show.charts.ablation import loss_bars
from scrub.show.charts.chart import Chart
from scrub.show.charts.heatmap import head_map
from scrub.show.charts.patching import recovery_bars, recovery_map
from scrub.study.metric import LOSS

LONGEST = 40  # bars, the largest on top


def ablation_chart(found: Ablation, kind: str = EFFECT) -> Chart:
    """A score of every head if each was ablated, or the loss before and after each ablation, the largest on top."""
    if set(heads(found.model.graph)) <= set(found.names):
        return head_map(found.head_score(kind))
    after = found.effects.interval(found.effects.values[LOSS.name][1:])
    order = sorted(range(len(after)), key=lambda at: -after[at].estimate)[:LONGEST]
    title = f"loss before and after ablation ({found.how}), {_on(found.effects.examples)}"
    return loss_bars([found.names[at] for at in order], [after[at] for at in order], found.before["loss"], title)


def patching_chart(found: Patching, measure: str = PROBABILITY, tokens: Sequence[str] | None = None) -> Chart:
    """Percent recovered as a table where it is one (see :meth:`Patching.grid`), else as bars, the largest on top.

    `tokens` are the texts of the positions, where every position was patched.
    """
    every_position = all(position is not None for _, position in found.sites)
    title = f"{_what(found)}, {found.direction}: {measure} recovered, {_pairs(found.pairs)}"
    if not every_position and [site for site, _ in found.sites] != heads(found.model.graph):
        recovered = found.recovered(measure)
        order = sorted(range(len(recovered)), key=lambda at: -recovered[at].estimate)[:LONGEST]
        return recovery_bars([found.names[at] for at in order], [recovered[at] for at in order], title)
    return recovery_map(found.grid(measure), tokens if every_position else None, title)


def _on(examples: Examples) -> str:
    """How many of what the losses are of."""
    count, kind = len(examples), examples.kind
    return _counted(count, "prompt") if kind == PROMPTS else f"{_counted(count, 'sequence')} of {kind}"


def _what(found: Patching) -> str:
    """What was patched, in a word if it is all of a kind."""
    sites = list(dict.fromkeys(site for site, _ in found.sites))
    every = ", position by position" if found.sites[0][1] is not None else ""
    if sites == heads(found.model.graph):
        return f"heads patched{every}"
    if all(site.startswith(STREAM) for site in sites):
        return f"residual stream patched{every}"
    return f"{sites[0] if len(sites) == 1 else f'{len(sites)} sites'} patched{every}"


def _pairs(pairs: Examples) -> str:
    """How many pairs of what."""
    if pairs.kind == PROMPTS:
        return f"{_counted(len(pairs), 'pair')} of {'prompts' if pairs.name == GIVEN else pairs.name}"
    return _counted(len(pairs), "pair")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"

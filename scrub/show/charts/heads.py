"""The charts of a study of heads: the whole set, from which a page is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from scrub.data.examples import FIRST, QUERY, TARGET, Examples
from scrub.data.prompts.prompts import token_texts
from scrub.data.repeated import NOWHERE
from scrub.measure.heads.attention import attention_patterns
from scrub.measure.heads.score import HeadScore, head_name
from scrub.measure.interventions.ablation import ablate
from scrub.measure.interventions.patching import patch
from scrub.measure.study.heads import ABLATION, ATTENTION, SHORT, HeadStudy
from scrub.measure.weights.composition import composes, composition
from scrub.measure.weights.virtual_weights import layer_readers
from scrub.paths.splits import attention_heads
from scrub.show.charts.agreement import overlap_map, score_scatter
from scrub.show.charts.attention import attention_map
from scrub.show.charts.bars import head_bars, metric_bars
from scrub.show.charts.chart import Chart, Charts, file_name
from scrub.show.charts.composition import composition_graph, link_bars
from scrub.show.charts.heatmap import head_map
from scrub.show.charts.interventions import ablation_chart, patching_chart
from scrub.show.charts.strip import token_strip
from scrub.study.settings import Settings, obeyed
from scrub.text.errors import ScrubError

SHOWN = 4  # attention patterns side by side
PAIRS = 16  # clean and corrupted prompts
_WHOSE = {ATTENTION: "attend to the target most", ABLATION: "matter most when ablated"}


def study_charts(study: HeadStudy, scores: Sequence[HeadScore] = (), settings: Settings | None = None) -> Charts:
    """Draw the whole set for a model, by names for files: metrics and how they agree, attention, ablation, patching,
    composition, and a map and the top of each of `scores`.

    Runs the ablation of layers and of tokens, and the patching, which the study itself doesn't hold. Raises ScrubError
    for two scores whose charts would have one name, and GateError
    if a gate fails.
    """
    asked = obeyed(settings, "study_charts")
    found = _metrics(study)
    for name in (each for each in _WHOSE if each in study.first.scores):
        found[f"patterns-by-{SHORT[name]}"] = _patterns(study, name)
    layers = ablate(study.model, study.many.prompts, "layers", settings=asked)
    found["ablation-layers"] = ablation_chart(layers)
    found["ablation-tokens"] = _tokens(study, asked)
    found |= _patching(study, asked)
    found |= _weights(study)
    for score in scores:
        name = file_name(f"{score.on} {score.name}")
        if name in found:
            raise ScrubError(f"two scores would have charts called {name!r}: give {score.name!r} another name")
        found |= {name: head_map(score), f"{name}-top": head_bars(score, study.first.top)}
    return Charts(found)


def _metrics(study: HeadStudy) -> dict[str, Chart]:
    """Draw each metric of every head, side by side and against each other; beside a single prompt over many too."""
    first, agreement = study.first, study.first.agreement
    found = {"metrics": metric_bars(list(agreement.scores.values()), first.top), "overlap": overlap_map(agreement)}
    for name in study.first.compared:
        found[f"{SHORT[name]}-heads"] = head_map(first.scores[name])
        if study.one:
            found[f"{SHORT[name]}-heads-prompts"] = head_map(study.many.scores[name])
    found |= {f"{file_name(name)}-heads": head_map(first.scores[name]) for name in first.asked}
    for across, up in combinations(study.first.compared, 2):
        found[f"{SHORT[across]}-and-{SHORT[up]}"] = score_scatter(agreement, across, up, first.top)
    return found


def _patterns(study: HeadStudy, name: str) -> Chart:
    """Draw where the heads look that are the largest by a metric, in the one prompt or the first of many."""
    prompts, heads = study.first.prompts, study.first.scores[name].top(SHOWN)
    inputs = prompts.inputs[0, : prompts.ends[0] + 1]
    patterns = attention_patterns(study.model, prompts.tokens[:1, : len(inputs) + 1], heads)
    return attention_map(
        {head: patterns[head][0] for head in heads},
        token_texts(inputs, study.model.tokenizer),
        int(prompts.ends[0]),
        None if (target := int(prompts.positions.get(TARGET, [NOWHERE])[0])) == NOWHERE else target,
        title=f"attention of the heads that {_WHOSE[name]}",
        caption=f"Of {_text(prompts)}; the query and the target are marked.",
    )


def _tokens(study: HeadStudy, settings: Settings) -> Chart:
    """Draw how the head that matters most changes the loss of every token of the prompt."""
    prompts = study.first.prompts
    site = f"a{head_name(study.first.scores[ABLATION].top(1)[0])}"
    tokens = prompts.tokens[:1, : prompts.ends[0] + 2]
    found = ablate(study.model, Examples.of(tokens).later(0), [site], settings=settings)
    return token_strip(
        token_texts(tokens[0], study.model.tokenizer),
        np.concatenate([[np.nan], found.tokens(site)["rise"].to_numpy()]),  # nothing predicts the first token
        title=f"rise of each token's loss without {site}",
        caption=f"Of {_text(prompts)} and the expected token; zero ablation of {site}, in nats.",
    )


def _patching(study: HeadStudy, settings: Settings) -> dict[str, Chart]:
    """Patch clean into corrupted: every head, and the residual stream at every position, or at those with a name."""
    pairs = study.pairs(PAIRS, settings.seed)
    if pairs is None:
        return {}
    names = [str(at) for at in range(pairs.context)]
    for name, at in (("A", FIRST), ("B", TARGET), ("query", QUERY)) if study.layout is not None else ():
        names[int(pairs.positions[at][0])] = name
    heads = patch(study.model, pairs, "heads", settings=settings)
    by_name = study.layout is None and bool(pairs.positions)
    streams = patch(study.model, pairs, "streams", every_position=not by_name, by_name=by_name, settings=settings)
    measure = next(iter(heads.measures))  # nobody asked for others
    drawn = patching_chart(streams, measure, names if study.layout is not None else None)
    left_out = f" {streams.left_out[:1].upper()}{streams.left_out[1:]}." if streams.left_out else ""
    return {
        "patching-heads": patching_chart(heads, measure),
        "patching-streams": replace(drawn, caption=drawn.caption + left_out),
    }


def _text(prompts: Examples) -> str:
    return repr(prompts.texts[0]) if prompts.texts else "the first prompt"


def _weights(study: HeadStudy) -> dict[str, Chart]:
    """Draw which heads can read each other (where that is a fixed matrix), and which layers: in models of several."""
    if len(attention_heads(study.model.graph)) < 2:
        return {}
    readers = link_bars(layer_readers(study.model))
    if composes(study.model):
        return {"composition": composition_graph(composition(study.model)), "readers": readers}
    said = " There is no composition of heads to draw: queries and keys are normed, so that it is no fixed matrix."
    return {"readers": replace(readers, caption=readers.caption + said)}

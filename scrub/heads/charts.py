"""The charts of a study of heads: the whole set, from which a page is made."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from scrub.heads.study import ABLATION, ATTENTION, METRICS, HeadStudy
from scrub.interventions.ablation import Ablation, ablate
from scrub.interventions.patching import Patching, patch
from scrub.measure.attention import attention_patterns
from scrub.measure.composition import composition
from scrub.measure.score import HeadScore
from scrub.measure.virtual_weights import layer_readers
from scrub.prompts.generate import prompt_pairs
from scrub.prompts.texts import token_texts
from scrub.prompts.vocabulary import RANDOM
from scrub.show.charts.ablation import token_strip
from scrub.show.charts.agreement import overlap_map, score_scatter
from scrub.show.charts.album import file_name
from scrub.show.charts.attention import attention_map
from scrub.show.charts.bars import head_bars, metric_bars
from scrub.show.charts.chart import Chart
from scrub.show.charts.composition import composition_graph, link_bars
from scrub.show.charts.heatmap import head_map
from scrub.show.charts.interventions import ablation_chart, patching_chart
from scrub.study.run import Settings

SHOWN = 4  # attention patterns side by side
PAIRS = 16  # clean and corrupted prompts


def study_charts(
    study: HeadStudy, scores: Sequence[HeadScore] = (), settings: Settings | None = None
) -> dict[str, Chart]:
    """The whole set for a model, by names for files: metrics and how they agree, attention, ablation, patching,
    composition, and a map and the top of each of `scores`.

    Runs the ablation of layers and the patching that the study itself doesn't hold. Raises GateError if a gate fails.
    """
    asked = settings or Settings()
    first, agreement = study.first, study.first.agreement
    metrics = [first.scores[name] for name in METRICS]
    found = {"metrics": metric_bars(metrics, first.top), "overlap": overlap_map(agreement)}
    for across, up in combinations(METRICS, 2):
        found[f"{file_name(across)}-and-{file_name(up)}"] = score_scatter(agreement, across, up, first.top)
    for score in metrics:
        found[f"{file_name(score.name)}-heads"] = head_map(score)
        if study.one:
            found[f"{file_name(score.name)}-heads-many"] = head_map(study.many.scores[score.name])
    found |= _attention(study)
    layers = ablate(study.model, study.many.prompts, "layers", how="zero", settings=asked)
    found["ablation-layers"] = ablation_chart(layers)
    found["ablation-tokens"] = _tokens(study, asked)
    found |= _patching(study, asked)
    found |= _weights(study)
    for score in scores:
        name = f"score-{file_name(score.name)}-{file_name(score.on)}"
        found |= {name: head_map(score), f"{name}-top": head_bars(score, first.top)}
    return found


def _attention(study: HeadStudy) -> dict[str, Chart]:
    """Where the heads look that attend to the target most, and those that matter most."""
    prompts, found = study.first.prompts, {}
    texts = token_texts(prompts.tokens[0], study.model.tokenizer)
    for name, said in ((ATTENTION, "attend to the target most"), (ABLATION, "matter most when ablated")):
        heads = study.first.scores[name].top(SHOWN)
        patterns = attention_patterns(study.model, prompts.rows[:1], heads)
        found[f"attention-{file_name(name)}"] = attention_map(
            {head: patterns[head][0] for head in heads},
            texts,
            int(prompts.second[0]),
            int(prompts.target[0]),
            title=f"attention of the heads that {said}",
            caption=f"Of {prompts.texts[0]!r}; the query and the target are marked.",
        )
    return found


def _tokens(study: HeadStudy, settings: Settings) -> Chart:
    """How the head that matters most changes the loss of every token of the prompt."""
    from scrub.interventions.sites import heads
    from scrub.measure.places import Places

    prompts = study.first.prompts
    head = study.first.scores[ABLATION].top(1)[0]
    site = heads(study.model.graph)[study.first.scores[ABLATION].heads.index(head)]
    places = Places.of_text(prompts.rows[:1], first_query=0)
    found: Ablation = ablate(study.model, places, [site], settings=settings)
    rise = found.tokens(site)["rise"].to_numpy()
    texts = token_texts(prompts.rows[0], study.model.tokenizer)
    return token_strip(
        texts,
        np.concatenate([[np.nan], rise]),  # the first token is predicted by nothing
        title=f"rise of each token's loss without {site}",
        caption=f"Of {prompts.texts[0]!r} and the expected token; zero ablation of {site}, in nats.",
    )


def _patching(study: HeadStudy, settings: Settings) -> dict[str, Chart]:
    """Clean into corrupted: every head, and the residual stream at every position."""
    model, prompts = study.model, study.many.prompts
    length, query = int(prompts.second[0] - prompts.first[0]), None
    kind = prompts.kind if model.tokenizer is not None else RANDOM
    pairs = prompt_pairs(model, kind, PAIRS, length, settings.seed, query=query)
    names = [str(at) for at in range(pairs.clean.tokens.shape[1])]
    for name, at in (("A", pairs.clean.first), ("B", pairs.clean.target), ("query", pairs.clean.second)):
        names[int(at[0])] = name
    heads: Patching = patch(model, pairs, "heads", settings=settings)
    streams: Patching = patch(model, pairs, "streams", every_position=True, settings=settings)
    return {"patching-heads": patching_chart(heads), "patching-streams": patching_chart(streams, tokens=names)}


def _weights(study: HeadStudy) -> dict[str, Chart]:
    """Which heads can read each other, and which layers: in models of several layers."""
    links = composition(study.model)
    if not links.links:
        return {}
    return {"composition": composition_graph(links), "readers": link_bars(layer_readers(study.model))}

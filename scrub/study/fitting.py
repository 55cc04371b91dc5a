"""Which hypotheses can run on a model: their paths, and their features, also those that are kept for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from scrub.models.kept import kept_features, spelled
from scrub.models.model import Bare, Model
from scrub.paths.sources import Draw
from scrub.paths.unmatched import Unmatched, matched
from scrub.study.draws import Feature, classes_of
from scrub.study.experiments import Elsewhere, Experiment, Experiments, anchors, check_parts, parts_of
from scrub.study.hypothesis import Hypothesis
from scrub.study.roles import roles_on
from scrub.study.study import Study
from scrub.study.terms import on_model, usual_positions
from scrub.study.token_feature import TokenFeature
from scrub.text.errors import ScrubError
from scrub.text.fields import asks_for


def fitting(
    study: Study,
    hypotheses: Sequence[Hypothesis],
    model: Model,
    parts: Sequence[str] | None = None,
    elsewhere: Elsewhere = MappingProxyType({}),
    positions: int | None = None,
) -> tuple[list[Hypothesis], Experiments, tuple[str, ...]]:
    """Build the anchors and every part of every hypothesis that can run on a model, and say why others can't.

    There are so many `positions`, by default those of the study's context, or all that the model can read.
    What of each matches `elsewhere` (see :func:`matching_elsewhere`) is left out where it matches nothing here.
    Where none can, or the model is the study's own, a hypothesis that can't be built is a mistake. Raises ScrubError
    for one, with the reason of the first.
    """
    made = anchors(study, model.graph, model.roles)
    check_parts(hypotheses, parts)
    found: list[Hypothesis] = []
    scrubbed: list[Experiment] = []
    wrong: list[tuple[Hypothesis, ScrubError]] = []
    for each in hypotheses:
        try:
            each = on_model(each, model, positions or usual_positions(model.n_ctx, study.context))  # noqa: PLW2901
            own = parts_of(study, each, model.graph, model.roles, parts, elsewhere=elsewhere.get(each.name, ()))
            with_features = for_model(each, model, {draw for one in own for draw in one.draws})
        except ScrubError as error:
            if model.name == study.model and not elsewhere:
                raise
            wrong.append((each, error))
        else:
            found.append(with_features)
            scrubbed += [replace(one, hypothesis=with_features) for one in own]
    if wrong and not found:
        raise wrong[0][1]
    notes = tuple(f"{each.name} is left out, as it can't run on {model.name}: {error}" for each, error in wrong)
    return found, replace(made, scrubbed=(*made.scrubbed, *scrubbed)), notes


def matching_elsewhere(
    study: Study, hypotheses: Sequence[Hypothesis], models: Sequence[Bare | None]
) -> list[Elsewhere]:
    """Find for each of several models what of some hypotheses matches on another of them, by the hypotheses' names.

    A model that can't be read is None, and nothing matches there; nor does anything of a hypothesis that has another
    mistake on a model. Its roles are those that the study means there.
    """
    found: list[dict[str, frozenset[Unmatched]]] = [{} for _ in models]
    for each in hypotheses:
        every = each.can_match()
        there = [frozenset() if of is None else _matching(study, each, every, of) for of in models]
        for at, by_name in enumerate(found):
            by_name[each.name] = frozenset[Unmatched]().union(*there[:at], *there[at + 1 :])
    return list(found)


def _matching(study: Study, hypothesis: Hypothesis, every: frozenset[Unmatched], of: Bare) -> frozenset[Unmatched]:
    """Find what of a hypothesis matches in a model, where all of it may match nothing."""
    try:
        bound = on_model(hypothesis, of, usual_positions(of.n_ctx, study.context))
        found = bound.cut(of.graph, roles_on(study, of), [rule.pattern for rule in study.baseline_rules], every)
    except ScrubError:
        return frozenset()
    return matched(every, found.unmatched)


def for_model(hypothesis: Hypothesis, model: Model, draws: Iterable[Draw]) -> Hypothesis:
    """Give a hypothesis the features that are kept for a model, and make sure that it has those that draws need.

    Raises ScrubError for a feature that neither has, or that names no tokens of the model.
    """
    hypothesis = with_kept(hypothesis, model)
    for name in sorted({name for draw in draws for name in draw.features} & set(hypothesis.features)):
        feature = hypothesis.feature(name, model.name, spelled(model))
        if isinstance(feature, TokenFeature):
            feature.check(model.vocab_size)
            classes_of(feature, name, np.zeros((1, 1), dtype=np.int64), model.tokenizer)  # which its tokens must be of
    return hypothesis


def with_kept(hypothesis: Hypothesis, model: Model) -> Hypothesis:
    """Give a hypothesis the features that are kept for a model, where it has none for that itself."""
    lacking = [name for name in hypothesis.features if not hypothesis.has_feature(name, model.name)]
    kept = kept_features(model) if lacking else {}
    short, features = model.name.rpartition("/")[2], dict(hypothesis.features)
    for name in lacking:
        of_models = features[name]
        if name in kept and not callable(of_models):
            feature = TokenFeature(tuple(kept[name].current), tuple(kept[name].previous))
            features[name] = {**of_models, short: feature}
    return replace(hypothesis, features=features) if kept else hypothesis


def features_of(hypotheses: Sequence[Hypothesis], model: Model, sources: Iterable[Draw]) -> dict[str, Feature]:
    """Choose the features that the sources of some experiments agree on, each the one for this model.

    One that has a parameter `model` gets it. Raises ScrubError where two hypotheses mean others by one name.
    """
    wanted = {feature for source in sources for feature in source.features}
    features: dict[str, Feature] = {}
    for hypothesis in hypotheses:
        for name in hypothesis.features:
            if name in wanted:
                feature = hypothesis.feature(name, model.name)
                if features.setdefault(name, feature) != feature:
                    raise ScrubError(f"two hypotheses mean different features by {name!r}: give one another name")
    more: dict[str, Any] = {"model": model}
    return {name: partial(of, **more) if asks_for(of, "model") else of for name, of in features.items()}

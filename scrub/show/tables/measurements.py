"""The tables of measurements: of a study of heads, of interventions, weights and paths, and of prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text
from tokenizers import Tokenizer

from scrub.data.examples import QUERY, TARGET, Examples
from scrub.data.prompts.prompts import (
    answers_called,
    expected_texts,
    position_texts,
    prompts_called,
    resampled,
    token_texts,
)
from scrub.data.repeated import NOWHERE
from scrub.measure.heads.mechanism import Mechanism
from scrub.measure.heads.score import head_name
from scrub.measure.interventions.ablation import DIFFERENTIAL, EFFECT, LOG_EFFECT, SHIFT, Ablation
from scrub.measure.interventions.patching import INTO_CLEAN, Patching
from scrub.measure.predictions import Predictions
from scrub.measure.study.heads import ABLATION, SHORT, HeadStudy, Metrics
from scrub.measure.weights.links import Links
from scrub.show.tables.heads import heads_table
from scrub.text.frames import with_cells
from scrub.text.numbers import PLAIN, Interval
from scrub.text.tables import Column, FrameTable
from scrub.text.tokens import marked, visible
from scrub.text.wording import gates_line, with_unit

SHOWN_TOKENS = 10  # of each experiment, those whose loss changes most
SHOWN_POSITIONS = 24  # columns of a table of percentages
COLUMNS_WITH_ENDS = 8  # of those, at most, where each has its interval too
SHOWN_PROMPTS = 20
CLEAN, CORRUPTED = "P(expected)", "P, corrupted"
_TARGET, _QUERY, _CHANGED = "bold green", "bold cyan", "bold red"


def study_tables(study: HeadStudy, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """List the top heads by each metric, the overlaps and the rank correlations."""
    for name in study.first.compared:
        yield _top(study, name)
    if study.first.asked:
        yield _asked(study)
    yield _looks(study)
    yield _overlaps(study)
    yield _correlations(study)


def shown_study(study: HeadStudy, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what was measured on what, over the tables of it."""
    yield Text(study.heading)
    yield from study_tables(study, console, options)


def _top(study: HeadStudy, name: str) -> FrameTable:
    order = [name, *(other for other in study.first.compared if other != name)]
    heads = study.first.scores[name].top(study.first.top)
    scores = {
        SHORT[metric] if metrics is study.one else f"{SHORT[metric]}\n{_many(metrics)}": metrics.scores[metric]
        for metrics in study.both
        for metric in order
    }
    return heads_table(f"top {len(heads)} by {name}", heads, scores)


def _asked(study: HeadStudy) -> FrameTable:
    """Say what ablating heads does to the metrics that were asked for: first where the first of them is worst."""
    scores = {name: study.first.scores[name] for name in study.first.asked}
    first = next(iter(scores.values()))
    heads = first.top(study.first.top)
    return heads_table(
        f"top {len(heads)} by the {first.name} when ablated", heads, {f"{n}, {s.unit}": s for n, s in scores.items()}
    )


def _looks(study: HeadStudy) -> FrameTable:
    """Say where the heads look that matter most when ablated, and how ablating them shifts all logits alike."""
    heads = study.first.scores[ABLATION].top(study.first.top)
    scores = {f"{name}, %": study.first.scores[name] for name in study.first.looks} | {SHIFT: study.first.scores[SHIFT]}
    return heads_table(
        f"where the {len(heads)} heads with the largest {ABLATION} look, and the uniform shift without them",
        heads,
        scores,
    )


def _many(metrics: Metrics) -> str:
    return f"{len(metrics.prompts)} prompt{'s' if len(metrics.prompts) > 1 else ''}"


def _overlaps(study: HeadStudy) -> FrameTable:
    agreement, many = study.first.agreement, _many(study.many)
    rows = [
        {
            "scores": "all three" if len(overlap.scores) > 2 else _and(overlap.scores),
            "count": overlap.count,
            "chance": overlap.by_chance,
            "many": study.many.agreement.overlap(*overlap.scores).count,
            "which": " ".join(map(head_name, overlap.heads)),
        }
        for overlap in agreement.overlaps
    ]
    columns = [
        Column("scores", f"overlap of the top {len(next(iter(agreement.sets.values())))} heads"),
        Column("count", "this prompt" if study.one else many, 0, lone=True),
        Column("chance", "by chance", 1),
        *([Column("many", many, 0, lone=True)] if study.one else []),
        Column("which"),
    ]
    return FrameTable(pd.DataFrame(rows), columns)


def _correlations(study: HeadStudy) -> FrameTable:
    titles = {"this prompt" if metrics is study.one else _many(metrics): metrics.agreement for metrics in study.both}
    pairs = list(combinations(study.first.compared, 2))
    correlations: dict[str, list[Interval]] = {
        title: [agreement.correlation(*pair) for pair in pairs] for title, agreement in titles.items()
    }
    frame = pd.DataFrame({"scores": map(_and, pairs), **correlations})
    columns = [Column(title, digits=2, sign=True, lone=True) for title in titles]
    return FrameTable(frame, [Column("scores", "rank correlation over all heads"), *columns])


def _and(names: Iterable[str]) -> str:
    return " and ".join(SHORT[name] for name in names)


def ablation_tables(of: Ablation, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what was ablated on what and what the model does without that, over the experiments."""
    before, one = of.before, len(of.effects.examples) == 1
    answers = answers_called(of.effects.examples, of.model.tokenizer)
    yield Text(f"{of.model.called}, ablated: {of.how}; on {of.on}{answers}{of.effects.computed}")
    yield Text(gates_line(of.effects.gates.deviations, None if one else resampled(of.effects.examples, "documents")))
    if of.metrics:
        yield Text(
            "before: " + ", ".join(f"{m.name} {PLAIN.with_interval(of.metric_before(m.name), 3)}" for m in of.metrics)
        )
        yield metrics_table(of)
        return
    loss, probability = (PLAIN.with_interval(before[name], 3) for name in ("loss", "probability"))
    yield Text(f"before: loss {loss} nats, P(target) {probability}")
    yield ablation_table(of)


def ablation_table(ablation: Ablation) -> FrameTable:
    """List the experiments, the largest rise of the loss first."""
    frame = ablation.frame().sort_values(LOG_EFFECT, ascending=False, kind="stable")
    titles = {
        "loss after": "loss after",
        LOG_EFFECT: "rise",
        "probability after": "P(target) after",
        EFFECT: "P before - after",
        SHIFT: "uniform shift",
        DIFFERENTIAL: "differential effect",
    }
    return FrameTable(frame, [Column("ablated"), *(_interval(name, title, 3) for name, title in titles.items())])


def metrics_table(ablation: Ablation) -> FrameTable:
    """List the experiments by the metrics that were asked for: first where the first of them changes most."""
    frame, columns = pd.DataFrame({"ablated": ablation.names}), [Column("ablated")]
    for metric in ablation.metrics:
        name = metric.name
        remains = ablation.remains(name)
        shown = {f"{name} after": ablation.metric_after(name), f"{name} change": ablation.metric_change(name)}
        shown |= {f"{name} remains": remains} if np.isfinite(remains[0].estimate) else {}
        frame = with_cells(frame, shown)
        for title in shown:
            percent = title.endswith("remains")
            columns.append(Column(title, f"{title}, %" if percent else title, 1 if percent else 3, lone=True))
    change = [abs(each.estimate) for each in ablation.metric_change(ablation.metrics[0].name)]
    return FrameTable(frame.iloc[np.argsort(-np.array(change), kind="stable")], columns)


def ablated_tokens(ablation: Ablation) -> FrameTable:
    """List the tokens whose loss changes most in each experiment."""
    found = []
    for name in ablation.names:
        frame = ablation.tokens(name)
        most = frame["rise"].abs().sort_values(ascending=False, kind="stable").index[:SHOWN_TOKENS]
        found.append(frame.loc[most].assign(ablated=name))
    columns = [
        Column("ablated"),
        Column("sequence", digits=0),
        Column("position", digits=0),
        Column("token", cell=lambda row: marked(row["token"])),
        Column("target", cell=lambda row: marked(row["target"])),
        *(Column(name, digits=3) for name in ("loss before", "loss after", "rise")),
    ]
    return FrameTable(pd.concat(found), columns)


def patching_tables(of: Patching, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what was patched between which runs and what these give, over the patches, by position if each has one."""
    pairs = of.pairs
    one = len(pairs) == 1 and pairs.texts
    what = (
        f"{pairs.texts[0]!r} and {pairs.other_texts[0]!r}" if one else f"{len(pairs)} pairs of {prompts_called(pairs)}"
    )
    what += answers_called(pairs, of.model.tokenizer)
    yield Text(f"{of.model.called}, {of.direction}: {what}{of.effects.computed}")
    yield Text(gates_line(of.effects.gates.deviations, None if len(pairs) == 1 else resampled(pairs, "pairs")))
    for name, ends in (("clean", of.clean), ("corrupted", of.corrupted)):
        said = (f"{each} {PLAIN.with_interval(value, 3)}" for each, value in ends.items())
        yield Text(f"{name}: {', '.join(said)}")
    if all(position is not None for _, position in of.sites):
        for measure in of.measures:
            yield patching_grid(of, position_texts(pairs, of.model.tokenizer), measure)
    else:
        yield patching_table(of, of.direction == INTO_CLEAN)


def patching_table(patching: Patching, back: bool) -> FrameTable:
    """List the patches, first what the clean run brings back most, or the corrupted run takes away most."""
    frame = patching.frame().assign(patched=patching.names)
    first, *others = patching.measures
    recovered = f"{first} recovered"
    by = next(iter(others), first) if frame[recovered].isna()[:1].any() else recovered
    columns = [Column("patched")]
    for measure in patching.measures:
        columns += [_interval(measure, measure, 3), _interval(f"{measure} recovered", f"{measure} recovered, %", 1)]
    return FrameTable(frame.sort_values(by, ascending=back, kind="stable"), columns)


def patching_grid(patching: Patching, texts: Sequence[str], measure: str | None = None) -> FrameTable:
    """Put percent recovered of a metric, by default the first, into a table: site by position, whose texts are given,
    or by the name of positions."""
    measure = measure or next(iter(patching.measures))
    few = len(patching.pairs) > 1 and len(patching.grid(measure).columns) <= COLUMNS_WITH_ENDS
    grid = patching.laid_out(patching.recovered(measure)) if few else patching.grid(measure)
    columns = [Column("site", f"{measure} recovered, %")]
    at_each: list[Any] = list(grid.columns[:SHOWN_POSITIONS])
    for position in at_each:
        text = position if isinstance(position, str) else visible(texts[position])
        title = text if text.startswith(str(position)) else f"{position} {text}"
        columns.append(Column(str(position), title, 0, lone=True))
    more = len(grid.columns) - SHOWN_POSITIONS
    left_out = [f"and {more:,} more positions"] if more > 0 else []
    left_out += ["intervals are in --json and frame()"] if len(patching.pairs) > 1 and not few else []
    return FrameTable(grid.reset_index(), columns, caption="; ".join(left_out))


def links_table(links: Links, top: int) -> FrameTable:
    """List the largest scores of what reads what, beside those of random matrices."""
    columns = [
        *(Column(name) for name in ("from", "to", "slot")),
        Column("score", digits=4),
        Column("baseline", "random [95 %]", 4, ends=("low", "high")),
        Column("above", "above random", 4, sign=True),
        Column("draws_below", "draws below", left=False, cell=lambda row: f"{row['draws_below']:.1%}"),
    ]
    return FrameTable(links.frame().head(top), columns)


def mechanism_table(mechanism: Mechanism, top: int) -> FrameTable:
    """List the best paths into each slot of a head."""
    best = mechanism.frame().groupby("slots", sort=False).head(top)
    columns = [
        Column("slots", "slot"),
        Column("path", "path that is real"),
        Column("recovered", "recovered, %", 1, ends=("low", "high")),
        Column("loss", digits=3),
    ]
    return FrameTable(best, columns, by="slots")


def _interval(name: str, title: str, digits: int) -> Column:
    """Make a column with the ends of its interval as frames name them (see interval_columns)."""
    return Column(name, title, digits, ends=(f"{name}, low", f"{name}, high"), lone=True)


def prediction_tables(of: Predictions, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """List the prompts with the probability of what is expected after each, and the means over them."""
    count = f"{len(of.prompts)} {'prompt' if of.prompts.other is None else 'pair'}"
    count += "" if len(of.prompts) == 1 else "s"
    of_data = "" if of.prompts.origin is None else f" of {of.prompts.called} {of.prompts.begin}"
    yield f"{of.model.called}: {count}{of_data}; positions count from 0; P of the expected token"
    probabilities = {CLEAN: of.clean} | ({} if of.corrupted is None else {CORRUPTED: of.corrupted})
    yield prompt_table(of.prompts, of.model.tokenizer, probabilities)
    if len(of.prompts) > 1:
        for name, mean in of.means.items():
            where = "" if of.corrupted is None else f", {name}"
            over = resampled(of.prompts, "prompts")
            yield f"mean P over prompts{where}: {PLAIN.with_ends(mean, 4)} (95 % over {over})"
    if of.gates is not None:
        for where, means in (("", of.metric_means), (", corrupted", of.corrupted_metric_means)):
            for metric in of.measured if means else ():
                mean = means[metric.name]
                value = PLAIN.with_ends(mean, 4) if mean.known else PLAIN.number(mean.estimate, 4)
                yield f"{with_unit(metric.name, metric.unit)}{where}: {value}"
        yield gates_line(of.gates.deviations, resampled(of.prompts, "prompts") if len(of.prompts) > 1 else None)


def prompt_table(
    prompts: Examples,
    tokenizer: Tokenizer | None,
    probabilities: Mapping[str, Float[np.ndarray, " prompt"]] | None = None,
    most: int = SHOWN_PROMPTS,
) -> FrameTable:
    """Make a row for each of the first prompts: its text with what has a name between marks, and positions.

    Of pairs, the corrupted prompt stands on a line of its own below the clean one, what was changed between marks.
    `probabilities` are more columns, a number for every prompt.
    """
    rows, answers = [], expected_texts(prompts, tokenizer)
    for at in range(min(most, len(prompts))):
        positions = {name: int(prompts.positions[name][at]) for name in prompts.positions}
        own = {TARGET: _TARGET, QUERY: _QUERY} if prompts.copied is not None else dict.fromkeys(positions, _QUERY)
        text = _text(prompts, at, tokenizer, {positions[name]: style for name, style in own.items()})
        if prompts.other is not None and prompts.aligned:
            changed = dict.fromkeys(prompts.changed[at].nonzero()[0].tolist(), _CHANGED)
            text = Text("\n").join([text, _text(prompts.swapped(), at, tokenizer, changed)])
        elif prompts.other is not None:
            text = Text("\n").join([text, Text(visible(prompts.other_texts[at]))])
        shown = {title: values[at] for title, values in (probabilities or {}).items()}
        there = {name: None if place == NOWHERE else place for name, place in positions.items()}
        rows.append({"prompt": text, **there, "expected": Text(marked(answers[at]), _TARGET), **shown})
    columns = [
        Column("prompt"),
        *(Column(name, "query" if name == QUERY else name, 0) for name in prompts.positions),
        Column("expected"),
        *(Column(title, digits=4) for title in probabilities or ()),
    ]
    more = len(prompts) - len(rows)
    return FrameTable(pd.DataFrame(rows), columns, caption=f"and {more:,} more" if more else "")


def _text(prompts: Examples, at: int, tokenizer: Tokenizer | None, marks: Mapping[int, str]) -> Text:
    """Write a prompt, its tokens one after another, those at the positions of `marks` between marks in their style."""
    texts = token_texts(prompts.inputs[at, : prompts.ends[at] + 1], tokenizer)
    return Text.assemble(
        *((marked(text), marks[here]) if here in marks else visible(text) for here, text in enumerate(texts))
    )

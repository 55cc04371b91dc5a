"""The tables of what stands in the residual stream: direct attribution, and the logit lens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from scrub.data.examples import PROMPTS, Examples
from scrub.data.prompts.prompts import answers_called, documents_called, prompts_called
from scrub.measure.stream.direct import REST, DirectAttribution
from scrub.measure.stream.lens import LogitLens
from scrub.text.numbers import PLAIN
from scrub.text.tables import Column, FrameTable
from scrub.text.tokens import visible

SHOWN = 24  # components, or positions, in a table


def direct_tables(of: DirectAttribution, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what is attributed, over the components, first what adds or takes most."""
    yield Text(f"{of.model.called}: what each component adds directly to {_called(of)}; {_on(of)}")
    whole = PLAIN.with_interval(of.whole, 3)
    yield Text(f"in all {whole} logits, to which the terms add up to {of.deviation:.0e}{over(of.examples)}")
    frame = of.frame()
    is_rest = frame["component"] == REST
    order = frame["contribution"].abs().sort_values(ascending=False, kind="stable").index
    shown = pd.concat([frame.loc[[at for at in order if not is_rest[at]][:SHOWN]], frame[is_rest]])
    ends = "contribution, low", "contribution, high"
    columns = [
        Column("component"),
        Column("contribution", "logits", 3, sign=True, ends=ends, lone=True),
        Column("percent of all", "% of all", 1),
    ]
    left = len(frame) - len(shown)
    yield FrameTable(shown, columns, caption=f"and {left:,} more components, of smaller size" if left else "")


def lens_tables(of: LogitLens, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
    """Say what the lens looks at, over a table for each metric: the stream in front of each layer, by position."""
    yield Text(f"{of.model.called}: what the residual stream in front of each layer predicts; {_on(of)}")
    yield Text(f"through the final norm and the unembedding{over(of.examples)}")
    titles = dict(zip(of.columns, map(visible, of.labels), strict=True))
    for metric in of.metrics:
        columns = [Column("site", f"{metric.name}, {metric.unit}")]
        columns += [_cell(column, titles[column]) for column in of.columns[:SHOWN]]
        cells = {column: [site[at] for site in of.intervals(metric.name)] for at, column in enumerate(of.columns)}
        yield FrameTable(_frame(of, cells), columns, caption=_more(of))
    if of.top:
        columns = [Column("site", "top token"), *(Column(c, _titled(c, titles[c])) for c in of.columns[:SHOWN])]
        tokens = {column: [visible(site[at]) for site in of.top] for at, column in enumerate(of.columns)}
        yield FrameTable(_frame(of, tokens), columns, caption=_more(of))


def on(examples: Examples) -> str:
    """Say what was measured on, in words."""
    if examples.kind != PROMPTS:
        return f"{examples.called}: {len(examples):,} sequences, {int(examples.scored.sum()):,} scored positions"
    return (
        f"on {examples.texts[0]!r}"
        if len(examples) == 1
        else f"on {len(examples)} prompts of {prompts_called(examples)}"
    )


def _on(of: DirectAttribution | LogitLens) -> str:
    return on(of.examples) + answers_called(of.examples, of.model.tokenizer)


def _called(of: DirectAttribution) -> str:
    called = "the difference of logits, right less wrong" if of.of == "logit_diff" else "the answer's logit"
    return called if of.cap is None else f"{called}, before the cap at {of.cap:g}"


def over(examples: Examples) -> str:
    """Say what intervals are over; nothing of one prompt, which has none."""
    if len(examples) == 1:
        return ""
    return f"; brackets are 95 % intervals over {documents_called(examples)}"


def _cell(column: str, title: str) -> Column:
    return Column(column, _titled(column, title), 2, lone=True)


def _titled(column: str, title: str) -> str:
    return f"{column} {title}" if column.isdecimal() else title


def _frame(of: LogitLens, cells: Mapping[str, Sequence[object]]) -> pd.DataFrame:
    columns = {column: pd.Series(list(values), dtype=object) for column, values in cells.items()}
    return pd.DataFrame({"site": list(of.sites), **columns})


def _more(of: LogitLens) -> str:
    more = len(of.columns) - SHOWN
    return f"and {more:,} more positions" if more > 0 else ""

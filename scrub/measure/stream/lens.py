"""The logit lens: what a model would predict from the residual stream in front of each layer.

The stream goes through the final norm, whose scale is that of the stream itself, and through the unembedding
(nostalgebraist 2020, Interpreting GPT: the logit lens). Of prompts, metrics are of the prompt's own answers at every
position; of text, of the next token at the scored positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from scrub.data.examples import PROMPTS, Examples
from scrub.data.for_model import check_on, examples_of
from scrub.data.prompts.prompts import position_names, token_text, token_texts
from scrub.graph.node import Node, walk
from scrub.measure.asked import asked_metrics
from scrub.measure.heads.reading import Anatomy
from scrub.models.model import Model, Spec, as_model
from scrub.paths.sites import streams
from scrub.study.metric import GivenMetric, Metric
from scrub.study.read import read
from scrub.study.settings import Settings, obeyed
from scrub.study.statistics import Bootstrap
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval

SCORED = "scored"  # the column of text: all of its scored positions
_LOGITS = "logits "  # of which layer, as a plan names them: no metric is called so with a blank behind
Columns = Mapping[str, Bool[np.ndarray, "example position"]]


@dataclass(frozen=True, repr=False)
class LogitLens(TabularResult):
    """Metrics of what is predicted from the residual stream in front of each layer, at some positions.

    `logit_lens(model, pairs).grid("logit_diff")`. `sums` holds for each metric by name an array over `sites`, "stream
    0" to the final one, and over `columns`: names of positions, or of a single prompt their numbers. `top` are the
    tokens that a single prompt's stream predicts first. Intervals are as those of every measurement.
    """

    model: Model
    examples: Examples
    metrics: tuple[Metric, ...]
    sites: Sequence[str]
    columns: Sequence[str]
    sums: Mapping[str, Float[np.ndarray, "site column example"]]
    counts: Int[np.ndarray, " example"]
    top: Sequence[Sequence[str]] = ()
    seed: int = 0

    @property
    def labels(self) -> list[str]:
        """What stands at an axis for the columns: of a single prompt their tokens too, of others their names."""
        if len(self.examples) > 1 or not all(column.isdecimal() for column in self.columns):
            return list(self.columns)
        texts = token_texts(self.examples.inputs[0], self.model.tokenizer)
        return [texts[int(column)] for column in self.columns]

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap(self.counts, self.seed, self.examples.documents)

    def intervals(self, metric: str | None = None) -> list[list[Interval]]:
        """Estimate a metric, by default the first, for each site and column. Raises ScrubError for another metric."""
        name = self.metrics[0].name if metric is None else metric
        if name not in self.sums:
            raise ScrubError(f"{name!r} wasn't measured here: measured are {', '.join(self.sums)}")
        return [[self._bootstrap.interval(each) for each in self._bootstrap.means(site)] for site in self.sums[name]]

    def grid(self, metric: str | None = None) -> pd.DataFrame:
        """Lay a metric out, by default the first: the stream in front of each layer, by position."""
        values = [[each.estimate for each in site] for site in self.intervals(metric)]
        columns = pd.Index(self.columns, name="position")
        return pd.DataFrame(values, index=pd.Index(self.sites, name="site"), columns=columns)

    def frame(self) -> pd.DataFrame:
        """List for each site and position every metric with its interval, and of a single prompt the top token."""
        places = [(site, column) for site in self.sites for column in self.columns]
        frame = pd.DataFrame(places, columns=["site", "position"])
        for metric in self.metrics:
            flat = [each for site in self.intervals(metric.name) for each in site]
            frame = frame.assign(**interval_columns(metric.name, flat))
        return frame.assign(top=[token for site in self.top for token in site]) if self.top else frame


@check_arguments
def logit_lens(
    model: Spec,
    on: Examples | Any,
    metric: GivenMetric = None,
    *,
    positions: str | None = None,
    settings: Settings | None = None,
) -> LogitLens:
    """Measure what the residual stream in front of each layer predicts, through the final norm and unembedding.

    `logit_lens(model, pairs, "logit_diff").grid()`. `positions` are some, with commas between ("S2, end, -2"): by
    default those that have names and the end, or of a single prompt all. `metric` is as for :func:`scrub.patch`; at
    every position it is of the prompt's own answers.
    Raises ScrubError for what doesn't fit.
    """
    asked = obeyed(settings, "logit_lens")
    model = as_model(model, asked.torch_dtype).to(asked.torch_dtype, asked.where)
    examples = examples_of(on)
    check_on(examples, model)
    wanted, columns = asked_metrics(metric, examples), _columns(examples, positions)
    anatomy = Anatomy.of(model.graph)
    lenses = [anatomy.lens(stream) for stream in anatomy.streams]
    outputs = {
        f"{metric.name}:{at}": metric.measure(lens, model.graph) for at, lens in enumerate(lenses) for metric in wanted
    }
    feeds = _feeds(outputs, examples)
    if len(examples) == 1:
        outputs |= {f"{_LOGITS}{at}": lens for at, lens in enumerate(lenses)}
    sums = {metric.name: np.zeros((len(lenses), len(columns), len(examples))) for metric in wanted}
    masks, start = np.stack(list(columns.values())), 0
    top: list[list[str]] = []
    for query, values in read(model, outputs, examples.tokens, np.asarray(masks.any(0)), feeds):
        here = slice(start, start + len(query))
        start += len(query)
        kept = np.take_along_axis(masks[:, here], query.cpu().numpy()[None], axis=2)  # [column, example, row]
        for measured in wanted:
            for at in range(len(lenses)):
                found = values[f"{measured.name}:{at}"][..., 0].double().cpu().numpy()
                sums[measured.name][at, :, here] = np.where(kept, found[None], 0).sum(2)
        if len(examples) == 1:
            best = [values[f"{_LOGITS}{at}"][0].argmax(-1).cpu().numpy() for at in range(len(lenses))]
            rows = kept[:, 0].argmax(1)
            top = [[token_text(int(each[row]), model.tokenizer) for row in rows] for each in best]
    top = top if examples.kind == PROMPTS else []
    about = wanted, streams(model.graph), list(columns), sums, masks[0].sum(1), top, asked.seed
    return LogitLens(model, examples, *about)


def _columns(examples: Examples, positions: str | None) -> Columns:
    """Find where the lens looks, by what a column is called. Raises ScrubError for several positions in one."""
    if positions is not None:
        asked = [each.strip() for each in positions.split(",")]
    elif examples.kind != PROMPTS:
        return {SCORED: examples.scored}
    elif len(examples) == 1:
        asked = [str(at) for at in range(int(examples.ends[0]) + 1)]
    else:
        asked = position_names(examples)
    found = {text: examples.at(text) for text in asked}
    if several := [text for text, mask in found.items() if (mask.sum(1) != 1).any()]:
        raise ScrubError(
            f"the lens looks at one position at a time, and {several[0]!r} are several: name them one by one, as in "
            "S2,end,-2"
        )
    return found


def _feeds(outputs: Mapping[str, Node], examples: Examples) -> dict[Node, np.ndarray]:
    """Say what metrics look at, at every position: of prompts the answers behind the position that is scored last."""
    found: dict[Node, np.ndarray] = {}
    for leaf in walk(outputs.values()):
        if leaf.op in {"choices", "weights"}:
            found[leaf] = examples.choices(str(leaf.arguments["of"]))[leaf.op == "weights"]
        elif leaf.op == "target":
            found[leaf] = examples.following[..., None]
        elif leaf.op == "other_target":
            raise ScrubError("the lens measures what is predicted of answers: take a metric without another target")
    if examples.kind != PROMPTS:
        return found
    last = examples.context - 1 - examples.scored[:, ::-1].argmax(1)
    return {
        leaf: np.broadcast_to(each[np.arange(len(examples)), last][:, None], each.shape) for leaf, each in found.items()
    }

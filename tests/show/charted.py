"""Charts to look at: of numbers whose answers are known, and readers of what a chart drew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text

from scrub.measure.heads.agreement import Agreement
from scrub.measure.heads.score import HeadScore
from scrub.measure.weights.links import Chance, Link, Links, links
from scrub.paths.edges import Edge
from scrub.show.charts.agreement import overlap_map, score_scatter
from scrub.show.charts.attention import attention_map
from scrub.show.charts.bars import head_bars, metric_bars
from scrub.show.charts.chart import Chart
from scrub.show.charts.composition import composition_graph, link_bars
from scrub.show.charts.edges import attribution_chart
from scrub.show.charts.faithfulness import faithfulness_chart
from scrub.show.charts.heatmap import head_map
from scrub.show.charts.interventions import loss_bars, recovery_bars, recovery_map
from scrub.show.charts.strip import token_strip
from scrub.show.scored import EdgeScores
from scrub.text.numbers import MINUS, Interval

SVG = "{http://www.w3.org/2000/svg}"
TOKENS = [" def", " area", "(", "width", ",", " height", "):", "\n        ", " return", " $x_1$", " 漢字"]


def score(
    name: str = "direct effect", unit: str = "nats", layers: int = 2, heads: int = 5, seed: int = 0, sequences: int = 7
) -> HeadScore:
    """A random score; fractions are between 0 and 1."""
    rng = np.random.default_rng(seed)
    means = rng.beta(0.3, 1.5, (layers, heads)) if unit == "fraction" else rng.standard_normal((layers, heads))
    sums = means + rng.normal(0, 0.1, (sequences, layers, heads))
    sums = np.clip(sums, 0, 1) if unit == "fraction" else sums
    return HeadScore(name, unit, "Olsson et al. 2022", "repeated letters", 3 * sums, np.full(sequences, 3), seed)


def agreement(layers: int = 2, heads: int = 5, top: int = 3) -> Agreement:
    """Three scores of the same heads."""
    units = {"attention": "fraction", "direct effect": "nats", "ablation effect": "probability"}
    found = {name: score(name, unit, layers, heads, at) for at, (name, unit) in enumerate(units.items())}
    return Agreement(found, top)


def composed(layers: int = 3, heads: int = 5, seed: int = 0) -> Links:
    """Random composition scores of every two heads, beside those of random matrices."""
    rng = np.random.default_rng(seed)
    chance = Chance(np.sort(rng.normal(0.1, 0.01, 100)))
    pairs = [(a, b) for b in range(layers) for a in range(b)]
    ends = [(f"{a}.{h}", f"{b}.{g}") for a, b in pairs for h in range(heads) for g in range(heads)]
    found = [Link(*end, slot, 0.08 + float(rng.exponential(0.02)), chance) for end in ends for slot in "qkv"]
    return links("small", "composition", "Elhage et al. 2021", found)


def edge_scores(layers: int = 2, heads: int = 5, mlps: bool = True, top: int = 13, seed: int = 0) -> EdgeScores:
    """Random scores, most of them small, of all edges of a model."""
    sent, edges = ["emb"], list[Edge]()
    for layer in range(layers):
        own = [f"a{layer}.{head}" for head in range(heads)]
        edges += [Edge(f"{head}/{slot}", sender) for head in own for slot in "qkv" for sender in sent]
        sent += own
        edges += [Edge(f"m{layer}", sender) for sender in sent if mlps]
        sent += [f"m{layer}"] * mlps
    edges += [Edge("out", sender) for sender in sent]
    scores = np.random.default_rng(seed).standard_normal(len(edges)) ** 3
    return EdgeScores(edges, scores, top, "logits", "EAP of logit_diff")


@dataclass(frozen=True)
class Circuits:
    """Circuits of some sizes, as those who evaluate them give them."""

    shares: list[float]
    asked: list[int]
    connected: list[int]
    values: list[Interval]
    cpr: Interval
    cmd: Interval


def circuits(seed: int = 0) -> Circuits:
    """Random faithfulness of circuits at the ten sizes of MIB."""
    shares = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    asked, values = [int(share * 3251) for share in shares], intervals(10, seed, 0.3, 0.6)
    return Circuits(shares, asked, [count // 2 for count in asked], values, *intervals(2, seed, 0.1, 0.5))


def pattern(length: int, seed: int = 0) -> np.ndarray:
    """A random causal attention pattern, most of it on few keys."""
    rows = np.tril(np.random.default_rng(seed).random((length, length)) ** 6) + 1e-6 * np.tri(length)
    return np.asarray(rows / rows.sum(1, keepdims=True))


def intervals(count: int, seed: int = 0, scale: float = 50.0, around: float = 40.0) -> list[Interval]:
    """Random estimates with intervals."""
    values = around + scale * np.random.default_rng(seed).standard_normal(count)
    return [Interval(value, value - scale / 20, value + scale / 15) for value in values]


def grid(values: np.ndarray) -> pd.DataFrame:
    """A table of patches: a residual stream in each row, a position in each column."""
    rows = pd.Index([f"stream {at}" for at in range(len(values))], name="site")
    return pd.DataFrame(values, index=rows, columns=pd.Index(range(values.shape[1]), name="position"))


@cache
def charts() -> dict[str, Chart]:
    """One of each chart, small."""
    values = 40 * np.random.default_rng(1).standard_normal((3, len(TOKENS)))
    values[1, 4] = np.nan
    changes = np.random.default_rng(2).standard_normal(len(TOKENS))
    names = [f"layer {at}" for at in range(5)]
    return {
        "heads": head_map(score()),
        "fractions": head_map(score(unit="fraction")),
        "bars": head_bars(score(), 4),
        "metrics": metric_bars(list(agreement().scores.values()), 3),
        "attention": attention_map({(0, 1): pattern(11), (1, 4): pattern(11, 1)}, TOKENS, -1, 4),
        "positions": recovery_map(grid(values), TOKENS),
        "recovery": recovery_bars(names, intervals(5)),
        "losses": loss_bars(names, intervals(5, scale=0.2, around=3.1), Interval(3.0, 2.95, 3.02)),
        "tokens": token_strip(TOKENS, changes),
        "overlap": overlap_map(agreement()),
        "scatter": score_scatter(agreement(), "attention", "direct effect", 3),
        "composition": composition_graph(composed(), 12),
        "links": link_bars(composed(), 6),
        "attribution": attribution_chart(edge_scores(3, 4)),
        "faithfulness": faithfulness_chart({"EAP": circuits(), "EAP-IG": circuits(1)}),
    }


@cache
def svg(chart: Chart) -> ElementTree.Element:
    """A chart as an SVG file, parsed."""
    return ElementTree.fromstring(chart.content(".svg"))


def tips(chart: Chart) -> list[str]:
    """The tips of a chart in its SVG, in order."""
    return [each.text or "" for each in svg(chart).iter(f"{SVG}title")]


def texts(chart: Chart) -> list[str]:
    """Everything that is written in a chart's SVG."""
    return ["".join(each.itertext()) for each in svg(chart).iter(f"{SVG}text")]


def said(tip: str) -> float:
    """The first number behind the name in a tip."""
    found = re.search(rf": ([{MINUS}+]?[\d.]+)", tip)
    assert found, tip
    return float(found[1].replace(MINUS, "-"))


def labelled(figure: Figure, label: str, axes: int = 0) -> list[Artist]:
    """The artists of that label, in one of a figure's axes."""
    return [each for each in figure.axes[axes].get_children() if each.get_label() == label]


def written(figure: Figure) -> Iterator[Text]:
    """Every text that is seen."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_text().strip() and text.get_visible():
            yield text

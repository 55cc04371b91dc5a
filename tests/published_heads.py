"""The published study of GPT-2's heads (Induction Head Analysis: Attention vs Causal Importance), and what differs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scrub.measure.heads.score import Head
from scrub.measure.study.heads import ABLATION, ATTENTION, DIRECT, METRICS, HeadStudy

TEXT = """
P(X) = 87.5%

| Head | Attention | Direct | Ablation |
| L5H5 | 96.2% | +0.03 | +0.037 |
| L7H10 | 94.6% | +1.38 | -0.032 |
| L6H9 | 89.5% | +0.83 | -0.045 |
| L5H1 | 88.0% | +0.48 | +0.177 |
| L11H10 | 68.1% | -1.75 | -0.070 |
| L9H9 | 58.0% | +4.23 | -0.036 |
| L5H8 | 47.0% | +0.16 | -0.033 |
| L10H7 | 44.8% | -1.35 | -0.040 |
| L8H1 | 39.1% | +0.36 | +0.017 |
| L7H2 | 39.1% | +0.91 | +0.030 |

| Head | Direct | Attention | Ablation |
| L9H9 | +4.23 | 58.0% | -0.036 |
| L10H10 | +2.54 | 33.8% | +0.097 |
| L7H10 | +1.38 | 94.6% | -0.032 |
| L7H2 | +0.91 | 39.1% | +0.030 |
| L6H9 | +0.83 | 89.5% | -0.045 |
| L5H1 | +0.48 | 88.0% | +0.177 |
| L11H6 | +0.46 | 7.3% | +0.014 |
| L8H1 | +0.36 | 39.1% | +0.017 |
| L11H0 | +0.36 | 31.9% | +0.166 |
| L9H6 | +0.24 | 27.8% | -0.027 |

| Head | Ablation | Attention | Direct |
| L1H3 | +0.461 | 4.5% | +0.09 |
| L0H10 | +0.383 | 3.0% | +0.03 |
| L7H6 | +0.353 | 7.7% | -0.18 |
| L0H9 | +0.222 | 7.4% | +0.11 |
| L2H5 | +0.177 | 2.2% | -0.07 |
| L5H1 | +0.177 | 88.0% | +0.48 |
| L11H0 | +0.166 | 31.9% | +0.36 |
| L1H1 | +0.162 | 6.4% | +0.03 |
| L6H7 | +0.161 | 3.1% | -0.07 |
| L2H8 | +0.154 | 6.5% | +0.08 |

overlaps: 6, 1, 2, 1
"""
COLUMNS = {"Attention": ATTENTION, "Direct": DIRECT, "Ablation": ABLATION}
UNITS = {ATTENTION: 0.001, DIRECT: 0.01, ABLATION: 0.001}  # of the last digit; attention is written in percent
ROUNDED = 0.6  # units: half of one is rounding, the rest that both were computed in float32


@dataclass(frozen=True)
class Published:
    """What such a text says: P(X), the rows of its top tables by metric, and how many heads their tops share."""

    probability: float
    tables: dict[str, dict[Head, dict[str, float]]]
    overlaps: list[int]  # attention and direct, attention and ablation, direct and ablation, all three


def published(text: str = TEXT) -> Published:
    """A text of that form, read."""
    tables: dict[str, dict[Head, dict[str, float]]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if cells[0] == "Head":
            order = [COLUMNS[cell] for cell in cells[1:]]
            tables[order[0]] = {}
        elif named := re.fullmatch(r"L(\d+)H(\d+)", cells[0]):
            numbers = [float(cell.rstrip("%")) / (100 if cell.endswith("%") else 1) for cell in cells[1:]]
            tables[order[0]][int(named[1]), int(named[2])] = dict(zip(order, numbers, strict=True))
    (percent,) = re.findall(r"P\(X\) = ([\d.]+)%", text)
    (overlaps,) = re.findall(r"overlaps: (.*)", text)
    return Published(float(percent) / 100, tables, [int(each) for each in overlaps.split(", ")])


def apart(study: HeadStudy, said: Published) -> list[str]:
    """What a study of one prompt finds otherwise, beyond rounding."""
    assert study.one is not None
    found, scores = [], study.one.scores
    if abs(study.one.probability.estimate - said.probability) > 0.001 * ROUNDED:
        found.append(f"P is {study.one.probability.estimate:.5f}, not {said.probability}")
    for by in METRICS:
        top, wanted = study.one.agreement.sets[by], said.tables[by]
        if set(top) != set(wanted):
            found.append(f"the top by {by} is {top}, not {[*wanted]}")
        for head, numbers in wanted.items():
            for name, number in numbers.items():
                if abs(scores[name].means[head] - number) > UNITS[name] * ROUNDED:
                    found.append(f"{name} of {head} is {scores[name].means[head]:.5f}, not {number}")
    counts = [int(each.count.estimate) for each in study.one.agreement.overlaps]
    return found if counts == said.overlaps else [*found, f"the overlaps are {counts}, not {said.overlaps}"]

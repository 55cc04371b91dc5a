"""What was published of models on the hub, beside the percentages that hypotheses and the roles that pointers hold.

`TEXT` is the published study of GPT-2's heads (Induction Head Analysis: Attention vs Causal Importance).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scrub.measure.heads.score import Head, head_name
from scrub.measure.study.heads import ABLATION, ATTENTION, DIRECT, METRICS, HeadStudy
from scrub.text.numbers import Interval

# Nats a token, of the post on induction heads: with nothing scrubbed, and with the induction heads on another sequence.
INDUCTION_LOSSES = {"unscrubbed": 0.160, "baseline": 0.213}
# Percent: F(circuit) / F(model) of indirect objects (Wang et al. 2022), F being the mean difference of logits where all
# else is held at its mean over prompts of one template with three other names.
IOI_RATIO = 87
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
DIGITS = {ATTENTION: 3, DIRECT: 2, ABLATION: 3}  # that are published; attention is written in percent
ROUNDED = 0.6  # units of the last digit: half of one is rounding, the rest that both were computed in float32


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


@dataclass(frozen=True)
class Beside:
    """A published number of one prompt, that of a study of heads, and its mean `over` the prompts that are drawn.

    `digits` are those behind the point that are published; 0 of what is counted.
    """

    what: str
    published: float
    ours: float
    over: Interval | None
    digits: int

    @property
    def same(self) -> bool:
        """Whether they differ by no more than rounding."""
        return abs(self.ours - self.published) <= ROUNDED * 10**-self.digits


def beside(study: HeadStudy, said: Published) -> list[Beside]:
    """All that is published, once, beside what a study of one prompt finds."""
    assert study.one is not None
    one, many = study.one, study.many
    found = [Beside("P(X)", said.probability, one.probability.estimate, many.probability, 3)]
    for by in METRICS:
        common = len(set(one.agreement.sets[by]) & set(said.tables[by]))
        found.append(Beside(f"heads in the top {len(said.tables[by])} by {by}", len(said.tables[by]), common, None, 0))
    overlaps = zip(said.overlaps, one.agreement.overlaps, many.agreement.overlaps, strict=True)
    for count, here, drawn in overlaps:
        what = f"overlap of the tops by {' and '.join(here.scores)}"
        found.append(Beside(what, count, here.count.estimate, drawn.count, 0))
    every = [
        (metric, head, number)
        for rows in said.tables.values()
        for head, of in rows.items()
        for metric, number in of.items()
    ]
    for metric, head, number in sorted(set(every), key=lambda each: (METRICS.index(each[0]), each[1])):
        ours, over = one.scores[metric].means[head], many.scores[metric].interval(head)
        found.append(Beside(f"{metric} of {head_name(head)}", number, float(ours), over, DIGITS[metric]))
    return found


def apart(study: HeadStudy, said: Published) -> list[str]:
    """What a study of one prompt finds otherwise, beyond rounding."""
    return [f"{each.what} is {each.ours:.5f}, not {each.published}" for each in beside(study, said) if not each.same]

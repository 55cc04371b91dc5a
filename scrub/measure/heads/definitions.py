"""Definitions of the scores of heads: each in one sentence, with its unit and the paper or post that it is from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from scrub.data.examples import PROMPTS, REPEATED, TEXT
from scrub.measure.heads.score import HeadScore
from scrub.text.errors import ScrubError

CLARK = "Clark et al. 2019, What Does BERT Look At?, section 3.1"
OLSSON = "Olsson et al. 2022, In-context Learning and Induction Heads"
MCGRATH = "McGrath et al. 2023, The Hydra Effect: Emergent Self-repair in Language Model Computations"
CONTEXT = "context sensitivity"
STUDY = "the study Induction Head Analysis: Attention vs Causal Importance (GPT-2)"


@dataclass(frozen=True)
class Definition:
    """Definition of a score. `on` are the kinds of sequences that it can be measured on."""

    name: str
    says: str
    unit: str
    source: str
    on: tuple[str, ...] = (PROMPTS, REPEATED, TEXT)

    def score(
        self,
        on: str,
        sums: Float[np.ndarray, "sequence layer head"],
        counts: Int[np.ndarray, " sequence"],
        seed: int = 0,
        documents: Int[np.ndarray, " sequence"] | None = None,
    ) -> HeadScore:
        """Make a score of what was measured by this definition."""
        return HeadScore(self.name, self.unit, self.source, on, sums, counts, seed, documents)


LAG = Definition(
    "lag N",
    "attention from each query to the position N before it, where there is one",
    "fraction",
    f"{CLARK}, at any distance",
)
_THROUGH = (
    "through the final norm (before it the norm behind the layer, where there is one) with the scale of the unchanged "
    "run and the unembedding"
)
DEFINITIONS: Mapping[str, Definition] = {
    each.name: each
    for each in (
        Definition(
            "prefix matching",
            "attention to the positions after the earlier copies of the query's token: from the second A of A B ... A "
            "to B; over the queries whose token stands earlier",
            "fraction",
            OLSSON,
        ),
        Definition(
            "copying",
            f"how much the head's own output, {_THROUGH}, raises the logit of the attended token over the mean of all "
            "other tokens' logits, before a cap on them; the mean over the keys' tokens, weighted by the head's "
            "attention",
            "logits",
            f"{OLSSON}, in logits instead of its ratio; Elhage et al. 2021, A Mathematical Framework for Transformer "
            "Circuits (OV circuits that copy)",
        ),
        Definition("previous token", "attention to the position before the query", "fraction", CLARK),
        Definition("current token", "attention to the query's own position", "fraction", CLARK),
        Definition(
            "same token",
            "attention to all copies of the query's token so far, the query's own position included",
            "fraction",
            "Chan et al. 2022, Causal scrubbing: results on induction heads",
        ),
        LAG,
        Definition(
            "first position",
            "attention to position 0, from later positions",
            "fraction",
            "Vig and Belinkov 2019, Analyzing the Structure of Attention in a Transformer Language Model",
        ),
        Definition(
            "attention to target",
            "attention from the second occurrence of a token to the position behind the first, where the expected "
            "token stands: from a prompt's query, or from the second half of repeated random tokens to that one copy",
            "fraction",
            STUDY,
            (PROMPTS, REPEATED),
        ),
        Definition(
            "direct effect",
            f"the head's own output, {_THROUGH}, dotted with the gradient of log P(target) by the logits, which is "
            "one-hot minus probabilities, each times the slope of a cap on that logit; the target is a prompt's "
            "expected token, or the next token (over text like the training data the mean is near 0 in the last layer: "
            "training leaves nothing to gain by scaling what a head writes)",
            "nats",
            f"{STUDY}; the direct path of Elhage et al. 2021, A Mathematical Framework for Transformer Circuits",
        ),
        Definition(
            "ablation effect",
            "P(target) of the unchanged model less that with the head ablated: above 0 where the head supports the "
            "target",
            "probability",
            STUDY,
        ),
        Definition(
            "ablation effect, log probability",
            "log P(target) of the unchanged model less that with the head ablated, which is how much the loss rises",
            "nats",
            f"{OLSSON} (its ablations are scored by the loss)",
        ),
        Definition(
            "uniform shift",
            "the mean of all tokens' logits with the head ablated, less that of the unchanged model: it changes no "
            "probability",
            "logits",
            STUDY,
        ),
        Definition(
            "differential effect",
            "the change of the target's logit when the head is ablated, less the uniform shift: after less before, so "
            "below 0 where the head supports the target",
            "logits",
            f"{STUDY}; {MCGRATH} (centred logits)",
        ),
        Definition(
            CONTEXT,
            "how much the loss at positions with much context rises when the head, and nothing else, reads a sequence "
            "whose far part is another sequence's, while the near context stays",
            "nats",
            "Variengien 2023, Some common confusion about induction heads, in the comments",
            (TEXT,),
        ),
    )
}
ABLATIONS = ("ablation effect", "ablation effect, log probability", "uniform shift", "differential effect")
NAMED = Definition(
    "attention to NAME",
    "attention from each scored position of prompts, such as the end, to the position that they give this name",
    "fraction",
    f"{CLARK}, at named positions; Wang et al. 2022, Interpretability in the Wild",
    (PROMPTS,),
)
_LAG = re.compile(r"lag (\d{1,9})")
_NAMED = re.compile(r"attention to ([A-Za-z_]\w*)")


def lag_of(name: str) -> int | None:
    """Read the N of `lag N`; None for another score."""
    match = _LAG.fullmatch(name)
    return int(match[1]) if match else None


def place_of(name: str) -> str | None:
    """Read the position's name of `attention to NAME`; None for another score, and for those with a definition."""
    match = None if name in DEFINITIONS else _NAMED.fullmatch(name)
    return match[1] if match else None


def definition(name: str) -> Definition:
    """Look up the definition of a score; `lag 100` is one for every number. Raises ScrubError if there is none."""
    if (lag := lag_of(name)) is not None:
        return replace(LAG, name=f"lag {lag}", says=LAG.says.replace("N", str(lag)))
    if (place := place_of(name)) is not None:
        return replace(NAMED, name=name, says=NAMED.says.replace("this name", f"the name {place}"))
    if name not in DEFINITIONS or name == LAG.name:
        meant = ", as in 'lag 100'" if name.startswith("lag") else f": there are {', '.join(DEFINITIONS)}"
        raise ScrubError(f"there is no score {name!r}{meant}")
    return DEFINITIONS[name]

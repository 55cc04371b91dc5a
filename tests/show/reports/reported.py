"""Studies to report on: results of a run, or invented ones for names and texts that nobody should trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from scrub import Hypothesis, Settings, prepare
from scrub.plan.leaves import constants, leaves_of
from scrub.store.results.stored import Described, Inputs, StudyResults
from scrub.study.binding import bind
from scrub.study.gates import Gates
from scrub.study.result import BIGRAM, Result
from scrub.study.run import Prepared

QUIET = Settings(sequences=23, seed=5, dtype="float64", progress=False)
RULES = """
    splits  a1.ind/k/a0.prev                     by mask "previous"
    q       a1.ind/q/a0.*/**                     -> y
    k       a1.ind/k/**                          -> y
            a1.ind/k/a0.prev[previous]/v/emb     -> x
"""
HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "`` ` ``` | pipes | <b>",
    "two\nlines\n\n# heading\n- item",
    "\u2028next\u2029",
    "\u202eright-to-left\u202c \u05d0\u05d1",
    "\ufffd\ufffd broken",
    "[link](javascript:alert(1)) ![image](http://a.invalid/x.png) <http://a.invalid>",
    "https://a.invalid www.a.invalid a@a.invalid",
    "\x00\x1b[31m\x7f\ud800",
    "&lt;b&gt; &amp; \\| \\` $x$ ~~gone~~ **bold** _it_ {{ 7 * 7 }} {% raw %}",
    "-->]]></style></svg></title></pre></details><script>alert(1)</script>",
    "'\" onmouseover='alert(1)' style=\"x\"",
)


def measured(prepared: Prepared) -> StudyResults:
    """A run's result with its losses token by token, each run anew, one experiment at a time."""
    names = [each.name for each in prepared.experiments]
    losses = {name: np.full(prepared.selected.shape, np.nan) for name in names}
    plan, draw = prepared.plan(), prepared.draw(0)
    leaves = leaves_of(plan)
    with torch.inference_mode():
        once = plan.once(constants(leaves, prepared.model.params, prepared.context))
        for members in draw.batches(7):
            bound, real = bind(leaves, draw, members)
            found = plan.run(once, bound)
            for name in names:
                for row, sequence in enumerate(members):
                    values = found[f"loss:{name}"][row, real[row], 0].double().numpy()
                    losses[name][sequence, prepared.selected[sequence]] = values
    return _stored(prepared, prepared.run(), losses, texts_of(prepared))


def invented(prepared: Prepared, texts: Mapping[int, str] | None = None, seed: int = 0) -> StudyResults:
    """Random numbers for every experiment of a study, between those of the anchors."""
    rng, shape = np.random.default_rng(seed), prepared.selected.shape
    base, worth = rng.exponential(size=shape), rng.exponential(size=shape)
    losses = {"unscrubbed": base, "baseline": base + worth, "all_scrubbed": base + 2 * worth}
    for each in prepared.experiments[3:]:
        losses[each.name] = base + worth * rng.normal(0.5, 0.5, size=shape)
    losses = {name: np.where(prepared.selected, values, np.nan) for name, values in losses.items()}
    sums = {name: np.nansum(values, 1) for name, values in losses.items()}
    spread = {name: np.abs(values) / 2 for name, values in sums.items()}
    result = Result(
        study=prepared.study.name,
        model=prepared.model.name,
        data=prepared.data.name,
        draws=1,
        seed=prepared.settings.seed,
        rows=[(each.hypothesis.name, each.part) for each in prepared.experiments if each.hypothesis],
        loss={**sums, BIGRAM: sums["baseline"] * 1.5},
        change=spread,
        kl=spread,
        positions=prepared.selected.sum(1),
        gates=Gates({"split graph and model, float64": 3e-12}, ()),
    )
    return _stored(prepared, result, losses, texts or texts_of(prepared))


def texts_of(prepared: Prepared) -> dict[int, str]:
    """The text of every token of the vocabulary."""
    tokenizer = prepared.model.tokenizer
    ids = range(prepared.model.vocab_size)
    return {token: tokenizer.decode([token], skip_special_tokens=False) if tokenizer else str(token) for token in ids}


def hypotheses(names: Sequence[str], claim: str = "Nothing.", rules: str = RULES) -> list[Hypothesis]:
    """The same hypothesis under several names."""
    return [Hypothesis(rules, claim=claim, name=name, study="induction") for name in names]


def tricky(texts: Sequence[str]) -> tuple[StudyResults, Prepared]:
    """A study in which every text that a report prints is one of those given."""
    first, *others = texts
    prepared = prepare(hypotheses([first, others[0]], claim="\n\n".join(texts)), settings=QUIET)
    model = replace(prepared.model, name=others[1])
    prepared = replace(prepared, model=model, study=replace(prepared.study, name=others[2]))
    vocabulary = {token: texts[token % len(texts)] for token in range(model.vocab_size)}
    stored = invented(prepared, vocabulary)
    result = replace(
        stored.result,
        data=others[3],
        gates=Gates(dict.fromkeys(texts, 1e-09), tuple(texts)),
    )
    described = {
        name: replace(
            each,
            rules=f"{each.rules}\n# " + "\n# ".join(texts) + str(at),
            parameters={"heads": others[4], "names": others[5]},
            hashes={"all": others[6]},
            published={"all": 50},
        )
        for at, (name, each) in enumerate(stored.hypotheses.items())
    }
    about = {**{f"{at} {text}": text for at, text in enumerate(texts)}, "dtype": "float64"}
    return replace(stored, result=result, hypotheses=described, about=about), prepared


def _stored(
    prepared: Prepared, result: Result, losses: Mapping[str, np.ndarray], texts: Mapping[int, str]
) -> StudyResults:
    described = {
        each.name: Described(
            each.name,
            each.claim,
            each.rules,
            published=dict(each.published),
            paths={part: prepared.show(each.name, part).text() for part in each.parts},
            hashes=dict.fromkeys(each.parts, "0123abcd"),
        )
        for each in prepared.hypotheses
    }
    inputs = Inputs(prepared.data.tokens.numpy(), prepared.selected, texts)
    about = {"model weights": "sha256 0123abcd", "torch": torch.__version__, "dtype": prepared.settings.dtype}
    return StudyResults(result, inputs, described, lambda name: losses[name], ((result.seed, 0),), about)

"""Studies to report on: results of a run, or invented ones for names and texts that nobody should trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from scrub import Hypothesis, Settings, prepare
from scrub.plan.leaves import constants, leaves_of
from scrub.store.results.read import HypothesisRecord, StudyResults
from scrub.study.binding import bind
from scrub.study.gates import Gates
from scrub.study.result import BIGRAM, Result
from scrub.study.run import Trial

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


def measured(trial: Trial) -> StudyResults:
    """A run's result with its losses token by token, each run anew, one experiment at a time."""
    names = [each.name for each in trial.experiments]
    losses = {name: np.full(trial.examples.scored.shape, np.nan) for name in names}
    plan, pairing = trial.plan(), trial.pairing(0)
    leaves = leaves_of(plan)
    with torch.inference_mode():
        once = plan.once(constants(leaves, trial.model.params, trial.examples.context))
        for members in pairing.batches(7):
            bound, real = bind(leaves, pairing, members)
            found = plan.run(once, bound)
            for name in names:
                for row, sequence in enumerate(members):
                    values = found[f"loss:{name}"][row, real[row], 0].double().numpy()
                    losses[name][sequence, trial.examples.scored[sequence]] = values
    return _stored(trial, trial.run(), losses, texts_of(trial))


def invented(trial: Trial, texts: Mapping[int, str] | None = None, seed: int = 0) -> StudyResults:
    """Random numbers for every experiment of a study, between those of the anchors."""
    rng, shape = np.random.default_rng(seed), trial.examples.scored.shape
    base, worth = rng.exponential(size=shape), rng.exponential(size=shape)
    losses = {"unscrubbed": base, "baseline": base + worth, "all_scrubbed": base + 2 * worth}
    for each in trial.experiments.scrubbed[2:]:
        losses[each.name] = base + worth * rng.normal(0.5, 0.5, size=shape)
    losses = {name: np.where(trial.examples.scored, values, np.nan) for name, values in losses.items()}
    sums = {name: np.nansum(values, 1) for name, values in losses.items()}
    spread = {name: np.abs(values) / 2 for name, values in sums.items()}
    result = Result(
        study=trial.study.name,
        model=trial.model.name,
        data=trial.examples.name,
        draws=1,
        seed=trial.settings.seed,
        rows=[(each.hypothesis.name, each.part) for each in trial.experiments if each.hypothesis],
        loss={**sums, BIGRAM: sums["baseline"] * 1.5},
        change=spread,
        kl=spread,
        positions=trial.examples.scored.sum(1),
        gates=Gates({"split graph and model, float64": 3e-12}, ()),
    )
    return _stored(trial, result, losses, texts or texts_of(trial))


def texts_of(trial: Trial) -> dict[int, str]:
    """The text of every token of the vocabulary."""
    tokenizer = trial.model.tokenizer
    ids = range(trial.model.vocab_size)
    return {token: tokenizer.decode([token], skip_special_tokens=False) if tokenizer else str(token) for token in ids}


def hypotheses(names: Sequence[str], claim: str = "Nothing.", rules: str = RULES) -> list[Hypothesis]:
    """The same hypothesis under several names."""
    return [Hypothesis(rules, claim=claim, name=name, study="induction") for name in names]


def tricky(texts: Sequence[str]) -> tuple[StudyResults, Trial]:
    """A study in which every text that a report prints is one of those given."""
    first, *others = texts
    trial = prepare(hypotheses([first, others[0]], claim="\n\n".join(texts)), settings=QUIET)
    model = replace(trial.model, name=others[1])
    trial = replace(trial, model=model, study=replace(trial.study, name=others[2]))
    vocabulary = {token: texts[token % len(texts)] for token in range(model.vocab_size)}
    stored = invented(trial, vocabulary)
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
    return replace(stored, result=result, hypotheses=described, about=about), trial


def _stored(trial: Trial, result: Result, losses: Mapping[str, np.ndarray], texts: Mapping[int, str]) -> StudyResults:
    described = {
        each.name: HypothesisRecord(
            each.name,
            each.claim,
            each.rules,
            published=dict(each.published),
            paths={part: trial.show(each.name, part).text() for part in each.parts},
            hashes=dict.fromkeys(each.parts, "0123abcd"),
        )
        for each in trial.hypotheses
    }
    about = {"model weights": "sha256 0123abcd", "torch": torch.__version__, "dtype": trial.settings.dtype}
    return StudyResults(result, trial.examples, texts, described, lambda name: losses[name], ((result.seed, 0),), about)

"""The gates, and what can't be written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from by_hooks import (
    ALONE,
    CLEAN,
    CONTEXT,
    D_HEAD,
    HEADS,
    LENGTHS,
    PAIRS,
    READ,
    ROWS,
    STEPS,
    UNCHANGED,
    VOCAB,
    written,
)

import scrub
from scrub.data.examples import Examples
from scrub.measure.generation import generation
from scrub.measure.generation.writing import Choice, Writer
from scrub.study import gates
from scrub.study.settings import Settings
from scrub.text.errors import GateError, ScrubError


def test_gates_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written with an experiment before it has passed them, on what is written too."""
    seen = []
    whole_gate = generation.Evaluator.check

    def check(self: Any, pairing: Any) -> Any:
        seen.append(pairing.examples)
        return whole_gate(self, pairing)

    monkeypatch.setattr(generation.Evaluator, "check", check)
    found = written(what="a1")
    assert found.gates.deviations
    assert (seen[0].tokens[0, 7 : 7 + STEPS] == UNCHANGED[0]).all()
    assert seen[0].scored[0, 6:10].all()
    monkeypatch.setitem(gates.TOLERANCE_NATS, "float64", -1.0)
    with pytest.raises(GateError):
        written(what="a1")


@pytest.mark.parametrize("how", [{"what": "a1"}, {"patch": "m0"}, {"attend": {"a0.1": "lag 2"}, "only": True}])
def test_what_is_written_greedily_is_gone_through_in_one_pass(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    """A loop that writes another token than the most probable one fails a gate."""
    found = written(**how)
    assert 0 <= found.gates.deviations[generation.IN_ONE_PASS] < 1e-9
    assert generation.IN_ONE_PASS not in written(temperature=1.0, **how).gates.deviations
    whole_loop = Writer.write

    def lossy(writer: Writer, *rest: Any) -> Any:
        made = whole_loop(writer, *rest)
        if writer.name != "unchanged":
            made[3, STEPS // 2] = (made[3, STEPS // 2] + 1) % VOCAB
        return made

    monkeypatch.setattr(Writer, "write", lossy)
    with pytest.raises(GateError, match=r"wrote token \d+ behind .*, though it is .* nats less probable"):
        written(**how)


HUGE = np.zeros((READ, HEADS * D_HEAD))
HUGE[6] = 1.7e308  # where the first tokens of three rows are chosen: two of it are more than any number
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a prompt that fills the context": ({"on": [[1] * CONTEXT]}, "fill the 41 positions"),
    "too many tokens": ({"tokens": CONTEXT - 5}, "ask for at most 35"),
    "no tokens": ({"tokens": 0}, "tokens is 0"),
    "a temperature of 0": ({"temperature": 0}, "temperature is 0"),
    "no temperature": ({"temperature": float("nan")}, "temperature is nan"),
    "positions beyond": ({"what": "a0@20..25"}, "there are no positions 20..25: 25 are read"),
    "a patch beyond the prompt": ({"patch": "a0@4..8"}, "no positions 4..8 in row 0"),
    "a mean beyond the prompt": ({"what": "a0", "how": "mean", "positions": "6"}, "no positions 6 in row 1"),
    "a name that isn't there": ({"what": "a0@S3"}, "'S3'"),
    "an array of another size": (
        {"what": "m0", "how": "array mine", "arrays": {"mine": np.zeros((7, 15))}},
        "stands where (25, 15) does",
    ),
    "an array that gives no numbers": (
        {"what": "a0+m0", "how": "array mine", "arrays": {"mine": HUGE}},
        "a0+m0 computes no finite numbers behind row 1 of made, at token 0",
    ),
    "nor at a temperature": (
        {"what": "a0+m0", "how": "array mine", "arrays": {"mine": HUGE}, "temperature": 1.0},
        "a0+m0 computes no finite numbers",
    ),
    "nothing to patch from": ({"on": ALONE, "patch": "a0"}, "no others"),
    "others of another length": (
        {"on": replace(PAIRS, other_lengths=LENGTHS + (np.arange(ROWS) == 1)), "patch": "a0"},
        "row 1 of made has 5 tokens and its other 6",
    ),
    "a way where nothing is ablated": ({"patch": "a0", "how": "mean"}, "nothing is ablated"),
    "positions of nothing": ({"attend": {"a0.0": "lag 1"}, "positions": "3"}, "holds at the positions 3"),
    "a corrupted prompt that nothing takes": ({"on": "ab", "corrupted": "ac"}, "patch sites"),
    "a begin token of ids": ({"on": [[1, 2]], "bos": True}, "'bos' has no meaning"),
    "nothing that is kept": ({"only": True}, "name sites"),
    "a span beyond": ({"right": [[1] * 19] * ROWS, "span": "3..19"}, "the span 3..19"),
    "a span of which nothing is known": ({"right": [[1, 2]] * ROWS, "span": "5"}, "none is known"),
    "no width": ({"width": 0}, "width is 0"),
    "too few that are right": ({"right": [[1]]}, "give what is right for each"),
    "a right token that there isn't": ({"right": [[VOCAB]] * ROWS}, "its ids are 0 to 12"),
    "a text without a tokenizer": ({"on": "abc"}, "no tokenizer"),
    "after in prompts": ({"after": 3}, "are prompts"),
    "text without after": ({"on": Examples.of(CLEAN)}, "say after how many tokens"),
    "after all of it": ({"on": CLEAN, "after": 8}, "nothing is left"),
    "an empty row": ({"on": [[1, 2], []]}, "nothing to go on from"),
    "a token that there isn't": ({"on": [[VOCAB]]}, "its ids are 0 to 12"),
    "another setting": ({"settings": Settings(draws=2)}, "doesn't obey"),
    "a mean over one": ({"on": [[1, 2, 3]], "what": "a0", "how": "mean"}, "a mean over one sequence"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name: str) -> None:
    how, said = MISTAKES[name]
    with pytest.raises(ScrubError) as told:
        written(**how)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_the_second_best_token_is_seen_in_any_dtype(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """However far from 0 all logits are: a number that is added to all is no property of what is predicted."""
    prompts = ["x = 1", "K E D T S B K E D"]
    settings = scrub.Settings(dtype=dtype, progress=False)
    assert scrub.generate("gpt2-mini", prompts, 4, "a0", settings=settings).gates.deviations
    second = lambda _, logits, __: np.asarray(logits.topk(2).indices[:, 1].cpu().numpy())  # noqa: E731
    monkeypatch.setattr(Choice, "of", second)
    with pytest.raises(GateError, match="nats less probable"):
        scrub.generate("gpt2-mini", prompts, 4, "a0", settings=settings)

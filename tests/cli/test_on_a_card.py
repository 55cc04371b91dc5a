"""What a card computes, seen without one: commands go through on tensors that mix with none of the CPU.

Its numbers are the CPU's. Batches are filled up to one shape there, captured, and brought back while the next one is
computed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from circuited import make_models, write_pairs
from pretended import MixedError, pretended_card
from project import N_CTX

from scrub import Settings, load_model, prepare
from scrub.measure.heads.mechanism import mechanism
from scrub.measure.search import beside

Scrub = Callable[..., Any]
DRAWN = """
from scrub import Hypothesis

hypothesis = Hypothesis(
    \"\"\"
    draws  A rows like vowel
           B rows like vowel of A
    k  a1.ind/k/a0.prev/v/** -> B
    k  a1.ind/k/a0.prev/{q,k}/** -> rows like vowel
    v  **/a1.ind/v/** -> y
    \"\"\",
    features={"vowel": lambda tokens, positions: tokens % 3},
    study="induction",
)
"""
PAIRS = "--prompts random-tokens --count 7 --length 5"
TEXT = "--data words --sequences 7"
FEW = "--no-rival --no-stop --resamples 0"
COMMANDS = {
    "run": "run induction/refined_3 --sequences 31 --draws 2 --batch 3",
    "controls": "run induction/drawn --sequences 31 --draws 2 --batch 3",
    "kl": "run induction/naive --sequences 31 --model standard --metric kl",
    "compare": "compare naive refined_1 --study induction --results DEVICE --sequences 31 --draws 9 --workers 1",
    "search": f"search induction/naive --size 2 --candidates masks --parts v --metric kl {FEW} --sequences 31",
    "ablate": f"ablate tiny --heads {TEXT} --how mean",
    "padded": "ablate small a1.0 m0 --data pairs.jsonl --how mean",
    "patch": f"patch tiny a1.ind a0.prev {PAIRS} --every-position",
    "attribute": f"attribute --model tiny {PAIRS} --top 3",
    "integrated": f"attribute --model standard {TEXT} --method eap-ig --top 3",
    "circuit": f"circuit scores.json --model small {PAIRS}",
    "heads": "heads tiny --prompt abyab --answer y --prompts random-tokens --how mean",
    "direct": f"direct tiny {PAIRS}",
    "lens": f"lens tiny {PAIRS}",
    "temperature": "generate tiny --prompt abcab --temperature 0.7 --tokens 5",
    "generate": "generate tiny --prompt abcab --ablate a1.2 --tokens 5",
}
OWN = frozenset({"device", "batch", "command", "seconds"})  # of the place, not of what is computed


@pytest.fixture
def drawn(own: Path) -> Path:
    """A project with a hypothesis that draws by features."""
    (own / "hypotheses/induction/drawn.py").write_text(DRAWN)
    return own


def apart(one: Any, other: Any, at: str = "") -> float:
    """How far numbers are apart at the most; whatever else there is has to be the same."""
    if isinstance(one, dict):
        assert one.keys() - OWN == other.keys() - OWN, at
        return float(np.max([0.0, *(apart(one[key], other[key], f"{at}.{key}") for key in one.keys() - OWN)]))
    if isinstance(one, list):
        assert len(one) == len(other), at
        return float(
            np.max([0.0, *(apart(*pair, f"{at}[{i}]") for i, pair in enumerate(zip(one, other, strict=True)))])
        )
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    assert one == (re.sub(r", \d+ at once", "", other) if isinstance(other, str) else other), at
    return 0.0


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", COMMANDS)
def test_numbers_are_those_of_a_cpu(scrub: Scrub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(beside, "RANDOM", 2)  # lists of cells beside what a search finds
    monkeypatch.setattr(beside, "RANDOM_ELSEWHERE", 1)
    if name in {"circuit", "padded"}:
        make_models(Path("models"))
        write_pairs(Path("pairs.jsonl"))
    if name == "circuit":
        assert scrub(f"attribute --model small {PAIRS} --dtype float64 --device cpu --export scores.json").status == 0
    found = []
    for device in ("cpu", "cuda:1"):
        with pytest.MonkeyPatch.context() as patch, pretended_card(patch) as card:
            command = COMMANDS[name].replace("DEVICE", device)
            said = scrub(command, f"--device {device} --dtype float64 --json found.json")
            counts = dict(card.counts)
        assert said.status == 0, said.err
        found.append(json.loads(Path("found.json").read_text()))
        assert (counts.get("operations", 0) > 100) == (device != "cpu")
        only = "cuda:0" if name == "compare" else device  # a worker sees no card but its own
        assert card.used <= {only}, "that card was asked for, and no other"
        assert not [each for each in counts if "of chance" in each], "the bits would be others each time"
    assert apart(*found) < 1e-9


def test_a_model_is_measured_on_the_card_that_it_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, every = np.random.default_rng(0).integers(1, 31, (5, N_CTX + 1)), np.ones((5, N_CTX), dtype=bool)
    with pretended_card(monkeypatch) as card:
        found, wanted = (
            mechanism(load_model("tiny", torch.float64, device), tokens, every, (1, 2), slots="k", depth=1)
            for device in ("cuda:1", "cpu")
        )
        assert card.used == {"cuda:1"}
    assert found.scores[0].loss.estimate == pytest.approx(wanted.scores[0].loss.estimate, abs=1e-9)


@pytest.mark.usefixtures("drawn")
def test_a_batch_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of each leaf there, one of all numbers back while the next batch is computed, and no look at any."""
    with pretended_card(monkeypatch) as card:
        trial = prepare(
            "induction/drawn", settings=Settings(sequences=56, draws=3, device="cuda", batch=1, progress=False)
        )
        evaluator, pairing = trial.evaluator(), trial.pairing(0)
        wanted = evaluator(pairing)
        runner = evaluator._runner(0, pairing)
        leaves = [leaf.op for leaf in runner.leaves if leaf.op not in {"param", "position"}]
        card.counts.clear()
        found = evaluator(pairing)
        batches = -(-56 // trial.settings.at_once(N_CTX))
        assert [tape.played for tape in card.graphs] == [2 * batches - 1]
        assert card.counts.pop("operations") < batches * len(runner.plan.steps) / 2, "it is launched as one"
        copied = len(leaves) + leaves.count("pooled")  # of each of these two indices
        assert copied > len(leaves)
        assert card.counts == {"to card": batches * copied, "from card": batches, "wait": batches}
    assert all((found.sums[key] == wanted.sums[key]).all() for key in wanted.sums)


def test_a_card_mixes_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The double fails where a card would."""
    with pretended_card(monkeypatch) as card:
        there = torch.arange(3.0, device="cuda")
        assert torch.equal((there + torch.tensor(2.0)).cpu(), torch.tensor([2.0, 3.0, 4.0]))
        zero = torch.tensor(0)
        for wrong in (
            lambda: there + torch.ones(3),
            lambda: there @ torch.ones(3, device="cuda:1"),
            lambda: there.index_put_((zero[None],), torch.ones(1)),
            lambda: there.masked_fill(torch.ones(3, dtype=torch.bool), 0),
            lambda: torch.stack([there.sum(), torch.tensor(1.0)]),
            lambda: there.gather(0, zero),
        ):
            with pytest.raises(MixedError):
                wrong()
        with pytest.raises(TypeError):
            there.numpy()
        assert there.sum().item() == 3
        assert there[torch.tensor([0])].device == torch.device("cuda", 0)
        assert (card.counts["look"], card.counts["from card, waiting"], card.counts["index from host"]) == (1, 1, 1)
        assert there[there > 1].tolist() == [2]
        assert card.counts["look"] == 2
        card.counts.clear()
        for host in (torch.ones(3), torch.ones(3).pin_memory()):
            host.to("cuda", non_blocking=True)
            host.copy_(there, non_blocking=True)
        torch.empty(()).copy_(there.sum())
        assert card.counts.pop("operations") == 4
        assert card.counts == {"to card": 1, "to card, waiting": 1, "from card": 1, "from card, waiting": 2}

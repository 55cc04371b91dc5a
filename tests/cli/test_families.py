"""What scrub does, on a random model of every family, in the layout that transformers saves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from project import N_CTX, byte_tokenizer
from torch import Tensor
from twins import FAMILIES, Shape, made, run

Scrub = Callable[..., Any]
SHAPE = Shape(layers=2, heads=4, d_model=28, vocab=31, context=N_CTX)
ROLES = {"prev": [[0, 1]], "self": [[0, 0], [0, 2]], "ind": [[1, 2], [1, 3]]}
SHORT = "--parts k --positions all --sequences 7"
HYPOTHESIS = '''"""A head's keys are the previous-token head's; the same ones are left to the head beside it."""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a1.ind                               by heads 2 3
            **/a1.3/k/a0.prev                       by mask "previous"
    k       **/a1.3/k/**                            -> y
            **/a1.3/k/a0.prev[previous]/v/emb       -> x
            **/a1.2/v/m0                            -> y
    """
)
'''
STUDY = """from scrub import Study

baseline = "**/a1.ind/** -> y"
study = Study(model="theirs", data="words", positions="all", baseline=baseline, hypotheses=("loose", "by_head"))
"""


@pytest.fixture
def folder(own: Path, request: pytest.FixtureRequest) -> Path:
    """A model of a family with its tokenizer and roles, and a hypothesis about it, in a project."""
    theirs = made(request.param, SHAPE)
    theirs.save_pretrained(own / "models/theirs")
    byte_tokenizer().save(str(own / "models/theirs/tokenizer.json"))
    config = own / "models/theirs/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "bos_token_id": 0, "roles": ROLES}))
    (own / "hypotheses/heads").mkdir()
    (own / "hypotheses/heads/by_head.py").write_text(HYPOTHESIS)
    loose = HYPOTHESIS.replace("**/a1.2/v/m0                            -> y", "")
    (own / "hypotheses/heads/loose.py").write_text(loose)
    (own / "hypotheses/heads/study.py").write_text(STUDY)
    return own


COMMANDS = (
    f"run heads/by_head {SHORT} --json run.json",
    f"sweep heads {SHORT} --workers 1 --results r",
    "compare loose by_head --study heads --parts k --stored --results r",
    "show heads/by_head --parts k",
    "roles theirs --data words --sequences 3 --context 5",
    "heads theirs --prompts random-tokens --prompt abyab --answer y --count 2",
    "ablate theirs a1.2 a1.3/k a1.3/k/a0.1 m0 --prompt abxab --answer y --json ablate.json",
    "patch theirs a1.2 a1.3/k a1.3/k/a0.1 m0 --clean abxab --corrupted abyab --answer y --json patch.json",
    "mechanism theirs --head 1.3 --slots k --depth 1 --data words --sequences 7 --json mechanism.json",
)


# what these add to a family that is here (windows, biases, ties, caps) its own tests hold to transformers
LIKE_OTHERS = frozenset({"mistral", "qwen2", "gemma", "olmo", "olmo3", "smollm3"})


@pytest.mark.parametrize(
    "folder", [name for name in FAMILIES if " " not in name and name not in LIKE_OTHERS], indirect=True
)
def test_every_command(folder: Path, scrub: Scrub, read_at_once: Callable[[int], None]) -> None:
    """All of them run, and pass their gates; a head that is ablated or patched is so in transformers too."""
    read_at_once(32)  # which costs as much to find out as all that is computed
    for command in COMMANDS:
        said = scrub(command)
        assert said.status == 0, f"{command}: {said.err}"
    (row,) = found("run")["rows"]
    assert row["mean_abs_change"] > 1e-3
    assert len(found("mechanism")["heads"][0]["rows"]) == 1
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(folder / "models/theirs", attn_implementation="eager")
    clean, corrupted = (byte_tokenizer().encode(text).ids for text in ("abxab", "abyab"))
    head = slice(2 * SHAPE.d_head, 3 * SHAPE.d_head)
    z = run(theirs, torch.tensor([clean])).at["z", 1][..., head]
    ablated, patched = (found(each)["rows"][0] for each in ("ablate", "patch"))
    assert (ablated["ablated"], patched["site"]) == ("a1.2", "a1.2")
    assert ablated["probability before"] == pytest.approx(chance(theirs, clean), rel=1e-4)
    assert ablated["probability after"] == pytest.approx(chance(theirs, clean, head, torch.zeros(1)), rel=1e-4)
    assert patched["prob"] == pytest.approx(chance(theirs, corrupted, head, z), rel=1e-4)


def found(what: str) -> Any:
    """What a command wrote."""
    return json.loads(Path(f"{what}.json").read_text())


def chance(theirs: Any, tokens: list[int], head: slice = slice(0), z: Tensor | float = 0.0) -> float:
    """How likely transformers finds that `y` comes next, where a head of layer 1 has read something else."""

    def change(whole: Tensor) -> Tensor:
        whole[..., head] = z
        return whole

    logits = run(theirs, torch.tensor([tokens]), {("z", 1): change}).logits[0, -1]
    return float(logits.softmax(-1)[byte_tokenizer().encode("y").ids[0]])

"""What scrub does, on a random model of every family, in the layout that transformers saves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import N_CTX, byte_tokenizer
from small import ROLES
from twins import FAMILIES, Shape, made

Scrub = Callable[..., Any]
SHAPE = Shape(layers=2, vocab=31, context=N_CTX)
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

study = Study(model="theirs", data="words", positions="all", baseline="**/a1.ind/** -> y", hypotheses=("loose", "by_head"))
"""


@pytest.fixture
def folder(own: Path, request: pytest.FixtureRequest) -> Path:
    """A model of a family with its tokenizer and roles, and a hypothesis about it, in a project."""
    theirs = made(request.param, SHAPE)
    theirs.save_pretrained(own / "models/theirs")
    byte_tokenizer().save(str(own / "models/theirs/tokenizer.json"))
    config = own / "models/theirs/config.json"
    roles = {name: [list(head) for head in heads] for name, heads in ROLES.items()}
    config.write_text(json.dumps({**json.loads(config.read_text()), "bos_token_id": 0, "roles": roles}))
    (own / "hypotheses/heads").mkdir()
    (own / "hypotheses/heads/by_head.py").write_text(HYPOTHESIS)
    loose = HYPOTHESIS.replace("**/a1.2/v/m0                            -> y", "")
    (own / "hypotheses/heads/loose.py").write_text(loose)
    (own / "hypotheses/heads/study.py").write_text(STUDY)
    return own


COMMANDS = (
    f"run heads/by_head {SHORT} --json run.json",
    f"sweep heads {SHORT} --workers 1 --results r",
    f"compare loose by_head --study heads {SHORT} --results r",
    "show heads/by_head --parts k",
    "roles theirs --data words --sequences 5 --context 7",
    "heads theirs --prompts random-tokens --prompt abyab --answer y --count 2",
    "ablate theirs a1.2 a1.3/k a1.3/k/a0.1 m0 --prompt abxab --answer y --json ablate.json",
    "patch theirs a1.2 a1.3/k a1.3/k/a0.1 m0 --clean abxab --corrupted abyab --answer y --json patch.json",
    "mechanism theirs --head 1.3 --slots k --depth 1 --data words --sequences 7 --json mechanism.json",
)


@pytest.mark.parametrize("folder", [name for name in FAMILIES if " " not in name], indirect=True)
def test_every_command(folder: Path, scrub: Scrub) -> None:
    """All of them run, pass their gates, and find something."""
    for command in COMMANDS:
        t = __import__("time").process_time()
        said = scrub(command)
        print(command[:30], __import__("time").process_time() - t)
        assert said.status == 0, f"{command}: {said.err}"
    (row,) = json.loads(Path("run.json").read_text())["rows"]
    print(row)
    for file in ("ablate", "patch", "mechanism"):
        print(json.loads(Path(f"{file}.json").read_text()))
    assert 0

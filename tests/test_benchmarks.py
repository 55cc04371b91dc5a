"""The benchmarks run on tiny shapes or few sequences, and print what they should. Nothing here is timed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "benchmarks"


def printed(script: str, *options: str) -> str:
    command = [sys.executable, str(FOLDER / script), "--repeats", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_forward_compares_both_kinds_of_attention_and_finds_the_same_logits() -> None:
    text = printed("forward.py", "--shape", "tiny", "--positions", "7")
    assert "sdpa" in text
    assert "eager" in text
    assert float(text.partition("logits at most ")[2].split()[0]) < 1e-4


def test_a_study_of_twenty_experiments_and_three_anchors() -> None:
    text = printed("gpt2_study.py", "--shape", "tiny", "--sequences", "3")
    assert "23 experiments and anchors, 3 sequences" in text
    assert all(row in text for row in ("plain forward", "study", "each alone", "where it goes"))


def test_a_sweep_beside_a_run() -> None:
    text = printed("sweep.py", "--study", "induction/naive", "--sequences", "2")
    assert text.count(" runs\n") == 2


def test_every_head_ablated_and_patched() -> None:
    text = printed("interventions.py", "--model", "attn2l", "--sequences", "2", "--context", "7")
    assert "16 heads, 2 sequences" in text
    assert text.count("ablating every head") == text.count("patching every head") == 2

"""The benchmarks run on tiny shapes or few sequences, and print what they should. Nothing here is timed."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from project import make_project

FOLDER = Path(__file__).parent.parent / "benchmarks"
MEBI = 1 << 20
Program = Callable[..., str]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder's modules can be imported, as where a script there is started, and are gone afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def printed(
    benchmarks: None,  # noqa: ARG001 - to import them
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Program:
    """Runs a script in this process, where memory isn't measured, and gives what it prints."""
    import measuring

    def unmeasured(makes: Sequence[Callable[[], Callable[[], object]]]) -> list[int]:
        for make in makes:
            make()()
        return [MEBI] * len(makes)

    def run(script: str, *options: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, "--repeats", "1", *options])
        status: object = 0
        try:
            runpy.run_path(str(FOLDER / script), run_name="__main__")
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr()
        assert not status, said.err
        return said.out

    monkeypatch.setattr(measuring, "peaks", unmeasured)
    return run


def test_forward_compares_both_kinds_of_attention_and_finds_the_same_logits(printed: Program) -> None:
    text = printed("forward.py", "--shape", "tiny,tiny-gemma2", "--positions", "7")
    assert (text.count("sdpa"), text.count("eager")) == (1, 2)  # which is all that transformers has for capped scores
    apart = [float(each.split()[0]) for each in text.split("logits at most ")[1:]]
    assert len(apart) == 2
    assert max(apart) < 1e-6


def test_a_study_of_twenty_experiments_and_three_anchors(printed: Program) -> None:
    text = printed("gpt2_study.py", "--shape", "tiny", "--sequences", "3")
    assert "23 experiments and anchors, 3 sequences" in text
    assert all(row in text for row in ("plain forward", "study", "each alone", "where it goes"))


@pytest.mark.usefixtures("in_project")
def test_a_study_by_its_name(printed: Program) -> None:
    assert "7 experiments and anchors, 3 sequences" in printed("study.py", "induction/naive", "--sequences", "3")


@pytest.mark.usefixtures("in_project")
def test_a_sweep_beside_a_run(printed: Program) -> None:
    assert printed("sweep.py", "--study", "induction/naive", "--sequences", "2").count(" runs\n") == 2


def test_every_head_ablated_and_patched(printed: Program) -> None:
    text = printed("interventions.py", "--model", "attn2l", "--sequences", "2", "--context", "7")
    assert "16 heads, 2 sequences" in text
    assert text.count("ablating every head") == text.count("patching every head") == 2


def test_every_head_of_a_model_of_some_size(printed: Program) -> None:
    text = printed("size.py", "--shape", "tiny-llama", "--pairs", "3", "--positions", "9")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert [row[:2] for row in rows] == [["0", "4"], ["6", "4"]]


def test_every_head_patched_at_every_position(printed: Program, tmp_path: Path) -> None:
    model = make_project(tmp_path) / "models" / "tiny"
    text = " ".join(printed("patching.py", "--model", str(model), "--pairs", "2", "--length", "2").split())
    assert "40 patches of 2 pairs" in text  # 10 heads at 3 words and a begin token
    assert "with hooks: 42" in text
    assert float(text.partition("the plan's products alone: ")[2].partition(";")[0]) < 42


def test_what_a_card_does_is_asked_of_the_cpu(printed: Program) -> None:
    few = ("--device", "cpu", "--sequences", "2", "--batch", "2", "--shape", "tiny")
    text = printed("card.py", "--only", "gpt2,ablate,xl,agree", *few)
    assert text.count("float32") == text.count("bfloat16") == 3
    assert all(text.count(f"every head of tiny {what}") == 2 for what in ("ablated", "patched"))
    assert "tiny's forward: " in text
    assert text.count(": no number is further than 0.0e+00") == 5


def numbers() -> Callable[[], object]:
    return lambda: np.ones(16 * MEBI, np.uint8).sum()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")
@pytest.mark.usefixtures("benchmarks")
def test_peak_memory_is_measured_in_a_process_of_its_own() -> None:
    from measuring import peaks

    (peak,) = peaks([numbers])
    assert 15 * MEBI < peak < 17 * MEBI  # whole pages, of which a few were there


def test_generation_writes_the_same_tokens(printed: Program) -> None:
    sizes = ["--layers", "2", "--width", "64", "--vocabulary", "31", "--prompt", "5", "--tokens", "3", "--rows", "2"]
    text = printed("generation.py", *sizes)
    assert "the same tokens: yes" in text
    assert "5 experiments, over as many loops: " in text


def test_a_search_beside_other_ways_to_choose(
    printed: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    few = ["induction", "--sequences", "31", "--sizes", "2", "--draws", "1", "--random", "2", "--most", "2"]
    methods = ["--greedy", "2", "--backward", "all", "--kept", "kept.json"]
    text = printed("search.py", *few, *methods)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("it looks again")

    monkeypatch.setattr("scrub.measure.search.steps.Search.grown", fail)
    again = printed("search.py", *few, *methods)
    with pytest.raises(AssertionError, match="looks again"):
        printed("search.py", *few, *methods, "--seed", "1")
    assert "18 cells (heads, mlps; depth 1); 11 examples in the search fold, 10 in the report fold" in text
    tables = [each.partition("recovered, %")[2].partition("\n\n")[0] for each in (text, again)]
    rows, same = ([line.split("|") for line in table.splitlines() if line.startswith("| ")][1:] for table in tables)
    names = ["search", "EAP", "EAP-IG", "screen alone", "all-exact greedy", "backward (all checked)"]
    assert [row[1].strip() for row in rows] == [*names, "random, mean; range"]
    assert rows[4][3].strip() == "36 (36)"  # none, 18 and 17
    assert [row[:5] for row in rows] == [row[:5] for row in same]
    chosen = json.loads(Path("kept.json").read_text())
    assert [len(kept) for each in chosen.values() for _, kept in each["lists"]] == [2] * 6
    assert "| naive | 3 |" in text

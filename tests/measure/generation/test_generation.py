"""What is written, against transformers' `generate` and loops of hooks there that compute everything anew each step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles import Change, Point, double, put
from rich.console import Console
from scipy.stats import chisquare
from small import small_gpt2
from torch import Tensor
from twins import exact, made, made_gpt2

import scrub
from scrub.data.examples import PROMPTS, Examples
from scrub.data.repeated import NOWHERE
from scrub.measure.generation import generation
from scrub.measure.generation.generation import Generation
from scrub.measure.generation.writing import STRETCH, Choice, Writer
from scrub.models.model import load_model, make_model
from scrub.paths.sources import Y
from scrub.show.tables.generation import shown_row
from scrub.study import gates
from scrub.study.draws import pair_up
from scrub.study.settings import Settings
from scrub.text.errors import GateError, ScrubError
from scrub.text.frames import json_text

LAYERS, HEADS, D_HEAD, CONTEXT, VOCAB, STEPS = 2, 3, 5, 41, 13, 19
EXACT = Settings(dtype="float64", device="cpu", progress=False)
OURS = small_gpt2(LAYERS, seed=3, n_heads=HEADS, d_head=D_HEAD, d_model=HEADS * D_HEAD, n_ctx=CONTEXT, vocab_size=VOCAB)
MODEL, THEIRS = make_model("random", OURS.config, OURS.params), double(OURS)
RNG = np.random.default_rng(5)
LENGTHS = np.array([7, 5, 7, 5, 6, 6, 7])
ROWS, S2 = len(LENGTHS), np.array([3, 2, 5, 4, 1, 3, 6])
CLEAN, OTHER = RNG.integers(VOCAB, size=(2, ROWS, LENGTHS.max() + 1))
PAIRS = Examples(
    CLEAN, np.arange(7)[None] == LENGTHS[:, None] - 1, PROMPTS, "made", other=OTHER, lengths=LENGTHS,
    other_lengths=LENGTHS, positions={"S2": S2}, texts=("clean",) * ROWS, other_texts=("corrupted",) * ROWS,
)  # fmt: skip
ALONE = replace(PAIRS, other=None, other_lengths=None, other_texts=())
READ = int(LENGTHS.max()) + STEPS - 1
ARRAYS = {"mine": RNG.normal(size=(READ, HEADS * D_HEAD)), "seen": np.tril(RNG.random((READ, READ)))}
Changes = Mapping[Point, Change]
Made = Callable[[int, int], Changes]  # of a row that has so many tokens by now
assert int(LENGTHS.max()) + STRETCH < READ, "rows grow more than once"


def loop(
    change: Made,
    choose: Callable[[Tensor, int, int], int] = lambda logits, *_: int(logits.argmax()),
    steps: int = STEPS,
) -> Any:
    """Write behind each prompt, with hooks in every pass over all that is there."""
    found = []
    for row in range(ROWS):
        tokens = CLEAN[row, : LENGTHS[row]].tolist()
        for step in range(steps):
            seen = THEIRS.run(torch.tensor([tokens]), change(row, len(tokens)))
            tokens.append(choose(seen.logits[0, -1], row, step))
        found.append(tokens[LENGTHS[row] :])
    return np.array(found)


def zero(where: list[int] | slice = slice(None), at: Callable[[int], range] | None = None) -> Callable[..., Change]:
    """Zeros in some columns, at some positions of a row; everywhere if nothing is said."""

    def change(row: int, length: int) -> Change:
        rows = slice(None) if at is None else [each for each in at(row) if each < length]
        return put(torch.zeros(()).double(), where, rows)

    return change


def of_other(point: Point, where: list[int] | slice, at: Callable[[int], range], other: np.ndarray = OTHER) -> Made:
    """What stands there on the other prompt, at some positions of the prompt."""

    def change(row: int, length: int) -> Changes:
        theirs = THEIRS.run(torch.from_numpy(other[row : row + 1, : LENGTHS[row]])).at[point]
        behind = torch.zeros(1, length - LENGTHS[row], theirs.shape[-1]).double()
        return {point: put(torch.cat([theirs, behind], 1), where, list(at(row)))}

    return change


def whole(row: int) -> range:
    return range(int(LENGTHS[row]))


def mean_of(point: Point, where: list[int] | slice) -> Made:
    """Its mean over all prompts that have that position, at the prompt's positions."""
    every = [THEIRS.run(torch.from_numpy(CLEAN[row : row + 1, : LENGTHS[row]])).at[point][0] for row in range(ROWS)]
    means = torch.stack([torch.stack([e[at] for e in every if len(e) > at]).mean(0) for at in range(LENGTHS.max())])

    def change(row: int, length: int) -> Changes:
        padded = torch.zeros(1, length, means.shape[-1]).double()
        padded[0, : LENGTHS[row]] = means[: LENGTHS[row]]
        return {point: put(padded, where, list(whole(row)))}

    return change


def attending(layer: int, head: int, pattern: Callable[[int], Tensor]) -> Made:
    """One head attends by a pattern; every other head and MLP is zero."""
    own, others = THEIRS.columns(head), [c for h in range(HEADS) if h != head for c in THEIRS.columns(h)]
    values: list[Tensor] = []

    def keep(qkv: Tensor) -> Tensor:
        values[:] = [qkv[..., THEIRS.columns(head, "v")]]
        return qkv

    def forced(z: Tensor) -> Tensor:
        z = put(torch.zeros(()).double(), others)(z)
        z[..., own] = pattern(z.shape[1]) @ values[0]
        return z

    def change(row: int, length: int) -> Changes:
        changes: dict[Point, Change] = {("mlp", each): zero()(row, length) for each in range(LAYERS)}
        changes |= {("z", each): zero()(row, length) for each in range(LAYERS) if each != layer}
        return changes | {("qkv", layer): keep, ("z", layer): forced}

    return change


def lag(back: int) -> Callable[[int], Tensor]:
    """Attention to the position so many back, or the first where there is none."""
    return lambda length: torch.eye(length).double()[(torch.arange(length) - back).clamp(min=0)]


def both(*points: tuple[Point, Callable[..., Change]]) -> Made:
    return lambda row, length: {point: change(row, length) for point, change in points}


def mine(_row: int, length: int) -> Changes:
    return {("mlp", 0): put(torch.from_numpy(ARRAYS["mine"][None, :length]))}


CASES: dict[str, tuple[dict[str, Any], Made]] = {
    "a layer": ({"what": "a1"}, both((("z", 1), zero()))),
    "a head and an MLP": ({"what": "a0.1+m1"}, both((("z", 0), zero(THEIRS.columns(1))), (("mlp", 1), zero()))),
    "positions that are written": ({"what": "a1@6..9"}, both((("z", 1), zero(at=lambda _: range(6, 10))))),
    "names are the prompt's": (
        {"what": "a1", "positions": "S2..end"},
        both((("z", 1), zero(at=lambda row: range(int(S2[row]), int(LENGTHS[row]))))),
    ),
    "all but a head": (
        {"what": "a0.2", "only": True},
        both(
            (("z", 0), zero([*THEIRS.columns(0), *THEIRS.columns(1)])),
            (("z", 1), zero()),
            (("mlp", 0), zero()),
            (("mlp", 1), zero()),
        ),
    ),
    "a lag alone": ({"attend": {"a0.1": "lag 2"}, "only": True}, attending(0, 1, lag(2))),
    "a pattern of mine alone": (
        {"attend": {"a0.1": "array seen"}, "only": True, "arrays": {"seen": ARRAYS["seen"]}},
        attending(0, 1, lambda length: torch.from_numpy(ARRAYS["seen"][:length, :length])),
    ),
    "an array": ({"what": "m0", "how": "array mine", "arrays": {"mine": ARRAYS["mine"]}}, mine),
    "a mean": ({"what": "m0", "how": "mean"}, mean_of(("mlp", 0), slice(None))),
    "resampled": ({"what": "a0", "how": "resample"}, of_other(("z", 0), slice(None), whole)),
    "patched": ({"patch": "m0"}, of_other(("mlp", 0), slice(None), whole)),
    "a head patched at a name": (
        {"patch": "a0.2@S2"},
        of_other(("z", 0), THEIRS.columns(2), lambda row: range(int(S2[row]), int(S2[row]) + 1)),
    ),
    "a stream patched at the end": (
        {"patch": "stream 1@end"},
        of_other(("stream", 1), slice(None), lambda row: whole(row)[-1:]),
    ),
}


def written(on: Any = PAIRS, tokens: int = STEPS, settings: Settings = EXACT, **how: Any) -> Generation:
    return scrub.generate(MODEL, on, tokens, stop=False, settings=settings, **how)


UNCHANGED = loop(lambda *_: {})


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_what_hooks_write(name: str) -> None:
    how, change = CASES[name]
    found = written(**how)
    assert (found.written[0] == UNCHANGED).all()
    wanted = loop(change)
    assert (wanted != UNCHANGED).any(), "nothing would be seen"
    assert (found.written[1] == wanted).all()


def test_others_are_drawn_as_an_ablation_draws_them() -> None:
    seeded = replace(EXACT, seed=3)
    rows = pair_up(ALONE, {Y}, seed=3).partners[Y]
    found = written(ALONE, what="a0", how="resample", settings=seeded)
    assert (found.written[1] == loop(of_other(("z", 0), slice(None), whole, CLEAN[rows]))).all()


def test_only_what_is_named_is_kept_in_the_prompt() -> None:
    """A mean of all others holds in the prompt alone: what is written is computed whole."""
    whole_model = written(ALONE, what="a0.1+a0.0+a0.2+a1+m0+m1", only=True, how="mean")
    assert (whole_model.written[1] == UNCHANGED).all()
    found = written(ALONE, what="a0+a1+m0", only=True, how="mean")
    assert (found.written[1] == loop(mean_of(("mlp", 1), slice(None)))).all()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_greedy_is_what_transformers_generates(kind: str) -> None:
    """Up to the end token, and beyond it."""
    prompts = [[3, 7, 5], [11, 2, 8, 8, 5], [1, 9, 4, 6, 17, 23, 2]]
    with exact():
        theirs = made_gpt2(2, 3, 12, context=CONTEXT) if kind == "gpt2" else made("llama")
        third = int(written_by(theirs, prompts[0], 3)[-1])  # so that one row ends there
        theirs.config.eos_token_id = theirs.generation_config.eos_token_id = [0, third]
        model = load_model(theirs, torch.float64)
        ended = scrub.generate(model, prompts, 11, settings=EXACT)
        on = scrub.generate(model, prompts, 11, stop=False, settings=EXACT)
        for row, prompt in enumerate(prompts):
            assert ended.tokens(0, row) == written_by(theirs, prompt, 11)
            tokens = list(prompt)
            for _ in range(11):
                tokens.append(int(theirs(torch.tensor([tokens])).logits[0, -1].argmax()))
            assert on.tokens(0, row) == tokens[len(prompt) :]
    assert ended.ends == (0, third)
    assert len(ended.tokens(0, 0)) <= 3


@pytest.mark.parametrize("said", [None, [], [2, 999], -1])
def test_only_what_the_config_calls_an_end_token_ends(said: object, tmp_path: Path) -> None:
    """A begin token is none; of an object transformers' generation_config says which, in memory."""
    prompt = [3, 7, 5]
    with exact():
        theirs = made_gpt2(2, 3, 12, context=CONTEXT)
        begin = int(written_by(theirs, prompt, 1)[0])  # which is written at once
        theirs.config.bos_token_id = theirs.generation_config.bos_token_id = begin
        theirs.config.eos_token_id = said
        theirs.save_pretrained(tmp_path)
        theirs.generation_config.eos_token_id = None if said in (-1, []) else said
        for model in (load_model(theirs, torch.float64), load_model(tmp_path, torch.float64)):
            assert model.stop_token_ids == ((2,) if said == [2, 999] else ())
            found = scrub.generate(model, [prompt], 9, settings=EXACT)
            assert found.tokens(0, 0) == written_by(theirs, prompt, 9)
        theirs.generation_config.eos_token_id = int(found.written[0, 0, 2])
        ended = scrub.generate(load_model(theirs, torch.float64), [prompt], 9, settings=EXACT)
        assert ended.tokens(0, 0) == written_by(theirs, prompt, 9)
        assert ended.ends == (theirs.generation_config.eos_token_id,)


def written_by(theirs: Any, prompt: list[int], count: int) -> list[int]:
    """What transformers generates."""
    found = theirs.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False, pad_token_id=0)
    return [int(token) for token in found[0, len(prompt) :]]


def test_draws_have_the_chances_of_the_model() -> None:
    """Of very many rows of one prompt, at a temperature, against transformers' logits."""
    prompt, count, heat = [3, 7, 5, 1], 3000, 1.7
    found = scrub.generate(MODEL, [prompt] * count, 1, temperature=heat, stop=False, settings=EXACT)
    logits = THEIRS.run(torch.tensor([prompt])).logits[0, -1].numpy()
    chances = np.exp((logits - logits.max()) / heat)
    wanted = count * chances / chances.sum()
    seen = np.bincount(found.written[0, :, 0], minlength=VOCAB)
    often = wanted > 5
    assert often.sum() > 3
    pooled = [np.append(each[often], each[~often].sum()) for each in (seen, wanted)]
    assert chisquare(*pooled).pvalue > 1e-3


def test_a_draw_looks_a_number_up() -> None:
    logits = torch.from_numpy(RNG.normal(size=(1, VOCAB)) * 3)
    lots = (np.arange(5000) + 0.5) / 5000
    found = Choice(0.6).of(logits.expand(5000, -1), lots)
    assert (np.diff(found) >= 0).all()
    assert np.allclose(np.bincount(found, minlength=VOCAB) / 5000, (logits[0] / 0.6).softmax(-1), atol=2 / 5000)
    logits[0, 4] += 50
    cold = Choice(1e-300).of(logits.expand(3, -1), np.array([0.0, 0.5, 1 - 1e-16]))
    assert (cold == 4).all(), "a token of no chance"


def test_a_draw_depends_on_the_seed_the_row_and_the_step() -> None:
    """And not on the experiment, on how many there are, or on how many are computed together."""
    choice = Choice(1.3, 7)
    lots = choice.lots(ROWS, STEPS)
    assert len(np.unique(lots)) == lots.size
    assert (lots[:3, :5] == choice.lots(3, 5)).all()
    assert (lots != Choice(1.3, 8).lots(ROWS, STEPS)).all()
    seeded = replace(EXACT, seed=7)
    found = written(temperature=1.3, what="a1", settings=seeded)
    for at, change in enumerate((lambda *_: {}, CASES["a layer"][1])):

        def choose(logits: Tensor, row: int, step: int) -> int:
            chances = (logits / 1.3).softmax(-1).cumsum(-1)
            return int((chances <= lots[row, step] * chances[-1]).sum())

        assert (found.written[at] == loop(change, choose)).all()
    assert (written(temperature=1.3, what="a1", settings=replace(seeded, batch=1)).written == found.written).all()


def test_what_is_right_is_counted() -> None:
    """By hand: rows that are right throughout, tokens, what stands there instead, and a span."""
    right = [row.tolist() for row in UNCHANGED[:, :6]]
    right[0][2] = (right[0][2] + 1) % VOCAB
    right[3] = right[3][:2]
    found = written(tokens=6, what="a1", right=right)
    assert found.exact[0].tolist() == [False] + [True] * (ROWS - 1)
    assert found.exact_match()[0].estimate == pytest.approx(100 * (ROWS - 1) / ROWS)
    compared = 6 * ROWS - 4
    assert found.right_tokens()[0].estimate == pytest.approx(100 * (compared - 1) / compared)
    assert found.first_wrong(0, 0) == 2
    assert found.commonest(0) == (int(UNCHANGED[0, 2]), 1, 1)
    frame, rows = found.frame(), found.rows()
    assert frame["right rows"].tolist() == [ROWS - 1, int(found.exact[1].sum())]
    assert rows["first wrong"][0] == 2
    assert rows["wrote"][0] == str(UNCHANGED[0, 2])
    assert rows["instead of"][0] == str(right[0][2])
    assert rows["right tokens"][ROWS + 3] == right[3]
    assert written(tokens=6, right=right, span="0..1,3..5").exact[0].all()
    assert not written(tokens=6, right=right, span="2").exact[0, 0]


def test_a_row_of_which_nothing_is_compared_counts_for_nothing() -> None:
    right = [row.tolist() for row in UNCHANGED[:, :6]]
    right[2] = right[2][:3]
    found = written(tokens=6, what="a1", right=right, span="3..5")
    assert found.notes[-1] == f"of {ROWS} prompts, 1 have nothing known to be right there, and are left out"
    assert found.exact_match()[0].estimate == 100
    assert found.frame()["rows"].tolist() == [ROWS - 1] * 2
    rows = found.rows()
    seen = [row for row in rows.to_dict("records") if row["row"] == 2]
    assert [(row["exact"], row["first wrong"], row["wrote"]) for row in seen] == [(None, None, None)] * 2
    assert rows["exact"][0] is True
    console = Console(width=90)
    with console.capture() as said:
        for part in shown_row(found, 2, console.options):
            console.print(part)
    assert "nothing is known to be right" in said.get()
    assert "correct" not in said.get()


def test_completions_are_compared_to_their_ends() -> None:
    """By default as many tokens as the longest has, of which fewer are asked for in a note; the heading counts."""
    more = loop(lambda *_: {}, steps=23)
    rows = [
        {"clean": CLEAN[row, : LENGTHS[row]].tolist(), "completion": more[row, : 23 - row].tolist()}
        for row in range(ROWS)
    ]
    found = scrub.generate(MODEL, rows, stop=False, settings=EXACT)
    assert found.steps == 23
    assert found.exact[0].all()
    assert not any("asked for" in note for note in found.notes)
    assert f"the first {24 - ROWS} to 23 tokens, with those that are right" in str(found)
    fewer = written(rows, tokens=9)
    assert "of 23 tokens that are right 9 are asked for" in fewer.notes
    assert "all tokens, with those that are right" in str(fewer)
    answered = scrub.generate(MODEL, PAIRS, stop=False, settings=EXACT)
    assert answered.steps == 20
    assert not any("asked for" in note for note in answered.notes)


def test_any_of_several_answers_is_right() -> None:
    answers = np.stack([(UNCHANGED[:, 0] + 1) % VOCAB, UNCHANGED[:, 0]], axis=1)
    answers[2, 1] = NOWHERE
    found = written(replace(PAIRS, answers=answers), tokens=2)
    assert found.known
    assert found.exact[0].tolist() == [True, True, False, *[True] * (ROWS - 3)]
    assert found.compared.sum(1).tolist() == [1] * ROWS


def test_a_table_says_all_that_is_right() -> None:
    """Ids of any number in a column `completion`, the first of which is the answer; or answers beside it."""
    rows = [
        {"clean": CLEAN[row, : LENGTHS[row]].tolist(), "completion": UNCHANGED[row, : 2 + row % 3].tolist()}
        for row in range(ROWS)
    ]
    found = written(rows, tokens=5)
    assert found.compared.sum(1).tolist() == [2 + row % 3 for row in range(ROWS)]
    assert found.exact[0].all()
    read = scrub.read_prompts(MODEL, rows)
    assert read.expected.tolist() == UNCHANGED[:, 0].tolist()
    assert (read.completions[3:5] == read.some(np.array([3, 4])).completions).all()  # type: ignore[index]
    assert (
        read.digest != scrub.read_prompts(MODEL, [{**row, "completion": row["completion"][:1]} for row in rows]).digest
    )
    answered = scrub.read_prompts(MODEL, [{**row, "answer": 4} for row in rows])
    assert set(answered.expected.tolist()) == {4}
    both = written([{**row, "answer": 4} for row in rows], tokens=5)
    assert (both.right == found.right).all()
    beside = "what is right is the column 'completion', and not the answers beside it"
    assert [any(beside in note for note in each.notes) for each in (both, found)] == [True, False]
    for wrong in ([], None, [VOCAB], [1.5], 3.5):
        with pytest.raises(ScrubError, match="row 2 of"):
            scrub.read_prompts(MODEL, [*rows[:2], {**rows[2], "completion": wrong}, *rows[3:]])


def test_one_row_or_one_document_has_no_interval() -> None:
    right = [row.tolist() for row in UNCHANGED[:, :6]]
    for of in (replace(PAIRS, documents=np.full(ROWS, 5)), [CLEAN[0, :7].tolist()]):
        found = written(of, tokens=6, what="a1", right=right[: len(of)])
        assert found.exact_match()[0].estimate == 100
        for interval in (*found.exact_match(), *found.right_tokens()):
            assert not np.isfinite([interval.low, interval.high]).any()
    rows = json.loads(json_text(found.frame()))
    assert (rows[0]["exact match"], rows[0]["exact match, low"]) == (100, None)
    assert all(each.known for each in written(tokens=6, right=right).right_tokens())


def test_a_prompt_that_is_its_own_other_is_told() -> None:
    other = OTHER.copy()
    other[:3, :7] = CLEAN[:3, :7]
    said = (
        f"of {ROWS} prompts, 3 have a prompt of the same tokens as their other: what is taken from it changes nothing"
    )
    some = replace(PAIRS, other=other)
    for how in ({"patch": "a0"}, {"what": "a0", "how": "resample"}):
        found = written(some, tokens=4, **how)
        assert said in found.notes
        assert (found.written[1, :3] == found.written[0, :3]).all()
        assert not any("their other" in note for note in written(tokens=4, **how).notes)
    assert not any("their other" in note for note in written(some, tokens=4, what="a0").notes)


def test_a_span_of_which_nothing_is_known_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writer, "write", lambda *_: pytest.fail("it wrote"))
    with pytest.raises(ScrubError, match="none is known to be right"):
        written(right=[[1, 2]] * ROWS, span="5")


def test_without_anything_right_it_is_what_the_unchanged_model_writes() -> None:
    found = written([CLEAN[0, :7].tolist(), CLEAN[1, :5].tolist()], what="a1")
    assert not found.known
    assert found.exact[0].all()
    assert (found.matches[1] == (found.written[1] == found.written[0])).all()


def test_a_row_that_ends_early_isnt_right() -> None:
    """What stands behind the end is nothing; where the unchanged model ends too, that is the same."""
    end = int(UNCHANGED[0, 3])
    config = type(OURS.config).model_validate({**OURS.config.model_dump(), "eos_token_id": end})
    model = make_model("ends", config, OURS.params)
    found = scrub.generate(model, PAIRS, 8, "a1", settings=EXACT, right=[row.tolist() for row in UNCHANGED[:, :8]])
    first = int(np.argmax(UNCHANGED[0] == end))
    assert found.tokens(0, 0) == UNCHANGED[0, : first + 1].tolist()
    assert found.first_wrong(0, 0) == first + 1
    assert found.rows()["wrote"][0] == "nothing"
    alone = scrub.generate(model, [CLEAN[0, :7].tolist()], 8, "a1", settings=EXACT)
    assert alone.exact[0].all()


def test_rows_of_tokens_go_on_after_some() -> None:
    rows = np.concatenate([CLEAN[:, :5], UNCHANGED[:, :4]], axis=1)
    for on in (rows, Examples.of(rows), torch.from_numpy(rows)):
        found = written(on, tokens=4, after=5)
        assert found.known
        assert (found.right == rows[:, 5:]).all()
    same = written(rows[1:2], tokens=4, after=5)  # the row whose prompt has five tokens
    assert same.exact[0].all()


def test_numbers_dont_depend_on_what_is_computed_together() -> None:
    found = written(what=["a0.1", "m1"])
    assert (written(what=["a0.1", "m1"], settings=replace(EXACT, batch=1)).written == found.written).all()
    alone = written([CLEAN[0, :7].tolist()], what=["a0.1", "m1"])
    assert (alone.written[:, 0] == found.written[:, 0]).all()


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

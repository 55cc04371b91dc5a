"""Where the loss moved, against plain loops over the tokens; and how tokens are shown."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest
from by_hand import LETTERS, drawn, made, ran, said
from rich.console import Console

from scrub.store.comparisons.comparison import compare
from scrub.store.comparisons.moved import LEVELS, moved
from scrub.store.results.read import StudyResults
from scrub.study.evaluate import Evaluator
from scrub.study.gates import Gates
from scrub.study.run import prepare
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

EVERY = 10_000


def study(seed: int = 1, draws: int = 1) -> StudyResults:
    return drawn(np.random.default_rng(seed), 37, {"a/all": 0.4, "b/all": 0.5}, positions=11, draws=draws)


def gains(stored: StudyResults) -> dict[tuple[int, int], float]:
    """By sequence and position, one by one."""
    ours, theirs = stored.token_losses("b/all"), stored.token_losses("a/all")
    places = [(s, p) for s in range(ours.shape[0]) for p in range(ours.shape[1]) if stored.examples.scored[s, p]]
    return {(s, p): float(theirs[s, p] - ours[s, p]) for s, p in places}


def test_by_hand() -> None:
    """A gap of 4 nats: sequence 0 gains 1 and loses half a nat, sequence 1 gains 1 nat."""
    nan = np.nan
    stored = made(
        {
            "unscrubbed": [[1, 1, nan], [nan, 1, 1]],
            "baseline": [[2, 2, nan], [nan, 2, 2]],
            "a/all": [[2, 1, nan], [nan, 2, 1.5]],
            "b/all": [[1, 1.5, nan], [nan, 1, 1.5]],
        },
        tokens=np.array([[0, 1, 2, 3], [4, 1, 2, 5]]),
        texts=dict(enumerate(["<|begin|>", " the", "\n", "x", "y", "z"])),
    )
    found = moved(stored, "b", "a")
    assert found.recovered.estimate == pytest.approx(100 * 1.5 / 4)
    assert found.scored == 4
    first, second, last = found.tokens.rows
    assert (first.sequence, first.position, first.gain, first.points) == (0, 0, 1, 25)
    assert (first.before, first.read, first.target, first.after) == ("<|begin|>", "<|begin|>", " the", "\nx")
    assert (first.other_loss, first.loss) == (2, 1)
    assert (second.sequence, second.position, second.before, second.read, second.target) == (
        1,
        1,
        "y the",
        " the",
        "\n",
    )
    assert (last.sequence, last.position, last.gain, last.target) == (0, 1, -0.5, "\n")
    assert (found.tokens.gained.count, found.tokens.gained.gain, found.tokens.gained.share) == (2, 2, 1)
    assert (found.tokens.lost.count, found.tokens.lost.gain) == (1, -0.5)
    assert [(s.sequence, s.gain, s.mean, s.scored, s.points) for s in found.sequences.rows] == [
        (1, 1, 0.5, 2, 25),
        (0, 0.5, 0.25, 2, 12.5),
    ]
    kinds = {
        level: [(k.text, k.count, k.sequences, k.gain, k.points) for k in getattr(found, level).rows]
        for level in LEVELS[2:]
    }
    assert kinds["targets"] == [(" the", 1, 1, 1, 25), ("\n", 2, 2, 0.5, 12.5)]
    assert kinds["reads"] == [("<|begin|>", 1, 1, 1, 25), (" the", 2, 2, 0.5, 12.5)]


@pytest.mark.parametrize("draws", [1, 3])
def test_every_level_adds_up_to_the_difference(draws: int) -> None:
    stored = study(draws=draws)
    found, (wanted,) = moved(stored, "b", "a", top=EVERY), compare(stored, ["a", "b"]).differences
    assert found.recovered == wanted.recovered
    for level in LEVELS:
        assert found.frame(level).points.sum() == pytest.approx(wanted.recovered.estimate), level
        assert found.frame(level).gain.is_monotonic_decreasing


def test_against_plain_loops() -> None:
    stored, top = study(), 7
    found, every = moved(stored, "b", "a", top=top), gains(stored)
    best = sorted(every, key=every.__getitem__, reverse=True)
    assert [(t.sequence, t.position) for t in found.tokens.gained.most] == best[:top]
    assert [(t.sequence, t.position) for t in found.tokens.lost.most] == best[::-1][:top]
    positive = sum(gain for gain in every.values() if gain > 0)
    assert found.tokens.gained.share == pytest.approx(sum(every[place] for place in best[:top]) / positive)
    for token in found.tokens.rows:
        line = [LETTERS[t] for t in stored.examples.tokens[token.sequence]]
        assert token.before == "".join(line[: token.position + 1])
        assert (token.read, token.target) == (line[token.position], line[token.position + 1])
        assert token.before + token.target + token.after == "".join(line)
        assert token.gain == pytest.approx(every[token.sequence, token.position])
    for level, shift in (("targets", 1), ("reads", 0)):
        sums: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for (sequence, position), gain in every.items():
            sums[LETTERS[stored.examples.tokens[sequence, position + shift]]].append((sequence, gain))
        order = sorted(sums, key=lambda text: sum(gain for _, gain in sums[text]), reverse=True)
        assert [kind.text for kind in getattr(found, level).gained.most] == order[:top]
        for kind in getattr(found, level).rows:
            of = sums[kind.text]
            assert (kind.count, kind.sequences) == (len(of), len({sequence for sequence, _ in of}))
            assert kind.gain == pytest.approx(sum(gain for _, gain in of))
            assert kind.mean == pytest.approx(kind.gain / kind.count)
            assert kind.low <= kind.points <= kind.high


def test_a_sequence_of_one_token_is_not_the_top_by_noise() -> None:
    """Ordered by the sum: one token of 3 nats stands below 20 tokens of half a nat."""
    other = np.full((3, 20), np.nan)
    other[0, 4], other[1, :], other[2, :] = 3.0, 3.0, 3.0
    loss = other - np.array([[3.0], [0.5], [0.0]])
    found = moved(made({"unscrubbed": other * 0, "baseline": other, "a/all": other, "b/all": loss}), "b", "a")
    assert [(each.sequence, each.scored, each.mean) for each in found.sequences.rows] == [(1, 20, 0.5), (0, 1, 3.0)]


def test_kinds_of_one_text_are_one() -> None:
    """Two tokens of the same text, such as halves of a character, are the same kind."""
    losses = {
        "unscrubbed": [[1.0] * 2] * 2,
        "baseline": [[3.0] * 2] * 2,
        "a/all": [[3.0] * 2] * 2,
        "b/all": [[2.0] * 2] * 2,
    }
    stored = made(losses, tokens=np.array([[0, 1, 2], [0, 2, 1]]), texts={0: "a", 1: "\ufffd", 2: "\ufffd"})
    (kind,) = moved(stored, "b", "a").targets.rows
    assert (kind.text, kind.count, kind.points) == ("\ufffd", 4, 50)


def test_the_same_moves_nowhere() -> None:
    stored = study()
    found = moved(stored, "a", "a")
    assert (found.recovered.estimate, found.tokens.rows, found.sequences.rows, found.targets.rows) == (0, (), (), ())
    assert "nowhere" in said(found)


def test_anchors_can_stand_on_either_side() -> None:
    stored = study()
    found = moved(stored, "b", "unscrubbed", top=EVERY)
    assert found.recovered.estimate == pytest.approx(stored.result.recovered("b/all").estimate - 100)
    assert found.frame().points.sum() == pytest.approx(found.recovered.estimate)


def test_tokens_without_a_tokenizer_stay_apart() -> None:
    losses = {"unscrubbed": [[1.0, 1.0]], "baseline": [[3.0, 3.0]], "a/all": [[3.0, 3.0]], "b/all": [[2.0, 2.5]]}
    stored = made(losses, tokens=np.array([[10, 2, 33]]), texts={10: "10", 2: "2", 33: "33"})
    assert [token.before for token in moved(stored, "b", "a").tokens.rows] == ["10", "10 2"]


def test_a_real_study(project: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(project))
    monkeypatch.setattr(Evaluator, "_passed", lambda *_: Gates({"none": 0.0}, ()))
    names = ["induction/naive", "induction/refined_1"]
    stored = ran(prepare(names, settings=Settings(sequences=29, dtype="float64", progress=False)))
    found = moved(stored, "refined_1", "naive", "k", top=EVERY)
    wanted = stored.result.improvement("refined_1/k", "naive/k")
    for level in LEVELS:
        assert found.frame(level).points.sum() == pytest.approx(wanted.estimate), level
    assert all(token.before.startswith("<|begin|>") for token in found.tokens.rows)
    assert {kind.text for kind in found.reads.rows} <= set("aeiou .,")  # the whitelist


@pytest.mark.parametrize("width", [60, 80, 130])
def test_tables_are_safe_and_fit(width: int) -> None:
    """Control characters, markup, wide characters and line breaks in the data stay on their line, inside the table."""
    texts = dict(enumerate(["\x1b[31m", "[bold]", "漢字漢", "\n\t", " ", "\u202e\u200b", "e\u0301", "<script>"]))
    stored = study()
    stored = made(
        {name: stored.token_losses(name) for name in ("unscrubbed", "baseline", "a/all", "b/all")},
        tokens=stored.examples.tokens % len(texts),
        texts=texts,
    )
    found = moved(stored, "b", "a", top=9)
    text = said(found, width)
    assert not set("\x1b\t\r\u202e\u200b") & set(text)
    lines = text.splitlines()
    measure = Console(width=1000)
    assert max(measure.measure(line).maximum if line.strip() else 0 for line in lines) <= width
    assert "«[bold]»" in text
    assert "«↵⇥»" in text
    assert "«·»" in text
    assert sum("→" in line for line in lines) == len(found.tokens.rows)  # each on a line of its own
    html = found._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_json_is_strict_and_has_everything() -> None:
    found = moved(study(), "b", "a", top=3)
    text = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert text["format"] == 1
    for level in LEVELS:
        sides = text[level]
        assert len(sides["gained"]["most"]) == len(sides["lost"]["most"]) == 3
        assert len(found.frame(level)) == 6
    with pytest.raises(ScrubError, match=r"'words'.* tokens, sequences, targets, reads"):
        found.frame("words")


def test_mistakes() -> None:
    with pytest.raises(ScrubError, match="'c'"):
        moved(study(), "c", "a")
    with pytest.raises(ScrubError, match=r"b .*'q'.* all"):
        moved(study(), "b", "a", "q")
    with pytest.raises(ScrubError, match=r"top.* 0.* 1"):
        moved(study(), "b", "a", top=0)

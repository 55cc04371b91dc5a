"""Controls of hypotheses with features: that they are what one would write by hand, and what their words say.

Where the answer is known, it is of models made by hand: head 0 of one copies the token one back, head 1 that two back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import small_decoder

import scrub
from scrub.data.examples import Examples
from scrub.data.parens.features import count_open, horizon, nowhere_negative
from scrub.data.parens.reading import labelled
from scrub.data.parens.recipe import draw_rows
from scrub.data.prompts.table import Reader
from scrub.models.families.attention_only import Config
from scrub.models.model import Model, make_model
from scrub.paths.sources import Drawn
from scrub.study.controls import (
    MOST_REASSIGNED,
    Control,
    Measured,
    RandomFeature,
    alike,
    next_token,
    reassigned,
    verdict,
)
from scrub.study.experiments import Name
from scrub.study.joint import Joint
from scrub.text.numbers import Interval

BRACKETS = Path(__file__).parents[3] / "shared/reference/brackets"  # beside the checkout
SETTINGS = scrub.Settings(dtype="float64", batch=64, progress=False)
ALONE = replace(SETTINGS, controls=False)
VOCAB, CONTEXT = 5, 7


def parens(count: int, references: int) -> Examples:
    return labelled(*draw_rows(count, 3), references, "some", [], Reader(None, 5, 42, None))


def encoder() -> Model:
    sizes = {"n_heads": 2, "n_kv_heads": 2, "d_head": 7, "n_ctx": 42, "vocab_size": 5, "d_mlp": 13}
    more = {"windows": (None,), "bos_token_id": None, "tied": False, "activation": "relu"}
    return small_decoder("gptneo", 2, seed=5, causal=False, pad_token_id=1, n_classes=2, **sizes, **more)


def copying(*times: int) -> Model:
    """One layer, whose head i copies the token i + 1 back, so strong."""
    width = VOCAB + CONTEXT
    token = torch.eye(width, dtype=torch.float64)[:VOCAB]
    place = torch.eye(width, dtype=torch.float64)[VOCAB:]
    config = Config(
        n_layers=1,
        n_heads=len(times),
        d_model=width,
        d_head=CONTEXT,
        n_ctx=CONTEXT,
        vocab_size=VOCAB,
        bos_token_id=0,
        positions="shortformer",
        layer_norm_eps=1e-12,
    )
    mean = 1 / width  # of a one-hot vector: with its deviation, so LayerNorm is undone
    padding = torch.zeros(CONTEXT - VOCAB, width, dtype=torch.float64)
    copied = torch.cat([token, padding])
    back = [torch.diag(torch.ones(CONTEXT - at - 1, dtype=torch.float64), at + 1) for at in range(len(times))]
    params = {
        "embed.weight": token,
        "pos.weight": place,
        "unembed.weight": token,
        "final_ln.weight": torch.ones(width, dtype=torch.float64),
        "final_ln.bias": torch.zeros(width, dtype=torch.float64),
        "layers.0.wq": torch.stack([300 * each @ place for each in back]),
        "layers.0.wk": torch.stack([place for _ in times]),
        "layers.0.wv": torch.stack([copied for _ in times]),
        "layers.0.wo": torch.stack([each * copied.T for each in times]),
        "layers.0.ln.weight": torch.full((width,), (mean * (1 - mean)) ** 0.5, dtype=torch.float64),
        "layers.0.ln.bias": torch.full((width,), mean, dtype=torch.float64),
    }
    return make_model("copying", config, params)


def copied_rows(count: int) -> Examples:
    """Rows whose last token is that one back of what is read last."""
    rows = np.random.default_rng(2).integers(0, VOCAB, (count, CONTEXT + 1))
    rows[:, -1] = rows[:, CONTEXT - 2]
    scored = np.zeros((count, CONTEXT), dtype=bool)
    scored[:, -1] = True
    return Examples(rows, scored)


LAGS = {
    "one_back": lambda tokens, _: tokens[:, -2],
    "two_back": lambda tokens, _: tokens[:, -3],
}


def copying_study(first: str, second: str) -> scrub.Study:
    text = f"draws A like {first}\n B like {second}\nlabel a0.0/** -> A\n a0.1/** -> B"
    return scrub.Study(
        "** -> y", (scrub.Hypothesis(text, name="mine", features=LAGS),), model="attn2l", positions="all"
    )


def test_the_true_assignment_wins_and_a_false_one_is_told() -> None:
    model, data = copying(2, 1), copied_rows(400)
    true = scrub.run(copying_study("one_back", "two_back"), model, data, SETTINGS)
    by_kind = {each.control.kind: each for each in true.controlled}
    assert list(by_kind) == ["exact", "without A", "without B", "random", "reassigned 1"]
    # what a head carries is all that it copies, so nothing is lost: what else feeds it doesn't matter
    own = true.recovered("mine/all").estimate
    assert own == pytest.approx(100, abs=1e-6) == by_kind["exact"].recovered.estimate
    assert by_kind["reassigned 1"].beaten
    assert by_kind["reassigned 1"].recovered.estimate < 50
    assert by_kind["without A"].beaten
    assert by_kind["random"].recovered.estimate < 50
    assert true.verdicts[0] == "mine is clearly better than every reassignment of its features (1)"
    assert "no control 'label': it draws whole sequences, and the data have no labels" in "\n".join(true.notes)

    false = scrub.run(copying_study("two_back", "one_back"), model, data, SETTINGS)
    assert false.recovered("mine/all").estimate < 50
    said = false.verdicts[0]
    assert said.startswith(
        "mine is NOT clearly better than 1 of the reassignments of its features (1): reassigned 1, -"
    )
    other = false.controlled[-1]
    assert other.control.says == "A like one_back; B like two_back"
    assert other.recovered.estimate == pytest.approx(100, abs=1e-6)
    # of which the paired difference is that of the two estimates
    assert other.gain.estimate == pytest.approx(false.recovered("mine/all").estimate - 100)


def test_what_a_head_that_does_not_matter_carries_is_told() -> None:
    found = scrub.run(copying_study("one_back", "two_back"), copying(2, 0), copied_rows(200), SETTINGS)
    assert any(line.startswith("mine is NOT clearly better than without B, +0.0") for line in found.verdicts)


RULES = "out/a1.0/** -> {A}\n out/a1.1/** -> {B}\n out/a1.1/{{q,k,v}}/** -> {R}\n out/a0/** -> any\n out/m0/** -> y"
DECLARED = "A like count_open\n B like count\n R rows like horizon of B"
BY_HAND = {
    "exact": ("", {"A": "x", "B": "x", "R": "x"}),
    "label": ("A like label\n B like label\n R rows like label_there of B", {}),
    "without_A": ("A any\n B like count\n R rows like horizon of B", {}),
    "without_B": ("A like count_open\n B any\n R rows like horizon of B", {}),
    "without_R": ("A like count_open\n B like count\n R rows any", {}),
    "reassigned_1": ("A like count\n B like count_open\n R rows like horizon of B", {}),
}


FEATURES = {
    "count_open": count_open,
    "count": nowhere_negative,
    "horizon": horizon,
    "label": lambda _, __, columns: columns["label"],
    "label_there": lambda tokens, _, columns: columns["label"][:, None] + np.zeros_like(tokens),
}


def written(name: str, draws: str, sources: Mapping[str, str]) -> scrub.Hypothesis:
    rules = RULES.format(**({"A": "A", "B": "B", "R": "R"} | dict(sources)))
    wanted = {name: feature for name, feature in FEATURES.items() if name in draws}
    return scrub.Hypothesis((f"draws {draws}\n" if draws else "") + f"label {rules}", name=name, features=wanted)


def test_controls_are_what_one_would_write_by_hand() -> None:
    model, data = encoder(), parens(211, 53)
    study = scrub.Study("** -> y", (written("mine", DECLARED, {}),), model="parens3l", positions="all")
    found = scrub.run(study, model, data, SETTINGS)
    assert [str(each.name) for each in found.controls if each.kind != "random"] == [
        f"mine~{each}/all" for each in BY_HAND
    ]
    hand = tuple(written(kind, *of) for kind, of in BY_HAND.items())
    own = scrub.run(scrub.Study("** -> y", hand, model="parens3l", positions="all"), model, data, ALONE).loss
    for kind in BY_HAND:
        np.testing.assert_allclose(found.loss[f"mine~{kind}/all"], own[f"{kind}/all"], rtol=0, atol=1e-9)
        assert np.abs(found.loss[f"mine~{kind}/all"] - found.loss["mine/all"]).max() > 1e-6
    # they stand in no row of the table, nobody is warned of them, and they change nothing
    assert found.rows == [("mine", "label"), ("mine", "all")]
    assert not [text for text in found.warnings if "~" in text or "label" in text or "random" in text]
    without = scrub.run(study, model, data, ALONE)
    assert not without.controls
    assert "controls" not in without.to_dict()
    for name in without.loss:
        np.testing.assert_allclose(without.loss[name], found.loss[name], rtol=0, atol=1e-9)
    assert without.warnings == found.warnings

    frame, content = found.control_frame(), found.to_dict()
    assert frame["control"].tolist() == [each.kind for each in found.controls]
    assert [row["gain"] for row in content["controls"]] == pytest.approx(frame["gain"].tolist())
    assert (frame["gain_low"] <= frame["gain"]).all()
    assert (frame["gain"] <= frame["gain_high"]).all()
    assert {"recovered", "label", "label_high"} <= set(found.class_frame())
    percent = found.recovered("mine/all").estimate
    assert frame["gain"].tolist() == pytest.approx((percent - frame["recovered"]).tolist())
    assert content["verdicts"] == found.verdicts


def test_a_draw_that_nothing_is_of_any_more_is_left_out() -> None:
    text = "draws A like count_open\n B like nowhere_negative of A\nlabel out/a1.0/** -> B"
    features = {"count_open": count_open, "nowhere_negative": nowhere_negative}
    mine = scrub.Hypothesis(text, name="mine", features=features)
    study = scrub.Study("** -> y", (mine,), model="parens3l", positions="all")
    made = {each.kind: each.name.hypothesis for each in scrub.prepare(study, encoder(), parens(99, 11)).controls.each}
    assert list(made) == ["exact", "label", "without A", "without B", "random", "reassigned 1"]


def test_the_next_token_is_the_label_of_a_position() -> None:
    tokens = np.array([[3, 1, 4], [1, 5, 9]])
    assert next_token(tokens, None).tolist() == [[1, 4, -1], [5, 9, -1]]
    text = "draws R rows like now\nk a0.0/** -> R"
    mine = scrub.Hypothesis(text, name="mine", features={"now": lambda tokens, _: tokens})
    found = scrub.prepare(scrub.Study("** -> y", (mine,), model="attn2l"), copying(2, 1), copied_rows(30)).controls
    assert [each.kind for each in found.each] == ["exact", "label", "without R", "random"]
    assert found.each[1].says == "R like next_token"
    assert "the last one, behind which nothing is read, is of a class of its own" in found.notes[0]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 99))
def test_random_classes_are_as_many(classes: list[int], distinct: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = 1 + rng.multinomial(max(0, len(classes) - distinct), np.full(distinct, 1 / distinct))
    said = np.resize(classes, times.sum())
    found = np.repeat(alike(said, times, rng), times)
    wanted, got = (np.bincount(each, minlength=5) for each in (said, found))
    assert found.shape == said.shape
    assert set(found) <= set(said)
    # one that is there several times may have to go where there is less room
    assert np.abs(wanted - got).max() <= times.max() - 1


def test_a_random_feature_is_one_of_a_row_alone() -> None:
    data = parens(5000, 7)
    every = data.every.inputs
    for feature in (count_open, horizon):
        made = RandomFeature.made("some", feature, data, None, 3)
        own, said = made(every), feature(every)
        assert own.shape == said.shape
        for ours, theirs in zip(own.T if own.ndim > 1 else [own], said.T if said.ndim > 1 else [said], strict=True):
            assert np.abs(np.bincount(ours, minlength=5) - np.bincount(theirs, minlength=5)).max() <= 1
        some = np.random.default_rng(1).permutation(len(every))[:50]
        assert np.array_equal(made(every[some]), own[some])
        by_row: dict[bytes, bytes] = {}
        assert all(
            by_row.setdefault(row.tobytes(), of.tobytes()) == of.tobytes() for row, of in zip(every, own, strict=True)
        )
        again, other = (RandomFeature.made("some", feature, data, None, seed)(every) for seed in (3, 4))
        assert np.array_equal(again, own)
        assert not np.array_equal(other, own)
    random, said = RandomFeature.made("some", count_open, data, None, 3)(every), count_open(every)
    assert abs(np.corrcoef(random, said)[0, 1]) < 0.5
    assert not np.array_equal(random, said)


@given(st.lists(st.sampled_from("abc"), max_size=5), st.lists(st.sampled_from("de"), max_size=3), st.integers(0, 9))
def test_reassignments_are_all_that_there_are(whole: list[str], by_row: list[str], seed: int) -> None:
    drawn = {f"D{at}": Drawn(f"D{at}", feature) for at, feature in enumerate(whole)}
    drawn |= {f"R{at}": Drawn(f"R{at}", feature, by_row=True) for at, feature in enumerate(by_row)}
    found, ways = reassigned(drawn, np.random.default_rng(seed))
    got = {tuple(each[name] for name in drawn) for each in found}
    assert len(got) == len(found) == min(ways, MOST_REASSIGNED)
    assert tuple(whole + by_row) not in got
    moved = {(*a, *b) for a in set(permutations(whole)) for b in set(permutations(by_row))}
    names = [sorted(set(whole)), sorted(set(by_row))]
    renamed = {
        tuple(dict(zip((*names[0], *names[1]), (*a, *b), strict=True))[each] for each in whole + by_row)
        for a in permutations(names[0])
        for b in permutations(names[1])
    }
    every = (moved | renamed) - {tuple(whole + by_row)}
    assert ways == len(every)
    assert got <= every
    # features that change places wherever they are come first
    assert len(got & renamed) == min(MOST_REASSIGNED, len(renamed) - 1) or ways <= MOST_REASSIGNED


def measured(kind: str, gain: tuple[float, float, float], ways: int = 0) -> Measured:
    return Measured(Control(Name("h", "all"), kind, "", Name(kind), ways), Interval(0, 0, 0), Interval(*gain))


def test_words_are_of_paired_intervals() -> None:
    clearly, unclear, worse = (3.0, 1.0, 5.0), (3.0, -1.0, 7.0), (-3.0, -5.0, -1.0)
    assert verdict("h", [measured("reassigned 1", clearly, 1)]) == [
        "h is clearly better than every reassignment of its features (1)"
    ]
    assert verdict("h", [measured("reassigned 1", clearly, 1700)])[0].endswith("(1 of 1,700 were run)")
    said = verdict("h", [measured("reassigned 1", unclear, 3), measured("reassigned 2", worse, 3)])[0]
    assert said.startswith("h is NOT clearly better than 2 of the reassignments of its features (2 of 3 were run): ")
    assert said.endswith(": reassigned 2, -3.0 [-5.0, -1.0], reassigned 1, +3.0 [-1.0, +7.0]")
    assert "in no other way" in verdict("h", [measured("exact", worse)])[0]
    assert "label" not in " ".join(verdict("h", [measured("label", clearly)]))
    assert "recovers more than h, by 3.0 [1.0, 5.0]:" in verdict("h", [measured("label", worse)])[1]
    more = verdict("h", [measured("label", (-3.0, -7.0, 1.0))])[1]
    assert "by 3.0 [-1.0, 7.0], though not clearly:" in more
    assert verdict("h", [measured("without A", unclear), measured("random", clearly)])[1:] == [
        "h is NOT clearly better than without A, +3.0 [-1.0, +7.0]"
    ]


@pytest.mark.skipif(not BRACKETS.exists(), reason="Redwood's model isn't there")
def test_the_true_claim_wins_on_redwoods_weights() -> None:
    state = torch.load(BRACKETS / "brackets_model_state_dict.pt", map_location="cpu", weights_only=True)
    fields = {
        "n_layers": 3, "n_heads": 2, "d_model": 56, "d_head": 28, "d_mlp": 56, "n_ctx": 42, "d_vocab": 5,
        "d_vocab_out": 2, "act_fn": "relu", "normalization_type": "LN", "attention_dir": "bidirectional",
        "pad_token_id": 1, "bos_token_id": 0,
    }  # fmt: skip
    settings = scrub.Settings(batch=64, progress=False)
    found = scrub.run("parens/claim_1b", scrub.load_model((fields, state)), parens(20_000, 1000), settings)
    by_says = {each.control.says: each for each in found.controlled}
    swapped = by_says["A, B like nowhere_negative; H like count_open"]
    assert 90 < found.recovered("claim_1b/all").estimate < 96
    assert 72 < swapped.recovered.estimate < 82
    assert swapped.gain.low > 8
    assert 95 < by_says["A, B, H like label"].recovered.estimate < 98
    assert found.verdicts[0] == "claim_1b is clearly better than every reassignment of its features (3)"
    assert found.verdicts[1].startswith("the label alone recovers more than claim_1b, by ")
    assert Counter(each.kind.split()[0] for each in found.controls) == Counter(
        exact=1, label=1, without=3, random=1, reassigned=3
    )


def test_a_mean_is_taken_apart_by_class() -> None:
    data = copied_rows(800)
    found = scrub.run(copying_study("two_back", "one_back"), copying(2, 1), data, SETTINGS)
    frame, rows = found.class_frame(), data.inputs
    assert len(frame) == 9
    assert frame["sequences"].sum() == 800
    assert frame["sequences"][:8].is_monotonic_decreasing
    assert found.to_dict()["by_class"][0]["recovered"] == pytest.approx(frame["recovered"][0])
    rest = np.ones(800, dtype=bool)
    for at, row in frame.iterrows():
        words = row["class"].replace(",", "").split()
        inside = (rows[:, -3] == int(words[1])) & (rows[:, -2] == int(words[3])) if at != 8 else rest
        assert words[::2] == ["two_back", "one_back"] if at != 8 else row["class"] == "17 others"
        rest = rest & ~inside
        mine, base, own = (found.loss[name][inside].mean() for name in ("mine/all", "baseline", "unscrubbed"))
        assert row["sequences"] == inside.sum()
        assert row["recovered"] == pytest.approx(100 * (base - mine) / (base - own))
        assert row["recovered_low"] < row["recovered"] < row["recovered_high"]
    few = scrub.run(copying_study("two_back", "one_back"), copying(2, 1), copied_rows(100), SETTINGS).class_frame()
    assert few["recovered"].isna()[:8].all()  # of fewer than 16 no interval is known to hold


def test_rare_classes_stand_together() -> None:
    features = {"many": lambda tokens, _: tokens[:, 0] * 5 + tokens[:, 1]}
    mine = scrub.Hypothesis("draws A like many\nlabel a0.0/** -> A", name="mine", features=features)
    found = Joint.made(mine, features, copied_rows(300), None)
    assert found is not None
    assert len(found.names) == 9
    assert found.names[-1] == "17 others"
    sizes = np.bincount(found.of)
    assert sizes.sum() == 300
    assert (np.diff(sizes[:8]) <= 0).all()
    by_row = scrub.Hypothesis("draws R rows like many\nk a0.0/** -> R", name="rows", features=features)
    assert Joint.made(by_row, features, copied_rows(300), None) is None

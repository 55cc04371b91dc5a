"""Cells by named positions: counted, kept, scored, written, found in hypotheses, and names that aren't apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from searched import (
    ENTRIES,
    HERE,
    ONE_ENTRY,
    WHOLE,
    any_of,
    exactly,
    fold_of,
    model_of,
    near,
    prompts,
    screen_of,
    some,
)  # fmt: skip
from small import small_decoder

from scrub.data.examples import Examples
from scrub.data.repeated import NOWHERE
from scrub.measure.search import beside
from scrub.measure.search.cells import Cell, Cells
from scrub.measure.search.fold import Fold
from scrub.measure.search.parts import BY_MASK, BY_POSITIONS, Parts, Told, names_of
from scrub.measure.search.search import search
from scrub.measure.search.written import hypothesis_of
from scrub.models.model import Model, make_model
from scrub.study.hypothesis import Hypothesis
from scrub.study.metric import ROLES as MEASURED
from scrub.study.run import prepare_study
from scrub.study.study import Study, load_study
from scrub.text.errors import ScrubError

NAMES = ["IO", "S2", "end"]
PARTS = (*NAMES, "rest")
BY = 1e-5
HOW: list[tuple[str, str, dict[str, Any], int]] = [  # and how many components are cells, or have some
    ("attn", ONE_ENTRY, {}, 3 * 6),
    ("attn", WHOLE, {"depth": 1}, 11),
    ("gpt2", WHOLE, {}, 1 + 3 * 3 + 4 + 9 * (1 + 4) + 8),
    ("gpt2", "**/m1/** -> y", {}, 1 + 3 + 1 + 3),
    ("attn3", ENTRIES, {}, 3 * 4 + 3 * (4 + 2)),
]


def by_positions(how: dict[str, Any], names: Sequence[str] = NAMES) -> dict[str, Any]:
    return {"kinds": ["heads", "mlps", "positions"], "names": names, **how}


def named(model: Model, rows: int = 3, **fields: Any) -> Examples:
    """Prompts in which IO, S2 and the end are apart."""
    rng = np.random.default_rng(3)
    at = {"IO": rng.integers(0, 2, rows), "S2": rng.integers(2, model.n_ctx - 1, rows)}
    return replace(prompts(model, rows), positions=at, **fields)


@cache
def cells_of(kind: str, baseline: str, depth: int | None = None) -> Cells:
    how = {} if depth is None else {"depth": depth}
    return Cells.made(Study(baseline, name="study"), model_of(kind), **by_positions(how))


def of(fold: Fold, *written: str) -> set[Cell]:
    """The cells that are called so."""
    found = {str(cell).replace("/**", ""): cell for cell in fold.cells.every}
    return {found[each] for each in written}


@pytest.mark.parametrize(("kind", "baseline", "how", "count"), HOW)
def test_there_are_as_many_of_each_component_as_names_and_one(
    kind: str, baseline: str, how: dict[str, Any], count: int
) -> None:
    cells = cells_of(kind, baseline, **how)
    assert len(cells) == len(cells.every) == len({*map(str, cells.every)}) == 4 * count
    assert {cells._number(at) for at in range(4 * count)} == {*cells.every}
    assert sorted(cells.every, key=cells.key) == [*cells.every]
    whole = Cells.made(cells.study, cells.model, **how).every
    assert [(c.place, c.component, c.part) for c in cells.every] == [
        (place.place, place.component, part) for place in whole for part in PARTS
    ]
    if (kind, baseline) == ("gpt2", WHOLE):
        wanted = {"out/emb[IO]", "out/a1.0/v/m0[S2]/**", "out/m1/emb[end]", "out/a0.2/k/emb[rest]"}
        assert wanted <= {*map(str, cells.every)}


BY_HAND = [  # of the heads a1.ind, and of all: splits, and what is kept
    (ONE_ENTRY, ["a1.ind/v/a0.1[IO]", "a1.ind/v/emb[rest]", "a1.ind/k/a0.2[S2]", "a1.ind/k/a0.2[end]"],
     ["a1.ind/v/a0.1 by positions IO", "a1.ind/v/emb by positions IO,S2,end", "a1.ind/k/a0.2 by positions S2,end"],
     ["a1.ind/v/a0.1[IO]/**", "a1.ind/v/emb[rest]", "a1.ind/k/a0.2[S2,end]/**"]),
    (ONE_ENTRY, ["a1.ind/k/a0.4[rest]", "a1.ind/k/a0.4[S2]", "a1.ind/k/a0.4[IO]", "a1.ind/v/emb[S2]"],
     ["a1.ind/k/a0.4 by positions end", "a1.ind/v/emb by positions S2"],
     ["a1.ind/k/a0.4[rest]/**", "a1.ind/v/emb[S2]"]),
    (WHOLE, ["out/a1.0/v/a0.1[IO]", "out/a1.0/v/a0.1[rest]", "out/a1.0/q/emb[end]", "out/emb[end]"],
     ["out/a1.0/v/a0.1 by positions S2,end", "out/a1.0/q/emb by positions end", "out/emb by positions end"],
     ["out/a1.0/v/a0.1[rest]/**", "out/a1.0/q/emb[end]", "out/emb[end]"]),
]  # fmt: skip


@pytest.mark.parametrize(("baseline", "cells", "splits", "rules"), BY_HAND)
def test_a_list_is_what_rules_by_hand_say(baseline: str, cells: list[str], splits: list[str], rules: list[str]) -> None:
    model = model_of("attn")
    fold = fold_of(baseline, model, named(model), "logit_diff", cells=by_positions({}))
    lines = [f"all_of {baseline}", *(f"all_of {rule} -> x" for rule in rules)]
    written = Hypothesis("\n".join([*(f"splits {each}" for each in splits), *lines]), name="written")
    kept = of(fold, *cells)
    trial = fold.trial
    made = prepare_study(trial.study, [written], model, trial.examples, trial.settings, [trial.study.metric])
    found = fold.measure(made.experiments.scrubbed).sums[MEASURED[0], "written/all_of"]
    (ours,) = exactly(fold, [kept])
    np.testing.assert_allclose(ours, found, rtol=0, atol=1e-12)
    apart = exactly(fold, [kept - {cell} for cell in kept])
    assert np.abs(apart - ours).max(1).min() > 1e-9
    assert fold.cells.kept_by(written) == kept


@pytest.mark.parametrize(("kind", "baseline", "how"), [HOW[0][:3], HOW[2][:3], HOW[4][:3]])
def test_all_parts_of_a_component_are_the_component(kind: str, baseline: str, how: dict[str, Any]) -> None:
    """The very same graph; and all but one of them is another."""
    cells = cells_of(kind, baseline, **how)
    wholes = Cells.made(cells.study, cells.model, **how)
    for seed, size in enumerate((1, 5, len(wholes))):
        kept = some(wholes, size, seed)
        parts = frozenset(replace(cell, part=part, by=BY_POSITIONS) for cell in kept for part in PARTS)
        assert cells.experiment(parts, "parts").graph == wholes.experiment(kept, "whole").graph
        less = parts - {next(iter(parts))}
        assert cells.experiment(less, "parts").graph != wholes.experiment(kept, "whole").graph
        assert cells.kept_by(hypothesis_of(wholes, kept, "whole")) == parts
    assert cells.whole("whole").graph == cells.experiment(cells.every, "every").graph


NEAR: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("attn", ONE_ENTRY, {}, NAMES),
    ("attn", WHOLE, {"depth": 1}, ["IO"]),
    ("gpt2", WHOLE, {}, NAMES),
    ("gpt2", "**/a1.*/v/** -> y", {"depth": 1}, ["S2", "end"]),
    ("gemma2", WHOLE, {"depth": 1}, NAMES),
    ("attn3", ENTRIES, {}, NAMES),
]


@pytest.mark.parametrize(("kind", "baseline", "how", "names"), NEAR)
def test_near_x_a_score_is_what_changes(kind: str, baseline: str, how: dict[str, Any], names: list[str]) -> None:
    """And those of the parts of a component are that of the component, of which all parts are left, or all kept."""
    model = near(model_of(kind), BY)
    made = named(model)
    examples = replace(made, other=made.tokens + 13)
    cells = by_positions(how, names)
    fold = fold_of(baseline, model, examples, "logit_diff", cells=cells, positions=None)
    wholes = fold_of(baseline, model, examples, "logit_diff", cells=how, positions=None)
    every = fold.cells.every
    for size in (0, len(every) // 2):
        kept = some(fold.cells, size)
        tried = [*some(fold.cells, 8, seed=size + 1)]
        plain, *changed = exactly(fold, [kept, *(kept ^ {cell} for cell in tried)])
        expected = np.stack(changed) - plain
        assert np.abs(expected).max() > 0.01 * BY
        for recomputed in (True, False):
            scored = screen_of(fold, opened=999, recomputed=recomputed)(kept)
            assert sorted(scored.cells) == sorted(every)
            found = np.stack([scored.gains[scored.cells.index(cell)] for cell in tried])
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    kept = some(wholes.cells, len(wholes.cells) // 3)
    parts = frozenset(replace(each, part=part, by=BY_POSITIONS) for each in kept for part in (*names, "rest"))
    of_parts = screen_of(fold, opened=999, recomputed=False)(parts)
    of_wholes = screen_of(wholes, opened=999, recomputed=False)(kept)
    summed = {cell: np.zeros(3) for cell in of_wholes.cells}
    for cell, gains in zip(of_parts.cells, of_parts.gains, strict=True):
        summed[replace(cell, part="", by="")] += gains
    gains = np.stack([*summed.values()])
    np.testing.assert_allclose(gains, of_wholes.gains, rtol=0, atol=1e-6 * np.abs(gains).max())


@st.composite
def lists(draw: st.DrawFn) -> tuple[Cells, frozenset[Cell]]:
    """Some cells: whole places, whole components, the same parts of several, and single ones."""
    kind, baseline, how, _ = draw(st.sampled_from(HOW))
    cells = cells_of(kind, baseline, **how)
    return cells, any_of(draw, cells)


@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])
@given(lists())
def test_any_list_is_written_as_a_person_would(of: tuple[Cells, frozenset[Cell]]) -> None:
    """That it computes the same is what `hypothesis_of` makes sure of: no component is split twice, or in vain."""
    cells, kept = of
    found = hypothesis_of(cells, kept, "found")
    again = Hypothesis(found.rules, name="again")
    assert cells.kept_by(again) == kept
    rules = [line for line in found.rules.splitlines() if "->" in line]
    splits = [line for line in found.rules.splitlines() if "->" not in line]
    components = {(cell.place, cell.component) for cell in kept}
    by: dict[tuple[str, str], set[str]] = {}
    for cell in kept:
        by.setdefault((cell.place, cell.component), set()).add(cell.part)
    split = {key for key, parts in by.items() if len(parts) < 4}
    assert len(splits) <= len(split)
    assert bool(splits) == bool(split)
    assert len(rules) <= len(components) + sum(map(len, cells.parts.values()))


READS = [
    (ONE_ENTRY, ["v/a0.1[IO]", "v/a0.1[S2]", "k/emb[end]"],
     ["splits a1.ind/k/emb by positions end", "a1.ind/v/a0.prev by positions IO,S2", "q a1.ind/q/** -> y",
      "k a1.ind/k/** -> y", "a1.ind/k/emb[end] -> x", "v a1.ind/v/** -> y", "a1.ind/v/a0.prev[IO,S2]/** -> x"]),
    (ONE_ENTRY, [f"v/a0.{head}[{part}]" for head in (0, 4) for part in ("IO", "end", "rest")],
     ["splits a1.ind/v/a0.self by positions S2", "q a1.ind/q/** -> y", "k a1.ind/k/** -> y", "v a1.ind/v/** -> y",
      "a1.ind/v/a0.self[rest]/** -> x"]),
    (ONE_ENTRY, [f"v/{of}[{part}]" for of in ("emb", *(f"a0.{head}" for head in range(5))) for part in ("IO", "S2")],
     ["splits a1.ind/v/{emb,a0.*} by positions IO,S2", "q a1.ind/q/** -> y", "k a1.ind/k/** -> y", "v a1.ind/v/** -> y",
      "a1.ind/v/emb[IO,S2] -> x", "a1.ind/v/a0.*[IO,S2]/** -> x"]),
]  # fmt: skip


@pytest.mark.parametrize(("baseline", "kept", "expected"), READS)
def test_it_reads_well(baseline: str, kept: list[str], expected: list[str]) -> None:
    cells = cells_of("attn", baseline)
    found = [cell for cell in cells.every if str(cell).removeprefix("a1.ind/").replace("/**", "") in kept]
    assert len(found) == len(kept)
    lines = hypothesis_of(cells, found, "found").rules.splitlines()
    assert [" ".join(line.split()) for line in lines] == expected


def test_a_component_beside_another_of_the_same_parts_reads_back() -> None:
    """Alternatives in braces have commas, and so have the names of parts."""
    cells = cells_of("gpt2", "**/m1/** -> y")
    kept = {
        cell for cell in cells.every if cell.component in {"emb", "m0", "a0.1", "a0.2"} and cell.part in {"IO", "S2"}
    }
    found = hypothesis_of(cells, kept, "found")
    assert len(kept) == 8
    assert cells.kept_by(Hypothesis(found.rules, name="again")) == kept
    kept |= {cell for cell in cells.every if cell.component == "a0.1"}
    assert cells.kept_by(hypothesis_of(cells, kept, "more")) == kept


FORMS: list[tuple[str, str, set[str]]] = [  # of two layers of five heads, and what the output reads
    ("splits out/a1.ind/v by positions IO", "out/a1.ind/v[IO]/emb -> x", {f"a1.{h}/v/emb[IO]" for h in (2, 3)}),
    ("splits out/a1.ind/v by positions IO,end", "out/a1.ind/v[IO,end]/a0.self/** -> x",
     {f"a1.{h}/v/a0.{g}[{at}]" for h in (2, 3) for g in (0, 4) for at in ("IO", "end")}),
    ("splits out/a1.ind/k by positions S2", "out/a1.ind/k[rest]/emb -> x",
     {f"a1.{h}/k/emb[{at}]" for h in (2, 3) for at in ("IO", "end", "rest")}),
    ("splits out/a1.2/v/a0.1 by positions end", "out/a1.2/v/a0.1[end]/v/** -> x", {"a1.2/v/a0.1[end]"}),
    ("splits out/emb by positions S2\n out/a1.0/v by positions IO", "out/emb[S2] -> x\n out/a1.0/v[rest]/emb -> x",
     {"emb[S2]", *(f"a1.0/v/emb[{at}]" for at in ("S2", "end", "rest"))}),
    ("splits out/a1.2/v by positions IO\n out/a1.2/v[IO]/a0.1 by positions end", "out/a1.2/v[IO]/a0.1[rest]/** -> x",
     {"a1.2/v/a0.1[IO]"}),
    ("", "out/a1.2/v/a0.1/** -> x", {f"a1.2/v/a0.1[{at}]" for at in PARTS}),
    ("splits out/a1.2/v by positions IO", "out/a1.2/v[IO]/** -> x",
     {f"a1.2/v/{of}[IO]" for of in ("emb", *(f"a0.{h}" for h in range(5)))}),
]  # fmt: skip


@pytest.mark.parametrize(("splits", "rules", "expected"), FORMS)
def test_a_hypothesis_keeps_the_cells_at_its_positions(splits: str, rules: str, expected: set[str]) -> None:
    cells = cells_of("attn", WHOLE)
    kept = cells.kept_by(Hypothesis(f"{splits}\npart ** -> y\n {rules}", name="written"))
    assert {str(cell).removeprefix("out/").replace("/**", "") for cell in kept} == expected


@pytest.mark.parametrize(("slot", "parts"), [("q", ["IO"]), ("k", PARTS), ("v", PARTS)])
def test_deeper_cells_may_be_at_other_positions_where_heads_look(slot: str, parts: Sequence[str]) -> None:
    cells = cells_of("attn", WHOLE, 3)
    of = f"out/a1.2/v/a0.1/{slot}/emb"
    written = Hypothesis(
        f"splits out/a1.2/v by positions IO\npart ** -> y\n {of.replace('/v/a0', '/v[IO]/a0')} -> x", name="written"
    )
    assert {str(cell) for cell in cells.kept_by(written)} == {f"{of}[{part}]" for part in parts}


def test_shipped_hypotheses_keep_the_cells_at_their_positions() -> None:
    """Movers read values at IO, suppressors at S2, and the query of a mover at the end: on a random model as deep."""
    study, modules = load_study("ioi_smollm2")
    (roles,) = study.roles.values()
    plain = small_decoder("llama", n_layers=24, n_heads=8, n_kv_heads=2)
    model = make_model("twin", plain.config.model_copy(update={"roles": roles}), plain.params)
    cells = Cells.made(study, model, ["heads", "mlps", "positions"], names=["IO", "S1", "S2", "end"])
    found = {each.name: {str(cell).removeprefix("out/a23.") for cell in cells.kept_by(each)} for each in modules[:5:4]}
    movers = [head for _, head in roles["mover"]]
    names = {f"{head}/v/m{at}[IO]/**" for head in movers for at in range(23)}
    suppressed = {f"3/v/m{at}[S2]/**" for at in range(23)}
    assert found["naive"] == {f"{head}/v/emb[IO]" for head in movers}
    assert found["refined_4"] == names | suppressed | {f"{head}/q/a20.0[end]/**" for head in movers}


@pytest.mark.parametrize("kept", [of for size in range(1, 5) for of in combinations(PARTS, size)])
def test_parts_are_told_by_one_split(kept: tuple[str, ...]) -> None:
    """It names the parts that are kept, or those that aren't where the rest is."""
    told = Parts(BY_POSITIONS, tuple(NAMES)).told("a0.1", kept)
    names = [name for name in NAMES if (name in kept) != ("rest" in kept)]
    if len(kept) == 4:
        assert told == [Told("a0.1", ("**",))]
    else:
        part = "rest" if "rest" in kept else ",".join(names)
        assert told == [Told(f"a0.1[{part}]", ("**",), "positions " + ",".join(names))]
    assert [each.inner for each in Parts(BY_POSITIONS, tuple(NAMES)).told("emb", kept)] == [()]


C, P, L, REST, LAST = "current", "previous", "lag 2", "rest", "last three"
MASKS: dict[tuple[str, ...], tuple[list[str], list[str]]] = {  # of a head: the masks of its split, the steps
    (C,): ([C], [C]), (P,): ([P], [P]), (L,): ([L], [L]), (REST,): ([C, P, L], [REST]),
    (C, P): ([C, P], [C, P]), (C, L): ([C, L], [C, L]), (P, L): ([P, L], [P, L]), (C, P, L): ([LAST], [LAST]),
    (C, REST): ([C, P, L], [C, REST]), (P, REST): ([C, P, L], [P, REST]), (L, REST): ([C, P, L], [L, REST]),
    (C, P, REST): ([C, P, L], [C, P, REST]), (C, L, REST): ([C, P, L], [C, L, REST]),
    (P, L, REST): ([C, P, L], [P, L, REST]), (C, P, L, REST): ([LAST], [LAST, REST]),
}  # fmt: skip


@pytest.mark.parametrize("kept", MASKS)
def test_masks_are_told_by_one_split(kept: tuple[str, ...]) -> None:
    """All of the last three are one mask, unless all are to be told apart."""
    parts = Parts(BY_MASK)
    masks, steps = MASKS[kept]
    by = "mask " + " ".join(f'"{each}"' for each in masks)
    assert parts.told("a0.1", kept) == [Told(f"a0.1[{step}]", ("v", "**"), by) for step in steps]
    assert parts.told("a0.1", kept[::-1]) == parts.told("a0.1", kept)
    fine = 'mask "current" "previous" "lag 2"'
    assert parts.told("a0.1", kept, fine=True) == [Told(f"a0.1[{step}]", ("v", "**"), fine) for step in kept]
    assert parts.told("emb", [""]) == [Told("emb", ())]
    assert parts.told("m0", [""]) == [Told("m0", ("**",))]


def test_positions_that_are_one_in_an_example_are_told() -> None:
    model = model_of("attn")
    examples = named(model)
    for one, other, at in (("IO", "S2", 3), ("S2", "end", model.n_ctx - 1)):
        positions = {name: np.where(np.arange(3) == 1, at, of) for name, of in examples.positions.items()}
        positions["IO"] = positions["IO"] if one == "IO" else examples.positions["IO"]
        with pytest.raises(ScrubError, match=f"'{one}' and '{other}' are the same position in row 1 of ") as raised:
            fold_of(ONE_ENTRY, model, replace(examples, positions=positions), "logit_diff", cells=by_positions({}))
        assert "\n" not in str(raised.value)
        fold_of(ONE_ENTRY, model, replace(examples, positions=positions), "logit_diff")


def test_the_names_that_tell_positions_apart() -> None:
    """In their order; the end is what is always there; none that no row has."""
    examples = named(model_of("attn"))
    at, ends = dict(examples.positions), examples.ends
    assert names_of(examples) == NAMES
    assert names_of(replace(examples, positions={**at, "query": ends})) == ["IO", "S2", "query"]
    assert names_of(replace(examples, positions={**at, "none": np.full(3, NOWHERE)})) == NAMES
    assert names_of(replace(examples, positions={"S2": at["S2"], "IO": at["IO"]})) == NAMES
    sometimes = np.where(np.arange(3) == 1, NOWHERE, at["IO"])
    with pytest.raises(ScrubError, match=r"row 1 of .* has no position 'IO'"):
        names_of(replace(examples, positions={**at, "IO": sometimes}))


def test_data_without_names_are_one_line() -> None:
    model = model_of("attn")
    for names in ([], ["end"], names_of(prompts(model))):
        with pytest.raises(ScrubError, match="the data give no position a name") as raised:
            Cells.made(Study(WHOLE, name="study"), model, **by_positions({}, names))
        assert "\n" not in str(raised.value)


def test_a_search_by_positions_finds_cells_at_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over data some rows of which have no such position, or the same one twice, it is one line."""
    monkeypatch.setattr(beside, "RANDOM", 1)
    monkeypatch.setattr(beside, "RANDOM_ELSEWHERE", 1)
    model = model_of("attn")
    examples = named(model, 24)
    study = Study(
        ONE_ENTRY,
        positions="whitelist",
        name="study",
        metric="kl",
        hypotheses=(Hypothesis("v a1.ind/v/** -> y", name="v"),),
    )
    how: dict[str, Any] = {"candidates": ["heads", "positions"], "stop": False, "resamples": 0, "rival": False}
    found = search(study, 2, model, examples, HERE, **how)
    (last,) = found.points[-1:]
    assert len(last.cells) == 2
    assert {cell.by for cell in last.cells} == {BY_POSITIONS}
    for row, wrong in ((7, NOWHERE), (11, model.n_ctx - 1)):
        at = {**examples.positions, "S2": np.where(np.arange(24) == row, wrong, examples.positions["S2"])}
        told = "has no position 'S2'" if wrong == NOWHERE else "'S2' and 'end' are the same position in"
        with pytest.raises(ScrubError, match=re.escape(told)):
            search(study, 3, model, replace(examples, positions=at), HERE, **how)

"""Cells: what there is to keep, counted and listed, what lists of them compute, and which a hypothesis keeps."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from oracle import Oracle, Step, matches
from searched import (
    ENTRIES,
    ONE_ENTRY,
    WHOLE,
    exactly,
    fold_of,
    model_of,
    ours,
    prompts,
    some,
    tokens_of,
)  # fmt: skip
from small import paths

from scrub.measure.search.cells import Cells
from scrub.study.hypothesis import Hypothesis
from scrub.study.study import Study
from scrub.text.errors import ScrubError

MASKS = {"kinds": ["masks"]}
ALL: list[tuple[str, str, dict[str, Any], int]] = [  # and how many cells there are, counted by hand
    ("attn", ONE_ENTRY, {}, 3 * 6),
    ("attn", ONE_ENTRY, MASKS, 3 * (1 + 5 * 4)),
    ("attn", ONE_ENTRY, {"parts": ["k"]}, 6),
    ("attn", "a1.ind/{q,k}/** -> y", {}, 2 * 6),
    ("attn", "a1.ind/q/** -> y\na1.ind/v/** -> y", {}, 2 * 6),
    ("attn", "a1.ind/*/** -> y", {"parts": ["v"]}, 6),
    ("attn3", ENTRIES, {}, 3 * 4 + 3 * (4 + 2)),
    ("attn3", "**/a*.ind/k/** -> y", {}, 4 + (4 + 3)),
    ("attn", WHOLE, {"depth": 1}, 11),
    ("attn", WHOLE, {}, 1 + 5 * 3 + 5 * 3 * 6),
    ("attn", WHOLE, MASKS, 1 + 10 * 4),
    ("attn3", WHOLE, {"depth": 3}, 1 + 9 + 9 * (1 + 9) + 9 * (1 + 9 + 9 * 4)),
    ("gpt2", WHOLE, {}, 1 + 3 * 3 + 4 + 9 * (1 + 4) + 8),
    ("gpt2", WHOLE, {"kinds": ["heads"], "depth": 1}, 1 + 6),
    ("gpt2", "**/m1/** -> y", {}, 1 + 3 + 1 + 3),
    ("gptj", WHOLE, {"depth": 1}, 1 + 8 + 2),
    ("encoder", WHOLE, {"depth": 1}, 1 + 8 + 2),
    ("gpt2", "a1/k/** -> y\n**/m1/** -> y", {}, 5 + 6),
]


def cells_of(kind: str, baseline: str, how: dict[str, Any]) -> Cells:
    return Cells.made(Study(baseline, name="study"), model_of(kind), **how)


@pytest.mark.parametrize(("kind", "baseline", "how", "count"), ALL)
def test_counted_listed_and_numbered(kind: str, baseline: str, how: dict[str, Any], count: int) -> None:
    cells = cells_of(kind, baseline, how)
    assert len(cells) == len(cells.every) == len({*cells.every}) == len({*map(str, cells.every)}) == count
    assert {cells._number(at) for at in range(count)} == {*cells.every}
    assert sorted(cells.every, key=cells.key) == [*cells.every]
    assert {cells.part_of(cell) for cell in cells.every} == {*cells.parts} <= {*cells.all_parts}
    assert len(cells.drawn(5, np.random.default_rng(0))) == 5
    assert cells.drawn(count + 3, np.random.default_rng(0)) == {*cells.every}


def test_lists_are_drawn_uniformly() -> None:
    cells = cells_of("attn3", WHOLE, {"depth": 2})
    rng = np.random.default_rng(1)
    found = Counter(cell for _ in range(1000) for cell in cells.drawn(3, rng))
    expected = 1000 * 3 / len(cells)
    assert (
        sum((found[cell] - expected) ** 2 / expected for cell in cells.every)
        < len(cells) + 4 * len(cells) ** 0.5 * 1.42
    )


def fed(cells: Cells, kept: Any) -> dict[str, str]:
    """What feeds each path where some cells are kept, by patterns as regular expressions of whole paths."""

    def hit(pattern: str, path: str) -> bool:
        return matches(pattern, tuple(Step((step,)) for step in path.split("/")))

    searched = [pattern for of in cells.parts.values() for pattern in of]
    every = paths(cells.experiment((), "none", fine=True, split=cells.every).before)
    resampled = {path for path in every if any(hit(pattern, path) for pattern in searched)}
    left = {path for path in resampled if not any(hit(cell.pattern.removeprefix("out/"), path) for cell in kept)}
    return {path: "y" if path in left else "x" for path in every}


@pytest.mark.parametrize(("kind", "baseline", "how"), [each[:3] for each in ALL if each[2] != {"depth": 3}])
def test_a_list_keeps_the_paths_of_its_cells(kind: str, baseline: str, how: dict[str, Any]) -> None:
    """All of them are all that is resampled, but for where heads look whose values are cells."""
    cells = cells_of(kind, baseline, how)
    for size in (0, 1, len(cells) // 3, len(cells)):
        kept = some(cells, size)
        assert paths(cells.experiment(kept, "list", fine=True, split=cells.every).resampled) == fed(cells, kept)
    assert paths(cells.experiment(cells.every, "every").resampled) == paths(cells.whole("whole").resampled)
    left = {path for path, source in paths(cells.whole("whole").resampled).items() if source == "y"}
    outside = (
        {path for path in left if "/m0/" in f"/{path}" or path.startswith("m")}
        if how.get("kinds") == ["heads"]
        else set()
    )
    assert all(re.search(r"\[.*\]/[qk]/", path) for path in left - outside)
    assert bool(left) == ("kinds" in how)


@pytest.mark.parametrize(
    ("kind", "baseline", "how"),
    [("attn", ONE_ENTRY, {}), ("attn", ONE_ENTRY, MASKS), ("attn3", ENTRIES, {}), ("gemma2", WHOLE, {"depth": 1})],
)
def test_numbers_of_lists_are_the_oracles(kind: str, baseline: str, how: dict[str, Any]) -> None:
    """Along paths that the oracle walks, fed as the patterns of the cells say."""
    model = model_of(kind)
    examples = prompts(model, 1)
    fold = fold_of(baseline, model, examples, "logit_diff", cells=how)
    heads = {"attn": ["01234", ["ind"]], "attn3": ["012", ["0", "1", "ind"], ["ind", "2"]]}.get(kind, ["0123"] * 2)
    splits: list[tuple[str, str, list[str]]] = [(f"**/a{at}", "heads", [*names]) for at, names in enumerate(heads)]
    if how == MASKS:
        splits.append(("a1.ind/{q,k,v}/a0.*", "mask", ["current", "previous", "lag 2"]))
    lists = [some(fold.cells, size, size) for size in (3, len(fold.cells) // 2)]
    found = exactly(fold, lists)
    roles = {name: {tuple(head) for head in of} for name, of in model.roles.items()}
    for kept, values in zip(lists, found, strict=True):
        rules = [(baseline.partition(" ")[0], "y"), *((cell.pattern.removeprefix("out/"), "x") for cell in kept)]
        logits = Oracle(ours(model, tokens_of(examples)), roles, splits, rules).logits()[:, -1].numpy()
        good, bad = (np.take_along_axis(logits, of, 1)[:, 0] for of in (examples.answers, examples.wrong))
        np.testing.assert_allclose(values, good - bad, rtol=0, atol=1e-11)
    assert len(np.unique(found.round(6))) == found.size


KEPT = [("attn", ONE_ENTRY, {}), ("attn", ONE_ENTRY, MASKS), ("attn3", ENTRIES, {}), ("attn4", ENTRIES, {})]
KEPT += [("attn", WHOLE, {"depth": 2}), ("attn3", WHOLE, {"depth": 3}), ("gpt2", WHOLE, {}), ("attn", WHOLE, MASKS)]
KEPT += [("attn", "a1.ind/{q,k}/** -> y", {}), ("encoder", WHOLE, {"depth": 2}), ("gpt2", "**/m*/** -> y", {})]


@pytest.mark.parametrize(("kind", "baseline", "how"), KEPT)
def test_a_hypothesis_of_cells_keeps_those(kind: str, baseline: str, how: dict[str, Any]) -> None:
    cells = cells_of(kind, baseline, how)
    for seed, size in enumerate((1, 2, len(cells) // 3, len(cells) - 1, len(cells))):
        kept = some(cells, size, seed)
        every = {(cell.place, cell.component, told.by) for cell, told in cells.told(cells.every, fine=True) if told.by}
        splits = [f"splits {place}/{component} by {by}" for place, component, by in sorted(every)]
        lines = []
        for part, patterns in cells.parts.items():
            lines += [f"{part} {pattern} -> y" for pattern in patterns]
            lines += [f"{part} {cell.pattern} -> x" for cell in kept if cells.part_of(cell) == part]
        assert cells.kept_by(Hypothesis("\n".join([*splits, *lines]), name="made")) == kept


FORMS: list[tuple[dict[str, Any], str, set[str]]] = [  # of a1.ind in two layers of five heads
    ({}, "k a1.ind/k/** -> y", {f"{slot}/{c}" for slot in "qv" for c in ("emb", *(f"a0.{h}/**" for h in range(5)))}),
    ({}, "q a1.ind/** -> y", set()),
    ({}, "q a1.ind/** -> y\n  a1.ind/k/** -> x", {"k/emb", *(f"k/a0.{h}/**" for h in range(5))}),
    ({}, "q a1.ind/** -> y\n  a1.ind/{q,v}/a0.self/** -> x", {f"{s}/a0.{h}/**" for s in "qv" for h in (0, 4)}),
    ({}, "q a1.ind/** -> y\n  a1.ind/k/a0.{prev,3}/v/emb -> x", {"k/a0.1/**", "k/a0.3/**"}),
    ({}, "q a1.ind/** -> y\n  a1.ind/k/a0.*/** -> x\n  a1.ind/k/a0.2/** -> y", {f"k/a0.{h}/**" for h in (0, 1, 3, 4)}),
    ({}, "splits a1.ind/k/a0.prev by mask \"previous\"\nk a1.ind/** -> y\n  a1.ind/k/a0.prev[previous]/v/** -> x",
     {"k/a0.1/**"}),
    (MASKS, "splits a1.ind/k/a0.prev by mask \"previous\"\nk a1.ind/** -> y\n  a1.ind/k/a0.prev[previous]/v/** -> x",
     {"k/a0.1[previous]/v/**"}),
    (MASKS, "splits a1.ind/k/a0.prev by mask \"previous\"\nk a1.ind/** -> y\n  a1.ind/k/a0.prev[rest]/v/** -> x",
     {f"k/a0.1[{part}]/v/**" for part in ("current", "lag 2", "rest")}),
    (MASKS, "splits a1.ind/v/a0.* by mask \"last three\"\nv a1.ind/** -> y\n  a1.ind/v/a0.2[last three]/v/** -> x",
     {f"v/a0.2[{part}]/v/**" for part in ("current", "previous", "lag 2")}),
    (MASKS, "splits a1.ind/q/a0.self by identity\nq a1.ind/** -> y\n  a1.ind/q/a0.self[identity]/v/** -> x",
     {f"q/a0.{head}[current]/v/**" for head in (0, 4)}),
    (MASKS, "splits a1.ind/q/a0.self by identity\nq a1.ind/** -> y\n  a1.ind/q/a0.self[error]/v/** -> x",
     {f"q/a0.{head}[{part}]/v/**" for head in (0, 4) for part in ("current", "previous", "lag 2", "rest")}),
    (MASKS, "q a1.ind/** -> y\n  a1.ind/q/a0.3/** -> x\n  a1.ind/v/emb -> x",
     {"v/emb", *(f"q/a0.3[{part}]/v/**" for part in ("current", "previous", "lag 2", "rest"))}),
    ({}, "splits a1.ind/q/emb by positions \"0..2\"\nq a1.ind/** -> y\n  a1.ind/q/emb[0..2] -> x", {"q/emb"}),
]  # fmt: skip


@pytest.mark.parametrize(("how", "rules", "expected"), FORMS)
def test_a_hypothesis_by_hand_keeps_what_it_keeps_anything_of(how: Any, rules: str, expected: set[str]) -> None:
    cells = cells_of("attn", ONE_ENTRY, how)
    kept = cells.kept_by(Hypothesis(rules, name="written"))
    assert {str(cell).removeprefix("a1.ind/") for cell in kept} == expected


def test_deep_cells_of_a_whole_component_are_all_of_its_own() -> None:
    cells = cells_of("gpt2", WHOLE, {"depth": 2})
    kept = cells.kept_by(
        Hypothesis("out ** -> y\n  a1.0/k/** -> x\n  m0/a0.1/** -> x\n  a1.2/v/m0/emb -> x", name="deep")
    )
    below = {"a1.0/k/emb", "a1.0/k/m0/**", *(f"a1.0/k/a0.{head}/**" for head in range(3))}
    assert {str(cell).removeprefix("out/") for cell in kept} == below | {"m0/a0.1/**", "a1.2/v/m0/**"}


WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("attn", ONE_ENTRY, {"kinds": ["roles"]}, "there are no candidates 'roles'"),
    ("attn", ONE_ENTRY, {"kinds": []}, "no candidates"),
    ("attn", ONE_ENTRY, {"parts": ["out"]}, "no part 'out': it has q, k, v"),
    ("attn", ONE_ENTRY, {"depth": 2, **MASKS}, "search at depth 1"),
    ("attn", "a1.ind/k/emb -> y", {}, "no cells can be told of the baseline"),
    ("attn", "** -> y\na1.ind/k/** -> x", {}, "keeps paths"),
    ("attn3", "**/a*.ind/k/** -> y", {"depth": 2}, "search at depth 1"),
    ("attn3", "**/a*.ind/k/** -> y", MASKS, "search at depth 1"),
    ("attn", "a1.ind/k/a0.prev/v/** -> y", {}, "nothing to search"),
    ("gpt2", "{a1,m1}/** -> y", {}, "a line of its own"),
]


@pytest.mark.parametrize(("kind", "baseline", "how", "says"), WRONG)
def test_what_has_no_cells_is_one_line(kind: str, baseline: str, how: dict[str, Any], says: str) -> None:
    with pytest.raises(ScrubError, match=re.escape(says)) as raised:
        cells_of(kind, baseline, how)
    assert "\n" not in str(raised.value)

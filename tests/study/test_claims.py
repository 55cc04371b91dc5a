"""How much an experiment scrubs, against every path written out."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import ROLES, paths, rules, small, small_gpt2

from scrub import Hypothesis, Study
from scrub.paths.splits import Split
from scrub.study.claims import ALIKE, Claim, front
from scrub.study.experiments import experiments

BASELINE = "a1.ind/** -> y"
RULES = ["a1.ind/q/** -> y", "a1.ind/k/emb*/** -> y", "a1.ind/{k,v}/a0.prev/** -> y", "a1.ind/v/a0.3/v -> y", "** -> x"]
RULES += ["a1.ind/k/a0.rest/{q,k} -> y", "a1.2/v/** -> y", "a1.ind/**/emb*/** -> y"]
SPLITS = ['a1.ind/q/a0 by mask "current"', "a1.ind/v/a0.self by identity", "a1.ind/k/emb by positions 1..2"]


def share(written: list[str], splits: list[str], baseline: str = BASELINE) -> float | None:
    hypothesis = Hypothesis(
        "\n".join([*(f"splits {each}" for each in splits), f"k {written[0]}", *map(" {}".format, written[1:])]),
        name="h",
    )
    found = experiments(Study(baseline), [hypothesis], small().graph, ROLES, ["k"])
    return found.scrubbed[-1].claim.scrubs


@given(st.lists(st.sampled_from(RULES), min_size=1, max_size=4), st.lists(st.sampled_from(SPLITS), unique=True))
def test_the_share_is_that_of_paths_written_out(written: list[str], splits: list[str]) -> None:
    graph = small().graph
    for layer in (0, 1):
        graph = Split.parse(f"**/a{layer} by heads 0 1 2 3 4").apply(graph, {})
    names = {"a1.ind": "a1.{2,3}", "a0.prev": "a0.1", "a0.rest": "a0.{2,3}"}
    alone = [re.sub("|".join(names), lambda found: names[found[0]], text) for text in written]
    fed = {path: source for path, source in paths(rules(graph, *alone)).items() if re.match(r"a1\.[23]/", path)}
    wanted = Fraction(100 * sum(source == "y" for source in fed.values()), len(fed))
    assert share(written, splits) == pytest.approx(float(wanted))


def test_the_baseline_scrubs_everything_and_what_it_leaves_counts_for_nothing() -> None:
    assert share([BASELINE], []) == 100
    assert share(["a1.rest/** -> y"], []) == 0
    assert share(["** -> y"], []) == 100


def test_of_a_baseline_that_keeps_paths_nothing_is_known() -> None:
    assert share(["a1.ind/** -> y"], [], "a1.ind/** -> y\na1.ind/q/emb -> x") is None


def test_parts_together_are_named() -> None:
    model = small_gpt2(n_layers=2).graph
    hypothesis = Hypothesis("q **/a1/q/** -> y\nv **/a1/v/** -> y", name="h")
    found = {e.part: e.claim for e in experiments(Study("**/a1/** -> y"), [hypothesis], model, {}).scrubbed}
    assert (found["q"].parts, found["v"].parts, found["all"].parts) == (("q",), ("v",), ("q", "v"))
    assert found["all"].scrubs == pytest.approx(found["q"].scrubs + found["v"].scrubs)


@given(st.floats(0, 100), st.floats(0, 100))
def test_alike_is_within_a_tenth_of_the_larger(one: float, other: float) -> None:
    parts = ("q", "k")
    first, second = Claim(parts, one), Claim(("k", "q"), other)
    larger = max(one, other)
    if abs(abs(one - other) - ALIKE * larger) > 1e-6:
        assert first.alike(second) == second.alike(first) == (abs(one - other) < ALIKE * larger or one == other)
    assert bool(first.apart(second)) != first.alike(second)
    assert not Claim(("q",), one).alike(first)
    assert Claim(parts, None).alike(first)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5) | st.none()), max_size=8))
def test_the_front_is_what_nothing_beats_in_both(claims: list[tuple[int, int | None]]) -> None:
    for (recovered, scrubs), on in zip(claims, front(claims), strict=True):
        beaten = any(
            r >= recovered and s >= scrubs and (r > recovered or s > scrubs)
            for r, s in claims
            if s is not None and scrubs is not None
        )
        assert on == (scrubs is not None and not beaten)


def test_paths_through_several_entries_count() -> None:
    """Heads that read heads that are entries too: what only they bring is a part of what the baseline resamples."""
    model = small_gpt2(n_layers=3).graph
    roles = {"ind": [(1, 0), (2, 1)]}
    hypothesis = Hypothesis("ind **/a*.ind/**/a*.ind/** -> y\nall_else **/a*.ind/** -> y", name="h")
    found = experiments(Study("**/a*.ind/** -> y"), [hypothesis], model, roles)
    heads = Split.parse("**/a2 by heads 0 1 2 3 4").apply(model, {})
    for layer in (1, 0):
        heads = Split.parse(f"**/a{layer} by heads 0 1 2 3 4").apply(heads, {})
    entered = [path for path in paths(heads) if re.search(r"(^|/)(a1\.0|a2\.1)/", path)]
    twice = [path for path in entered if re.search(r"(^|/)a2\.1/(.*/)?a1\.0/", path)]
    ind, everything = (next(e for e in found.scrubbed if e.part == part).claim.scrubs for part in ("ind", "all_else"))
    assert everything == 100
    assert ind == pytest.approx(100 * len(twice) / len(entered))


def test_a_split_on_what_the_baseline_resamples_hides_nothing() -> None:
    for split in ('a1.ind by mask "previous"', "a1.ind by positions 0", "a1.ind/{q,k,v} by positions 0"):
        assert share(["a1.ind*/** -> y"], [split]) == pytest.approx(100)


def test_resampling_a_little_of_everything_is_resampling_nothing() -> None:
    """However often what is left is split again."""
    splits, written, rest = [], [], ""
    for position in range(4):
        splits.append(f"a1.ind/{{q,k,v}}{rest} by positions {position}")
        written.append(f"a1.ind/{{q,k,v}}{rest}[{position}]/** -> y")
        rest += "[rest]"
    assert share(written, splits) == 0
    masked = ["a1.ind/v/a0[rest]/** -> y"]
    assert share(masked, ['a1.ind/v/a0 by mask "last 3"']) == 0
    assert share([*masked, "a1.ind/v/a0[last 3]/q/** -> y"], ['a1.ind/v/a0 by mask "last 3"']) == pytest.approx(
        100 * 5 / 48
    )


@pytest.mark.parametrize("parts", [("q", "k"), ("k", "q")])
def test_which_claims_compare(parts: tuple[str, ...]) -> None:
    ours = Claim(("q", "k"), 50.0)
    for share, alike in ((50.0, True), (55.0, True), (45.5, True), (56.0, False), (44.0, False), (None, True)):
        theirs = Claim(parts, share)
        assert ours.alike(theirs) == theirs.alike(ours) == alike
        assert bool(ours.apart(theirs)) == bool(theirs.apart(ours)) == (not alike)
    assert ours.apart(Claim(parts, 20.0)) == "scrubs 50 % of paths, not 20 %"
    assert ours.apart(Claim(("q",), 20.0)) == ours.apart(Claim(("q",), 50.0)) == "scrubs q k, not q"

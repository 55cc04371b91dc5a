"""Leaderboards: the order, what stands on which board, and what is said of each place."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from by_hand import drawn, said

from scrub.store.comparisons.leaderboard import Leaderboard, leaderboard
from scrub.store.results.read import HypothesisRecord, StudyResults
from scrub.study.claims import Claim
from scrub.text.errors import ScrubError

EFFECTS = {"a/all": 0.3, "b/all": 0.8, "c/all": 0.5, "c/k": 0.9, "d/all": 0.79}
ABOUT = {"weights_hash": "aaaa1111bbbb", "tokens_hash": "cccc2222", "dtype": "float32", "scrub_version": "0.1.0"}


def study(effects: dict[str, float] | None = None, seed: int = 1, sequences: int = 41, **more: Any) -> StudyResults:
    return drawn(np.random.default_rng(seed), sequences, effects or EFFECTS, **{"about": ABOUT} | more)


def names(found: Leaderboard) -> list[list[str]]:
    return [[place.hypothesis for place in board.places] for board in found.boards]


def test_ordered_by_what_they_recover() -> None:
    stored = study()
    found = leaderboard([stored], "s")
    scores = {name: stored.result.recovered(f"{name}/all") for name in "abcd"}
    assert names(found) == [sorted(scores, key=lambda name: scores[name].estimate, reverse=True)]
    (board,) = found.boards
    leader, *others = board.places
    assert (leader.behind, leader.tied) == (None, False)
    for place in board.places:
        assert place.recovered == scores[place.hypothesis]
        assert place.loss == stored.result.interval("loss", f"{place.hypothesis}/all")
    for place in others:
        assert place.behind == stored.result.improvement(f"{place.hypothesis}/all", f"{leader.hypothesis}/all")
    for place in others:  # by the paired difference, not by whether the two intervals overlap
        assert place.behind is not None
        assert place.tied == (place.behind.low <= 0 <= place.behind.high)
    assert [place.rank for place in board.places] == [1, 2, 3, 4]
    assert names(leaderboard([stored], "s", "k")) == [["c"]]


def test_what_claims_least_does_not_lead() -> None:
    """q, k and v that each scrub a trifle recover everything: they are on the front, behind what claims more."""
    effects = {"trivial/all": 1.0, "honest/all": 0.85, "rival/all": 0.65, "weak/all": 0.3}
    parts = ("q", "k", "v")
    shares = {"trivial/all": 0.5, "honest/all": 76.0, "rival/all": 79.0, "weak/all": 75.0}
    claims = {name: Claim(parts, share) for name, share in shares.items()}
    (board,) = leaderboard([study(effects, claims=claims)], "s").boards
    assert [place.hypothesis for place in board.places] == ["honest", "rival", "trivial", "weak"]
    assert [(place.rank, place.front) for place in board.places] == [(1, True), (2, True), (1, True), (3, False)]
    behind = {place.hypothesis: place.behind for place in board.places}
    assert behind["trivial"] is behind["honest"] is None  # nothing compares with the trivial one
    assert behind["rival"] is not None


def test_what_is_of_other_parts_is_not_ranked_together() -> None:
    effects = {"one/all": 0.9, "three/all": 0.5}
    claims = {"one/all": Claim(("v",), 30.0), "three/all": Claim(("q", "k", "v"), 30.0)}
    (board,) = leaderboard([study(effects, claims=claims)], "s").boards
    assert [(place.rank, place.behind) for place in board.places] == [(1, None), (1, None)]


@pytest.mark.parametrize(
    "other",
    [
        {"model": "m2"},
        {"data": "d2"},
        {"about": ABOUT | {"dtype": "float64"}},
        {"about": ABOUT | {"weights_hash": "b"}},
        {"about": ABOUT | {"tokens_hash": "b"}},
        {"about": ABOUT | {"selection_hash": "b"}},
        {"about": ABOUT | {"scrub_version": "9"}},
        {"sequences": 30},
    ],
)
def test_numbers_that_do_not_compare_stand_apart(other: dict[str, Any]) -> None:
    found = leaderboard([study({"x/all": 0.99}, **other), study()], "s")
    assert [len(each) for each in names(found)] == [4, 1]
    first, second = ((board.heading, board.basis) for board in found.boards)
    assert first != second
    assert all(place.behind is None for place in found.boards[1].places)
    other_data = {"tokens_hash", "selection_hash"} & {name for name, of in other.get("about", {}).items() if of == "b"}
    assert len(found.notes) == len(other_data), "which no heading tells apart"
    assert all(board.digest[:8] in note for board in found.boards for note in found.notes)
    # and of another study they aren't there at all
    assert names(leaderboard([study({"x/all": 0.99}, study="other"), study()], "s"))[0][0] != "x"


def test_other_pairings_share_a_board_and_differ_over_those_that_both_have() -> None:
    one, two = study(), study({"a/all": 0.2, "e/all": 0.4}, draws=3)
    (board,) = leaderboard([one, two], "s").boards
    by_name = {place.hypothesis: place for place in board.places}
    assert set(by_name) == set("abcde")
    assert {name: place.pairings for name, place in by_name.items()} == {"a": 3, "b": 1, "c": 1, "d": 1, "e": 3}
    leader = board.places[0].hypothesis
    assert leader in {"b", "d"}
    assert by_name["e"].behind is None
    assert all(by_name[name].behind == one.result.improvement(f"{name}/all", f"{leader}/all") for name in ("a", "c"))


def test_versions_only_when_asked() -> None:
    stored = study(EFFECTS | {"a@1234abcd/all": 0.95})
    assert "a@1234abcd" not in names(leaderboard([stored], "s"))[0]
    assert names(leaderboard([stored], "s", versions=True))[0][0] == "a@1234abcd"


def test_random_hypotheses_are_what_others_stand_among() -> None:
    randoms = [HypothesisRecord(f"b~{number}", "", "k ** -> y", null_of="b") for number in range(5)]
    effects = {f"{each.name}/all": 0.6 + 0.08 * at for at, each in enumerate(randoms)}
    stored = study(EFFECTS | effects, hypotheses=randoms)
    found = leaderboard([stored], "s")
    assert set(names(found)[0]) == set("abcd")
    by_name = {place.hypothesis: place for place in found.boards[0].places}
    among = by_name["b"].chance
    scores = [stored.result.recovered(name).estimate for name in effects]
    above = sum(score < by_name["b"].recovered.estimate for score in scores)
    assert 0 < above < 5
    assert among is not None
    assert (among.count, among.above, among.p) == (5, above / 5, (1 + 5 - above) / 6)
    assert by_name["a"].chance is None
    assert f"{above} of 5" in said(found, 130)


@pytest.mark.parametrize("width", [80, 130])
def test_every_name_and_number_fits(width: int) -> None:
    about = ABOUT | {"time": "2026-01-02T03:04:05+00:00"}
    found = leaderboard([study({f"refined_{n}/all": 0.1 * n for n in range(9)}, about=about)], "s")
    text = said(found, width)
    assert max(map(len, text.splitlines())) <= width
    for place in found.boards[0].places:
        assert place.hypothesis in text
        for number in (place.recovered.estimate, place.recovered.low, place.recovered.high):
            assert f"{number:.1f}" in text
    assert "2026-01-02" in text


def test_json_frame_and_page() -> None:
    found = leaderboard([study(), study({"<b>x/all": 0.5}, model="m<2>")], "s")
    text = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert text == found.to_dict()
    assert (text["format"], text["study"], text["part"]) == (1, "s", "all")
    assert [len(board["rows"]) for board in text["boards"]] == [4, 1]
    assert text["boards"][0]["about"]["dtype"] == "float32"
    frame = found.frame()
    assert list(frame.hypothesis) == [row["hypothesis"] for board in text["boards"] for row in board["rows"]]
    assert list(frame.board) == [0] * 4 + [1]
    html = found._repr_html_()
    assert html.count("part: all") == 2
    assert "<b>x" not in html
    assert "&lt;b&gt;x" in html
    assert "m<2>" not in html


def test_mistakes() -> None:
    with pytest.raises(ScrubError, match=r"study 't'.* s$"):
        leaderboard([study()], "t")
    with pytest.raises(ScrubError, match=r"study 't'.* none"):
        leaderboard([], "t")
    with pytest.raises(ScrubError, match=r"part 'w' .*s.* all, k"):
        leaderboard([study()], "s", "w")

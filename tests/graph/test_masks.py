"""Masks by name, against what the name says, written out for every query and key."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scrub.graph.masks import MASKS, on_device, positions_inside
from scrub.text.errors import ScrubError
from scrub.text.spans import spans

QUERIES = 11


def dense(name: str, query: torch.Tensor) -> torch.Tensor:
    """The mask as a matrix [query, key], counting a key as often as it is listed."""
    keys, exists = MASKS[name].keys(query[None])
    matrix = torch.zeros(len(query), QUERIES)
    return matrix.scatter_add_(1, keys[0], exists[0].float())


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("current", lambda i, j: j == i),
        ("previous", lambda i, j: j == i - 1),
        ("last three", lambda i, j: j in (i, i - 1, i - 2)),
        ("first", lambda _, j: j == 0),
        ("last 1", lambda i, j: j == i),
        ("last 5", lambda i, j: i - 5 < j <= i),
        ("lag 0", lambda i, j: j == i),
        ("lag 4", lambda i, j: j == i - 4),
        ("lag 99", lambda _i, _j: False),
        ("lag 9999", lambda _i, _j: False),
    ],
)
def test_a_mask_is_what_its_name_says(name: str, inside: Callable[[int, int], bool]) -> None:
    expected = torch.tensor([[float(inside(i, j)) for j in range(QUERIES)] for i in range(QUERIES)])
    everything = torch.arange(QUERIES)
    assert torch.equal(dense(name, everything), expected)
    some = torch.tensor([7, 0, 10, 7, 3])  # selected rows, in any order
    assert torch.equal(dense(name, some), expected[some])


def test_masks_share_what_some_query_reads_by_both() -> None:
    names = ["current", "previous", "last three", "first", "last 1", "last 5", "lag 0", "lag 4", "lag 6"]
    read = {name: dense(name, torch.arange(QUERIES)) for name in names}
    for one in names:
        for other in names:
            keys = (read[one] * read[other]).nonzero()
            said = MASKS[one].shared(MASKS[other])
            assert bool(said) == bool(len(keys)), (one, other)
            back = {int(query - key) for query, key in keys}
            if said.startswith("position 0, "):
                lag = int(said.split()[4])
                assert lag in back
                assert said == f"position 0, which lies {lag} before position {lag}"
            elif said and said != "position 0":
                assert said in {f"the position {lag} before" if lag else "the current position" for lag in back}


@pytest.mark.parametrize(
    "name", ["last", "last 0", "last -1", "lag x", "next", "", "Previous", "last 2.5", "lag 99999", "last 10000"]
)
def test_an_unknown_mask_is_one_clear_line(name: str) -> None:
    with pytest.raises(ScrubError, match="there is no mask") as caught:
        MASKS[name]
    message = str(caught.value)
    assert repr(name) in message
    assert "'previous'" in message
    assert "'lag N'" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("4", [(4, 4)]),
        ("0..0", [(0, 0)]),
        ("4..7", [(4, 7)]),
        ("4..7,9", [(4, 7), (9, 9)]),
        (" 9 ,  4..7 ", [(9, 9), (4, 7)]),
        ("5..90, 0", [(5, 90), (0, 0)]),
        ("1..3,2..4", [(1, 3), (2, 4)]),
    ],
)
def test_spans_of_positions(text: str, wanted: list[tuple[int, int]]) -> None:
    assert spans(text) == wanted
    position = torch.tensor([[7, 0, 10, 4], [3, 9, 5, 90]])  # selected rows, in any order
    inside = [[any(first <= at <= last for first, last in wanted) for at in row] for row in position.tolist()]
    assert positions_inside(text, position).tolist() == inside
    assert positions_inside(text, position[1]).tolist() == inside[1]


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "x", "4..", "..7", "..", "7..4", "4...7", "4..x", "-1", "-1..3", "4 .. 7", "4,", ",4", "4,,5"),
        *("1.5", "4-7", "4:7", "1e3", "0x1", "9999999", "4..7..9", "current", '"4"'),
    ],
)
def test_what_is_no_span_is_one_clear_line(text: str) -> None:
    for read in (spans, lambda text: positions_inside(text, torch.arange(QUERIES))):
        with pytest.raises(ScrubError) as caught:
            read(text)
        assert str(caught.value) == f"{text!r} is no span of positions: write them as 4..7 or 4..7,9, counted from 0"


def test_numbers_on_a_device_serve_where_gradients_are_wanted_wherever_they_were_made() -> None:
    with torch.inference_mode():
        numbers = on_device((2, 3, 29), torch.device("cpu"))
    weight = torch.ones(31, requires_grad=True)
    weight[numbers].prod().backward()
    assert weight.grad is not None
    assert weight.grad.nonzero()[:, 0].tolist() == [2, 3, 29]

"""Masks by name, against what the name says, written out for every query and key."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scrub.errors import ScrubError
from scrub.graph.masks import MASKS

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
    ],
)
def test_a_mask_is_what_its_name_says(name: str, inside: Callable[[int, int], bool]) -> None:
    expected = torch.tensor([[float(inside(i, j)) for j in range(QUERIES)] for i in range(QUERIES)])
    everything = torch.arange(QUERIES)
    assert torch.equal(dense(name, everything), expected)
    some = torch.tensor([7, 0, 10, 7, 3])  # selected rows, in any order
    assert torch.equal(dense(name, some), expected[some])


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

"""The checker of shapes that every other test relies on: what has passed once doesn't let anything else pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int, TypeCheckError
from torch import Tensor
from towered import LONGEST, checked, shaped


@checked
def times(a: Float[Tensor, "row inner"], b: Float[Tensor, "inner column"]) -> Float[Tensor, "row column"]:
    return a @ b if a.shape[0] < 7 else b


@checked
def first(rows: int, many: Sequence[Float[Tensor, "{rows}"]]) -> Float[Tensor, "{rows}"]:  # noqa: ARG001
    return many[0]


@checked
def named(values: Mapping[str, Int[np.ndarray, " item"]], share: float = 0.5) -> float:
    return share if values else 0


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


many = [ones(3)] * (LONGEST + 1)
RIGHT: list[Callable[[], object]] = [
    lambda: times(ones(2, 3), ones(3, 5)),
    lambda: times(a=ones(2, 3), b=ones(3, 5)),
    lambda: first(3, [ones(3), ones(3)]),
    lambda: first(3, many),
    lambda: named({"a": np.arange(3), "b": np.arange(3)}, 1),
]
WRONG: list[Callable[[], object]] = [
    lambda: times(ones(2, 3), ones(5, 3)),
    lambda: times(ones(2, 3), ones(3, 5).int()),
    lambda: times(ones(2, 3), ones(3)),
    lambda: times(a=ones(2, 3), b=ones(3)),
    lambda: times(ones(2, 3), np.ones((3, 5))),
    lambda: times(ones(7, 3), ones(3, 5)),  # what comes out
    lambda: first(2, [ones(3), ones(3)]),
    lambda: first(2, many),
    lambda: first(True, [ones(3).int()]),
    lambda: first(3, (3, 3)),
    lambda: named({"a": np.arange(3.0)}),
    lambda: named({1: np.arange(3)}),
    lambda: named({"a": np.arange(3)}, "1"),
]


def test_what_is_wrong_is_so_whatever_passed_before() -> None:
    for _ in range(2):
        for right in RIGHT:
            right()
        for wrong in WRONG:
            with pytest.raises(TypeCheckError):
                wrong()


def test_the_package_is_checked() -> None:
    from scrub.graph.ops import OPS

    run = OPS["add"].run
    assert run is not None
    run(ones(2, 3), ones(2, 3))
    with pytest.raises(TypeCheckError):
        run(ones(2, 3), 5)


@checked
@dataclass
class Pair:
    left: Float[np.ndarray, " item"]
    right: Float[np.ndarray, " item"]

    @property
    @checked
    def gap(self) -> Float[np.ndarray, " item"]:
        return (self.left - self.right)[: len(self.left) // 2 * 2]


def test_what_a_dataclass_is_made_of_is_checked():
    assert len(Pair(np.ones(2), np.zeros(2)).gap) == 2
    with pytest.raises(TypeCheckError):
        Pair(np.ones(2), np.zeros(3))


@pytest.mark.parametrize("annotation", ["Float", "Named", "list[Named]", "Pairs", "np.ndarray | Named"])
def test_shapes_are_found_by_their_own_name_and_by_others(annotation: str):
    assert shaped(annotation, NAMES)
    assert not shaped("list[np.ndarray]", NAMES)
    assert not shaped("Unknown", NAMES)
    assert shaped(Float[Tensor, " item"] | None, NAMES)
    assert not shaped(np.ndarray, NAMES)


NAMES = {"Float": Float, "Named": Float[Tensor, " item"], "Pairs": tuple[Float[Tensor, " item"], int], "np": np}

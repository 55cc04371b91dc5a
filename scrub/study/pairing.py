"""Which other sequence every reference sequence is paired with, and which donors agree with it.

All of it is determined by the seed and the number of the draw, never by the batch size.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

BLOCK = 32  # donors are drawn among this many sequences, so that a batch computes few of their patterns


def generator(seed: int, draw: int, purpose: str) -> np.random.Generator:
    """The random generator for one purpose of one draw."""
    return np.random.default_rng([seed, draw, *purpose.encode()])


def pair(sequences: int, seed: int, draw: int) -> Int[np.ndarray, " sequence"]:
    """The other of every sequence: the next one on a random cycle through all, so never itself."""
    cycle = generator(seed, draw, "pairs").permutation(sequences)
    other = np.empty(sequences, dtype=np.int64)
    other[cycle] = np.roll(cycle, -1)
    return other


def blocks(sequences: int, seed: int, draw: int) -> list[Int[np.ndarray, " member"]]:
    """A random partition of the sequences into blocks of BLOCK; the last may be smaller."""
    order = generator(seed, draw, "blocks").permutation(sequences)
    return [order[start : start + BLOCK] for start in range(0, sequences, BLOCK)]


def row_donors(
    classes: Int[np.ndarray, "sequence position"], seed: int, draw: int, feature: str
) -> Int[np.ndarray, "sequence position"]:
    """For every position of every sequence, another sequence of the same class at that position.

    Drawn uniformly among those of its block; where none of them agrees, among all sequences; where no
    other agrees at all, the sequence itself is the only draw there is.
    """
    count, length = classes.shape
    rng = generator(seed, draw, f"donors {feature}")
    donors = np.empty((count, length), dtype=np.int64)
    for members in blocks(count, seed, draw):
        here = classes[members]
        agrees = (here[:, None] == here[None]) & ~np.eye(len(members), dtype=bool)[:, :, None]
        # the largest of independent uniform numbers is a uniform draw among those that agree
        lot = np.where(agrees, rng.random(agrees.shape), -1.0)
        donors[members] = members[lot.argmax(1)]
        for row, position in zip(*np.nonzero(~agrees.any(1)), strict=True):
            own = members[row]
            everywhere = np.flatnonzero(classes[:, position] == classes[own, position])
            others = everywhere[everywhere != own]
            donors[own, position] = rng.choice(others) if len(others) else own
    return donors


def sequence_donors(
    classes: Int[np.ndarray, " sequence"], seed: int, draw: int, feature: str
) -> Int[np.ndarray, " sequence"]:
    """For every sequence, another of the same class, each the donor of one; alone in its class, itself."""
    rng = generator(seed, draw, f"donors {feature}")
    donors = np.arange(len(classes))
    for each in np.unique(classes):
        cycle = rng.permutation(np.flatnonzero(classes == each))
        donors[cycle] = np.roll(cycle, -1)
    return donors

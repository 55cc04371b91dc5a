"""The columns of a results folder, and the cells that its rows belong to.

`losses/*.parquet` has a row for every sequence of every cell: a cell is one experiment (an anchor, or a part of a
hypothesis) on one model and one set of scored tokens, with one pairing. Parquet, since pandas, polars, DuckDB and
Spark all read a folder of it as one table, with types, and since its dictionaries make the columns that say what a
number rests on cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from scrub.paths.hashes import hash_of
from scrub.study.draws import BLOCK_SEQUENCES
from scrub.study.experiments import Name

FORMAT = 1
_TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class Setting:
    """The properties that all cells of a study share, whatever the pairing. Numbers of two settings don't compare."""

    study: str
    model: str
    data: str
    weights_hash: str
    tokens_hash: str
    selection_hash: str
    sequences: int
    context: int
    dtype: str
    scrub_version: str

    @property
    def digest(self) -> str:
        """The hash of the tokens and the scored positions, as examples have it."""
        return hash_of([self.tokens_hash, self.selection_hash], {})

    @property
    def inputs(self) -> str:
        """The name of its reference sequences, in inputs/."""
        return f"{self.tokens_hash}-{self.selection_hash}"


@dataclass(frozen=True)
class Cell:
    """One experiment in one setting: an anchor by its name, or a part of a hypothesis.

    `hypothesis_hash` is that of the graph as lowered, so a comment doesn't change it. `parameters` is JSON.
    """

    setting: Setting
    experiment: str
    hypothesis: str
    part: str
    parameters: str
    hypothesis_hash: str

    def key(self, seed: int, draw: int) -> str:
        """Name this cell with one pairing, everywhere and for ever."""
        return hash_of(self._fields, seed, draw)

    @cached_property
    def _fields(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def owner(self) -> tuple[str, str] | None:
        """The hypothesis that it belongs to, by its study and its name; None for an anchor."""
        return (self.setting.study, self.hypothesis) if self.hypothesis else None

    @property
    def blocks(self) -> int:
        """The number of blocks that its sequences fall into."""
        return -(-self.setting.sequences // BLOCK_SEQUENCES)


def cells_of(study: Mapping[str, Any]) -> list[Cell]:
    """List the cells that a study of `studies/*.json` is about: anchors, then the parts of its hypotheses."""
    setting = Setting(**study["setting"])
    anchors = [Cell(setting, name, "", "", "{}", hashed) for name, hashed in study["anchors"].items()]
    return anchors + [
        Cell(setting, Name(each["name"], part), each["name"], part, json.dumps(each["parameters"]), hashed)
        for each in study["hypotheses"]
        for part, hashed in each["hashes"].items()
    ]


_SETTING = {"sequences": pa.int32(), "context": pa.int32()}
SETTING = [(name, _SETTING.get(name, _TEXT)) for name in Setting.__dataclass_fields__]

LOSSES = pa.schema(
    [
        ("cell", _TEXT),
        ("block", pa.int32()),  # the sequences that were computed together
        *SETTING,
        ("experiment", _TEXT),
        ("hypothesis", _TEXT),
        ("part", _TEXT),
        ("parameters", _TEXT),
        ("hypothesis_hash", _TEXT),
        ("seed", pa.int64()),
        ("draw", pa.int32()),
        ("device", _TEXT),
        ("batch", pa.int32()),  # sequences computed together, where the memory of a card decided that, else null
        ("torch_version", _TEXT),
        ("time", pa.timestamp("us", tz="UTC")),
        ("sequence", pa.int32()),  # which reference sequence
        ("other", pa.int32()),  # the sequence that it was paired with
        ("scored", pa.int32()),  # how many of its positions are scored
        ("metric", _TEXT),  # which stands in place of the loss where it isn't that
        ("unit", _TEXT),
        ("loss_sum", pa.float64()),  # in the metric's unit, over the scored positions
        ("change_sum", pa.float64()),  # of the absolute change from the unscrubbed loss; null for the bigram
        ("kl_sum", pa.float64()),  # from the unscrubbed model's predictions; null for the bigram
        ("token_losses", pa.list_(pa.float32())),  # of each scored position, in order
    ]
)

LATER = ("batch", "metric", "unit")  # columns that older folders lack: null there

INPUTS = pa.schema(
    [
        ("sequence", pa.int32()),
        ("tokens", pa.list_(pa.int32())),  # context + 1 of them
        ("texts", pa.list_(_TEXT)),  # of each token; nothing of a pad
        ("selected", pa.list_(pa.bool_())),  # which positions are scored, on the token after them
        ("document", pa.int32()),  # the one that it is cut from; of folders of before there is none
        ("length", pa.int32()),  # the positions that are no pads; null where none are, as in folders of before
        ("label", pa.int32()),  # the class that is to be predicted; null where tokens are, as in folders of before
    ]
)

FAILURES = pa.schema(
    [
        ("study", _TEXT),
        ("hypothesis", _TEXT),
        ("parameters", _TEXT),
        ("model", _TEXT),
        ("data", _TEXT),
        ("seed", pa.int64()),  # null where it failed before any pairing
        ("draw", pa.int32()),
        ("block", pa.int32()),
        ("stage", _TEXT),  # "lower", "gates", "measure" or "read"
        ("kind", _TEXT),  # "mistake", "gate", "died" or "bug"
        ("reason", pa.string()),
        ("scrub_version", _TEXT),
        ("time", pa.timestamp("us", tz="UTC")),
    ]
)

"""What a worker does of a job: look at what it consists of, pass its gates, measure its blocks.

Everything here is determined by the job: which worker does it, and what that did before, changes no bit of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from scrub.models.model import Model
from scrub.paths.listing import listed
from scrub.paths.tree import path_tree
from scrub.store.results.schema import INPUTS, LOSSES, Cell, Setting
from scrub.store.sweeps.failure import Cause, Done, Owner, salvage
from scrub.store.sweeps.job import Job
from scrub.store.sweeps.ready import Ready, bigram_of, ready
from scrub.study.binding import Draw
from scrub.study.gates import Gates
from scrub.study.measuring import MEASURES, Batch
from scrub.study.pairing import BLOCK
from scrub.study.run import Prepared
from scrub.text.errors import GateError, ScrubError


@dataclass(frozen=True)
class Survey:
    """What a job consists of: its cells by their names in its plan, and its reference sequences."""

    cells: Mapping[str, Cell]
    inputs: pa.Table

    def studies(self) -> list[list[Cell]]:
        """The cells of each study."""
        found: dict[Setting, list[Cell]] = {}
        for cell in self.cells.values():
            found.setdefault(cell.setting, []).append(cell)
        return list(found.values())


def survey(job: Job) -> Done[Survey]:
    """What a job consists of, but for the hypotheses that can't be lowered. Raises what is wrong with all of it."""
    made = ready(job)
    tokens, selected = made.prepared.data.tokens.numpy(), made.prepared.selected
    return Done(Survey(made.cells, _inputs(tokens, selected, made.model)), made.wrong)


def pass_gates(job: Job, cells: Mapping[str, Cell]) -> Done[list[dict[str, Any]]]:
    """What a results folder keeps of each study, but for the hypotheses that fail. Raises what all of it fails with.

    `cells` are those of the survey: see :func:`_changed`.
    """
    made = ready(job)
    changed = _changed(made, cells)
    named = {each.name: made.cells[each.name].owner for each in made.prepared.experiments}

    def attempt(owners: Collection[Owner | None]) -> Gates:
        chosen = [e for e in made.prepared.experiments if named[e.name] in {None, *owners}]
        return replace(made.prepared, experiments=chosen).gates()

    owners = {owner for each in cells.values() if (owner := each.owner)} - changed.keys()
    found, wrong = salvage([owner for owner in dict.fromkeys(named.values()) if owner in owners], attempt)
    wrong |= changed
    deviations = [each.deviations for each in found]
    largest = {name: max(each[name] for each in deviations) for name in deviations[0]}
    gates = Gates(largest, tuple(dict.fromkeys(text for each in found for text in each.warnings)))
    return Done([_described(study, made, gates, wrong) for study in made.studies], wrong)


def measure(job: Job, seed: int, draw: int, block: int, cells: Mapping[str, Cell]) -> Done[pa.Table]:
    """The rows of some cells, by their names in the plan, for one block of a pairing, but for those that fail.

    `cells` are those of the survey: see :func:`_changed`. Raises what the anchors fail with: GateError where a loss of
    theirs is no finite number, say.
    """
    made = ready(job)
    wrong = _changed(made, cells)

    def attempt(owners: Collection[Owner | None]) -> pa.Table:
        chosen = tuple(name for name, cell in cells.items() if cell.owner in owners)
        table, infinite = _measured(made, seed, draw, block, chosen)
        wrong.update(infinite)
        return table

    owners = dict.fromkeys(owner for cell in cells.values() if (owner := cell.owner) and owner not in wrong)
    found, others = salvage(list(owners), attempt)
    return Done(pa.concat_tables(found).unify_dictionaries().combine_chunks(), wrong | others)


def _changed(made: Ready, cells: Mapping[str, Cell]) -> dict[Owner, Cause]:
    """The hypotheses that aren't what they were when the job was looked at, maybe by another worker.

    Raises ScrubError if the model, the data or the anchors aren't: their rows would be of cells that nobody asked for.
    """
    wrong: dict[Owner, Cause] = {}
    for name, cell in cells.items():
        now = made.cells.get(name)
        if now == cell:
            continue
        if cell.owner is None or (now and now.setting != cell.setting):
            raise ScrubError("its model or data changed while the sweep ran: run it again")
        advice = "let its features depend on the tokens alone, or, if a file of theirs was changed, run it again"
        new = Cause("mistake", f"{name} is no longer what it was when the sweep began: {advice}")
        wrong[cell.owner] = made.wrong.get(cell.owner, new)
    return wrong


def _measured(
    made: Ready, seed: int, draw: int, block: int, names: tuple[str, ...]
) -> tuple[pa.Table, dict[Owner, Cause]]:
    """The rows of some cells; and which hypotheses' losses are no finite numbers, of which there are none."""
    bigrams = {bigram_of(each.study) for each in made.studies}
    only = tuple(name for name in names if name not in bigrams)
    pairing, measuring = made.draw(seed, draw, only), made.measuring(only)
    members = pairing.order[block * BLOCK : (block + 1) * BLOCK]
    size = made.job.settings.batch
    batches = [measuring.measure(pairing, members[at : at + size]) for at in range(0, len(members), size)]
    shared = {
        "block": block,
        "seed": seed,
        "draw": draw,
        "device": made.prepared.settings.where,
        "torch_version": version("torch"),
        "time": datetime.now(UTC),
    }
    tables, wrong = [LOSSES.empty_table()], {}
    for name in names:
        cell = made.cells[name]
        losses = _bigram(made, members) if name in bigrams else _losses(name, batches, made.prepared.selected[members])
        if infinite := [measure for measure, values in losses.sums.items() if not np.isfinite(values).all()]:
            reason = f"the {infinite[0]} of {name} is no finite number: use a dtype of more range or precision"
            if cell.owner is None:
                raise GateError(reason)
            wrong[cell.owner] = Cause("gate", reason)
        else:
            about = {"cell": cell.key(seed, draw), **_flat(cell), **shared}
            tables.append(_table(about, pairing, members, losses))
    return pa.concat_tables(tables), wrong


@dataclass(frozen=True)
class _Losses:
    """Of one cell, for the sequences of a block, in nats."""

    sums: Mapping[str, Float[np.ndarray, " member"]]
    tokens: Sequence[Float[np.ndarray, " _"]]


def _losses(name: str, batches: Sequence[Batch], selected: Bool[np.ndarray, "member position"]) -> _Losses:
    sums = {measure: np.concatenate([batch.sums[measure, name] for batch in batches]) for measure in MEASURES}
    flat = np.concatenate([batch.losses[name] for batch in batches])
    return _Losses(sums, np.split(flat, selected.sum(1).cumsum()[:-1]))


def _bigram(made: Ready, members: Int[np.ndarray, " member"]) -> _Losses:
    tokens = [made.bigram[member][made.prepared.selected[member]] for member in members]
    return _Losses({"loss": np.array([each.sum() for each in tokens])}, tokens)


def _flat(cell: Cell) -> dict[str, Any]:
    about = asdict(cell)
    return {**about.pop("setting"), **about}


def _table(about: Mapping[str, Any], pairing: Draw, members: Int[np.ndarray, " member"], losses: _Losses) -> pa.Table:
    columns = {
        **{name: [value] * len(members) for name, value in about.items()},
        "sequence": members,
        "other": pairing.partners["y"][members],
        "scored": pairing.selected[members].sum(1),
        **{f"{measure}_sum": losses.sums.get(measure, [None] * len(members)) for measure in MEASURES},
        "token_losses": [each.astype(np.float32) for each in losses.tokens],
    }
    return pa.table({name: columns[name] for name in LOSSES.names}, schema=LOSSES)


def _inputs(
    tokens: Int[np.ndarray, "sequence position_plus_one"], selected: Bool[np.ndarray, "sequence position"], model: Model
) -> pa.Table:
    texts = {token: _text(model, token) for token in np.unique(tokens).tolist()}
    rows = {
        "sequence": range(len(tokens)),
        "tokens": list(tokens.astype(np.int32)),
        "texts": [[texts[token] for token in row] for row in tokens.tolist()],
        "selected": list(selected),
    }
    return pa.table(rows, schema=INPUTS)


def _text(model: Model, token: int) -> str:
    """The text of a token, or its id where there is no tokenizer."""
    return model.tokenizer.decode([token], skip_special_tokens=False) if model.tokenizer else str(token)


def _described(prepared: Prepared, made: Ready, gates: Gates, wrong: Collection[Owner]) -> dict[str, Any]:
    """What a results folder keeps of a study: what its hypotheses say, and what the gates saw."""
    cells = {
        name: cell
        for name, cell in made.cells.items()
        if cell.setting.study == prepared.study.name and cell.owner not in wrong
    }
    pictures = {e.name: listed(path_tree(e.graph)) for e in prepared.experiments if e.hypothesis and e.name in cells}
    described = []
    for hypothesis in prepared.hypotheses:
        if (prepared.study.name, hypothesis.name) in wrong:
            continue
        own = {cell.part: name for name, cell in cells.items() if cell.hypothesis == hypothesis.name}
        known = {part: prepared.published.get(name) for part, name in own.items()}
        described.append(
            {
                "name": hypothesis.name,
                "claim": hypothesis.claim,
                "rules": hypothesis.declaration,
                "parameters": dict(hypothesis.values),
                "null_of": hypothesis.null_of,
                "published": {part: percent for part, percent in known.items() if percent is not None},
                "paths": {part: pictures[name] for part, name in own.items()},
                "hashes": {part: cells[name].hypothesis_hash for part, name in own.items()},
            }
        )
    return {
        "setting": asdict(next(iter(cells.values())).setting),
        "n_ctx": made.model.n_ctx,
        "anchors": {cell.experiment: cell.hypothesis_hash for cell in cells.values() if not cell.hypothesis},
        "hypotheses": described,
        "gates": {"deviations": dict(gates.deviations), "warnings": list(gates.warnings)},
    }

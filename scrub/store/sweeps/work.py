"""The work on a job that a worker does: look at what it consists of, pass its gates, measure its blocks.

Everything here is determined by the job: which worker does it, and what that did before, changes no bit of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from scrub.data.examples import TEXT, Examples
from scrub.data.prompts.prompts import token_text
from scrub.data.repeated import NOWHERE
from scrub.models.model import Model
from scrub.paths.listing import listed
from scrub.paths.sources import Y
from scrub.paths.tree import path_tree
from scrub.paths.unmatched import LeftOut
from scrub.store.results.schema import INPUTS, LOSSES, Cell, Setting
from scrub.store.sweeps.failure import Cause, Outcome, Owner, salvage
from scrub.store.sweeps.job import Job
from scrub.store.sweeps.ready import Ready, bigram_of, ready
from scrub.study.claims import Claim
from scrub.study.draws import BLOCK_SEQUENCES, Pairing
from scrub.study.evaluate import Evaluation, Receipt
from scrub.study.experiments import Name
from scrub.study.gates import Gates
from scrub.study.metric import LOSS, ROLES, Metric
from scrub.study.roles import roles_notes, said_roles
from scrub.study.run import Trial
from scrub.text.errors import GateError, ScrubError
from scrub.text.wording import DIGEST_DIGITS


@dataclass(frozen=True)
class Survey:
    """The parts of a job: its cells by their names in its plan, its reference sequences, and what was left out of which
    hypotheses."""

    cells: Mapping[str, Cell]
    inputs: pa.Table
    left_out: Mapping[Owner, LeftOut] = field(default_factory=dict)

    def studies(self) -> list[list[Cell]]:
        """The cells of each study."""
        found: dict[Setting, list[Cell]] = {}
        for cell in self.cells.values():
            found.setdefault(cell.setting, []).append(cell)
        return list(found.values())


def survey(job: Job) -> Outcome[Survey]:
    """Find the parts of a job, but for hypotheses that can't be lowered. Raises what is wrong with all of it."""
    made = ready(job)
    return Outcome(Survey(made.cells, _inputs(made.trial.examples, made.model), made.left_out), made.wrong)


@dataclass(frozen=True)
class Clearance:
    """The record of a job that passed its gates: what a results folder keeps of each study, and the receipt."""

    studies: list[dict[str, Any]]
    receipt: Receipt


def pass_gates(job: Job, cells: Mapping[str, Cell]) -> Outcome[Clearance]:
    """Pass the gates of a job, but for the hypotheses that fail. Raises what all of it fails with.

    `cells` are those of the survey: see :func:`_changed`.
    """
    made = ready(job)
    changed = _changed(made, cells)
    named = {each.name: made.cells[each.name].owner for each in made.trial.experiments}

    def attempt(owners: Collection[Owner | None]) -> Receipt:
        trial = made.only([name for name, owner in named.items() if owner in {None, *owners}])
        return trial.evaluator().receipt(trial.pairing(0))

    owners = {owner for each in cells.values() if (owner := each.owner)} - changed.keys()
    found, wrong = salvage([owner for owner in dict.fromkeys(named.values()) if owner in owners], attempt)
    wrong |= changed
    gates = Gates.joined([each.gates for each in found])
    receipt = Receipt(gates, found[0].basis, frozenset[str]().union(*(each.experiments for each in found)))
    return Outcome(Clearance([_described(study, made, gates, wrong) for study in made.studies], receipt), wrong)


def measure(
    job: Job, seed: int, draw: int, block: int, cells: Mapping[str, Cell], receipt: Receipt | None = None
) -> Outcome[pa.Table]:
    """The rows of some cells, by their names in the plan, for one block of a pairing, but for those that fail.

    `cells` are those of the survey: see :func:`_changed`; what the job's `receipt` covers passes no gates anew. Raises
    what the anchors fail with: GateError where a loss of theirs is no finite number, say.
    """
    made = ready(job)
    wrong = _changed(made, cells)

    def attempt(owners: Collection[Owner | None]) -> pa.Table:
        chosen = tuple(name for name, cell in cells.items() if cell.owner in owners)
        table, infinite = _measured(made, seed, draw, block, chosen, receipt)
        wrong.update(infinite)
        return table

    owners = dict.fromkeys(owner for cell in cells.values() if (owner := cell.owner) and owner not in wrong)
    found, others = salvage(list(owners), attempt)
    return Outcome(pa.concat_tables(found).unify_dictionaries().combine_chunks(), wrong | others)


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
            then, there = (_rests_on(each.setting) if each else "others" for each in (cell, now))
            said = f"they were {then}, and are {there}"
            raise ScrubError(f"its model or data changed while the sweep ran ({said}): run it again")
        advice = "let its features depend on the tokens alone, or, if a file of theirs was changed, run it again"
        new = Cause("mistake", f"{name} is no longer what it was when the sweep began: {advice}")
        wrong[cell.owner] = made.wrong.get(cell.owner, new)
    return wrong


def _rests_on(setting: Setting) -> str:
    return f"weights {setting.weights_hash[:DIGEST_DIGITS]} and data {setting.digest[:DIGEST_DIGITS]}"


def _measured(
    made: Ready, seed: int, draw: int, block: int, names: tuple[str, ...], receipt: Receipt | None
) -> tuple[pa.Table, dict[Owner, Cause]]:
    """The rows of some cells; and which hypotheses' losses are no finite numbers, of which there are none."""
    bigrams = {bigram_of(each.study) for each in made.studies}
    only = tuple(name for name in names if name not in bigrams)
    pairing = made.pairing(seed, draw, only)
    members = pairing.order[block * BLOCK_SEQUENCES : (block + 1) * BLOCK_SEQUENCES]
    found = made.evaluator(only, receipt)(pairing, members, values_of=["loss"])
    metric = made.trial.study.metric  # that of all studies of the job
    shared = {
        "metric": metric.name,
        "unit": metric.unit,
        "block": block,
        "seed": seed,
        "draw": draw,
        "device": made.trial.settings.where,
        "batch": found.computed.batch,
        "torch_version": version("torch"),
        "time": datetime.now(UTC),
    }
    tables, wrong = [LOSSES.empty_table()], {}
    for name in names:
        cell = made.cells[name]
        losses = (
            _bigram(made, members) if name in bigrams else _losses(Name(name), found, pairing.examples.counts[members])
        )
        if infinite := [measure for measure, values in losses.sums.items() if not np.isfinite(values).all()]:
            what = metric.name if infinite[0] == ROLES[0] else infinite[0]
            reason = f"the {what} of {name} is no finite number: use a dtype of more range or precision"
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


def _losses(name: Name, found: Evaluation, counts: Int[np.ndarray, " member"]) -> _Losses:
    sums = {role: found.sums[role, name] for role in ROLES}
    return _Losses(sums, np.split(found.values["loss", name], counts.cumsum()[:-1]))


def _bigram(made: Ready, members: Int[np.ndarray, " member"]) -> _Losses:
    tokens = [made.bigram[member][made.trial.examples.scored[member]] for member in members]
    return _Losses({"loss": np.array([each.sum() for each in tokens])}, tokens)


def _flat(cell: Cell) -> dict[str, Any]:
    about = asdict(cell)
    return {**about.pop("setting"), **about}


def _table(
    about: Mapping[str, Any], pairing: Pairing, members: Int[np.ndarray, " member"], losses: _Losses
) -> pa.Table:
    columns = {
        **{name: [value] * len(members) for name, value in about.items()},
        "sequence": members,
        "other": pairing.partners[Y][members],
        "scored": pairing.examples.counts[members],
        **{f"{role}_sum": losses.sums.get(role, [None] * len(members)) for role in ROLES},
        "token_losses": [each.astype(np.float32) for each in losses.tokens],
    }
    return pa.table({name: columns[name] for name in LOSSES.names}, schema=LOSSES)


def _inputs(examples: Examples, model: Model) -> pa.Table:
    tokens = examples.tokens
    # and the token to predict at the end, unless that is a class
    there = np.arange(tokens.shape[1])[None] <= examples.ends[:, None] + (examples.labels is None)
    texts = {token: token_text(token, model.tokenizer) for token in np.unique(tokens[there]).tolist()}
    written = np.where(there, tokens, NOWHERE).tolist()  # a pad is any token, and nothing
    rows = {
        "sequence": range(len(tokens)),
        "tokens": list(tokens.astype(np.int32)),
        "texts": [[texts.get(token, "") for token in row] for row in written],
        "selected": list(examples.scored),
        "document": examples.documents.astype(np.int32),
        "length": [None] * len(tokens) if examples.lengths is None else examples.lengths.astype(np.int32),
        "label": [None] * len(tokens) if examples.labels is None else examples.labels.astype(np.int32),
    }
    return pa.table(rows, schema=INPUTS)


def _described(trial: Trial, made: Ready, gates: Gates, wrong: Collection[Owner]) -> dict[str, Any]:
    """Collect what a results folder keeps of a study: what its hypotheses say, and what the gates saw."""
    cells = {
        name: cell
        for name, cell in made.cells.items()
        if cell.setting.study == trial.study.name and cell.owner not in wrong
    }
    written: dict[str, str] = {
        e.name: listed(path_tree(e.resampled)) for e in trial.experiments if e.hypothesis and e.name in cells
    }
    claims: dict[str, Claim] = {e.name: e.claim for e in trial.experiments if e.hypothesis and e.name in cells}
    described = []
    for hypothesis in trial.hypotheses:
        if (trial.study.name, hypothesis.name) in wrong:
            continue
        own = {cell.part: name for name, cell in cells.items() if cell.hypothesis == hypothesis.name}
        known = {part: trial.published.get(name) for part, name in own.items()}
        described.append(
            {
                "name": hypothesis.name,
                "claim": hypothesis.claim,
                "rules": hypothesis.declaration,
                "parameters": dict(hypothesis.values),
                "null_of": hypothesis.null_of,
                "published": {part: percent for part, percent in known.items() if percent is not None},
                "paths": {part: written[name] for part, name in own.items()},
                "claims": {part: asdict(claims[name]) for part, name in own.items()},
                "hashes": {part: cells[name].hypothesis_hash for part, name in own.items()},
                **_left_out(made.left_out.get((trial.study.name, hypothesis.name))),
            }
        )
    return {
        "setting": asdict(next(iter(cells.values())).setting),
        "n_ctx": made.model.n_ctx,
        "examples": {
            "begin": trial.examples.begin,
            "notes": [*trial.examples.notes, *roles_notes(trial.study, trial.model)],
            "commits": trial.commits,
            **({"roles": roles} if (roles := said_roles(trial.study, trial.model)) else {}),
            **({} if trial.examples.kind == TEXT else {"kind": trial.examples.kind}),
            **({"fold": trial.settings.fold} if trial.settings.fold else {}),
        },
        "anchors": {cell.experiment: cell.hypothesis_hash for cell in cells.values() if not cell.hypothesis},
        "hypotheses": described,
        **({} if trial.study.metric == LOSS else {"metric": _about(trial.study.metric)}),
        "gates": {"deviations": dict(gates.deviations), "warnings": list(gates.warnings)},
    }


def _left_out(of: LeftOut | None) -> dict[str, Any]:
    return {"left_out": of.to_dict()} if of else {}


def _about(metric: Metric) -> dict[str, Any]:
    ratio = {"with_ratio": True} if metric.with_ratio else {}
    return {"metric": metric.name, "unit": metric.unit, **ratio}

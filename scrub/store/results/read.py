"""Read a results folder: a study's results, put together from the cells that are asked for.

They come with the tokens, their losses, and what was believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from scrub.data.examples import TEXT, Examples
from scrub.paths.unmatched import LeftOut
from scrub.store.results.folder import Results
from scrub.store.results.schema import Cell, Setting, cells_of
from scrub.study.claims import Claim
from scrub.study.experiments import ANCHORS, NOTHING_LEFT_OUT, UNSCRUBBED, Name
from scrub.study.gates import Gates
from scrub.study.metric import ROLES
from scrub.study.parameters import Value
from scrub.study.result import BIGRAM, Result, length_of
from scrub.study.settings import Computed
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments


@dataclass(frozen=True)
class HypothesisRecord:
    """A hypothesis as it was when it ran: what it says, and the tree of paths of each of its parts as text."""

    name: str
    claim: str
    rules: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    null_of: str = ""  # the hypothesis of which this is a random one of the same size
    paths: Mapping[str, str] = field(default_factory=dict)  # by part
    hashes: Mapping[str, str] = field(default_factory=dict)  # by part, of the graph as lowered
    claims: Mapping[str, Claim] = field(default_factory=dict)  # by part; of earlier versions' results there is none
    left_out: LeftOut = NOTHING_LEFT_OUT  # as nothing in this model matches it


@dataclass(frozen=True)
class StudyResults:
    """All that is known of a study on one model and data, in one dtype, over the same pairs.

    `token_losses(experiment)` is the loss, or the study's metric, at every position in its unit, the mean over the
    pairings, [sequence, position], and not a number where none is scored. `pairings` are the (seed, draw) that
    `result` sums over. `about` are the hashes, versions and settings that the numbers rest on, by name. `notes` tell of
    files of the folder that are damaged, whose results are left out.
    """

    result: Result
    examples: Examples
    texts: Mapping[int, str]  # of every token that occurs; without a tokenizer the ids
    hypotheses: Mapping[str, HypothesisRecord]  # by name, in the order of the result's rows
    token_losses: Callable[[str], Float[np.ndarray, "sequence position"]]
    pairings: tuple[tuple[int, int], ...]
    about: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<StudyResults {self.heading}: {'; note: '.join([', '.join(self.hypotheses), *self.notes])}>"

    def described(self, name: str) -> HypothesisRecord:
        """Give what a hypothesis says; nothing, where that isn't known."""
        return self.hypotheses.get(name) or HypothesisRecord(name, "", "")

    def text(self, *tokens: int | np.integer) -> str:
        """Write out tokens that occur; with blanks between them where the model has no tokenizer: they are numbers."""
        return self.between.join(self.texts.get(token, str(token)) for token in map(int, tokens))

    def line(self, sequence: int) -> Int[np.ndarray, " token"]:
        """Give the tokens of a sequence, without pads, and the one to predict at its end, unless that is a class."""
        end = self.examples.ends[sequence] + 1 + (self.examples.labels is None)
        return np.asarray(self.examples.tokens[sequence, :end])

    @cached_property
    def between(self) -> str:
        """The text between two tokens."""
        return " " if all(text == str(token) for token, text in self.texts.items()) else ""

    @property
    def heading(self) -> str:
        """The study, model, data and pairings of the run, in one line."""
        seeds = sorted({seed for seed, _ in self.pairings})
        count = f"{len(self.pairings)} draws, " if len(self.pairings) > 1 else ""
        return f"{self.result.measured_on}, {count}seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


Pairing = tuple[int, int]  # seed and draw
_VERSION_DIGITS = 8  # of a hash, which tell versions of a hypothesis apart
_SUMS = [f"{role}_sum" for role in ROLES]
_COLUMNS = ["cell", "sequence", "scored", *_SUMS, "device", "batch", "torch_version", "time"]


def read_study(results: Results, cells: Mapping[str, Cell], pairings: Sequence[Pairing]) -> StudyResults | None:
    """Read what a folder holds of some cells of one setting with some pairings.

    `cells` are by the names that their experiments shall have: an anchor's, or HYPOTHESIS/PART. Those that aren't there
    in full are left out; None if an anchor isn't, or the reference sequences. Raises ScrubError if a file can't be
    read, GateError if the numbers mean nothing (see Result.checked).
    """
    whole = {n: cell for n, cell in cells.items() if all(results.holds(cell, *each) for each in pairings)}
    if not whole.keys() >= {*ANCHORS} or (inputs := results.inputs(whole[UNSCRUBBED].setting)) is None:
        return None
    setting = whole[UNSCRUBBED].setting
    keys = {name: [cell.key(*pairing) for pairing in pairings] for name, cell in whole.items()}
    table, of = _rows(results, [key for some in keys.values() for key in some], _COLUMNS)
    numbers = table[_SUMS].to_numpy()
    sums = {name: np.sum([numbers[of[key]] for key in some], axis=0) for name, some in keys.items()}
    loss, change, kl = ({name: each[:, at] for name, each in sums.items()} for at in range(len(ROLES)))
    about = [each for each in results.studies() if Setting(**each["setting"]) == setting]
    described = _described(about, whole)
    said = about[-1].get("examples", {}) if about else {}
    examples, texts = _examples(inputs, setting, str(said.get("kind", TEXT)))
    n_ctx = about[-1]["n_ctx"] if about else setting.context
    result = Result(
        study=setting.study,
        model=setting.model,
        data=setting.data,
        draws=len(pairings),
        seed=pairings[0][0],
        rows=[(_owner(name, cell), cell.part) for name, cell in whole.items() if cell.hypothesis],
        loss=loss,
        change={name: each for name, each in change.items() if name != BIGRAM},
        kl={name: each for name, each in kl.items() if name != BIGRAM},
        positions=table["scored"].to_numpy()[of[keys[UNSCRUBBED][0]]] * len(pairings),
        gates=_gates(about, whole),
        **length_of(examples, n_ctx),
        **(about[-1].get("metric", {}) if about else {}),
        computed=Computed(_batch(table), setting.dtype),
        **_examples_said(said, (*_unsaid(inputs), *_left_out(described))),
        kind=examples.kind,
        digest=setting.digest,
        documents=examples.documents,
        published={Name(name, part): p for name, each in described.items() for part, p in each.published.items()},
        claims={Name(name, part): c for name, each in described.items() for part, c in each.claims.items()},
    )
    losses = _token_losses(results, keys, examples.scored)
    fold = {"fold": result.fold} if result.fold else {}
    basis, notes = {**_basis(setting, table), **fold, **result.commits}, tuple(results.notes)
    return StudyResults(result.checked(), examples, texts, described, losses, tuple(pairings), basis, notes)


@check_arguments
def known(results: Results | str | Path, study: str | None = None, every: bool = False) -> list[StudyResults]:
    """Read what a results folder holds, of one study or of all: what is in one setting and shares pairings, together.

    What has some pairings in common with others is there with these, and with all of its own too.
    Of a hypothesis that was changed, what was run last; with `every` the others too, as NAME@HASH. Of random
    hypotheses, those of the size of what their original is now.
    """
    if not isinstance(results, Results):
        results = Results(results)
    results.refresh()
    found = []
    now = _now(results.studies())
    for versions in _versions(results, study).values():
        everyone = [cell for cells in versions.values() for cell in cells]
        cells = {name: cell for name, (*_, cell) in versions.items() if not cell.hypothesis or cell in now}
        if every:
            older = [cell for cell in everyone if cell.hypothesis and cell not in now]
            cells |= {f"{cell.hypothesis}@{cell.hypothesis_hash[:_VERSION_DIGITS]}/{cell.part}": cell for cell in older}
        anchors = {name: cell for name, cell in cells.items() if not cell.hypothesis}
        has = {name: _pairings(results, cell) for name, cell in cells.items() if cell.hypothesis}
        for pairings in _shared(has.values()):
            group = {name: cells[name] for name, theirs in has.items() if theirs >= pairings}
            if stored := read_study(results, anchors | group, sorted(pairings)):
                found.append(stored)
    return found


def _now(about: Sequence[Mapping[str, Any]]) -> set[Cell]:
    """Find the cells of hypotheses as they are now: as they were run last.

    Not every part need have been run then. One that was run before still counts if the rules were the same, but for
    comments and spaces, and no part that was run both times had another hash.
    """
    latest: dict[tuple[Setting, str], tuple[list[str], dict[str, str]]] = {}
    found: set[Cell] = set()
    for each in reversed(about):
        setting = Setting(**each["setting"])
        same = set()
        for said in each["hypotheses"]:
            rules = [words for line in said["rules"].splitlines() if (words := " ".join(line.split("#")[0].split()))]
            theirs, hashes = latest.setdefault((setting, said["name"]), (rules, {}))
            if theirs == rules and all(hashes.get(part, own) == own for part, own in said["hashes"].items()):
                hashes |= said["hashes"]
                same.add(said["name"])
        found |= {cell for cell in cells_of(each) if cell.hypothesis in same}
    return found


def _versions(results: Results, study: str | None) -> dict[Setting, dict[str, list[Cell]]]:
    """Sort the cells of every setting by their experiments' names, the one that was run last at the end.

    Random hypotheses are there once, and only if they were drawn for the last version of their original.
    """
    found: dict[Setting, dict[str, list[Cell]]] = {}
    drawn_for: dict[Cell, set[Cell | None]] = {}
    for each in results.studies():
        setting = Setting(**each["setting"])
        if study in (None, setting.study):
            of = found.setdefault(setting, {})
            cells = {cell.experiment: cell for cell in cells_of(each)}
            originals = {h["name"]: h["null_of"] for h in each["hypotheses"] if h.get("null_of")}
            for cell in cells.values():
                versions = of.setdefault(cell.experiment, [])
                versions[:] = [other for other in versions if other != cell] + [cell]
                if original := originals.get(cell.hypothesis):
                    drawn_for.setdefault(cell, set()).add(cells.get(f"{original}/{cell.part}"))
    last = {versions[-1] for of in found.values() for versions in of.values()}
    outdated = {cell for cell, originals in drawn_for.items() if last.isdisjoint(originals)}
    outdated |= drawn_for.keys() - last
    return {
        setting: {
            name: kept for name, versions in of.items() if (kept := [cell for cell in versions if cell not in outdated])
        }
        for setting, of in found.items()
    }


def _pairings(results: Results, cell: Cell) -> frozenset[Pairing]:
    """List the pairings with which a cell is there in full."""
    return frozenset(pairing for pairing in results.pairings if results.holds(cell, *pairing))


def _shared(has: Iterable[frozenset[Pairing]]) -> list[frozenset[Pairing]]:
    """List every set of pairings that is all that some cells have in common, those of most pairings first."""
    found: set[frozenset[Pairing]] = set()
    for each in set(has):
        found |= {each, *(each & other for other in found)}
    return sorted(found - {frozenset()}, key=lambda pairings: (-len(pairings), sorted(pairings)))


def _owner(name: str, cell: Cell) -> str:
    """The hypothesis of an experiment HYPOTHESIS/PART."""
    return name.removesuffix(f"/{cell.part}")


def _rows(
    results: Results, keys: Sequence[str], columns: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Int[np.ndarray, " row"]]]:
    """Read the rows of some cells, sorted by sequence, and where among them those of each cell are, by its key."""
    table = results.losses(keys, columns).drop_duplicates(["cell", "sequence"]).sort_values("sequence")
    return table, {str(key): np.asarray(at) for key, at in table.groupby("cell", observed=True).indices.items()}


def _described(about: Iterable[Mapping[str, Any]], cells: Mapping[str, Cell]) -> dict[str, HypothesisRecord]:
    """Collect what the hypotheses of some cells say, by the names that they have there."""
    wanted: dict[str, dict[str, Cell]] = {}
    for name, cell in cells.items():
        if cell.hypothesis:
            wanted.setdefault(_owner(name, cell), {})[cell.part] = cell
    found: dict[str, HypothesisRecord] = {}
    for name, parts in wanted.items():
        hashes = {part: cell.hypothesis_hash for part, cell in parts.items()}
        own = {cell.hypothesis for cell in parts.values()}
        for each in (h for entry in about for h in entry["hypotheses"] if h["name"] in own):
            shared = hashes.keys() & each["hashes"].keys()
            if shared and all(hashes[part] == each["hashes"][part] for part in shared):
                before = found.get(name)
                by_part = {
                    field: {**(getattr(before, field) if before else {}), **each.get(field, {})}
                    for field in ("paths", "hashes", "published", "claims")
                }
                claims = {part: _claim(told) for part, told in by_part.pop("claims").items()}
                left_out = LeftOut.read(each["left_out"]) if "left_out" in each else NOTHING_LEFT_OUT
                own_fields = {"claims": claims, "name": name, "left_out": left_out}
                found[name] = HypothesisRecord(**{**each, **by_part, **own_fields})
    return found


def _claim(told: Claim | Mapping[str, Any]) -> Claim:
    return told if isinstance(told, Claim) else Claim(tuple(told["parts"]), told["scrubs"])


def _gates(about: Iterable[Mapping[str, Any]], cells: Mapping[str, Cell]) -> Gates:
    """Join what the gates saw of some cells, in whichever runs: the largest deviations, and all warnings."""
    wanted = set(cells.values())
    deviations: dict[str, float] = {}
    warnings: dict[str, None] = {}
    for each in about:
        if any(cell in wanted for cell in cells_of(each) if cell.hypothesis):
            for name, value in each["gates"]["deviations"].items():
                deviations[name] = max(value, deviations.get(name, 0.0))
            warnings |= dict.fromkeys(each["gates"]["warnings"])
    return Gates(deviations, tuple(warnings))


def _examples(table: pa.Table, setting: Setting, kind: str) -> tuple[Examples, dict[int, str]]:
    """Give the reference sequences, and the text of every token that occurs in them, but of pads."""
    tokens = np.array(table["tokens"].to_pylist(), dtype=np.int64)
    scored = np.array(table["selected"].to_pylist(), dtype=bool)
    # folders of before don't say of which documents their sequences are, and have no pads
    said = _says_documents(table)
    documents = table["document"].to_numpy().astype(np.int64) if said else np.arange(len(tokens))
    padded = "length" in table.column_names and not table["length"].null_count
    lengths = table["length"].to_numpy().astype(np.int64) if padded else None
    classed = "label" in table.column_names and not table["label"].null_count
    labels = table["label"].to_numpy().astype(np.int64) if classed else None
    found = Examples(tokens, scored, kind, setting.data, documents=documents, lengths=lengths, labels=labels)
    there = np.arange(tokens.shape[1])[None] <= found.ends[:, None] + (labels is None)
    written = np.array(table["texts"].to_pylist(), dtype=object)
    return found, dict(zip(tokens[there].tolist(), written[there].tolist(), strict=True))


def _says_documents(table: pa.Table) -> bool:
    return "document" in table.column_names and not table["document"].null_count


def _unsaid(table: pa.Table) -> tuple[str, ...]:
    """Say what a folder of before doesn't hold, and what that means for its intervals."""
    if _says_documents(table):
        return ()
    return ("these results don't say of which documents their sequences are: intervals are as if each were of its own",)


def _left_out(described: Mapping[str, HypothesisRecord]) -> list[str]:
    """Say of which hypotheses what was left out, since nothing in the model matches it."""
    return [f"{name}: {said}" for name, each in described.items() if (said := each.left_out.said)]


def _examples_said(said: Mapping[str, Any], unsaid: Sequence[str]) -> dict[str, Any]:
    """Read what a folder keeps of how the data were read; folders of before keep nothing."""
    commits = {str(name): str(commit) for name, commit in said.get("commits", {}).items()}
    return {
        "begin": str(said.get("begin", "")),
        "notes": (*map(str, said.get("notes", ())), *unsaid),
        "commits": commits,
        "roles": str(said.get("roles", "")),
        "fold": str(said.get("fold", "")),
    }


def _token_losses(
    results: Results, keys: Mapping[str, Sequence[str]], selected: Bool[np.ndarray, "sequence position"]
) -> Callable[[str], Float[np.ndarray, "sequence position"]]:
    @cache
    def read(experiment: str) -> Float[np.ndarray, "sequence position"]:
        if experiment not in keys:
            raise ScrubError(f"there is no experiment {experiment!r}: there are {', '.join(keys)}")
        losses = np.full(selected.shape, np.nan)
        losses[selected] = 0
        table, of = _rows(results, keys[experiment], ["cell", "sequence", "token_losses"])
        by_row = table["token_losses"].to_numpy()
        for key in keys[experiment]:
            losses[selected] += np.concatenate(by_row[of[key]]) / len(keys[experiment])
        return losses

    return read


def _batch(table: pd.DataFrame) -> int | None:
    """Count the sequences that were computed together at the most, where a card's memory decided that."""
    batch = table["batch"].max()
    return None if pd.isna(batch) else int(batch)


def _basis(setting: Setting, table: pd.DataFrame) -> dict[str, str]:
    """Say what the numbers rest on, by name."""
    several = {name: ", ".join(sorted(set(table[name].astype(str)))) for name in ("device", "torch_version")}
    last = table["time"].max().isoformat(timespec="seconds")
    return {**{name: str(value) for name, value in asdict(setting).items()}, **several, "time": last}

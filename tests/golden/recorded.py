"""What the golden files record: plans as hashes, numbers in float64, a results folder; all on the 16 rows of rows/.

The rows are token ids of windows of 128 positions from the standard library of Python 3.11.7, its validation side. Both
shipped models have the same tokenizer, so both read them. Everything runs in this folder, where `rows` names them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from dataclasses import is_dataclass, replace
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from inside import Examples, ablation_plan, composition, mechanism, mechanism_plans, patching_plan

import scrub

HERE = Path(__file__).parent
ROWS, CONTEXT = "rows", 128
STUDIES = {"induction": "attn2l", "gpt2_induction": "gpt2-mini"}
HYPOTHESES = ("naive", "refined_1", "refined_2", "refined_3", "refined_4", "refined_5")
HEAD = (1, 3)  # of attn2l: an induction head
Numbers = dict[str, Any]


def here(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a function in this folder: names of data are part of what is recorded."""

    @wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with chdir(HERE), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)

    return inside


COMPUTING = scrub.Settings(dtype="float64", device="cpu", progress=False)


def settings(**more: Any) -> scrub.Settings:
    return replace(COMPUTING, sequences=16, context=CONTEXT, **more)


@cache
def model(name: str) -> scrub.Model:
    return scrub.load_model(name, device="cpu")


@cache
def tokens() -> np.ndarray:
    """The rows themselves, in the order that runs read them in."""
    with chdir(HERE):
        return np.asarray(scrub.prepare("induction/naive", model("attn2l"), ROWS, settings()).examples.tokens)


@here
def plans() -> dict[str, dict[str, str]]:
    """Two hashes of every plan by its name."""
    return {name: hashes(str(plan)) for name, plan in _plans()}


def hashes(text: str) -> dict[str, str]:
    """SHA-256 of a plan as it is printed, and of it without what its outputs and paths are called.

    Where only the first changes, names did.
    """
    steps = [line.partition("#") for line in text.splitlines()]
    bare = "\n".join(
        f"{call.rstrip()} #{' output' if re.search(r'(^|;) output ', notes) else ''}"
        f"{' '.join(re.findall(r'once a run|frees [%0-9 ]+', notes))}"
        for call, _, notes in steps
    )
    return {name: hashlib.sha256(each.encode()).hexdigest() for name, each in (("text", text), ("steps", bare))}


def _plans() -> Iterator[tuple[str, object]]:
    for study, on in STUDIES.items():
        for wanted in (study, *(f"{study}/{each}" for each in HYPOTHESES)):
            yield f"{wanted} on {on}", scrub.prepare(wanted, model(on), ROWS, settings()).plan()
    yield "induction/window on attn2l", scrub.prepare("induction/window", model("attn2l"), ROWS, settings()).plan()
    for wanted in ON_MINI:
        yield f"{wanted} on gpt2-mini", scrub.prepare(wanted, model("gpt2-mini"), ROWS, settings()).plan()
    for on in STUDIES.values():
        yield f"like on {on}", scrub.prepare(like(), model(on), ROWS, settings()).plan()
        for how in ("zero", "mean", "resample") if on == "attn2l" else ("mean", "resample"):
            yield f"ablate heads by {how} on {on}", ablation_plan(model(on), "heads", how)
        yield f"ablate layers on {on}", ablation_plan(model(on), "layers")
        yield f"ablate streams at 4..7 on {on}", ablation_plan(model(on), "streams", positions="4..7")
        yield f"ablate a1.3 and a0 at 4..7 by mean on {on}", ablation_plan(model(on), "a1.3+a0", "mean", "4..7")
        yield f"attend lag 100 on {on}", ablation_plan(model(on), attend={"a0.0": "lag 100"})
        yield f"patch heads on {on}", patching_plan(model(on), "heads")
        yield f"patch edges into a1.3/k on {on}", patching_plan(model(on), "a1.3/k/*")
        yield f"patch a1.3 and stream 1 at every position on {on}", patching_plan(model(on), ["a1.3", "stream 1"], 6)
        for slots, plan in mechanism_plans(model(on), HEAD, ["previous"], 18 if on == "attn2l" else 3):
            yield f"mechanism of 1.3, {slots}, on {on}", plan


@here
def numbers() -> dict[str, Numbers]:
    """All numbers by what gave them; floats are in float64."""
    return {name: plain(each()) for name, each in NUMBERS.items()}


def _run(wanted: Any, on: str, **more: Any) -> Numbers:
    return told(scrub.run(wanted, model(on), ROWS, settings(**more)))


def told(result: scrub.Result) -> Numbers:
    """Sums of each sequence, and the table with its intervals."""
    kinds = {"loss": result.loss, "change": result.change, "kl": result.kl}
    sums = {f"{kind} of {name}": values for kind, of in kinds.items() for name, values in of.items()}
    return {**result.to_dict(), "published": None, "scored": result.positions, "sums": sums}


def _ablate(on: str, what: str | None, rows: int = 16, **how: Any) -> Numbers:
    found = scrub.ablate(model(on), tokens()[:rows], what, settings=COMPUTING, **how)
    first = found.names[0]
    return {"how": found.how, "table": found.frame(), f"rise of {first}": found.tokens(first)["rise"][::7]}


def _patch(on: str, sites: Any, direction: str, **more: Any) -> Numbers:
    """Half of the rows are patched from the other half, scored where the next token is the same in both."""
    clean, corrupted = tokens()[:8], tokens()[8:].copy()
    corrupted[:, CONTEXT // 2 :] = clean[:, CONTEXT // 2 :]
    scored = np.zeros(clean[:, 1:].shape, dtype=bool)
    scored[:, CONTEXT // 2 : CONTEXT // 2 + 24] = True
    found = scrub.patch(model(on), (clean, corrupted, scored), sites, direction, settings=COMPUTING, **more)
    return {"clean": found.clean, "corrupted": found.corrupted, "table": found.frame()}


def _scores(on: str, rows: int = 16) -> Numbers:
    loaded, text = _loaded(on), tokens()[:rows]
    read = scrub.score_heads(loaded, text) | scrub.score_heads(loaded, text, ["lag 100"])
    again = np.concatenate([text[:, :40], text[:, 1:40]], axis=1)  # a row's beginning twice over
    repeated = scrub.score_heads(loaded, Examples.of_repeated(again))
    found = {f"{name} on {score.on}": score for some in (read, repeated) for name, score in some.items()}
    return {name: {"sums": score.sums.sum(0), "table": score.frame()} for name, score in found.items()}


def _study(on: str, how: str) -> Numbers:
    found = scrub.study_heads(model(on), count=8, how=how, settings=COMPUTING)
    return {"table": found.frame(), "P(expected)": [each.probability for each in found.both]}


def _mechanism() -> Numbers:
    loaded = _loaded("attn2l")
    scored = scrub.prepare("induction/naive", model("attn2l"), ROWS, settings()).examples.scored
    found = mechanism(loaded, tokens(), scored, HEAD, slots=["k"], masks=["previous"])
    table = found.frame()
    table[["recovered", "low", "high"]] /= 100  # fractions: of so small a gap, a percent is rounded by more than 1e-12
    return {"unscrubbed": found.unscrubbed, "gaps": found.gaps, "previous": found.previous, "table": table}


def _composition(on: str) -> Numbers:
    return {"table": composition(_loaded(on), draws=20).frame()[::3]}


def _compare() -> Numbers:
    """Of the results folder beside this file: reading and comparing."""
    stored = scrub.known(scrub.Results(HERE / "results"))
    (only,) = stored
    every = scrub.compare(only, ["naive", "refined_5"]).to_dict()
    return {"result": told(only.result), "comparison": every, "token losses": only.token_losses("refined_5/all")[0]}


def like() -> list[scrub.Hypothesis]:
    """Hypotheses with the sources that no shipped one has: `like`, and `rows like` on gpt2-mini."""
    (_, (refined,)) = scrub.load_study("induction/refined_5")
    typicality = refined.features["typicality"]
    assert isinstance(typicality, dict)
    by_rows = replace(refined, name="by_rows", study="induction", features={"typicality": typicality["attn2l"]})
    digit = {"digit": lambda tokens, _tokenizer: tokens[:, 3] % 3}
    by_tokens = scrub.Hypothesis("v a1.ind/v/** -> like digit", features=digit, name="by_tokens", study="induction")
    return [by_rows, by_tokens]


def sweep(results: Path) -> scrub.Swept:
    """The sweep that wrote the results folder: what is there isn't computed again."""
    grid = {"data": ROWS, "sequences": 16, "context": CONTEXT, "dtype": "float64", "device": "cpu"}
    with chdir(HERE):
        return scrub.sweep(["induction/naive", "induction/refined_5"], results, workers=1, progress=False, **grid)


def rows_of(results: Path) -> list[dict[str, Any]]:
    """All rows of a results folder in an order of their own, but for when and where they were written, and what came
    later.
    """
    table = pd.concat(pd.read_parquet(path).astype({"cell": str}) for path in sorted((results / "losses").iterdir()))
    table = table.drop(columns=["time", "torch_version", "batch", "metric", "unit"], errors="ignore").sort_values(
        ["cell", "sequence"]
    )
    return [plain(row) for row in table.to_dict("records")]


def plain(value: Any) -> Any:
    """A value of types that JSON has."""
    if isinstance(value, pd.DataFrame):
        return {str(name): plain(value[name].to_numpy()) for name in value}
    if isinstance(value, np.ndarray | np.generic | pd.Series):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return plain(vars(value)) if is_dataclass(value) else value


def apart(found: Any, stored: Any, tolerance: float = 0.0, where: str = "") -> Iterator[str]:
    """Where two values differ, numbers by more than the tolerance, relative or absolute."""
    if isinstance(found, dict) and isinstance(stored, dict):
        for name in dict.fromkeys([*stored, *found]):
            if name in found and name in stored:
                yield from apart(found[name], stored[name], tolerance, f"{where} / {name}")
            else:
                yield f"{where} / {name}: only {'found' if name in found else 'stored'}"
    elif isinstance(found, list) and isinstance(stored, list) and len(found) == len(stored):
        for at, both in enumerate(zip(found, stored, strict=True)):
            yield from apart(*both, tolerance, f"{where} [{at}]")
    elif type(found) is type(stored) is float:
        near = math.isclose(found, stored, rel_tol=tolerance, abs_tol=tolerance)
        if not near and not math.isnan(found) & math.isnan(stored):
            yield f"{where}: {found!r}, stored {stored!r}"
    elif found != stored:
        yield f"{where}: {found!r}, stored {stored!r}"


def text_of(stored: Mapping[str, Any]) -> str:
    """A golden file's text: a line for each series of numbers."""
    return _indented(stored, "") + "\n"


def _indented(value: Any, indent: str) -> str:
    if not isinstance(value, Mapping) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = f"{indent} "
    lines = [f"{inner}{json.dumps(name, ensure_ascii=False)}: {_indented(each, inner)}" for name, each in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _loaded(on: str) -> scrub.Model:
    return scrub.load_model(on, torch.float64, "cpu")


ON_MINI = [f"induction/{each}" for each in (*HYPOTHESES[:-1], "window")]
NUMBERS: dict[str, Callable[[], Numbers]] = {
    "run induction on attn2l": lambda: _run("induction", "attn2l"),
    "run like on attn2l": lambda: _run(like()[1:], "attn2l"),
    "run gpt2_induction on gpt2-mini": lambda: _run("gpt2_induction/refined_5", "gpt2-mini", parts=("k",)),
    "run like on gpt2-mini": lambda: _run(like()[:1], "gpt2-mini", parts=("k",)),
    "ablate by zero on attn2l": lambda: _ablate("attn2l", "heads", 4),
    "ablate by mean on attn2l": lambda: _ablate("attn2l", "heads", 4, how="mean"),
    "ablate by resample on attn2l": lambda: _ablate("attn2l", "heads", 4, how="resample"),
    "ablate streams on attn2l": lambda: _ablate("attn2l", "streams", positions="4..7"),
    "attend on attn2l": lambda: _ablate("attn2l", None, attend={"a0.0": "lag 100", "a0.1": "uniform"}),
    "ablate layers on gpt2-mini": lambda: _ablate("gpt2-mini", "layers", 4, how="mean"),
    "patch heads into corrupted on attn2l": lambda: _patch("attn2l", "heads", "clean into corrupted"),
    "patch heads into clean on attn2l": lambda: _patch("attn2l", "heads", "corrupted into clean"),
    "patch edges on attn2l": lambda: _patch("attn2l", "a1.3/k/*", "clean into corrupted", positions="60..80"),
    "patch layers on gpt2-mini": lambda: _patch("gpt2-mini", "layers", "clean into corrupted"),
    "scores on attn2l": lambda: _scores("attn2l"),
    "scores on gpt2-mini": lambda: _scores("gpt2-mini", 4),
    "heads of attn2l": lambda: _study("attn2l", "resample"),
    "mechanism of 1.3": _mechanism,
    "composition of attn2l": lambda: _composition("attn2l"),
    "composition of gpt2-mini": lambda: _composition("gpt2-mini"),
    "known and compared": _compare,
}

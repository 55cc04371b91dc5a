"""A list of cells that is written as a hypothesis computes the same, in few lines, and reads back as a module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from searched import ENTRIES, ONE_ENTRY, WHOLE, any_of, exactly, fold_of, model_of, prompts, some

from scrub.measure.search.cells import Cells
from scrub.measure.search.written import hypothesis_of, module_of
from scrub.models.model import make_model
from scrub.study.hypothesis import Hypothesis
from scrub.study.metric import ROLES as MEASURED
from scrub.study.run import prepare_study
from scrub.study.study import Study, load_study

KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("attn", "a1.ind/** -> y", {}),
    ("attn", "a1.ind/** -> y", {"kinds": ["masks"]}),
    ("attn", "a1.ind/{q,v}/** -> y", {"kinds": ["heads", "masks"]}),
    ("attn3", ENTRIES, {}),
    ("attn4", ENTRIES, {"kinds": ["masks"]}),
    ("attn", WHOLE, {"depth": 1}),
    ("gpt2", WHOLE, {"depth": 2}),
    ("gpt2", "**/m*/** -> y", {}),
    ("gpt2", WHOLE, {"kinds": ["mlps"], "depth": 2}),
    ("encoder", WHOLE, {"depth": 2}),
]


@st.composite
def lists(draw: st.DrawFn) -> tuple[Cells, frozenset[Any]]:
    """Cells of a model with any roles, and some of them: whole rows of what is alike, and single ones."""
    kind, baseline, how = draw(st.sampled_from(KINDS))
    model = model_of(kind)
    heads = [(at, h) for at in range(model.config.n_layers) for h in range(model.config.n_heads)]
    free = [head for head in heads if list(head) not in [list(each) for each in model.roles.get("ind", ())]]
    names = st.sampled_from(["prev", "self", "two", "x", "mover"])
    some_heads = st.lists(st.sampled_from(free), min_size=1, max_size=len(free), unique=True)
    roles = draw(st.dictionaries(names, some_heads, max_size=4))
    taken: set[tuple[int, int]] = set()
    for name, of in roles.items():
        roles[name] = [head for head in of if head not in taken]
        taken |= set(of)
    roles = {name: of for name, of in roles.items() if of}
    roles |= {"ind": [tuple(head) for head in model.roles["ind"]]} if "ind" in model.roles else {}
    made = make_model(
        kind, model.config.model_copy(update={"roles": roles}) if kind != "gpt2" else model.config, model.params
    )
    cells = Cells.made(Study(baseline, name="study"), made, **how)
    return cells, any_of(draw, cells)


@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])
@given(lists())
def test_any_list_is_written_in_few_lines(of: tuple[Cells, frozenset[Any]]) -> None:
    cells, kept = of
    found = hypothesis_of(cells, kept, "found")
    again = Hypothesis(found.rules, name="again")
    assert again.parts == found.parts
    assert cells.kept_by(again) == kept
    lines = found.rules.splitlines()
    rules = [line for line in lines if "->" in line]
    assert len(rules) <= len(kept) + sum(map(len, cells.parts.values()))
    assert len(lines) - len(rules) <= len(kept)
    nested = any(cell.place.startswith("**/a") for cell in cells.every)
    assert [*again.parts] == [*cells.parts, "all"] or (nested and [*again.parts] == ["entries", "all"])
    assert str(found)
    space: dict[str, Any] = {}
    exec(compile(module_of(found, ['A "claim"\\n of\nlines: """ok"""', "more"]), "found.py", "exec"), space)
    assert space["hypothesis"].rules.split() == found.rules.split()
    assert {"more", '"claim"\\n'} <= {*space["__doc__"].split()}


@pytest.mark.parametrize(("kind", "baseline", "how"), [KINDS[1], KINDS[3], KINDS[7], ("gemma2", WHOLE, {"depth": 1})])
def test_what_is_written_gives_the_same_numbers(kind: str, baseline: str, how: dict[str, Any]) -> None:
    model = model_of(kind)
    fold = fold_of(baseline, model, prompts(model, 3), "logit_diff", cells=how)
    kept = [some(fold.cells, size, size) for size in (1, 6)]
    written = [hypothesis_of(fold.cells, each, f"found {len(each)}") for each in kept]
    trial = fold.trial
    made = prepare_study(trial.study, written, model, trial.examples, trial.settings, [trial.study.metric])
    found = fold.measure(made.experiments.scrubbed).sums
    for each, expected in zip(written, exactly(fold, kept), strict=True):
        part = "all" if len(each.parts) > 2 else next(iter(each.parts))
        np.testing.assert_allclose(found[MEASURED[0], f"{each.name}/{part}"], expected, rtol=0, atol=1e-12)


def test_a_module_is_a_study_s_and_loads(tmp_path: Path) -> None:
    model = model_of("attn")
    cells = Cells.made(Study(ONE_ENTRY, name="study"), model, ["masks"])
    kept = some(cells, 7)
    found = hypothesis_of(cells, kept, "mine", study="induction")
    (tmp_path / "mine.py").write_text(module_of(found, ["What it says."]))
    study, (loaded,) = load_study(str(tmp_path / "mine.py"))
    assert (study.plain_name, loaded.name) == ("induction", "mine")
    assert loaded.rules.split() == found.rules.split()
    assert cells.kept_by(loaded) == kept
    assert loaded.claim.strip() == "What it says."


def test_roles_and_globs_are_what_a_person_would_write() -> None:
    model = model_of("attn")
    cells = Cells.made(Study(ONE_ENTRY, name="study"), model)
    kept = [
        c for c in cells.every if c.component in {"a0.0", "a0.4"} or (c.place == "a1.ind/v" and c.component != "emb")
    ]
    lines = hypothesis_of(cells, kept, "found").rules.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "q a1.ind/q/** -> y", "a1.ind/q/a0.self/** -> x", "k a1.ind/k/** -> y", "a1.ind/k/a0.self/** -> x",
        "v a1.ind/v/** -> y", "a1.ind/v/a0.*/** -> x",
    ]  # fmt: skip
    masked = Cells.made(Study(ONE_ENTRY, name="study"), model, ["masks"], ["k"])
    three = [c for c in masked.every if c.component == "a0.1" and c.part != "rest"]
    lines = hypothesis_of(masked, three, "found").rules.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        'splits a1.ind/k/a0.prev by mask "last three"', "k a1.ind/k/** -> y", "a1.ind/k/a0.prev[last three]/v/** -> x",
    ]  # fmt: skip

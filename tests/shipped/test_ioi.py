"""The published circuit of indirect objects, on random weights of GPT-2 small's 12 layers of 12 heads.

Its numbers say nothing there; that every rule is about something does, and that the nodes are held as in the paper.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from small import random_params
from tokenized import byte_level
from torch import Tensor
from transformers import GPT2LMHeadModel

import scrub
from scrub.data.tasks.words import NAMES, PLACES, THINGS
from scrub.models.families import gpt2
from scrub.models.model import Model, make_model, save_model
from scrub.study.roles import on_study
from scrub.study.study import load_study

HEADS, WIDTH = 12, 3  # of a layer, and of a head
ORDER = ["naive", *(f"refined_{number}" for number in range(1, 5))]
FEW = scrub.Settings(sequences=5, dtype="float64", progress=False, parts=("answer", "nodes"))
NODES = scrub.Settings(dtype="float64", progress=False, parts=("nodes",))
# the heads of the published circuit, and where each acts, as in the paper's figure of it
CIRCUIT = {
    "end": "9.9 9.6 10.0 7.3 7.9 8.6 8.10 10.7 11.10 9.0 9.7 10.1 10.2 10.6 10.10 11.2 11.9",
    "S2": "5.5 6.9 5.8 5.9 3.0 0.1 0.10",
    "S1+1": "2.2 4.11",
}


@pytest.fixture(scope="module")
def model() -> Model:
    tokenizer = byte_level((*NAMES, *PLACES, *THINGS))
    shape = {"n_layers": 12, "n_heads": HEADS, "d_head": WIDTH, "d_model": HEADS * WIDTH, "d_mlp": 23, "n_ctx": 41}
    known = {"vocab_size": tokenizer.get_vocab_size(), "bos_token_id": None, "layer_norm_eps": 1e-5}
    config = gpt2.Config.model_validate(shape | known | {"roles": {"mover": [(3, 2)], "prev": [(2, 2)]}})
    params = {name: value.float().double() for name, value in random_params(config, 1).items()}
    return make_model("gpt2", config, params, tokenizer)


def pairs_of(model: Model, variant: str, templates: int, each: int) -> scrub.Examples:
    """Prompts of some templates, so many of each, which are told apart here by what their texts say."""
    pairs = scrub.read_prompts(model, f"ioi:{variant}", count=128)
    by_template: dict[str, list[int]] = {}
    for row in range(len(pairs)):
        by_template.setdefault(template(model, pairs.inputs[row, : pairs.ends[row] + 1]), []).append(row)
    assert len(by_template) == 12, "six sentences, with the indirect object first or second"
    chosen = [rows[:each] for rows in by_template.values() if len(rows) >= each][:templates]
    return pairs.some(np.array(sorted(row for rows in chosen for row in rows)))


def template(model: Model, tokens: np.ndarray) -> str:
    """A prompt without its words; of names, which is whose: the one that is there twice is S."""
    assert model.tokenizer is not None
    text = model.tokenizer.decode(tokens.tolist())
    names = re.findall(rf"\b(?:{'|'.join(NAMES)})\b", text)
    for name in names:
        text = re.sub(rf"\b{name}\b", "S" if names.count(name) == 2 else "IO", text)
    return re.sub(rf"\b(?:{'|'.join((*PLACES, *THINGS))})\b", "_", text)


def test_every_rule_is_about_something(model: Model) -> None:
    """Against three other names. Roles are those of the circuit, and not of the model's config."""
    wanted = ["ioi", "ioi/as_published"]
    study, hypotheses = load_study(wanted)
    assert [each.name for each in hypotheses] == [*ORDER, "as_published"]
    trial = scrub.prepare(wanted, model, "ioi:names", FEW)
    assert trial.gates().warnings == ()
    named = [f"{layer}.{head}" for heads in on_study(study, model).roles.values() for layer, head in heads]
    assert sorted(named) == sorted(" ".join(CIRCUIT.values()).split())
    assert len(named) == 26


def test_swapped_names_tell_nothing_of_who_stands_where(model: Model) -> None:
    """IO and S1 are the same in both prompts, so rules about what is read of these alone are idle, and no other."""
    warnings = scrub.prepare("ioi/refined_4", model, "ioi:swapped", replace(FEW, parts=("answer",))).gates().warnings
    assert warnings
    assert all("v[IO]" in text or "a*.previous" in text for text in warnings)


@pytest.mark.parametrize("variant", ["names", "swapped"])
def test_nodes_are_held_as_in_the_paper(model: Model, variant: str, tmp_path: Path) -> None:
    """Every head that isn't in the circuit, and those that are at other positions, at the mean over the prompts with
    other names of the same template; by hooks in transformers.
    """
    pairs = pairs_of(model, variant, templates=5, each=3)
    settings = replace(NODES, other="mean by template")
    ours = scrub.run("ioi/as_published", model, pairs, settings)
    save_model(model.to(torch.float32), tmp_path / "gpt2")
    double = GPT2LMHeadModel.from_pretrained(tmp_path / "gpt2", attn_implementation="eager").double().eval()
    assert pairs.other is not None
    assert pairs.answers is not None
    assert pairs.wrong is not None
    texts = [template(model, pairs.inputs[row, : pairs.ends[row] + 1]) for row in range(len(pairs))]
    held, whole = np.zeros(len(pairs)), np.zeros(len(pairs))
    for text in dict.fromkeys(texts):
        rows = np.array([row for row, own in enumerate(texts) if own == text])
        length = int(pairs.ends[rows[0]]) + 1
        clean, other = (torch.from_numpy(each[rows, :length]) for each in (pairs.inputs, pairs.other))
        right, wrong = (torch.from_numpy(each[rows, :1]) for each in (pairs.answers, pairs.wrong))
        means: list[Float[Tensor, "1 position head width"]] = []

        def averaged(_: int, z: Tensor, means: list[Tensor] = means) -> None:
            means.append(z.mean(0, keepdim=True))

        with hooks(double, averaged), torch.inference_mode():
            double(other)
        first, second = (clean == wrong).nonzero()[:, 1].view(-1, 2)[0].tolist()
        at = {"end": length - 1, "S2": second, "S1+1": first + 1}
        kept = torch.zeros(12, length, HEADS, dtype=torch.bool)
        for where, heads in CIRCUIT.items():
            for layer, head in (map(int, each.split(".")) for each in heads.split()):
                kept[layer, at[where], head] = True

        def ablated(layer: int, z: Tensor, kept: Tensor = kept, means: list[Tensor] = means) -> Tensor:
            return torch.where(kept[layer][None, :, :, None], z, means[layer])

        for into, hook in ((held, ablated), (whole, lambda _, z: z)):
            with hooks(double, hook), torch.inference_mode():
                logits = double(clean).logits[:, -1]
            into[rows] = (logits.gather(1, right) - logits.gather(1, wrong))[:, 0].numpy()
    assert ours.interval("loss", "unscrubbed").estimate == pytest.approx(whole.mean(), abs=1e-9)
    np.testing.assert_allclose(ours.loss["as_published/nodes"], held, atol=1e-9)
    assert abs(held - whole).min() > 1e-3
    (row,) = (row for row in ours.table if row.part == "nodes")
    assert row.ratio is not None
    assert row.ratio.estimate == pytest.approx(100 * held.mean() / whole.mean(), abs=1e-6)
    baseline = ours.losses["baseline"].estimate
    of = 100 * (held.mean() - baseline) / (whole.mean() - baseline)
    assert row.recovered.estimate == pytest.approx(of, rel=1e-6)


@contextmanager
def hooks(double: GPT2LMHeadModel, change: object) -> Iterator[None]:
    """While it lasts, what each layer's heads give, before they are put together, is what a function makes of it."""
    assert callable(change)

    def of(layer: int) -> object:
        def hook(_: object, given: tuple[Tensor]) -> tuple[Tensor] | None:
            made = change(layer, given[0].unflatten(-1, (HEADS, WIDTH)))
            return None if made is None else (made.flatten(-2),)

        return hook

    handles = [
        block.attn.c_proj.register_forward_pre_hook(of(layer)) for layer, block in enumerate(double.transformer.h)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def test_what_is_published_stands_beside_that_alone_which_it_is_of(model: Model) -> None:
    """In the table, the data frame and JSON, of nodes; of another model, metric, feed or data nothing is published."""
    pairs = pairs_of(model, "names", templates=2, each=2)
    study, (hypothesis,) = load_study("ioi/as_published")
    held, there = replace(NODES, other="mean by template"), {"as_published/nodes": 87}
    for name, metric, data, settings, published in (
        ("acme/gpt2", None, pairs, held, there),
        ("gpt2", None, replace(pairs, name="data/ioi:names,seed=3"), held, there),  # another draw of the same
        ("other", None, pairs, held, {}),
        ("gpt2", "loss", pairs, held, {}),
        ("gpt2", None, pairs, NODES, {}),
        ("gpt2", None, pairs, replace(NODES, other="mean"), {}),
        ("gpt2", None, replace(pairs, name="ioi:swapped"), held, {}),
    ):
        of = replace(study, hypotheses=(hypothesis,), roles={name: study.roles["gpt2"]})
        trial = scrub.prepare(of, replace(model, name=name), data, settings, metric=metric)
        assert trial.published_ratios == published
    own = replace(study, other="mean by template", hypotheses=(replace(hypothesis, published_other=None),))
    assert scrub.prepare(own, model, pairs, NODES).published_ratios == there
    assert scrub.prepare(own, model, pairs, replace(NODES, other="y")).published_ratios == {}
    for wrong in ({"published_ratios": {"node": 87}}, {"published": {"node": 1}}, {"published_other": "means"}):
        with pytest.raises(scrub.ScrubError, match=r"part 'node', and it has nodes, all|stand for 'means'"):
            replace(hypothesis, **wrong)  # type: ignore[arg-type]
    found = scrub.run("ioi/as_published", model, pairs, held)
    assert [row.published_ratio for row in found.table] == [87]
    assert [row["published_ratio"] for row in json.loads(found.to_json())["rows"]] == [87]
    assert re.search(r"ratio, % +published.*as_published +nodes.* 87 ", str(found), re.DOTALL)

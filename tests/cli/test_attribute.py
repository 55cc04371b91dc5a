"""`scrub attribute`: what it prints and writes, and what it refuses, before it computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from circuited import PAIRS, linked, make_models, strict, write_pairs
from project import NOTED

import scrub as package
from scrub import Settings, read_circuit
from scrub.measure.circuits.first_order import FirstOrder

Scrub = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small GPT-2, a small Llama, and tables of prompts."""
    made = tmp_path_factory.mktemp("circuits")
    make_models(made / "models")
    write_pairs(made / "pairs.jsonl")
    write_pairs(made / "plain.jsonl", "clean", "corrupted", "answer")
    alone = write_pairs(made / "alone.jsonl", "clean", "answer", "wrong")
    alone.write_text("".join(alone.read_text().splitlines(keepends=True)[:2]))
    return made


@pytest.fixture
def there(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs in an empty folder that sees those."""
    return linked(folder, tmp_path, monkeypatch)


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores fail: what is told now is told before."""

    def fail(*_: object) -> None:
        raise AssertionError("it was computed")

    monkeypatch.setattr(FirstOrder, "__init__", fail)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("model", ["small", "grouped"])
def test_every_output_on_prompts(scrub: Scrub, model: str) -> None:
    """They say what the package says; exact costs are what `circuit` measures of all edges but one."""
    how = "--method eap-ig --points 3 --recompute --top 4 --check-all --exact --dtype float64"
    files = "--json a.json --export a.pt --viewer v.json --plot p.svg"
    said = scrub(f"attribute --model {model} --data pairs.jsonl {how} {files}")
    assert (said.status, said.err.count("\n"), "of fewer than 16 no interval is known" in said.err) == (0, 1, True)
    assert "EAP-IG (3 points), inputs recomputed; on 5 prompts of pairs.jsonl" in said.out
    assert "in logit_diff, to first order, and exactly where it was measured" in said.out, "which nobody asked for"
    found = strict("a.json")
    wanted = package.attribute(
        None, model, "pairs.jsonl", Settings(dtype="float64"), method="eap-ig", points=3, recomputed=True, top=1
    )
    about = {"format": 1, "model": model, "data": "pairs.jsonl", "metric": "logit_diff", "unit": "logits"}
    about |= {"edges": len(wanted.edges), "sequences": len(PAIRS), "positions": len(PAIRS), "seed": 0}
    about |= {"points": 3, "recomputed": True, "top": 4, "warnings": wanted.warnings}
    assert {name: found[name] for name in about} == about
    assert list(found["scores"].values()) == pytest.approx(wanted.scores.tolist(), abs=1e-12)
    assert list(found["rank_correlation"]) == ["all", "top"]
    first = found["rows"][0]
    assert first["score, low"] <= first["score"] <= first["score, high"]
    assert first["exact, low"] <= first["exact"] <= first["exact, high"]
    exported = read_circuit("a.pt")
    assert exported.kept is None
    assert exported.scores is not None
    exact = dict(zip(map(str, exported.edges), exported.scores, strict=True))
    assert exact[first["edge"]] == pytest.approx(first["exact"], abs=1e-12)
    assert exact != pytest.approx(found["scores"], abs=1e-3), "these are no scores"

    others = [each for each in exported.edges if str(each) != first["edge"]]
    package.write_circuit("but_one.json", package.Circuit.of(wanted.model, None, set(others)))
    said = scrub(f"circuit but_one.json --model {model} --data pairs.jsonl --dtype float64 --json b.json")
    assert said.status == 0, said.err
    without = strict("b.json")
    assert without["whole"]["estimate"] - without["rows"][0]["logit_diff"] == pytest.approx(first["exact"], abs=1e-9)
    viewed = strict("v.json")
    assert len(viewed["links"]) in {3, 4}
    assert Path("p.svg").read_text().startswith("<?xml")


def test_text_and_steps_of_a_study(scrub: Scrub, tmp_path: Path) -> None:
    """Of a model with attention only; the study's metric and positions, and every kind of chart."""
    for at, suffix in enumerate((".png", ".html", ".csv")):
        steps = " --steps --metric logprob --draws 2" if at else ""
        file, plot, viewer = (tmp_path / name for name in ("a.json", f"p{suffix}", "v.json"))
        words = f"attribute induction/naive --sequences 31 --top 3 --seed 5{steps} --json"
        said = scrub(words, file, "--plot", plot, "--viewer", viewer)
        assert (said.status, said.err) == (0, NOTED)
        found = strict(str(file))
        assert found["study"].partition(" ")[0] == "induction"
        assert (found["metric"], found["draws"], found["seed"]) == (("logprob", 2, 5) if at else ("loss", 1, 5))
        assert found["positions"] < 31 * 11, "those on the whitelist"
        assert found["notes"] == [NOTED.removeprefix("note: ").strip()]
        assert len(found["scores"]) == found["steps" if at else "edges"]
        assert len(found["rows"]) == 3
        assert plot.stat().st_size > 100
    assert "steps of paths costs, EAP; words" in said.out
    assert "out/a1.ind" in strict(str(file))["scores"]


@pytest.mark.usefixtures("there")
def test_pairs_that_are_drawn(scrub: Scrub) -> None:
    """And a metric that nobody named: of no wrong answers."""
    said = scrub("attribute --model grouped --prompts random-tokens --count 7 --length 4 --top 3 --json a.json")
    assert (said.status, said.err.count("\n"), "of fewer than 16 no interval is known" in said.err) == (0, 1, True)
    found = strict("a.json")
    assert (found["metric"], found["sequences"]) == ("logprob", 7)
    said = scrub("attribute --model small --data plain.jsonl --top 200 --json a.json --metric prob")
    assert (said.status, said.err.count("\n"), "of fewer than 16 no interval is known" in said.err) == (0, 1, True)
    found = strict("a.json")
    assert (found["metric"], found["unit"]) == ("prob", "probability")
    assert list(found["rank_correlation"]) == ["all"], "which the top are"
    assert "more edges" not in said.out


@pytest.mark.usefixtures("there", "nothing_computed")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--export a.json --model tiny", "an MLP in every layer, but this one has layers"),
        ("--export a.txt", "--export 'a.txt' doesn't end in .json or .pt"),
        ("--viewer v.svg", "--viewer 'v.svg' doesn't end in .json"),
        ("--plot p.gif", "'.gif'"),
        ("--json nosuch/a.json", "make its folder first"),
        ("--json models", "it is a folder"),
        ("--json a.json --export ./a.json", "two outputs have the same path"),
        ("--data plain.jsonl --metric logit_diff", "there are no wrong answers"),
        ("--metric loss,kl", "--metric 'loss,kl' names 2 metrics, and this is of one"),
        ("--sequences 300", "hold 5 prompts, but 300 were asked for"),
        ("--count 3", "--sequences says how many of the data, so --count has no meaning"),
        ("--length 3", "no pairs are drawn"),
        ("--draws 2", "leave --draws out"),
        ("--device cuda:77", "device"),
    ],
)
def test_what_is_refused_before_anything_is_scored(scrub: Scrub, project: Path, words: str, says: str) -> None:
    words = words.replace("tiny", str(project / "models/tiny"))
    words += "" if "--model" in words else " --model small"
    words += "" if "--data" in words else " --data pairs.jsonl"
    before = sorted(Path().iterdir())
    said = scrub(f"attribute {words}")
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1), said.err
    assert says in said.err
    assert sorted(Path().iterdir()) == before


@pytest.mark.usefixtures("there")
def test_a_model_without_a_tokenizer_prompts_without_others_and_a_metric_without_a_gradient(
    scrub: Scrub, folder: Path
) -> None:
    Path("mute").mkdir()
    for name in ("config.json", "model.safetensors"):
        (Path("mute") / name).symlink_to(folder / "models/small" / name)
    said = scrub("attribute --model mute --data pairs.jsonl")
    assert (said.status, said.err.count("\n"), "has no tokenizer.json" in said.err) == (2, 1, True)
    said = scrub("attribute --model small --data alone.jsonl")
    assert (said.status, said.err.count("\n"), "give corrupted prompts" in said.err) == (2, 1, True)
    assert "accuracy" not in scrub("attribute --help").out
    for metric in ("accuracy", "pair_accuracy"):
        said = scrub(f"attribute --model small --data pairs.jsonl --metric {metric} --json a.json")
        assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
        assert f"the metric '{metric}' has no gradient" in said.err
        assert not Path("a.json").exists()


@pytest.mark.usefixtures("there")
def test_a_gate_that_fails_and_an_interrupt_leave_no_file(scrub: Scrub, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "attribute --model small --data pairs.jsonl --json a.json --export b.json --plot c.svg"
    before = sorted(Path().iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(FirstOrder, "costs", lambda _, graphs, batches: [np.zeros((len(graphs), 2)) for _ in batches])
        said = scrub(words)
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert said.err.startswith(
        "scrub: a gate failed: with y near x, scores of 'logit_diff' are 1 of the highest from what edges cost"
    )

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FirstOrder, "__call__", interrupted)
        said = scrub(words)
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("scrub: interrupted: nothing was written")
    with monkeypatch.context() as patch:
        scored = FirstOrder.__call__
        whole = (np.full((75, 5), np.nan), np.zeros(5))  # but for the two rows that a gate looks at
        patch.setattr(FirstOrder, "__call__", lambda of, on: scored(of, on) if len(on.members) == 2 else whole)
        said = scrub(words)
    assert (said.status, said.err.count("\n"), "no finite numbers" in said.err) == (1, 1, True)
    assert sorted(Path().iterdir()) == before


@pytest.mark.usefixtures("there")
def test_in_python(folder: Path) -> None:
    """Whatever is nonsense is told in one line."""
    on: dict[str, Any] = {"model": folder / "models/small", "data": folder / "pairs.jsonl"}
    for wrong in (
        {"method": "exact"}, {"points": 0}, {"top": 0}, {"metric": "nosuch"}, {"metric": ["loss", "kl"]},
        {"metric": "kl"}, {"steps": True}, {"data": None}, {"model": None}, {"settings": Settings(other="mean")},
        {"metric": lambda logits: logits.argmax(-1)}, {"data": np.zeros((2, 3))}, {"data": [{"clean": "a"}]},
    ):  # fmt: skip
        with pytest.raises(package.ScrubError) as caught:
            package.attribute(**(on | wrong))
        assert len(str(caught.value).splitlines()) == 1, wrong
    found = package.attribute(**on, settings=Settings(sequences=3), top=2)
    assert len(found.frame(0)) == 0
    assert len(found.frame()) == 2
    with pytest.raises(package.ScrubError, match="check all"):
        found.circuit(exact=True)

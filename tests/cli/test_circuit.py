"""`scrub circuit`: what it measures of files and hypotheses, what it writes, and what it refuses before it computes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from circuited import PAIRS, linked, make_models, strict, write_pairs

import scrub as package
from scrub import Circuit, Settings, load_model, read_circuit, write_circuit
from scrub.measure.circuits.faithfulness import faithfulness
from scrub.measure.circuits.shape import Shape
from scrub.measure.circuits.submission import MODELS
from scrub.paths.edges import connected

Scrub = Callable[..., Any]
MODULE = "from scrub import Hypothesis\nhypothesis = Hypothesis({!r})\n"
STUDY = 'from scrub import Study\nstudy = Study({}, model="models/small", data="{}", hypotheses=("edgy", "ruled"))\n'
KEPT = "out/{emb,m1} m1/* m0/emb a1.*/{q,k,v}/m0"
RULES = "splits **/a0 by heads 0 1\nk  **/a1/k/a0.0/** -> y\nv  a1.1/** -> y\n   m0/** -> y"
SIZES = {"small": 50, "grouped": 140}  # of which some edges lead nowhere
WORDS = "--model small --data pairs.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models, prompts, and scores of every edge of each, some of them equal."""
    made = tmp_path_factory.mktemp("circuits")
    make_models(made / "models")
    write_pairs(made / "pairs.jsonl")
    for at, (name, suffix) in enumerate((("small", "json"), ("grouped", "pt"))):
        model = load_model(made / "models" / name)
        edges = package.attribute(None, model, made / "pairs.jsonl", top=1).edges
        drawn = torch.randn(len(edges), generator=torch.Generator().manual_seed(at)).double().tolist()
        write_circuit(made / f"{name}.{suffix}", Circuit.of(model, dict(zip(edges, drawn, strict=True))))
    study = made / "study"
    study.mkdir()
    (study / "study.py").write_text(STUDY.format("'a1/** -> y', metric='logit_diff'", "pairs.jsonl"))
    for name, text in {
        "edgy": f"edges {KEPT}", "ruled": RULES, "masked": "splits a1.0/k/a0 by mask 'previous'\nk a1.0/k/** -> y",
        "placed": "k  a1.0/k/m0/** -> y", "drawn": "k  a1.0/k/m0/** -> like current",
    }.items():  # fmt: skip
        (study / f"{name}.py").write_text(MODULE.format(text))
    (study / "drawn.py").write_text(
        MODULE.format("k  **/a1.0/k/m0/** -> like f").replace(")\n", ", features={'f': lambda t, _: t % 2})\n")
    )
    (made / "meant").mkdir()
    (made / "meant/study.py").write_text(STUDY.format("'** -> y', other='mean'", "pairs.jsonl"))
    (made / "meant/edgy.py").write_text(MODULE.format(f"edges {KEPT}"))
    return made


@pytest.fixture
def there(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs in an empty folder that sees those."""
    return linked(folder, tmp_path, monkeypatch)


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring fails: what is told now is told before."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr("scrub.measure.circuits.faithfulness.faithfulness", fail)


def errors(text: str) -> list[str]:
    """The lines of standard error but for warnings, of which a random model has some."""
    return [line for line in text.splitlines() if not line.startswith("warning: ")]


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("model", "file", "absolute"), [("small", "small.json", "--absolute"), ("grouped", "grouped.pt", "")]
)
def test_the_curve_and_what_is_written(scrub: Scrub, model: str, file: str, absolute: str) -> None:
    """They say what the package says; the study that is written recovers 100 times the faithfulness, from anywhere."""
    size = f"--size {SIZES[model]}"
    files = f"--json a.json --plot p.svg --viewer v.json --export again{Path(file).suffix} {size}"
    words = f"circuit {file} --model models/{model} --data pairs.jsonl --dtype float64 "
    said = scrub(words, files, "--out edges", absolute)
    assert (said.status, errors(said.err)) == (0, [])
    found, circuit = strict("a.json"), read_circuit(file)
    loaded = load_model(model, torch.float64)
    pairs = package.read_prompts(loaded, "pairs.jsonl")
    wanted = faithfulness(circuit, loaded, pairs, settings=Settings(dtype="float64"))
    assert [row["faithfulness"] for row in found["rows"]] == pytest.approx([each.estimate for each in wanted.values])
    assert "-0.0," not in Path("a.json").read_text()
    assert found["cpr"]["estimate"] == pytest.approx(wanted.cpr.estimate)
    about = {"format": 1, "model": model, "circuit": file, "edges": len(circuit.edges), "metric": "logit_diff"}
    about |= {"unit": "logits", "sequences": len(PAIRS), "notes": []}
    assert {name: found[name] for name in about} == about
    assert "CPR " in said.out
    assert len(strict("v.json")["links"]) > 5
    assert Path("p.svg").read_text().startswith("<?xml")
    again = read_circuit(f"again{Path(file).suffix}")
    assert (again.edges, again.scores.tolist()) == (circuit.edges, circuit.scores.tolist())  # type: ignore[union-attr]

    assert scrub(words, size, "--rules --out rules", absolute).status == 0
    top = circuit.top(SIZES[model], bool(absolute))
    shares, kept = {}, {"edges": top, "rules": connected(top)}
    Path("elsewhere").mkdir()
    for name in ("edges", "rules"):
        module = Path(name, "circuit.py").read_text()
        assert ("-> y" in module) == (name == "rules")
        order = "largest absolute" if absolute else "highest"
        assert module.startswith(
            f'"""{SIZES[model]} of {len(circuit.edges)} edges of {model}: those of the {order} scores in {file}."""'
        )
        said = scrub("circuit", f"{name}/circuit.py", "--json b.json --dtype float64 --export kept.json")
        assert said.status == 0, said.err
        assert read_circuit("kept.json").kept == kept[name]
        shares[name] = strict("b.json")["rows"][0]["faithfulness"]
    assert shares["edges"] == pytest.approx(shares["rules"], abs=1e-9)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("elsewhere")
        for name in ("edges", "rules"):
            said = scrub(f"run ../{name} --dtype float64 --json r.json")
            assert said.status == 0, said.err
            assert "the output itself reads" not in said.err
            assert strict("r.json")["rows"][0]["recovered"] == pytest.approx(100 * shares["edges"], abs=1e-6)


@pytest.mark.usefixtures("there")
def test_a_study_of_text_has_its_positions(scrub: Scrub, project: Path) -> None:
    """And a note says what it hasn't."""
    on = f"--model models/small --data {project / 'data/words'} --sequences 31 --seed 3"
    said = scrub(f"circuit small.json {on} --positions 3..7 --bos no --size 40 --out mine --json a.json")
    assert said.status == 0, said.err
    assert "note: for the same examples: scrub run mine --sequences 31 --seed 3\n" in said.err
    assert strict("a.json")["positions"] == 31 * 5
    assert scrub("circuit mine --sequences 31 --seed 3 --json b.json").status == 0
    said = scrub("run mine --sequences 31 --seed 3 --json c.json")
    assert said.status == 0, said.err
    kept, run = strict("b.json"), strict("c.json")
    assert kept["digest"] == strict("a.json")["digest"]
    assert kept["whole"] == pytest.approx(strict("a.json")["whole"], rel=1e-5)
    assert run["positions"] == 31 * 5
    assert run["rows"][0]["recovered"] == pytest.approx(100 * kept["rows"][0]["faithfulness"], abs=0.01)
    assert 'metric="loss"' in Path("mine/study.py").read_text()


@pytest.mark.usefixtures("there")
def test_hypotheses_as_circuits(scrub: Scrub) -> None:
    """A set of edges, and rules of heads: the same as its edges in a file. Text of a model with attention only too."""
    for name, count in (("edgy", 2 + 8 + 1 + 9), ("ruled", None)):
        said = scrub(f"circuit study/{name}.py --export {name}.json --json a.json --dtype float64")
        assert said.status == 0, said.err
        assert ("the circuit is that of all parts of ruled together: k, v" in said.err) == (name == "ruled")
        found = strict("a.json")
        assert (found["circuit"], found["metric"]) == (name, "logit_diff")
        assert "cpr" not in found
        assert count is None or found["rows"][0]["edges"] == count
        assert f"note: {name}.json scores the edges that are kept with 1" in said.err
        assert scrub(f"circuit {name}.json {WORDS} --dtype float64 --json b.json").status == 0
        assert strict("b.json")["rows"] == found["rows"]
    for name, says in {
        "masked": "no set of edges says 'a1.0/k/a0 by mask", "placed": "no set of edges says 'a1.0/k/m0/** -> y'",
        "drawn": "no set of edges says '**/a1.0/k/m0/** -> like f'",
    }.items():  # fmt: skip
        said = scrub(f"circuit study/{name}.py")
        assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
        assert says in said.err


def test_attention_only(scrub: Scrub, tmp_path: Path) -> None:
    """Of a study of text: its metric and positions; no file of another tool's can say it."""
    (tmp_path / "mine.py").write_text(MODULE.replace(")", ", study='induction')").format("edges out/a1.* a1.*/*/*"))
    said = scrub("circuit", tmp_path / "mine.py", "--sequences 31 --json", tmp_path / "a.json")
    assert said.status == 0, said.err
    found = strict(tmp_path / "a.json")
    assert (found["metric"], found["circuit"], found["edges"]) == ("loss", "mine", 116)
    assert found["positions"] < 31 * 11
    assert found["notes"] == ["words: left out: 4 sequences with the tokens of another"]
    said = scrub("circuit", tmp_path / "mine.py", "--export", tmp_path / "b.json")
    assert (said.status, said.out, said.err.count("\n"), "an MLP in every layer" in said.err) == (2, "", 1, True)
    said = scrub("circuit induction/naive --sequences 31")
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert "no set of edges says 'a1.ind/k/a0.prev by mask \"previous\"'" in said.err


@pytest.mark.usefixtures("there")
def test_rows_as_mib_has_them(scrub: Scrub) -> None:
    """The same pairs as of a table of ours, for both commands."""
    rows = [
        {
            "prompt": clean, "choices": {"label": [answer, "-"]}, "answerKey": 0,
            "symbol_counterfactual": {"prompt": corrupted, "choices": {"label": ["-", wrong]}, "answerKey": 1},
        }
        for clean, corrupted, answer, wrong in PAIRS
    ]  # fmt: skip
    Path("mib.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words in ("circuit small.json", "attribute --top 2"):
        found = []
        for file in ("mib.jsonl", "pairs.jsonl"):
            column = "--column symbol_counterfactual" if file == "mib.jsonl" else ""
            said = scrub(f"{words} --model small --data {file} {column} --json a.json")
            assert said.status == 0, said.err
            assert ("read as MIB's rows of" in said.err) == (file == "mib.jsonl")
            found.append(strict("a.json"))
        assert found[0]["metric"] == "logit_diff"
        assert found[0]["rows"] == found[1]["rows"]
        assert "read as MIB's rows of" in found[0]["notes"][0]


@pytest.mark.usefixtures("there")
def test_equal_scores_and_nodes_are_told(scrub: Scrub) -> None:
    data = json.loads(Path("small.json").read_text())
    for at, edge in enumerate(data["edges"].values()):
        edge |= {"score": float(at % 2), "in_graph": at % 3 == 0}
    Path("tied.json").write_text(json.dumps(data))
    said = scrub(f"circuit tied.json {WORDS} --json a.json --viewer v.json")
    assert said.status == 0, said.err
    notes = errors(said.err)
    assert len(notes) == 2
    assert "against their edges" in notes[0]
    assert notes[1].startswith(
        "note: at 2 %, 5 %, 10 %, 20 % of the edges, some are kept and others of the same score left"
    )
    assert [f"note: {note}" for note in strict("a.json")["notes"]] == notes
    assert len({link["weight"] for link in strict("v.json")["links"]}) > 1
    assert "in logits" not in Path("v.json").read_text()


@pytest.mark.usefixtures("there")
def test_a_folder_for_the_board(scrub: Scrub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose GPT-2 is small here."""
    monkeypatch.setitem(MODELS, "gpt2", Shape(2, 3, 15))
    said = scrub(f"circuit small.json {WORDS} --submission mine --task ioi_gpt2")
    assert said.status == 0, said.err
    assert errors(said.err) == [
        "note: mine/ioi_gpt2/importances.json is written",
        "note: at least 2 models are asked for, and gpt2 is here",
        "note: at least 2 tasks are asked for, and ioi is here",
    ]
    written = read_circuit("mine/ioi_gpt2/importances.json")
    assert written.scores is not None
    assert written.scores.tolist() == read_circuit("small.json").scores.tolist()  # type: ignore[union-attr]
    said = scrub("circuit study/edgy.py --submission other --task ioi_gpt2")
    assert said.status == 0, said.err
    assert "note: other/ioi_gpt2/50.json is written\n" in said.err
    assert "wouldn't take this folder: other/ioi_gpt2 holds 1 circuit without scores: 9 are asked for" in said.err
    assert "faithfulness" in said.out, "which isn't lost"


@pytest.mark.usefixtures("there", "nothing_computed")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        # files
        ("small.json --model grouped --data pairs.jsonl", "has 2 layers of 6 heads, d_model 11: take the circuit of"),
        ("nosuch.json", "nosuch.json is not there: give a graph as EAP-IG or MIB"),
        ("d.json", "d.json is a folder: give a graph"),
        ("models", "models is no study"),
        ("study", "study has 2 hypotheses: name one, as in study/edgy"),
        ("pairs.jsonl", "pairs.jsonl is no JSON"),
        ("nan.json", "nan.json scores m0->m1 with nan, which is no finite number"),
        ("up.json", "'m1->m0', but m0 comes before m1"),
        ("empty.json", "empty.json keeps no edge and scores none"),
        ("code.pt", "so nothing of it was loaded"),
        ("large.json", "large.json has 200 MiB, but the 75 edges of a model of its cfg take at most 1"),
        ("large.pt", "large.pt has over 128 MiB"),
        ("meant/edgy.py", "leave the mean out"),
        # options
        ("small.json --model small", "give --data, or --prompts"),
        ("small.json --data pairs.jsonl", "doesn't say which model it is of: give --model"),
        ("small.json --draws 2", "--draws"),
        ("small.json --other mean", "--other"),
        ("small.json --metric nosuch", "there is no metric 'nosuch'"),
        ("small.json --metric loss,kl", "names 2 metrics, and this is of one"),
        ("small.json --count 3", "--sequences says how many of the data, so --count has no meaning"),
        ("small.json --prompts letters", "--data and --prompts each say what to measure on"),
        ("small.json --model small --prompts random-tokens --size 3 --out new", "give --data with --out"),
        ("small.json --size 3", "--size says how many edges --out and --viewer write"),
        ("small.json --size 0 --out new", "'--size'"),
        ("small.json --size 76 --out new", "small.json has no top 76: its edges are 75"),
        ("small.json --out new", "say how many to take, with --size N"),
        ("small.json --rules", "give --out with it"),
        ("small.json --size 3 --out models", "models is there already: name a folder that isn't"),
        ("small.json --size 3 --out no/new", "make its folder first"),
        ("small.json --size 3 --out new --json new", "two outputs have the same path"),
        ("small.json --export a.txt", "--export 'a.txt' doesn't end in .json or .pt"),
        ("small.json --size 3 --viewer a.html", "--viewer 'a.html' doesn't end in .json"),
        ("small.json --plot a.gif", "'.gif'"),
        ("small.json --json no/a.json", "make its folder first"),
        (
            "study/edgy.py --plot a.png",
            "study/edgy.py has no scores, so it is of one size and has no curve: leave --plot out",
        ),
        ("study/edgy.py --absolute", "leave it out"),
        ("study/edgy.py --size 3 --out new", "leave --size out"),
        # the board
        ("small.json --task ioi_gpt2", "give --submission and --task ioi_gpt2"),
        ("small.json --submission new", "give --submission and --task ioi_gpt2"),
        ("small.json --submission new --task ioi", "write it as ioi_gpt2"),
        ("small.json --submission new --task sums_gpt2", "the board has no task 'sums'"),
        ("small.json --submission new --task ioi_gpt2", "gpt2 on the board has 12 layers of 12 heads"),
        ("small.json --submission pairs.jsonl --task ioi_interpbench", "pairs.jsonl is no folder"),
        # data
        ("small.json --model small --data plain.jsonl --metric logit_diff", "there are no wrong answers"),
        ("small.json --sequences 300", "hold 5 prompts, but 300 were asked for"),
    ],
)
def test_what_is_refused_before_anything_is_measured(scrub: Scrub, words: str, says: str) -> None:
    _write_bad(json.loads(Path("small.json").read_text()))
    write_pairs(Path("plain.jsonl"), "clean", "corrupted", "answer")
    if words.split(maxsplit=1)[0].endswith((".json", ".pt", ".jsonl")) and not re.search("--(model|data) ", words):
        words += f" {WORDS}"
    before = sorted(Path().rglob("*"))
    said = scrub(f"circuit {words}")
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1), said.err
    assert says in said.err
    assert sorted(Path().rglob("*")) == before


class Bomb:
    """A pickle that leaves a file behind if anybody opens it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("exploded"),)


def _write_bad(data: Any) -> None:
    """Write graphs that are none, beside a good one."""
    edges = data["edges"]
    upward = {name.replace("m0->m1", "m1->m0"): edge for name, edge in edges.items()}
    bad = {
        "nan": edges | {"m0->m1": edges["m0->m1"] | {"score": float("nan")}},
        "up": upward,
        "empty": {name: {"in_graph": False} for name in edges},
    }
    for name, wrong in bad.items():
        Path(f"{name}.json").write_text(json.dumps(data | {"edges": wrong}))
    torch.save({"cfg": Bomb()}, "code.pt")
    for name, begins in (("large.json", f'{{"cfg": {json.dumps(data["cfg"])}, '.encode()), ("large.pt", b"PK\x03\x04")):
        with Path(name).open("wb") as file:
            file.write(begins)
            file.truncate(200 * 2**20)  # which takes no room on a disk
    Path("d.json").mkdir()


@pytest.mark.usefixtures("there")
def test_a_metric_that_tells_nothing_apart_has_no_faithfulness(scrub: Scrub) -> None:
    """Which isn't written as a number; a warning says why."""
    Path("same.jsonl").write_text(json.dumps({"clean": "abxab", "corrupted": "abxab", "answer": "x"}) + "\n")
    said = scrub("circuit small.json --model small --data same.jsonl --json a.json --plot p.svg")
    if said.status == 0:
        assert "nothing to keep a share of" in said.err
        assert strict("a.json")["cpr"]["estimate"] is None
    else:
        assert said.err.count("\n") == 1


@pytest.mark.usefixtures("there")
def test_in_python() -> None:
    """Whatever is nonsense is told in one line."""
    circuit, model = read_circuit("small.json"), load_model("models/small")
    pairs = package.read_prompts(model, "pairs.jsonl")
    right: dict[str, Any] = {"circuit": circuit, "model": model, "on": pairs}
    for wrong in (
        {"circuit": "small.json"}, {"circuit": None}, {"model": 3}, {"model": "nosuch"}, {"on": None}, {"on": "text"},
        {"on": [3]}, {"metric": "nosuch"}, {"metric": ["loss", "kl"]},
        {"settings": Settings(draws=2)}, {"circuit": read_circuit("grouped.pt")}, {"on": torch.zeros(2, 3)},
    ):  # fmt: skip
        with pytest.raises(package.ScrubError) as caught:
            package.faithfulness(**(right | wrong))
        assert len(str(caught.value).splitlines()) == 1, wrong
    assert package.faithfulness(**right).frame()["share"].tolist()[-1] == 1

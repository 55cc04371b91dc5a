"""`scrub heads`: its tables, its JSON, the pictures, the roles and the hypothesis that it writes; and mistakes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import browsing
import pandas as pd
import pytest
from doubles import HEADS, LAYERS

from scrub.cli import _status
from scrub.measure.heads.score import HeadScore, head_name
from scrub.measure.study import heads as head_study
from scrub.measure.study import scores as head_scores
from scrub.measure.study.heads import METRICS, SHORT, HeadStudy, study_heads
from scrub.models.find import shipped
from scrub.show.charts.heads import SHOWN, _metrics, _patterns, _weights

SVG = "{http://www.w3.org/2000/svg}"
TEXT = Path(head_scores.__file__).parents[1]  # Python source, which the shipped models know


@dataclass(frozen=True)
class Said:
    """What a command said."""

    status: int
    out: str
    err: str


@pytest.fixture
def heads(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Said]:
    """Runs `scrub heads`, in an empty folder that has some text."""
    monkeypatch.chdir(tmp_path)
    sources = sorted(TEXT.rglob("*.py"))[:12]
    Path("source.txt").write_text("\n".join(each.read_text() for each in sources))

    def run(*words: str | Path, command: str = "heads") -> Said:
        split = [part for word in words for part in (word.split() if isinstance(word, str) else [str(word)])]
        capsys.readouterr()
        status = _status([command, *split])
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return run


def cells(line: str) -> list[str]:
    """The columns of a line of a table."""
    return re.split(r"\s{2,}", line.strip())


@pytest.mark.slow
def test_gpt2_mini(heads: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed and written is what the study and the scores found, which are tested by themselves."""
    studies: list[HeadStudy] = []
    monkeypatch.setattr(head_study, "study_heads", lambda *a, **k: studies.append(study_heads(*a, **k)) or studies[0])
    words = "heads.json --scores --lag 7 --data source.txt --sequences 3 --context 30 --seed 3 --device cpu"
    said = heads("gpt2-mini --count 3 --top 7 --json", words)
    assert said.status == 0, said.err
    (study,) = studies
    assert study.one is not None
    assert (len(study.many.prompts), study.many.top, study.many.ablation.effects.seed) == (3, 7, 3)
    lines = said.out.splitlines()
    assert lines[0] == study.heading
    assert "P(X) 8.8 %" in lines[0]
    assert lines[1].startswith("gates passed")
    for name, top in study.one.agreement.sets.items():
        at = lines.index(next(line for line in lines if line.strip() == f"top 7 by {name}"))
        rows = [cells(line) for line in lines[at + 5 : at + 12]]
        assert [row[0] for row in rows] == [head_name(head) for head in top]
        order = [name, *(other for other in METRICS if other != name)]
        for head, row in zip(top, rows, strict=True):
            for each, cell, interval in zip(order, row[1:4], row[4:], strict=True):
                scale = 100 if each == "attention to target" else 1
                found = study.many.scores[each].interval(head)
                numbers = [float(part) for part in re.findall(r"[-+]?[\d.]+", interval)]
                wanted = [scale * value for value in (found.estimate, found.low, found.high)]
                assert numbers == pytest.approx(wanted, abs=0.051 if scale == 100 else 0.0051)
                one = scale * study.one.scores[each].means[head]
                assert float(cell.rstrip(" %")) == pytest.approx(one, abs=0.051 if scale == 100 else 0.0051)
    written = json.loads(Path("heads.json").read_text())
    assert written["heading"] == study.heading
    assert (written["prompt"]["expected"], written["prompts"]["count"]) == (" X", 3)
    for row, wanted_row in zip(written["heads"], study.frame().to_dict(orient="records"), strict=True):
        assert row == pytest.approx(wanted_row, abs=1e-6)
    assert written["top"] == {name: [[*head] for head in top] for name, top in study.one.agreement.sets.items()}
    assert [each["overlap"] for each in written["overlaps"]] == [
        int(each.count.estimate) for each in study.one.agreement.overlaps
    ]
    where = {(each["name"], each["on"]) for each in written["scores"]}
    assert {("lag 7", "text"), ("lag 7", "repeated random tokens"), ("copying", "3 prompts of letters")} <= where
    assert len(where) == len(written["scores"])
    assert all(len(each["heads"]) == 32 for each in written["scores"])
    for name, on in where:
        assert f"scores on {on}" in said.out
        assert name.split()[0] in said.out


@pytest.mark.parametrize("columns", [100, 120, 160])
def test_tables_are_whole_whatever_the_terminal(study: HeadStudy, columns: int) -> None:
    from io import StringIO

    from rich.console import Console

    console = Console(width=columns, file=StringIO(), highlight=False, markup=False)
    console.print(study)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= columns
    numbers = re.compile(r"^[-+]?\d+\.\d+( %)?$|^\[[-+]?\d+\.\d+, [-+]?\d+\.\d+\]$|^[-+]?\d+\.\d+( %)? \[.*\]$")
    for part in re.split(r"\n(?=top )", text)[1:]:
        table = re.split("overlap of|where the", part)[0].splitlines()
        below = next(at for at, line in enumerate(table) if "───" in line) + 1
        found = [cell for line in table[below:] if line.strip() for cell in cells(line)]
        assert all(numbers.match(cell) for cell in found)
        heads = [cell for cell in found if re.fullmatch(r"\d\.\d", cell)]
        assert len(heads) == 10


def test_a_hypothesis_needs_roles(heads: Callable[..., Said]) -> None:
    """What is written loads, passes the gates and runs."""
    models = shipped("models")
    assert models is not None
    shutil.copytree(models / "attn2l", "models/own")
    config = Path("models/own/config.json")
    fields = json.loads(config.read_text())
    known = fields.pop("roles")
    config.write_text(json.dumps(fields))
    less = "--count 2 --data source.txt --sequences 8 --context 120 --device cpu --prompt"
    prompt = Path("B A C D A")  # one word of the command line
    said = heads("own --write-hypothesis mine", less, prompt)
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "config.json" in said.err
    assert "--write-roles" in said.err
    assert json.loads(config.read_text()) == fields
    said = heads("own --write-roles --write-hypothesis mine", less, prompt)
    assert said.status == 0, said.err
    assert "wrote the roles into models/own/config.json" in said.out
    roles = json.loads(config.read_text())["roles"]
    assert roles["ind"] == known["ind"]
    assert roles["prev"] == known["prev"]
    assert json.loads(config.read_text())["role_scores"]["measured_on"].endswith(
        "8 sequences of 120 positions behind '<|begin|>'"
    )
    written = sorted(map(str, Path("hypotheses").rglob("*.py")))
    assert written == ["hypotheses/mine/naive.py", "hypotheses/mine/study.py"]
    assert "prev: 0.1" in Path(written[0]).read_text()
    said = heads(written[0], "--data source.txt --sequences 4", command="check")
    assert said.status == 0, said.err
    said = heads("hypotheses/mine --data source.txt --sequences 4 --context 60", command="run")
    assert said.status == 0, said.err
    before = config.read_text()
    said = heads("own --write-hypothesis mine", less, prompt)
    assert (said.status, "already" in said.err) == (2, True)
    assert config.read_text() == before


def test_no_role_is_found(heads: Callable[..., Said], models: Path) -> None:
    """The tables are printed, what is there stays, and no hypothesis is written."""
    shutil.copytree(models / "flat", "flat")
    Path("letters.txt").write_text("A B C D E F G H " * 99)
    before = Path("flat/config.json").read_text()
    said = heads(
        "./flat --count 2 --data letters.txt --sequences 2 --write-roles --write-hypothesis mine --json x.json"
    )
    assert (said.status, said.err.splitlines()[-1][:40]) == (2, "scrub: no head of flat shows a role on l")
    assert "top 5 by ablation effect" in said.out
    assert json.loads(Path("x.json").read_text())["model"] == "flat"
    assert Path("flat/config.json").read_text() == before
    assert not Path("hypotheses").exists()


def test_a_model_without_a_tokenizer(heads: Callable[..., Said], models: Path) -> None:
    said = heads(f"{models / 'mute'} --count 3 --how mean --json x.json --device cpu")
    assert said.status == 0, said.err
    assert said.out.startswith("mute on 3 prompts of random tokens: P(expected)")
    written = json.loads(Path("x.json").read_text())
    assert written["prompt"] is None
    assert (written["how"], written["prompts"]["kind"]) == ("mean", "random tokens")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("MODEL/mute --prompt A", "mute"),
        ("MODEL/mute --expected A", "expected"),
        ("MODEL/mute --kind letters", "letters"),
        ("MODEL/flat --prompt A", "'A'"),
        ("MODEL/flat --kind runes", "'runes'"),
        ("MODEL/flat --count 0", "count is 0"),
        ("MODEL/flat --how half", "'half'"),
        ("MODEL/flat --how mean --count 1", "by mean"),
        ("MODEL/flat --how resample --prompt BCDEFAXA", "by zero"),
        ("MODEL/flat --json none/x.json", "none/x.json"),
        ("MODEL/flat --pictures source.txt", "source.txt"),
        ("MODEL/flat --pictures p --formats gif", "'.gif'"),
        ("MODEL/flat --pictures p --formats ,", "format"),
        ("MODEL/flat --lag 30 --data source.txt", " 30 behind "),
        ("MODEL/flat --scores --data nothing", "nothing"),
        ("MODEL/flat --write-hypothesis a-b", "'a-b'"),
        ("MODEL/flat --write-hypothesis mine", "flat"),
        ("nobody", "nobody"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_run(
    heads: Callable[..., Said], models: Path, words: str, says: str
) -> None:
    said = heads(words.replace("MODEL", str(models)))
    assert (said.status, said.out) == (2, "")
    assert says in said.err
    assert "No such option" not in said.err
    assert said.err.count("\n") == 1
    assert {each.name for each in Path().iterdir()} <= {"source.txt", "p"}


def some(scores: Sequence[HeadScore]) -> list[HeadScore]:
    """A few of all scores: a page of all of them takes a minute to draw."""
    return [scores[1], scores[-1]]


def test_the_whole_set_of_pictures(heads: Callable[..., Said], models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = head_scores.read_scores
    monkeypatch.setattr(head_scores, "read_scores", lambda *words: some(read(*words)))
    words = "--count 3 --pictures album --formats csv --data source.txt --sequences 3 --context 20 --device cpu"
    said = heads(f"{models / 'flat'}", words)
    assert said.status == 0, said.err
    metrics = [SHORT[name] for name in METRICS]
    names = {"metrics", "overlap", "ablation-layers", "ablation-tokens", "patching-heads", "patching-streams"}
    names |= {f"{metric}-heads{end}" for metric in metrics for end in ("", "-prompts")}
    names |= {"attention-and-direct", "attention-and-ablation", "direct-and-ablation"}
    names |= {"patterns-by-attention", "patterns-by-ablation"}  # with one layer there is nothing to compose
    names |= {f"{name}{end}" for name in ("3-prompts-of-letters-copying", "text-direct-effect") for end in ("", "-top")}
    assert {path.name for path in Path("album").iterdir()} == {"index.html", *(f"{name}.csv" for name in names)}
    assert f"wrote {len(names)} charts, and album/index.html" in said.out
    page = Path("album/index.html").read_text()
    root = browsing.parsed(page)
    assert browsing.text_of(next(root.iter("h1"))) == "Heads of flat"
    assert said.out.splitlines()[0] in browsing.text_of(root)
    links = [each for each in browsing.referred(page) if not each.startswith(("data:", "#")) and each != "url("]
    assert set(links) == {f"{name}.csv" for name in names}
    drawn = list(root.iter(f"{SVG}svg"))  # each for light ground and dark
    assert len(drawn) == len(list(root.iter("table"))) == len(names)
    pictures = dict(zip(re.findall(r'href="(.+?)\.csv"', page), drawn, strict=True))
    tips = {name: [each.text or "" for each in picture.iter(f"{SVG}title")] for name, picture in pictures.items()}
    every = [f"0.{head}" for head in range(HEADS)]
    for name in [*(f"{metric}-heads" for metric in metrics), "text-direct-effect"]:
        assert [tip.partition(":")[0] for tip in tips[name] if tip.startswith("0.")] == every, name
        assert len(pd.read_csv(f"album/{name}.csv")) == HEADS
    assert len(pd.read_csv("album/patching-streams.csv")) == 2 * 11
    assert pd.read_csv("album/ablation-tokens.csv")["token"].tolist() == [
        "J",
        *[" A", " M", " P", " R", " X", " J", " A", " M", " P", " R", " X"],
    ]
    titles = [browsing.text_of(each) for each in root.iter("h2")]
    assert len(titles) == len(set(titles)) == len(names)
    assert "heads patched, clean into corrupted: prob recovered, 16 pairs of letters" in titles
    assert "loss before and after ablation (zero), 3 prompts" in titles
    for name in ("patterns-by-attention", "patterns-by-ablation"):
        text = ["".join(each.itertext()) for each in pictures[name].iter(f"{SVG}text")]
        assert {"J", "·A", "·M", "·P", "·R", "·X"} <= set(text)


def test_charts_of_several_layers(study: HeadStudy) -> None:
    found = _weights(study)
    assert set(found) == {"composition", "readers"}
    maps = _metrics(study)
    for name, metric in SHORT.items():
        for end, metrics in (("", study.one), ("-prompts", study.many)):
            assert metrics is not None
            score = metrics.scores[name]
            wanted = [score.interval(head).estimate for head in score.heads]
            assert maps[f"{metric}-heads{end}"].values["estimate"].tolist() == wanted
            assert len(wanted) == LAYERS * HEADS


def test_query_and_target_are_marked(study: HeadStudy) -> None:
    for name in METRICS[::2]:
        chart = _patterns(study, name)
        axes = [each for each in chart.figure().axes if each.get_title(loc="left").startswith("head ")]
        top = study.first.scores[name].top(SHOWN)
        assert [each.get_title(loc="left") for each in axes] == [f"head {head_name(head)}" for head in top]
        for each in axes:
            marks = {patch.get_label(): patch for patch in each.patches}
            assert marks["query and key"].get_xy() == (5, 10)
        frame = chart.values
        row = frame[(frame["head"] == head_name(top[0])) & (frame["query"] == 10) & (frame["key"] == 5)]
        assert study.one is not None
        attention = study.one.scores[METRICS[0]].means[top[0]]
        assert list(row["attention"]) == ([pytest.approx(attention)] if attention >= 0.02 else [])

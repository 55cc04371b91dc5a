"""`scrub generate`: what is printed and written, grids, and mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import scrub as package
from scrub.models.model import load_model
from scrub.show.tables.generation import generation_tables
from scrub.study.gates import TOLERANCE_NATS

Scrub = Callable[..., Any]
PROMPT = "abxab"


def goes_on(prompt: str, count: int) -> str:
    """What the project's model writes, by itself."""
    model = load_model("tiny")
    assert model.tokenizer is not None
    tokens = [int(token) for token in model.tokens(prompt)[0]]
    for _ in range(count):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return model.tokenizer.decode(tokens[-count:], skip_special_tokens=False)


def test_a_line_for_each_layer_and_everything_in_a_file(scrub: Scrub, tmp_path: Path) -> None:
    file, plot, text = tmp_path / "g.json", tmp_path / "g.svg", goes_on(PROMPT, 3)
    said = scrub(
        "generate tiny --go-on --tokens 3 --layers --prompt", PROMPT, "--right", text, "--json", file, "--plot", plot
    )
    assert said.status == 0, said.err
    assert "ablated: zero, at every position, those written too" in said.out
    assert "gates passed" in said.out
    lines = {each.split()[0]: each for each in said.out.splitlines() if each.strip()}
    assert re.search(r"unchanged +3 of 3 +correct", said.out)
    content = json.loads(file.read_text())
    assert [row["experiment"] for row in content["rows"]] == ["unchanged", "a0", "a1"]
    assert (content["tokens"], content["temperature"], content["end_tokens"]) == (3, None, [])
    assert (content["compared_with"], content["span"], content["width"]) == ("right", None, None)
    assert (content["model"], content["seed"], content["format"]) == ("tiny", 0, 1)
    assert max(content["gates"].values()) < 1e-4
    assert content["prompts"] == [PROMPT]
    unchanged, *ablated = content["written"]
    assert (unchanged["text"], unchanged["exact"], unchanged["first wrong"]) == (text, True, None)
    for row in ablated:
        if row["exact"]:
            assert "correct" in lines[row["experiment"]]
        else:
            token = row["wrote"].replace(" ", "·").replace("\n", "↵")
            assert f"«{token}»" in lines[row["experiment"]]
            assert row["text"][row["first wrong"]] == row["wrote"]
    assert any(not row["exact"] for row in ablated)
    assert plot.read_bytes().startswith(b"<?xml")


def test_where_a_patch_and_a_mean_hold_is_said(scrub: Scrub, tmp_path: Path) -> None:
    said = scrub("generate tiny --tokens 2 --patch a1 --patch a0.1@end --corrupted abyab --prompt", PROMPT)
    assert said.status == 0, said.err
    out = " ".join(said.out.split())
    assert "patched: as on the corrupted prompt, at the positions that sites name or else the prompt's positions" in out
    assert "those from the end, are the prompt's" in out
    assert "with what the unchanged model writes" in said.out
    assert "patch a0.1@end" in said.out
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"clean": f"{a}bx{a}", "answer": "b"}) + "\n" for a in "cdef"))
    said = scrub("generate tiny --how mean --ablate a0+a1 --tokens 2 --show 1 --data", rows)
    assert said.status == 0, said.err
    assert "ablated: mean, at the prompt's positions only" in said.out
    assert "compared: the first token alone" in said.out
    assert re.search(r"row 0 of \S*rows.jsonl", said.out)
    assert "row 1 of" not in said.out
    assert "exact match, %" in said.out


def test_draws_are_the_seeds(scrub: Scrub) -> None:
    found = [
        scrub("generate tiny --go-on --tokens 5 --temperature 2.5 --seed", seed, "--prompt", PROMPT).out
        for seed in ("1", "1", "2")
    ]
    assert found[0] == found[1]
    assert found[0] != found[2].replace("seed 2", "seed 1")
    assert "at temperature 2.5, seed 1" in found[0]


GRIDS = "---\nscrub:\n  width: 3\n---\nRows of three letters.\n"


@pytest.fixture
def grids(own: Path) -> Path:
    """Data of grids of three letters a row, whose card says so: the last grid is the first one again."""
    folder = own / "data" / "grids"
    folder.mkdir()
    texts = ["abcabc", "xyzxyz", "pqrpqr", "lmnlmn", "stustu"]
    (folder / "train.jsonl").write_text(
        "".join(json.dumps({"text": text[:5] + "a" + text[:4]}) + "\n" for text in texts)
    )
    (folder / "README.md").write_text(GRIDS)
    return folder


def test_grids_are_drawn_as_the_data_say(scrub: Scrub, grids: Path, tmp_path: Path) -> None:
    """Rows of so many symbols side by side, and a sign behind what is wrong, without colour."""
    words = "generate tiny --data grids --context 10 --after 7 --tokens 4 --bos yes --layers --show 1 --go-on --json"
    file, plot = tmp_path / "g.json", tmp_path / "g.png"
    said = scrub(words, file, "--plot", plot)
    assert said.status == 0, said.err
    content = json.loads(file.read_text())
    assert content["width"] == 3
    first = content["written"][0]
    wanted = first["right"]
    lines = said.out[said.out.index("example 0") :].splitlines()
    top = next(at for at, line in enumerate(lines) if line.startswith("right") and "unchanged" in line)
    signs = [f" {a}{'!' if a != b else ' '}" for a, b in zip(first["text"], wanted, strict=True)]
    wide = len("unchanged")
    rows = [("".join(f" {c} " for c in wanted[at : at + 3]), "".join(signs[at : at + 3])) for at in (0, 3)]
    for at, row in enumerate(rows):
        assert lines[top + 1 + at].startswith("   ".join(f"{each:<{wide}}" for each in row)), lines[top : top + 4]
    assert "! behind a symbol: it is wrong" in said.out
    assert "grids: rows of 3 from the first token that is written" in said.out
    assert plot.read_bytes().startswith(b"\x89PNG")
    wider = scrub(words, tmp_path / "w.json", "--width 2")
    assert json.loads((tmp_path / "w.json").read_text())["width"] == 2, wider.err
    (grids / "README.md").write_text(GRIDS.replace("3", "-3"))
    bad = scrub(words, file)
    assert (bad.status, bad.err.count("\n")) == (2, 1)
    assert "width" in bad.err


def test_symbols_have_colours_in_a_terminal() -> None:
    found = package.generate(
        load_model("tiny"), [[3, 5, 7, 3, 5, 7, 3, 5]], 4, "a0", right=[[7, 3, 5, 7]], width=2, stop=False
    )
    terminal = Console(width=90, force_terminal=True, color_system="truecolor", highlight=False, markup=False)
    with terminal.capture() as written:
        for part in generation_tables(found, terminal, terminal.options):
            terminal.print(part)
    grounds = set(re.findall(r"48;2;(\d+;\d+;\d+)m", written.get()))
    symbols = {7, 3, 5, *found.written.ravel().tolist()}
    assert len(grounds) == len(symbols)


def test_pictures_have_every_token() -> None:
    for width in (None, 2):
        found = package.generate(load_model("tiny"), [[3, 5, 7]], 4, "a0", right=[[7, 3, 5]], width=width, stop=False)
        chart = package.generation_chart(found)
        assert ("Rows of 2 from the first token" in chart.caption) is (width == 2)
        assert chart.values.groupby("experiment").size().to_dict() == {"right": 4, "unchanged": 4, "a0": 4}
        wrong = chart.values[chart.values["experiment"] == "a0"]["wrong"].tolist()
        assert wrong == [not match and step < 3 for step, match in enumerate(found.matches[1, 0])]
        svg = chart.content(".svg").decode()
        assert svg.count("wrong</title>") >= sum(wrong)
    with pytest.raises(package.ScrubError, match="no prompt 1"):
        package.generation_chart(found, 1)


def test_a_failed_gate_is_status_1_and_nothing_is_printed(scrub: Scrub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOLERANCE_NATS, "float64", -1.0)
    said = scrub("generate tiny --ablate a0 --tokens 2 --prompt", PROMPT)
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)


MISTAKES = {
    "nothing to go on from": ("", "give --prompt TEXT"),
    "two things": ("--prompt ab --data words", "--data and --prompt"),
    "an empty prompt": ("--prompt=", "--prompt is empty"),
    "a prompt that fills the context": ("--prompt abcdefghijk --bos no --tokens 1", "fill the 11 positions"),
    "a prompt longer than that": ("--prompt abcdefghijklmnop", "at most 11"),
    "too many tokens": ("--prompt abc --bos no --tokens 10", "ask for at most 9"),
    "no tokens": ("--prompt abc --tokens 0", "--tokens 0"),
    "a temperature of 0": ("--prompt abc --temperature 0", "--temperature 0"),
    "a temperature below": ("--prompt abc --temperature=-1", "--temperature -1"),
    "no temperature": ("--prompt abc --temperature nan", "--temperature nan"),
    "a temperature too large": (
        "--prompt abc --temperature 1e10",
        "--temperature 1e+10 is too large: give at most 1e+09",
    ),
    "a width too large": ("--prompt abc --width 99999999", "--width 99999999 is too large: give at most"),
    "an endless temperature": ("--prompt abc --temperature inf", "--temperature inf"),
    "positions beyond": ("--prompt abc --bos no --tokens 3 --ablate a0@5..9", "5 are read"),
    "a patch beyond the prompt": ("--prompt abc --bos no --patch a0@3 --corrupted abd", "no positions 3"),
    "nothing to patch from": ("--prompt abc --patch a0", "--corrupted"),
    "nothing that is patched": ("--prompt abc --corrupted abd", "--corrupted"),
    "a corrupted prompt of another length": ("--prompt abc --patch a0 --corrupted abdd", "two of one length"),
    "right without a prompt": ("--data words --after 4 --right abc", "--right"),
    "a span beyond": ("--prompt abc --tokens 3 --span 1..3", "span 1..3"),
    "no span": ("--prompt abc --span b", "no span"),
    "a width of 0": ("--prompt abc --width 0", "--width 0"),
    "text without after": ("--data words --sequences 3", "--after"),
    "after more than there is": ("--data words --after 99 --sequences 3", "nothing is left"),
    "after of a prompt": ("--prompt abc --after 2", "--after"),
    "a head that there isn't": ("--prompt abc --ablate a0.7", "no head a0.7"),
    "no such way": ("--prompt abc --ablate a0 --how none", "'none'"),
    "a way where nothing is ablated": ("--prompt abc --how mean", "nothing is ablated"),
    "only of nothing": ("--prompt abc --only", "name sites"),
    "an array that isn't there": ("--prompt abc --ablate a0 --how=array~mine", "no array 'mine'"),
    "others of one prompt": ("--prompt abc --ablate a0 --how resample", "no other"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(scrub: Scrub, name: str) -> None:
    words, named = MISTAKES[name]
    said = scrub("generate tiny", *(Path(word.replace("~", " ")) for word in words.split()))
    assert (said.status, said.err.count("\n")) == (2, 1), said.err
    assert named in said.err
    assert said.out == ""

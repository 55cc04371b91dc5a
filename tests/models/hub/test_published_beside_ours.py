"""`benchmarks/published.py` from start to end, on a hub with random models in the layouts of the published ones."""

from __future__ import annotations

import importlib
import json
import re
import string
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import redwood
import torch
from browsing import rendered, tables
from doubles import HEADS, LAYERS, random_double
from fake_hub import Hub, commit_of
from huggingface_hub import constants
from published_numbers import TEXT, Published, published
from tokenized import byte_level, letters

import scrub
from scrub import Settings, load_model, study_heads
from scrub.data.tasks.words import NAMES, PLACES, THINGS
from scrub.measure.heads.roles import RULES
from scrub.measure.study.heads import ABLATION, ATTENTION, DIRECT, HeadStudy
from scrub.text.numbers import MINUS, PAGE

FOLDER = Path(__file__).parents[3] / "benchmarks"
REDWOOD, GPT2, LENS = "ArthurConmy/redwood_attn_2l", "openai-community/gpt2", "NeelNanda/Attn_Only_2L512W_C4_Code"
VOCABULARY = 509  # holds the tokens that are atypical in Redwood's
HEADS_OF_GPT2, POSITIONS = 12, 41  # in each of as many layers; more positions than a prompt has
FEW = ("--sequences", "17", "--prompts", "5", "--device", "cpu", "--dtype", "float64")
SETTINGS = Settings(17, device="cpu", dtype="float64", progress=False)
Tables = list[list[list[str]]]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The repositories as folders."""
    root = tmp_path_factory.mktemp("repositories")
    weights = redwood.state(vocabulary=VOCABULARY)
    for head in (1, 2, 5):  # which then attend to copies of the current token
        weights["blocks.0.attn.W_Q"][head] *= 9
        weights["blocks.0.attn.W_K"][head] = weights["blocks.0.attn.W_Q"][head]
    redwood.write_model(root / "redwood", weights)
    _, mask = redwood.tokens_and_mask(positions=redwood.N_CTX)
    redwood.write_data(root / "redwood", redwood.written_by(root / "redwood", redwood.N_CTX), mask)
    tokenizer = byte_level([*NAMES, *PLACES, *THINGS, *string.ascii_uppercase])
    for name, layers, heads, words in (
        ("gpt2", HEADS_OF_GPT2, HEADS_OF_GPT2, tokenizer),
        ("small", LAYERS, HEADS, letters()),
    ):
        random_double(words.get_vocab_size(), POSITIONS, layers, heads=heads).theirs.save_pretrained(root / name)
        words.save(str(root / name / "tokenizer.json"))
    (root / "words").mkdir()
    tokenizer.save(str(root / "words" / "tokenizer.json"))
    (root / "words" / "tokenizer_config.json").write_text(json.dumps({"bos_token": "!"}))
    (root / "lens").mkdir()
    vocabulary = tokenizer.get_vocab_size()
    torch.save(redwood.state(vocabulary=vocabulary), root / "lens" / "model_final.pth")
    sizes = {"n_layers": 2, "n_heads": redwood.HEADS, "d_model": redwood.D_MODEL, "d_head": redwood.D_HEAD}
    fields = {**sizes, "n_ctx": redwood.N_CTX, "d_vocab": vocabulary, "attn_only": True, "normalization": "LN"}
    fields |= {"tokenizer_name": "NeelNanda/gpt-neox-tokenizer-digits"}
    (root / "lens" / "config.json").write_text(json.dumps(fields))
    return {each.name: each for each in root.iterdir()}


@pytest.fixture
def full(hub: Hub, folders: dict[str, Path]) -> Hub:
    """The hub with all that is asked for, and a text in the project."""
    names = {"redwood": REDWOOD, "gpt2": GPT2, "lens": LENS, "words": "NeelNanda/gpt-neox-tokenizer-digits"}
    for name, hub_id in names.items():
        hub.add(hub_id, folders[name])
    words = np.random.default_rng(0).choice([*NAMES, *PLACES, *THINGS], (41, 60))
    Path("data/stdlib").mkdir(parents=True)
    lines = [json.dumps({"text": " ".join(row)}) + "\n" for row in words]
    Path("data/stdlib/validation.jsonl").write_text("".join(lines))
    return hub


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("published")
    del sys.modules["published"]


@pytest.fixture
def run(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the script in this process; gives its status and what it printed."""

    def start(*words: str) -> tuple[int, str, str]:
        try:
            status = script.main([*FEW, *words])
        except SystemExit as ended:
            status = ended.code
        return (status, *capsys.readouterr())

    return start


def read(page: str) -> Tables:
    """The tables of a page, each of whose rows has as many cells as it has columns."""
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        counts = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
    return list(tables(rendered(page)))


def by_first(table: list[list[str]]) -> dict[str, list[str]]:
    assert len({each[0] for each in table}) == len(table)
    return {each[0]: each[1:] for each in table[1:]}


def test_redwoods_percentages_beside_ours(full: Hub, run: Run) -> None:
    status, page, err = run("--only", "induction")
    assert (status, "failed" in page) == (0, False), err
    summary, versions, numbers, facts = map(by_first, read(page))
    result = scrub.run("induction", "redwood_attn_2l", settings=SETTINGS)
    wanted = {
        f"{name}/{part}": percent
        for name, percents in redwood.PUBLISHED.items()
        for part, percent in zip(("q", "k", "v", "all"), percents, strict=True)
    }
    assert numbers.keys() == {*wanted, "loss, unscrubbed, nats", "loss, baseline, nats"}
    held = 0
    for name, percent in wanted.items():
        ours = result.recovered(name)
        inside = ours.low <= percent <= ours.high
        cells = [str(percent), PAGE.with_ends(ours), PAGE.number(ours.estimate - percent, sign=True)]
        assert numbers[name] == [*cells, "yes" if inside else "no"]
        held += inside
    for name, nats in (("unscrubbed", 0.160), ("baseline", 0.213)):
        ours = result.losses[name]
        assert numbers[f"loss, {name}, nats"][:2] == [f"{nats:.3f}", PAGE.with_ends(ours, 3)]
    assert 0 < held < len(wanted), "both are seen"
    assert summary["Redwood's study of induction"][1] == f"{held} of 26 published numbers inside our intervals"
    assert summary["The published study of GPT-2's heads"][1].startswith("skipped: ")
    commit = commit_of(full.repositories[REDWOOD])
    assert facts["model commit"] == facts["data commit"] == [commit]
    assert facts["digest"] == [result.digest]
    assert facts["sequences"] == ["17"]
    assert facts["weights"] == [load_model("redwood_attn_2l", torch.float64).weights_hash]
    assert versions["torch"] == [version("torch")]
    assert versions["dtype"] == ["float64"]
    assert versions["device"][0].startswith("cpu, ")
    assert f"python benchmarks/published.py {' '.join(FEW)} --only induction\n" in page


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_circuit_of_indirect_objects_beside_the_published_ratio(
    full: Hub, script: ModuleType, run: Run, every: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    means, drawn = "means over three other names", "swapped names"
    assert [*script.IOI] == [means, "means over swapped names", "three other names", drawn]
    assert script.IOI[drawn] == (["ioi", "ioi/as_published"], "ioi:swapped", "y")
    if not every:  # two of the four, and one refinement
        few = {means: script.IOI[means], drawn: (["ioi/naive", "ioi/as_published"], "ioi:swapped", "y")}
        monkeypatch.setattr(script, "IOI", few)
    status, page, _ = run("--only", "ioi", "--prompts", "128", "--dtype", "float32")
    assert status == 0, page
    summary, _, numbers, recovered, *facts = map(by_first, read(page))
    settings = Settings(128, device="cpu", progress=False)
    held = scrub.run("ioi/as_published", "gpt2", "ioi:names", replace(settings, other="mean by template"))
    other = scrub.run(["ioi/naive", "ioi/as_published"], "gpt2", "ioi:swapped", settings)
    nodes, naive = "as_published/nodes", "naive/answer"
    ours = held.ratio(nodes)
    inside = ours.low <= 87 <= ours.high
    apart = PAGE.number(ours.estimate - 87, sign=True)
    assert numbers[means] == ["87", PAGE.with_ends(ours), apart, "yes" if inside else "no"]
    assert numbers[drawn] == ["", PAGE.with_ends(other.ratio(nodes)), "", ""], "nothing is published of it"
    assert len(numbers) == len(facts) == len(script.IOI)
    assert len({cells[1] for cells in numbers.values()}) == len(numbers)
    for name, wanted in (
        (nodes, (held.recovered(nodes), other.recovered(nodes))),
        (naive, (None, other.recovered(naive))),
    ):
        assert [recovered[name][at] for at in (0, -1)] == [
            "" if each is None else PAGE.with_ends(each) for each in wanted
        ]
    assert len(recovered) == (12 if every else 4)  # two parts each
    assert [facts[at]["digest"] for at in (0, -1)] == [[held.digest], [other.digest]]
    assert {each["model commit"][0] for each in facts} == {commit_of(full.repositories[GPT2])}
    said = f"{int(inside)} of 1 published numbers inside our intervals"
    assert summary["The circuit of indirect objects in GPT-2 small"][1] == said


def renamed() -> str:
    """The published text, with the names of a small model's heads, as far as it has as many."""
    heads = list(dict.fromkeys(re.findall(r"L\d+H\d+", TEXT)))
    names = {old: f"L{at // HEADS}H{at % HEADS}" for at, old in enumerate(heads) if at < LAYERS * HEADS}
    lines = [
        line for line in TEXT.splitlines() if line.split(" ")[1:2] not in [[old] for old in heads if old not in names]
    ]
    return re.sub(r"L\d+H\d+", lambda found: names[found[0]], "\n".join(lines))


@pytest.fixture
def small(full: Hub, folders: dict[str, Path], script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> HeadStudy:
    """GPT-2 is a small model: the study of its heads."""
    full.add("some-one/small", folders["small"])
    Path("models/gpt2").mkdir(parents=True)
    Path("models/gpt2/config.json").write_text(json.dumps({"hub": "some-one/small"}))
    monkeypatch.setattr(script, "published", lambda: published(renamed()))
    return study_heads("gpt2", count=5, settings=replace(SETTINGS, sequences=None))


def test_heads_beside_those_that_are_published(full: Hub, small: HeadStudy, run: Run) -> None:
    status, page, err = run("--only", "heads")
    assert status == 0, err
    _, _, numbers, facts = map(by_first, read(page))
    assert len(numbers) == 1 + 3 + 4 + 3 * LAYERS * HEADS
    assert small.one is not None
    for metric, head, written, digits in (  # of L5H5, L9H9, L11H10 and L10H10 there
        (ATTENTION, (0, 0), "0.962", 3),
        (DIRECT, (1, 0), "4.23", 2),
        (DIRECT, (0, 4), f"{MINUS}1.75", 2),
        (ABLATION, (2, 0), "0.097", 3),
    ):
        ours, over = small.one.scores[metric].means[head], small.many.scores[metric].interval(head)
        cells = numbers[f"{metric} of {head[0]}.{head[1]}"]
        held = over.low <= float(written.replace(MINUS, "-")) <= over.high
        ends = PAGE.with_ends(over, digits)
        assert cells == [written, PAGE.number(ours, digits), "no", ends, "yes" if held else "no"]
    chance = small.many.probability
    assert numbers["P(X)"][:2] == ["0.875", PAGE.number(small.one.probability.estimate, 3)]
    assert numbers["P(X)"][3] == PAGE.with_ends(chance, 3)
    tops = small.one.agreement.overlaps
    assert numbers["overlap of the tops by attention to target and direct effect"][:2] == [
        "6",
        f"{tops[0].count.estimate:.0f}",
    ]
    assert facts["model"] == ["gpt2"]
    assert facts["model commit"] == [commit_of(full.repositories["some-one/small"])]
    assert facts["digest"] == [small.many.prompts.digest]


def test_heads_that_are_the_published_ones(
    small: HeadStudy, script: ModuleType, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if what is published were of this model."""
    one = small.one
    assert one is not None
    digits = {ATTENTION: 3, DIRECT: 2, ABLATION: 3}
    tables = {
        by: {
            head: {name: round(float(one.scores[name].means[head]), of) for name, of in digits.items()} for head in top
        }
        for by, top in one.agreement.sets.items()
    }
    overlaps = [int(each.count.estimate) for each in one.agreement.overlaps]
    theirs = Published(round(one.probability.estimate, 3), tables, overlaps)
    monkeypatch.setattr(script, "published", lambda: theirs)
    _, page, _ = run("--only", "heads")
    summary, _, numbers, _ = map(by_first, read(page))
    assert {cells[2] for cells in numbers.values()} == {"yes"}
    said = f"{len(numbers)} of {len(numbers)} published numbers the same but for rounding"
    assert summary["The published study of GPT-2's heads"][1] == said
    changed = next(iter(tables[DIRECT]))
    for rows in tables.values():
        rows.get(changed, {})[DIRECT] = round(float(one.scores[DIRECT].means[changed]), 2) + 0.02
    _, page, _ = run("--only", "heads")
    other = {what for what, cells in by_first(read(page)[2]).items() if cells[2] == "no"}
    assert other == {f"{DIRECT} of {changed[0]}.{changed[1]}"}


def test_roles_beside_those_of_the_literature(full: Hub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "ind", ("induction", "repeated", 0.0))  # every head of the upper layer
    status, page, _ = run("--only", "roles")
    assert status == 0, page
    summary, _, redwoods, facts, gpt2, _, lens, _ = map(by_first, read(page))
    assert {head: cells[:3] for head, cells in redwoods.items() if head[0] == "0"} == {
        "0.0": ["prev", "", "no"],
        **{f"0.{head}": ["self", "self", "yes"] for head in (1, 2, 5)},
    }
    upper = {head: cells[:3] for head, cells in redwoods.items() if head[0] == "1"}
    assert upper.pop("1.5") == upper.pop("1.6") == ["ind", "ind", "yes"]
    assert upper == {f"1.{head}": ["", "ind", "no"] for head in range(5)}
    outcomes = {part: outcome for part, (_, outcome) in summary.items()}
    assert outcomes["Roles of the heads of redwood_attn_2l"] == "5 of 6 published roles found"
    assert outcomes["Roles of the heads of attn-only-2l"] == "no roles are published"
    assert {head for head, cells in gpt2.items() if cells[0]} == {
        *("2.2", "4.11", "0.1", "0.10", "5.1", "5.5", "6.9", "7.2", "7.10"),
    }
    assert all(cells[:3] == ["", "ind", ""] for cells in lens.values())
    study = study_heads("redwood_attn_2l", count=5, settings=replace(SETTINGS, sequences=None))
    for at, metric in enumerate((ATTENTION, DIRECT, ABLATION)):
        assert redwoods["1.5"][8 + at] == PAGE.with_ends(study.many.scores[metric].interval((1, 5)), 3)
    assert {len(cells) for cells in gpt2.values()} == {8}, "a study of its heads is a part by itself"
    assert facts["data"] == ["redwood_attn_2l"]
    assert facts["data commit"] == facts["model commit"] == [commit_of(full.repositories[REDWOOD])]


FAILED = "there is no model 'openai-community/gpt2': no such path here, and no such repository on the hub: "


def test_what_fails_is_a_line_and_the_rest_goes_on(
    full: Hub, script: ModuleType, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del full.repositories[GPT2]
    out = tmp_path / "out.md"
    status, printed, err = run("--only", "heads,roles", "--out", str(out))
    assert (status, printed) == (1, "")
    summary = by_first(read(out.read_text())[0])
    for part in ("The published study of GPT-2's heads", "Roles of the heads of gpt2"):
        assert summary[part][1].startswith(f"failed: {FAILED}"), err
    assert summary["Roles of the heads of redwood_attn_2l"][1].endswith(" of 6 published roles found")
    assert "## Roles of the heads of redwood" in out.read_text()
    assert "## Roles of the heads of gpt2" not in out.read_text()

    def broken(*_: object, **__: object) -> None:
        raise ValueError("of a library\nof others")

    def closed(*_: object, **__: object) -> None:
        raise scrub.GateError("logits are apart")

    monkeypatch.setattr(script, "study_heads", broken)
    monkeypatch.setattr(scrub, "run", closed)
    status, page, err = run("--only", "induction,heads")
    outcomes = [cells[1] for cells in by_first(read(page)[0]).values()]
    assert (status, outcomes[0]) == (1, "failed: a gate failed: logits are apart")
    assert outcomes[2].startswith("failed: ValueError: of a library")
    assert "Traceback" in err, "of what is no mistake of the user's"

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scrub, "run", stopped)
    status, page, _ = run()
    outcomes = [cells[1] for cells in by_first(read(page)[0]).values()]
    assert (status, outcomes) == (1, ["failed: interrupted", *["skipped: interrupted before"] * (len(outcomes) - 1)])


def test_without_a_network(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    status, page, _ = run()
    summary = by_first(read(page)[0])
    assert status == 1
    assert all("HF_HUB_OFFLINE is set" in outcome for _, outcome in summary.values())
    assert "## " not in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "heads,nothing"), "'nothing' is no part: give some of induction,"),
        (("--prompts", "1"), "--prompts 1 "),
        (("--sequences", "1"), "sequences"),
        (("--device", "abacus"), "there is no device 'abacus'"),
        (("--out", "no/where.md"), "no/where.md"),
    ],
)
def test_mistakes_are_one_line(run: Run, words: tuple[str, ...], message: str) -> None:
    status, printed, err = run(*words)
    assert (status, printed, err.count("\n")) == (2, "", 1)
    assert message in err

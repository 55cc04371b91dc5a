"""`scrub ablate` and `scrub patch`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scrub.data.examples import PROMPTS, Examples
from scrub.models.model import load_model
from scrub.plan.runner import Place

Scrub = Callable[..., Any]
PROMPT = "abxab"  # of the letters that the project's tokenizer reads: x is expected


def chance(text: str, answer: str) -> float:
    """P(answer) after a typed prompt, by the model itself."""
    model = load_model("tiny")
    assert model.tokenizer is not None
    tokens = [model.bos_token_id, *model.tokenizer.encode(text).ids]
    logits = model(torch.tensor([tokens]))[0, -1]
    return float(logits.softmax(-1)[model.tokenizer.encode(answer).ids[0]])


def test_every_head_is_ablated_on_a_prompt(scrub: Scrub, tmp_path: Path) -> None:
    file, plot = tmp_path / "a.json", tmp_path / "a.svg"
    said = scrub("ablate tiny --prompt", PROMPT, "--tokens --json", file, "--plot", plot)
    assert said.status == 0, said.err
    content = json.loads(file.read_text())
    assert [row["ablated"] for row in content["rows"]] == [f"a{at}.{head}" for at in range(2) for head in range(5)]
    assert content["before"]["probability"]["estimate"] == pytest.approx(chance(PROMPT, "x"), rel=1e-4)
    assert (content["how"], content["sequences"], content["positions"]) == ("zero", 1, 1)
    assert content["tokens"]["a0.1"][0]["target"] == "x"
    assert "numbers about one prompt have no interval" in said.out
    assert "gates passed" in said.out
    assert plot.read_bytes().startswith(b"<?xml")
    rises = [float(line.split()[2]) for line in said.out.splitlines() if line.startswith((" a0", " a1"))][:10]
    assert rises == sorted(rises, reverse=True)


def test_heads_attend_by_an_array_of_a_file(scrub: Scrub) -> None:
    """An array that is 'lag 1' does what 'lag 1' does; and nothing is unpickled."""
    found = {}
    np.save("pattern.npy", np.eye(6)[[0, 0, 1, 2, 3, 4]])
    for pattern, array in (("lag 1", ""), ("array mine", "--array mine=pattern.npy"), ("uniform", "")):
        said = scrub("ablate tiny --prompt", PROMPT, "--attend", Path(f"a0.2={pattern}"), array, "--json found.json")
        assert said.status == 0, said.err
        found[pattern] = json.loads(Path("found.json").read_text())["rows"][0]["loss after"]
    assert found["array mine"] == pytest.approx(found["lag 1"], rel=1e-6)
    assert found["array mine"] != pytest.approx(found["uniform"], rel=1e-4)
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save("complex.npy", np.eye(6) * 1j)
    Path("text.npy").write_text("0.5")
    for file in ("objects", "complex", "text"):
        said = scrub("ablate tiny --prompt", PROMPT, "--attend", Path("a0.2=array mine"), f"--array mine={file}.npy")
        assert (said.status, said.err.count("\n")) == (2, 1)
        assert f"{file}.npy" in said.err
    said = scrub("ablate tiny --prompt", PROMPT, "--attend", Path("a0.2=array mine"), "--array mine=none.npy")
    assert (said.status, "none.npy" in said.err) == (2, True)


def test_prompts_begin_as_asked(scrub: Scrub, tmp_path: Path) -> None:
    """Without the begin token the model sees another prompt."""
    model, found = load_model("tiny"), {}
    assert model.tokenizer is not None
    answer, ids = model.tokenizer.encode("x").ids[0], model.tokenizer.encode(PROMPT).ids
    for option, begin in (("yes", [model.bos_token_id]), ("no", [])):
        file = tmp_path / f"a{option}.json"
        said = scrub("ablate tiny a0.1 --bos", option, "--prompt", PROMPT, "--json", file)
        assert said.status == 0, said.err
        found[option] = json.loads(file.read_text())["before"]["probability"]["estimate"]
        wanted = float(model(torch.tensor([[*begin, *ids]]))[0, -1].softmax(-1)[answer])
        assert found[option] == pytest.approx(wanted, rel=1e-4)
        said = scrub("patch tiny a0.1 --bos", option, "--clean", PROMPT, "--corrupted abyab --json", file)
        assert said.status == 0, said.err
        clean = json.loads(file.read_text())["clean"]["prob"]["estimate"]
        assert clean == pytest.approx(wanted, rel=1e-4)
    assert found["yes"] != pytest.approx(found["no"], rel=1e-3)
    said = scrub("ablate tiny --bos maybe --data words")
    assert (said.status, "'maybe'" in said.err) == (2, True)
    for bos, said_of in (("yes", "behind"), ("no", "without a begin token")):
        said = scrub("ablate tiny a0.1 --data words --sequences 5 --context 4 --bos", bos)
        assert (said.status, said_of in said.out) == (0, True), said.err


def test_sites_are_ablated_on_text_and_heads_attend_as_they_are_told(scrub: Scrub, tmp_path: Path) -> None:
    file, plot = tmp_path / "a.json", tmp_path / "a.csv"
    said = scrub(
        "ablate tiny a0.1+a1.2@2..4 --layers --how mean --at 1..5 --attend", Path("a1.0=lag 2"),
        "--data words --sequences 17 --positions repeats --json", file, "--plot", plot,
    )  # fmt: skip
    assert said.status == 0, said.err
    content = json.loads(file.read_text())
    assert [row["ablated"] for row in content["rows"]] == ["a0.1+a1.2@2..4", "a0", "a1"]
    assert content["how"] == "mean at positions 1..5; a1.0 attending by lag 2"
    assert content["sequences"] == 17
    assert "brackets are 95 % intervals over documents" in said.out
    assert plot.read_text().count("\n") == 5  # the heading, nothing ablated, and the three
    alone = scrub("ablate tiny a0.1 --only --how resample --prompts random-tokens --length 3 --count 5")
    assert alone.status == 0, alone.err
    assert "resample, all but what is named; on 5 prompts of random tokens" in alone.out
    assert "only a0.1" in alone.out


def test_a_typed_pair_is_patched(scrub: Scrub, tmp_path: Path) -> None:
    file, plot = tmp_path / "p.json", tmp_path / "p.png"
    said = scrub(
        "patch tiny --clean", PROMPT, "--corrupted abzab --streams --every-position --json", file, "--plot", plot
    )
    assert said.status == 0, said.err
    content = json.loads(file.read_text())
    clean, corrupted = chance(PROMPT, "x"), chance("abzab", "x")
    assert content["clean"]["prob"]["estimate"] == pytest.approx(clean, rel=1e-4)
    assert content["corrupted"]["prob"]["estimate"] == pytest.approx(corrupted, rel=1e-4)
    rows = {(row["site"], row["position"]): row for row in content["rows"]}
    assert len(rows) == 3 * 6
    assert rows["stream 0", 3]["prob recovered"] == pytest.approx(100)
    assert rows["stream 2", 5]["prob recovered"] == pytest.approx(100)
    # nothing differs there; the rows behind are computed by themselves, which may have other last bits
    assert rows["stream 0", 2]["prob recovered"] == pytest.approx(0, abs=1e-9)
    first = next(line for line in said.out.splitlines() if line.startswith(" stream 0"))
    assert first.split() == ["stream", "0", "0", "0", "0", "100", "0", "0"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_drawn_pairs_are_patched_back(scrub: Scrub, tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    said = scrub(
        "patch tiny a1.2/k/* a0@2 --prompts random-tokens --length 3 --count 7 --where prefix --back --json", file
    )
    assert said.status == 0, said.err
    content = json.loads(file.read_text())
    assert content["direction"] == "corrupted into clean"
    assert [row["site"] for row in content["rows"]] == ["a1.2/k/emb", *(f"a1.2/k/a0.{h}" for h in range(5)), "a0@2"]
    assert len(content["prompts"]) == 7
    found = [row["prob"] for row in content["rows"]]
    assert np.isfinite(found).all()
    assert "prob recovered, %" in said.out
    swept = scrub("patch tiny a0.1 a1.2 --by-name --prompts random-tokens --length 3 --count 7 --metric kl").out
    assert re.search(r" a0\.1 +(-?\d+ \[-?\d+, -?\d+\] *){3}", swept), swept
    heads = scrub("patch tiny --prompts random-tokens --length 3 --count 3")
    assert heads.status == 0
    assert heads.out.count(" a0.") == heads.out.count(" a1.") == 5


def logits_of(text: str) -> tuple[torch.Tensor, Callable[[str], int]]:
    """What the model says after a typed prompt, and the tokens of letters."""
    model = load_model("tiny")
    assert model.tokenizer is not None
    known = model.tokenizer
    tokens = [model.bos_token_id, *known.encode(text).ids]
    return model(torch.tensor([tokens]))[0, -1].double(), lambda letter: known.encode(letter).ids[0]


def test_a_typed_pair_need_not_repeat_anything(scrub: Scrub) -> None:
    """With a wrong answer it is the difference of logits that is recovered; other metrics if they are named."""
    typed = "patch tiny --clean abx --corrupted cby --answer d --answer e --wrong f --json found.json"
    found = {}
    for more in ("stream 1@end", "--streams --by-name --metric prob,logit_diff --back"):
        said = scrub(typed, *([Path(more)] if "@" in more else [more]))
        assert said.status == 0, said.err
        found[more] = json.loads(Path("found.json").read_text())
    one, two = found.values()
    assert [each["metric"] for each in one["metrics"]] == ["logit_diff"]
    assert [(each["metric"], each["unit"]) for each in two["metrics"]] == [
        ("prob", "probability"),
        ("logit_diff", "logits"),
    ]
    for text, ends in (("abx", "clean"), ("cby", "corrupted")):
        logits, token = logits_of(text)
        wanted = float((logits[token("d")] + logits[token("e")]) / 2 - logits[token("f")])
        assert one[ends]["logit_diff"]["estimate"] == pytest.approx(wanted, abs=1e-4)
        chances = logits.softmax(-1)
        assert two[ends]["prob"]["estimate"] == pytest.approx(
            float(chances[token("d")] + chances[token("e")]), rel=1e-4
        )
    assert {row["position"] for row in two["rows"]} == {"second"}  # the names of what repeats aren't there
    assert two["rows"][-1]["logit_diff recovered"] == pytest.approx(0, abs=1e-3)


def test_a_typed_prompt_is_ablated_in_any_metric(scrub: Scrub) -> None:
    said = scrub("ablate tiny a0.1 --prompt abx --answer d --wrong f --metric logit_diff,prob --json found.json")
    assert said.status == 0, said.err
    content = json.loads(Path("found.json").read_text())
    assert content["metrics"] == {"logit_diff": "logits", "prob": "probability"}
    logits, token = logits_of("abx")
    before = float(logits[token("d")] - logits[token("f")])
    (row,) = content["rows"]
    assert row["logit_diff before"] == content["before"]["logit_diff"]["estimate"] == pytest.approx(before, abs=1e-4)
    assert row["logit_diff change"] == pytest.approx(row["logit_diff after"] - row["logit_diff before"], abs=1e-6)
    assert row["logit_diff remains"] == pytest.approx(100 * row["logit_diff after"] / before, rel=1e-3)
    assert "logit_diff remains, %" in said.out


def test_what_is_added_directly_and_what_the_lens_sees(scrub: Scrub, tmp_path: Path) -> None:
    file, plot, logits = tmp_path / "d.json", tmp_path / "d.png", logits_of("abx")
    typed = "--prompt abx --answer d --wrong f --json"
    said = scrub("direct tiny", typed, file, "--plot", plot)
    assert said.status == 0, said.err
    wanted = float(logits[0][logits[1]("d")] - logits[0][logits[1]("f")])
    content = json.loads(file.read_text())
    assert content["whole"]["estimate"] == pytest.approx(wanted, abs=1e-4)
    assert sum(row["contribution"] for row in content["rows"]) == pytest.approx(wanted, abs=1e-4)
    assert plot.read_bytes().startswith(b"\x89PNG")
    said = scrub("lens tiny", typed, file, "--plot", tmp_path / "l.svg", "--metric logit_diff,loss")
    assert said.status == 0, said.err
    content = json.loads(file.read_text())
    assert content["metrics"] == {"logit_diff": "logits", "loss": "nats"}
    last = content["rows"][-1]
    assert (last["site"], last["position"]) == ("stream 2", "3")
    assert last["logit_diff"] == pytest.approx(wanted, abs=1e-4)
    assert "top token" in said.out
    said = scrub("lens tiny --prompts random-tokens --length 3 --count 3 --at -2,end --json", file)
    assert said.status == 0, said.err
    assert {row["position"] for row in json.loads(file.read_text())["rows"]} == {"-2", "end"}


def test_a_guessed_answer_is_told(scrub: Scrub) -> None:
    """Where the user names none, every command says which it took; where one is named, none is guessed."""
    for command in ("patch tiny a0.1 --corrupted abyab --clean", "ablate tiny a0.1 --prompt", "lens tiny --prompt"):
        said = scrub(command, PROMPT, "--json found.json")
        content = json.loads(Path("found.json").read_text())
        assert content["answers"] == ["x"], command
        assert "answer 'x'" in said.out, command
        assert said.err.splitlines() == [f"note: {note}" for note in content["notes"]], command
        assert len(content["notes"]) == 1, command
    for command in ("patch tiny a0.1 --corrupted abyab --clean", "ablate tiny a0.1 --prompt", "direct tiny --prompt"):
        said = scrub(command, PROMPT, "--answer c --answer d --wrong f --json found.json")
        content = json.loads(Path("found.json").read_text())
        assert (content["answers"], content["wrong"]) == (["c", "d"], ["f"]), command
        assert "answer 'c', 'd', wrong 'f'" in said.out, command
        assert (said.err, "notes" in content) == ("", False), command


def test_prompts_that_data_hold(scrub: Scrub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several lengths, with names, whatever reads them."""
    rng, lengths = np.random.default_rng(0), np.array([7, 5, 6, 7, 5])
    tokens = rng.integers(3, 20, (5, 8))
    other = np.where(np.arange(8)[None] == 2, (tokens - 2) % 17 + 3, tokens)
    prompts = Examples(
        tokens, np.arange(7)[None] == lengths[:, None] - 1, PROMPTS, "made", other=other, lengths=lengths,
        other_lengths=lengths, wrong=rng.integers(3, 20, (5, 1)), positions={"S2": np.array([2, 3, 2, 4, 2])},
        answers=tokens[np.arange(5), lengths][:, None], documents=np.array([0, 0, 1, 2, 2]),
    )  # fmt: skip
    monkeypatch.setattr("scrub.data.for_model.examples_for", lambda *_, **__: prompts)
    for words, says in (
        ("patch tiny --by-name --metric logit_diff,prob", "5 pairs of made"),
        ("patch tiny a0.1@S2 a1@-2 --back", "corrupted into clean"),
        ("ablate tiny a0.1@S2 a1.2@end --how resample", "5 prompts of made"),
        ("heads tiny --top 2", "attention to S2"),
        ("direct tiny", "5 prompts of made"),
        ("lens tiny", "logit_diff, logits"),
    ):
        said = scrub(words, "--data words --json found.json")
        assert said.status == 0, (words, said.err)
        assert says in said.out, words
        assert "over templates" in said.out, words
        content = json.loads(Path("found.json").read_text())
        assert (content["prompts"] if words.startswith("heads") else content)["digest"] == prompts.digest, words
    assert "attention to the target" in scrub("heads tiny --top 2 --data words").err
    said = scrub("heads tiny --top 2 --data words --metric prob,kl --json found.json")
    assert said.status == 0, said.err
    assert "top 2 by the fall of prob when ablated" in said.out
    content = json.loads(Path("found.json").read_text())
    assert content["metrics"] == {"prob": "probability", "kl": "nats"}
    assert "rise of kl" in content["heads"][0]
    counts: list[int | None] = []
    monkeypatch.setattr(
        "scrub.data.for_model.read_prompts", lambda _, __, count, **___: counts.append(count) or prompts
    )
    for words in ("ablate tiny a0.1 --count 3", "heads tiny --count 3", "patch tiny a0.1 --count 3"):
        assert scrub(words, "--data words").status == 0, words
    for words in ("patch tiny a0.1", "direct tiny", "lens tiny", "prompts tiny"):
        assert scrub(words, "--sequences 3 --data words").status == 0, words  # another name for it
    assert counts == [3] * 7
    said = scrub("ablate tiny --count 3 --sequences 3 --data words")
    assert (said.status, said.err.count("\n")) == (2, 1)
    said = scrub("patch tiny a0.1@IO --data words")
    assert (said.status, "'IO'" in said.err, said.err.count("\n")) == (2, True, 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("ablate tiny a9", "no layer a9"),
        ("ablate tiny --how nought", "'nought'"),
        ("ablate tiny --attend a0.0", "--attend 'a0.0'"),
        ("ablate tiny --data words --prompt abxab", "--data and --prompt"),
        ("ablate tiny --prompt abxab --positions all", "--positions"),
        ("ablate tiny --prompts letters --sequences 5", "--sequences"),
        ("ablate tiny --data words --count 5", "--sequences says how many sequences of text"),
        ("heads tiny --metric prob", "--metric"),
        ("ablate tiny --prompt abxab --length 3", "--length"),
        ("ablate tiny --data words --positions 4..12", "no positions 4..12 here: there are 0 to 10"),
        ("patch tiny --clean abxab --corrupted abyab --where prefix", "--where"),
        ("prompts tiny --where prefix", "--where"),
        ("prompts tiny --text abxab --count 3", "--count"),
        ("heads tiny --prompt abxab --sequences 3", "--sequences"),
        ("ablate tiny --prompt abxab --how mean", "mean over one sequence"),
        ("ablate tiny --prompt abxab --how resample", "resample"),
        ("ablate tiny --expected x", "--answer"),
        ("ablate tiny --plot out.txt", "'.txt'"),
        ("patch tiny --prompt abxab", "--clean and --corrupted"),
        ("patch tiny --prompt abxab --corrupted abzab --prompts letters", "--prompts and --clean"),
        ("patch tiny --expected x", "--answer"),
        ("patch tiny --metric logits", "'logits'"),
        ("patch tiny --by-name --every-position --clean abxab --corrupted abzab", "one of the two"),
        ("patch tiny --by-name --at 3 --clean abxab --corrupted abzab", "by itself"),
        ("patch tiny --clean abxa --corrupted abya --answer xy --wrong y", "'xy' is 2 tokens"),
        ("patch tiny --clean abxa --corrupted abya --answer x --wrong x", "'x' can't be right and wrong"),
        ("patch tiny --clean abxa --corrupted abya --metric logit_diff", "no wrong answers"),
        ("patch tiny --wrong x", "--wrong"),
        ("patch tiny a0@S2 --clean abxa --corrupted abya", "'S2'"),
        ("patch tiny --split test", "--split"),
        ("patch tiny blocks.1.attn.hook_z", "'blocks.1.attn.hook_z' is called a1 here"),
        ("ablate tiny a0.1+hook_embed", "'hook_embed' is called emb here"),
        ("ablate tiny --prompt abxab --metric logit_diff", "no wrong answers"),
        ("ablate tiny --answer x --prompts random-tokens", "--answer"),
        ("direct tiny --wrong x", "--wrong"),
        ("direct tiny --prompt abxab --count 3", "--count"),
        ("direct tiny --data words", "no column 'clean', as prompts have, but text"),
        ("lens tiny --prompt abxab --at 0..2", "one position at a time"),
        ("lens tiny --prompt abxab --at S2", "'S2'"),
        ("lens tiny --prompt abxab --metric logits", "'logits'"),
        ("patch tiny --every-position --at 3 --clean abxab --corrupted abzab", "every position"),
    ],
)
def test_mistakes_are_told_in_one_line(scrub: Scrub, words: str, says: str) -> None:
    said = scrub(words)
    assert said.status == 2
    assert says in said.err
    assert "No such option" not in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["ablate", "patch"])
def test_the_batch_that_a_card_chooses_is_named(scrub: Scrub, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """As `scrub run` does, in the heading and in JSON; a batch that somebody chose, or a CPU's, isn't."""
    for room, options in ((1 << 40, ""), (1 << 40, "--batch 2"), (None, "")):
        monkeypatch.setattr(Place, "bytes_for_a_batch", room)
        said = scrub(command, "tiny --prompts random-tokens --length 4 --count 7 --json found.json", options)
        assert said.status == 0, said.err
        content, chosen = json.loads(Path("found.json").read_text()), bool(room and not options)
        assert (", 7 at once" in said.out.splitlines()[0]) == chosen
        assert content.get("batch") == (7 if chosen else None)

"""Names of tasks, and what tokenizers lack for them: counted, left out, or refused in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tokenized import ALL, KINDS, byte_level, joined_blanks, lower_case, runs_of_blanks, sentence_piece
from tokenizers import Regex, Tokenizer, pre_tokenizers
from wording import tells

from scrub.cli import _status
from scrub.cli.given import listed_data
from scrub.data.examples import Examples
from scrub.data.load import check_data, load_examples, place
from scrub.data.repeated import NOWHERE
from scrub.data.tasks.shipped import PROMPTS, Drawn, named_task
from scrub.data.tasks.words import CODE, ENDINGS, MONTHS, NAMES, NUMBERS, WEEKDAYS
from scrub.store.sweeps.grid import Grid
from scrub.text.errors import ScrubError

N_CTX = 257


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(spec: str, tokenizer: Tokenizer | None, count: int | None = None, **options: object) -> Examples:
    size = 1 if tokenizer is None else tokenizer.get_vocab_size()
    given = {"n_ctx": N_CTX, "bos_token_id": None, "vocab_size": size, "tokenizer": tokenizer, "count": count}
    return load_examples(spec, **given | options)  # type: ignore[arg-type]


def refusal(spec: str, tokenizer: Tokenizer | None, count: int | None = None, **options: object) -> str:
    with pytest.raises(ScrubError) as caught:
        draw(spec, tokenizer, count, **options)
    (line,) = str(caught.value).splitlines()
    return line


def only(*words: str) -> Tokenizer:
    return byte_level(words)


def spaced(but: str = "none") -> Tokenizer:
    """One that has no number with its blank, but for one: digits stand in pairs, as behind a bracket."""
    tokenizer = byte_level(ENDINGS)
    split = pre_tokenizers.Split(Regex(rf"{but}|\d{{2}}|\s+|[^\s\d]+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    return tokenizer


def test_one_line_counts_the_words_that_a_tokenizer_lacks() -> None:
    assert "needs 5 first names" in (line := refusal("ioi", only(*NAMES[:4], *NUMBERS)))
    assert f"has 4 of {len(NAMES)}:" in line
    assert f"has 99 of {len(ENDINGS)}:" in refusal(
        "greater_than", only("17", *(each for each in ENDINGS if each != "41"))
    )
    assert f"has 11 of {len(MONTHS)}:" in refusal("successor:months", only(*MONTHS[:4], *MONTHS[5:]))
    assert "lacks 3:" in refusal("successor", only(*NUMBERS[:3], *NUMBERS[4:]))
    assert "needs 100 endings of a year that are one token each, and" in refusal("greater_than", only("17"))
    assert "needs one of the centuries as one token behind a blank, and" in (line := refusal("greater_than", spaced()))
    assert "has 0 of 9:" in line
    (note,) = [each for each in draw("greater_than", spaced(" 17"), 3).notes if "centuries" in each]
    assert note.endswith("1 of 9 centuries is one token of the model's behind a blank: prompts are made of it")
    found = draw("ioi", only(*NAMES[:5]), 9)
    assert found.notes == (
        f"ioi: 5 of {len(NAMES)} first names are one token each of the model's behind a blank: "
        "prompts are made of these",
        "ioi: 9 prompts drawn, by the seed 0",
    )
    assert {*re.findall("|".join(NAMES), " ".join(found.texts))} <= {*NAMES[:5]}
    series = draw("successor", only(*NUMBERS[:8], *NUMBERS[9:]))
    assert f"20 of {len(NUMBERS)} numbers" in series.notes[0]
    assert "from 0 to 7 are used, since 8 isn't" in series.notes[1]
    assert {*map(int, re.findall(r"\d+", " ".join([*series.texts, *series.other_texts])))} == {*range(7)}


def test_a_token_for_everything_unknown_is_no_word() -> None:
    assert f"has 0 of {len(NAMES)}:" in refusal("ioi", lower_case(["a"]))
    assert f"5 of {len(NAMES)} first names" in draw("ioi", lower_case(NAMES[:5]), 3).notes[0]


def test_a_tokenizer_that_drops_what_it_does_not_know_lacks_it() -> None:
    from tokenizers import models

    assert f"has 0 of {len(ENDINGS)}:" in refusal("greater_than", Tokenizer(models.BPE({"a": 0}, [])))
    assert "tokenizer.json" in refusal("ioi", Tokenizer(models.WordLevel({"a": 0}, "[UNK]")))  # which it doesn't have


def test_words_that_stand_joined_are_left_out_and_counted() -> None:
    """Where none stands alone, it is said, and nobody draws for ever."""
    found = draw("successor:weekdays", sentence_piece([*ALL, "Tuesday,"]), 12)
    assert not any("Tuesday," in text for text in [*found.texts, *found.other_texts])
    note, _ = found.notes
    assert re.fullmatch(r"successor:weekdays: \d+ prompts left out, .* joins .*", note)
    alike = sentence_piece([*ALL, *(f"{day}," for day in WEEKDAYS)])  # both prompts of every pair are cut so
    assert "joins them with what is beside them" in refusal("successor:weekdays", alike)
    assert "joins them with what is beside them, as in 'The " in refusal("greater_than", lower_case(), 3)


@pytest.mark.parametrize(("made", "blanks"), [(runs_of_blanks, " " * 4), (joined_blanks, "▁" * 4)])
def test_a_word_behind_blanks_that_are_one_token_is_one_token_too(
    made: Callable[[Sequence[str]], Tokenizer], blanks: str
) -> None:
    """The first word stands behind a token of four blanks, and as an answer it still has one of its own."""
    tokenizer = made(ALL)
    found = draw("loop_variable", tokenizer, 9)
    assert found.answers is not None
    assert found.wrong is not None
    for text, ids, right, wrong in zip(found.texts, found.inputs, found.answers, found.wrong, strict=True):
        first, held = text.split()[0], tokenizer.encode(text).tokens
        assert held[:2] == [blanks, first]
        assert ids[:2].tolist() == [tokenizer.token_to_id(each) for each in (blanks, first)]
        for token in [*right, *wrong]:
            word = tokenizer.decode([token]).strip()
            assert tokenizer.encode(f"{text} {word}").ids == [*tokenizer.encode(text).ids, token]
    assert (found.positions["list"] == 1).all()


def test_answers_that_would_stand_joined_with_the_prompt_are_none() -> None:
    """Behind the prompt the tokenizer never writes "to" and " Mary": the whole of both is one token."""
    tokenizer = sentence_piece([*ALL, "to▁Mary", *(f"if▁{word}" for word in CODE[:40])])
    for spec, never in (("ioi", "to Mary"), ("loop_variable", "")):
        found = draw(spec, tokenizer, 40)
        assert found.answers is not None
        assert found.wrong is not None
        assert any("left out" in note for note in found.notes)
        assert not never or any(never[3:] in text for text in draw(spec, sentence_piece(), 40).texts)
        for text, right, wrong in zip(found.texts, found.answers, found.wrong, strict=True):
            whole = tokenizer.encode(text).ids
            for token in [*right, *wrong]:
                word = tokenizer.decode([token]).strip()
                assert tokenizer.encode(f"{text} {word}").ids == [*whole, token]
                assert f"{text[-2:]} {word}" != never
    every = sentence_piece([*ALL, *(f"to▁{name}" for name in NAMES)])
    assert "behind the prompt" in refusal("ioi", every)


def test_a_year_that_is_one_token_is_no_ending_of_its_century() -> None:
    """As GPT-2's " 1776" and " 1812": 76 is no answer behind 17, and other prompts of that century stay."""
    tokenizer = byte_level([*ALL, "1776", "1812"])
    found, plain = draw("greater_than", tokenizer, 60), draw("greater_than", byte_level(), 60)
    assert found.answers is not None
    assert found.wrong is not None
    read = {"17": set[str](), "18": set[str]()}
    for text, right, wrong in zip(found.texts, found.answers, found.wrong, strict=True):
        words = [{tokenizer.decode([token]) for token in side if token != NOWHERE} for side in (right, wrong)]
        year = re.search(r"year \d\d(\d\d) to", text)
        assert year is not None
        assert all(word > year[1] for word in words[0])
        assert all(word <= year[1] for word in words[1])
        if text[-2:] in read:
            read[text[-2:]] |= {f"{each:02}" for each in range(100)} - words[0] - words[1]
    assert read == {"17": {"76"}, "18": {"12"}}
    (before,), (note,) = (
        [re.search(r"(\d+) of 900 years", each) for each in some.notes if "years" in each] for some in (plain, found)
    )
    assert before is not None
    assert note is not None
    assert int(note[1]) == int(before[1]) + 2


def test_a_prompt_is_quoted_with_its_blanks() -> None:
    """Where no word is a token of its own in front of an equals sign."""
    joined = sentence_piece([*ALL, *(f"{word}▁=" for word in CODE)])
    assert re.search(r"as in '    \w+ = \[\]\\n    for \w+ in \w+:\\n        if'", refusal("loop_variable", joined))


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_as_are_usual_and_no_more_than_there_are(kind: str) -> None:
    tokenizer = KINDS[kind](ALL)
    usual = draw("loop_variable:seed=7", tokenizer)
    assert len(usual) == PROMPTS
    assert usual.notes == (f"loop_variable:seed=7: {PROMPTS} prompts drawn, by the seed 7",)
    assert draw("loop_variable", tokenizer, 1).notes == ("loop_variable: 1 prompt drawn, by the seed 0",)
    everything = draw("successor:weekdays", tokenizer)
    assert len({*everything.texts}) == len(everything) == 42
    said = "42 prompts drawn, by the seed 0: 1,000 draws in a row gave no other"
    assert everything.notes[-1] == f"successor:weekdays: {said}"
    assert tells(refusal("successor:weekdays", tokenizer, 43), "'successor:weekdays' 42 1,000 no other 43 asked")
    assert (fewer := draw("successor:weekdays", tokenizer, 43, fewer=True)).notes == everything.notes
    assert len(fewer) == 42
    assert draw("successor:weekdays", tokenizer, 42).notes[-1].endswith("by the seed 0")
    few = draw("ioi", tokenizer, usual_count=3)
    assert (len(few), few.notes) == (3, ("ioi: 3 prompts drawn, by the seed 0",))


def test_options_that_mean_nothing_are_refused() -> None:
    tokenizer = byte_level()
    assert tells(refusal("ioi", tokenizer, context=9), "'ioi' prompts --context")
    assert tells(refusal("ioi", tokenizer, column="x"), "'ioi' drawn --column --split")
    assert tells(refusal("ioi", tokenizer, split="x"), "'ioi' drawn --column --split")
    assert tells(refusal("ioi:names", None), "'ioi:names' tokenizer.json")
    assert "ask for at least 1" in refusal("ioi", tokenizer, 0)
    assert "reads at most 5" in refusal("ioi", tokenizer, 1, n_ctx=5)
    begun = draw("ioi", tokenizer, 3, prompt_bos=0)
    plain = draw("ioi", tokenizer, 3)
    assert (begun.tokens[:, 0] == 0).all()
    assert {name: (at - 1).tolist() for name, at in begun.positions.items()} == {
        name: at.tolist() for name, at in plain.positions.items()
    }


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("ioi:nope", "ioi:nope ioi:swapped ioi:names"),
        ("ioi:names,swapped", "ioi:names,swapped ioi:swapped"),
        ("ioi:seed=1,seed=2", "ioi:seed=1,seed=2 ioi:swapped"),
        ("ioi:seed=-1", "'-1' seed from 0 to 4294967295"),
        ("ioi:seed=4294967296", "'4294967296' seed"),
        ("ioi:seed=", "'' seed"),
        ("ioi:", "'ioi:' nothing ioi:seed=3"),
        ("ioi:,,seed=1,", "'ioi:,,seed=1,' nothing comma"),
        ("data/ioi: ,names", "nothing data/ioi:seed=3"),
        ("stdlib:x", "'stdlib' nothing :x"),
        ("data/stdlib:x", "'data/stdlib' nothing :x"),
        ("redwood_attn_2l:x", "'redwood_attn_2l' nothing :x"),
    ],
)
def test_what_no_task_is_called_is_one_line(spec: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(spec, byte_level())
    assert all(each in line for each in said.split())
    with pytest.raises(ScrubError):
        check_data(spec)
    assert _status(["prompts", "gpt2-mini", "--data", spec]) == 2
    assert capsys.readouterr().err == f"scrub: {line}\n"


def test_names_say_variant_and_seed_in_any_order(folder: Path) -> None:
    assert Drawn.parse("ioi", "names , seed=3") == Drawn.parse("ioi", "seed=3,names")
    assert (Drawn.parse("ioi", "").variant, Drawn.parse("ioi", "").seed) == ("swapped", 0)
    assert named_task("ioi") is None  # which is found as any folder is
    assert named_task("someone/rows:config") is None
    assert listed_data("stdlib, ioi:names,seed=3,a/b:c,mine") == ("stdlib", "ioi:names,seed=3", "a/b:c", "mine")
    assert listed_data("ioi:seed=3, names,stdlib,ioi:names") == ("ioi:seed=3,names", "stdlib", "ioi:names")
    assert listed_data("stdlib,names") == ("stdlib", "names")  # which isn't of a task
    with pytest.raises(ScrubError, match="ioi:seed=3,names,swapped is none of"):
        listed_data("ioi:seed=3,names,swapped")
    (folder / "data" / "names").mkdir(parents=True)
    assert listed_data("ioi:seed=3,names") == ("ioi:seed=3", "names")


def test_a_seed_that_is_no_part_of_the_name_draws_no_other_prompts(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    """A note says what it does, and which name has other prompts; that of data of other kinds has none."""
    (folder / "t.jsonl").write_text('{"clean": "The self A", "answer": " value"}\n' * 2)
    said = {}
    for spec, other in (("successor", "successor:seed=1"), ("successor:numbers,seed=3", "successor:numbers,seed=4")):
        assert _status(["prompts", "attn2l", "--data", spec, "--count", "2", "--seed", "5"]) == 0
        said[spec] = capsys.readouterr().err
        assert f"--seed 5 determines the intervals; for other prompts write --data {other}\n" in said[spec]
    assert "2 prompts drawn, by the seed 0\n" in said["successor"]
    assert "2 prompts drawn, by the seed 3\n" in said["successor:numbers,seed=3"]
    assert _status(["prompts", "attn2l", "--data", "successor", "--count", "2"]) == 0
    assert "--seed" not in capsys.readouterr().err
    assert _status(["prompts", "attn2l", "--data", "t.jsonl", "--seed", "5"]) == 0
    assert "--seed" not in capsys.readouterr().err


def test_a_folder_of_ones_own_names_a_task(folder: Path) -> None:
    for name, task in (
        ("mine", "\n  task: ioi"),
        ("wrong", "\n  task: nope"),
        ("docstring", ""),
        ("successor", "\n  task:"),
    ):
        (folder / "data" / name).mkdir(parents=True)
        (folder / "data" / name / "README.md").write_text(f"---\nscrub:\n  source: task{task}\n---\n# {name}\n")
    tokenizer = byte_level()
    assert draw("mine:names", tokenizer, 5).texts == draw("ioi:names", tokenizer, 5).texts
    assert draw("mine:names", tokenizer, 5).name == "mine:names"
    assert tells(refusal("wrong", tokenizer), "'nope' task ioi, greater_than")
    with pytest.raises(ScrubError, match="'nope'"):
        listed_data("wrong:seed=3,names")
    where, _ = place("docstring")
    assert where is not None
    assert where.resolve() == folder / "data" / "docstring"
    assert draw("docstring", tokenizer, 2).positions.keys() >= {"A1", "D2"}
    assert draw("successor", tokenizer, 2).positions.keys() >= {"s1", "s3"}  # as the folder is called


def test_rows_beside_the_card_of_a_task_are_noted(folder: Path) -> None:
    """They aren't read: that is said, also where the data are brought."""
    mine = folder / "data" / "mine"
    mine.mkdir(parents=True)
    (mine / "README.md").write_text("---\nscrub:\n  source: task\n  task: ioi\n---\n# mine\n")
    tokenizer = byte_level()
    assert len(draw("mine", tokenizer, 2).notes) == len(check_data("mine")[2]) + 1 == 1
    (mine / "rows.jsonl").write_text('{"clean": "a b", "corrupted": "c b", "answer": " c"}\n')
    (mine / "tokens.npy").write_bytes(b"")
    for spec in ("mine", "mine:names"):
        (note,) = check_data(spec)[2]
        assert tells(note, "mine rows.jsonl tokens.npy `source: task`")
        assert any(note in each for each in draw(spec, tokenizer, 2).notes)


def test_a_file_with_such_a_name_is_that_file(folder: Path) -> None:
    row = {"clean": "a b", "corrupted": "c b", "answer": " c"}
    (folder / "ioi:names").mkdir()
    (folder / "ioi:names" / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert draw("ioi:names", byte_level()).texts == ("a b",)


def test_commands_know_the_names(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert _status(["fetch", "ioi:names,seed=3"]) == 0
    assert "names (three other names stand there), by the seed 3" in capsys.readouterr().out
    assert _status(["whitelist", "loop_variable", "--model", "gpt2-mini"]) == 2
    assert "'loop_variable' are prompts" in (line := capsys.readouterr().err.splitlines()[-1])
    assert "running text" in line
    assert _status(["list", "data"]) == 0
    said = capsys.readouterr().out
    assert all(
        f"  {name} " in said for name in ("ioi", "greater_than", "docstring", "successor", "repeated", "loop_variable")
    )
    names = "loop_variable:seed=1,repeated:code,seed=2,loop_variable"
    (folder / "hypotheses" / "s").mkdir(parents=True)
    (folder / "hypotheses" / "s" / "study.py").write_text(
        'from scrub import Study\nstudy = Study(model="gpt2-mini", data="stdlib", positions="all", '
        'baseline="** -> y", hypotheses=("h",), metric="logit_diff")\n'
    )
    (folder / "hypotheses" / "s" / "h.py").write_text(
        'from scrub import Hypothesis\nhypothesis = Hypothesis("m  **/m0/** -> y")\n'
    )
    jobs = Grid(studies=("s",), data=listed_data(names)).jobs()
    assert [job.data for job in jobs] == ["loop_variable:seed=1", "repeated:code,seed=2", "loop_variable"]
    for wrong in ("loop_variable:foo", "nothing:x"):
        with pytest.raises(ScrubError, match=wrong):
            Grid(studies=("s",), data=(wrong,)).jobs()


def test_a_seed_behind_a_comma_alone_is_answered_with_what_to_write() -> None:
    with pytest.raises(ScrubError, match=r"write loop_variable:seed=3$"):
        named_task("loop_variable,seed=3")
    assert named_task("nothing,seed=3") is None

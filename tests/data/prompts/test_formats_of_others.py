"""Prompts that other libraries write: EAP-IG's CSV with ids or years, auto-circuit's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from worded import LETTERS, byte_level, reading

import scrub
from scrub.models.model import load_model
from scrub.text.errors import ScrubError

NAMES = ["Mary", "John", "Anna", "Paul"]
ENDINGS = [f"{year:02}" for year in range(100)]
MODEL = reading(
    byte_level([*LETTERS, *NAMES, *ENDINGS, "year", "gave", "lasted", "from", "the", "to"]), bos_before_prompts=False
)
REFERENCE = Path(__file__).parents[4] / "shared" / "reference" / "formats"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / ".cache"))
    return tmp_path


def tokens(*texts: str) -> list[int]:
    assert MODEL.tokenizer is not None
    return [MODEL.tokenizer.encode(text).ids[0] for text in texts]


def by_id(right: str | int = " Mary", wrong: str | int = " John", clean: str = "Mary and John gave") -> str:
    ids = [each if isinstance(each, int) else tokens(each)[0] for each in (right, wrong)]
    header = ",clean,corrupted,corrupted_hard,correct_idx,incorrect_idx\n"
    first = f"470,Anna and Paul gave,Anna and Anna gave,Paul and Anna gave,{tokens(' Anna')[0]},{tokens(' Paul')[0]}\n"
    Path("i.csv").write_text(f"{header}{first}7,{clean},Mary and Anna gave,John and Mary gave,{ids[0]},{ids[1]}\n")
    return "i.csv"


def test_ids_are_read_and_told() -> None:
    found = scrub.read_prompts(MODEL, by_id())
    assert found.answers is not None
    assert found.wrong is not None
    assert found.answers.ravel().tolist() == tokens(" Anna", " Mary")
    assert found.wrong.ravel().tolist() == tokens(" Paul", " John")
    assert found.positions == {}
    assert found.other_texts == ("Anna and Anna gave", "Mary and Anna gave")
    assert any("' Anna'" in note and "' Paul'" in note for note in found.notes)
    hard = scrub.read_prompts(MODEL, by_id(), column="corrupted_hard")
    assert hard.other_texts == ("Paul and Anna gave", "John and Mary gave")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"right": 10**6}, "'correct_idx' of row 1 .*1000000"),
        ({"right": " Anna"}, "'correct_idx' of row 1 .*' Anna'.*another tokenizer"),
        ({"wrong": " gave", "clean": "Mary and John gaves"}, "'incorrect_idx' of row 1 .*' gave'"),
        ({"wrong": 0}, "'incorrect_idx' of row 1 "),
        ({"right": " John"}, "both right and wrong in row 1"),
    ],
)
def test_ids_of_another_tokenizer_name_their_row(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ScrubError, match=message):
        scrub.read_prompts(MODEL, by_id(**changed))


def by_year(label: str = "07", clean: str = "A year 1307 B year 13") -> str:
    Path("y.csv").write_text(
        f"clean,corrupted,label\nyear 1752 year 17,year 1701 year 17,52\n{clean},year 1301 13,{label}\n"
    )
    return "y.csv"


def test_larger_endings_are_answers() -> None:
    found = scrub.read_prompts(MODEL, by_year())
    assert found.answers is not None
    assert found.wrong is not None
    for row, label in enumerate((52, 7)):
        right, wrong = ([token for token in each[row].tolist() if token >= 0] for each in (found.answers, found.wrong))
        assert right == tokens(*ENDINGS[label + 1 :])
        assert wrong == tokens(*ENDINGS[: label + 1])
    assert found.expected.tolist() == tokens("53", "08")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": "107"}, "'label' of row 1"),
        ({"label": "x"}, "'label' of row"),
        ({"label": "99", "clean": "year 1399 year 13"}, "'label' of row 1 .* 99"),
        ({"label": "8"}, "'label' of row 1 .* 8"),
        ({"clean": "A year 1307 B year"}, "'label' of row 1"),
    ],
)
def test_labels_that_are_no_years_name_their_row(changed: dict[str, str], message: str) -> None:
    with pytest.raises(ScrubError, match=message):
        scrub.read_prompts(MODEL, by_year(**changed))


def test_every_ending_is_one_token_or_the_first_that_is_not_is_named() -> None:
    some = reading(byte_level([*LETTERS, *ENDINGS[:37], *ENDINGS[38:], "year"]))
    with pytest.raises(ScrubError, match=r"'label' of row 0 .*'37'"):
        scrub.read_prompts(some, by_year())


CIRCUIT = {
    "seq_labels": ["a", "b"],
    "word_idxs": {"IO": 0, "end_of": -1},
    "prompts": [
        {"clean": "Mary A John", "corrupt": "Mary B John", "answers": [" Mary", " Anna"], "wrong_answers": [" John"]},
        {"clean": "Paul A", "corrupt": "Paul C", "answers": [" Paul"], "wrong_answers": [" Anna", " John"]},
    ],
}


@pytest.mark.parametrize("bos", ["no", "yes"])
@pytest.mark.parametrize("indent", [None, 2])
def test_one_object_with_all_prompts(indent: int | None, bos: str) -> None:
    Path("c.json").write_text(json.dumps(CIRCUIT, indent=indent))
    found = scrub.read_prompts(MODEL, "c.json", bos=bos)
    added = int(bos == "yes")
    assert found.positions["IO"].tolist() == [added] * 2
    assert found.positions["end_of"].tolist() == [2 + added, 1 + added]
    assert found.answers is not None
    assert found.answers[0].tolist() == tokens(" Mary", " Anna")
    assert found.other_texts == ("Mary B John", "Paul C")
    assert any("seq_labels" in note for note in found.notes)
    assert scrub.read_prompts(MODEL, CIRCUIT, bos=bos).digest == found.digest
    own = [{**row, "positions": {"IO": 1}} for row in CIRCUIT["prompts"]]  # type: ignore[dict-item]
    more = scrub.read_prompts(MODEL, {**CIRCUIT, "prompts": own}, bos=bos).positions
    assert (more["IO"].tolist(), more["end_of"].tolist()) == ([1 + added] * 2, [2 + added, 1 + added])
    plain = [{**row, "positions": CIRCUIT["word_idxs"]} for row in CIRCUIT["prompts"]]  # type: ignore[dict-item]
    assert scrub.read_prompts(MODEL, plain, bos=bos).digest == found.digest


def test_a_year_does_not_say_what_is_predicted() -> None:
    row = {"clean": "A year 1307 B year 13", "corrupted": "A year 1301 B year 13", "year": "07"}
    for year in ("07", 1307):
        with pytest.raises(
            ScrubError, match="doesn't say what is to be predicted: give its last two digits in 'label'"
        ):
            scrub.read_prompts(MODEL, [{**row, "year": year}])
    assert scrub.read_prompts(MODEL, [{**row, "answer": "13", "year": 2}]).positions.keys() == {"year"}


def test_an_object_without_prompts() -> None:
    Path("c.json").write_text(json.dumps({"word_idxs": {"IO": 1}, "prompts": []}, indent=1))
    with pytest.raises(ScrubError, match=r"c\.json.*no rows"):
        scrub.read_prompts(MODEL, "c.json")
    with pytest.raises(ScrubError, match="'word_idxs'"):
        scrub.read_prompts(MODEL, {**CIRCUIT, "word_idxs": 3})


@pytest.mark.skipif(not REFERENCE.exists(), reason="the published files aren't beside the project")
def test_published_files_are_refused_where_their_tokens_are_others() -> None:
    model = load_model("gpt2-mini")
    with pytest.raises(ScrubError, match=r"'correct_idx' of row 0 .* 47764"):
        scrub.read_prompts(model, REFERENCE / "eapig_ioi_llama.csv")
    with pytest.raises(ScrubError, match=r"'label' of row 0 .*'31'"):
        scrub.read_prompts(model, REFERENCE / "eapig_greater_than.csv")
    found = scrub.read_prompts(MODEL, REFERENCE / "eapig_greater_than.csv")
    assert found.answers is not None
    assert len(found) == 1000
    assert found.answers[0, :2].tolist() == tokens("53", "54")

"""Fuzz: whatever is put into the fields of an object, it is made, or one line names the field."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from project import tiny_model

import scrub
from scrub.data.settings import Recipe, WhitelistSettings
from scrub.study.hypothesis import Hypothesis
from scrub.study.metric import Metric
from scrub.study.settings import Settings
from scrub.study.study import Study, load_module, load_study
from scrub.study.token_feature import TokenFeature
from scrub.text.errors import ScrubError
from scrub.text.fields import theirs
from scrub.training.settings import Settings as Training

RULES = "k a1.ind/k/** -> y"
# each with fields that are right
KINDS: dict[type, dict[str, Any]] = {
    Settings: {},
    Study: {"baseline": RULES[2:]},
    Hypothesis: {"rules": RULES},
    Metric: {"name": "m", "unit": "nats", "nodes": lambda logits, _: logits},
    WhitelistSettings: {},
    Recipe: {},
    Training: {},
    TokenFeature: {},
}


class Mute:
    """Something that can't even be written."""

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


class Silent(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise ValueError


class Base(BaseException):
    pass


numbers = st.integers() | st.floats() | st.sampled_from([10**12, 2**64, 10**30, -1, 0, np.int64(3), np.float32(0.5)])
single = st.none() | st.booleans() | numbers | st.text(max_size=9) | st.binary(max_size=3) | st.builds(Mute)
single |= st.sampled_from([object, len, Path("x"), RULES, "tiny", np.zeros(3), Hypothesis(RULES)])
values = st.recursive(
    single, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)


def refusal(kind: type, /, **given: object) -> str:
    """What is said of fields; nothing if they are taken. Fields are set past the tests' own checks of types."""
    found: Any = object.__new__(kind)
    for each in fields(kind):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        object.__setattr__(found, each.name, {**KINDS[kind], **given}.get(each.name, default))
    try:
        found.__post_init__()
    except ScrubError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@given(data=st.data())
def test_any_field(kind: type, data: st.DataObject) -> None:
    for field in fields(kind):
        said = refusal(kind, **{field.name: data.draw(values, label=field.name)})
        assert len(said.splitlines()) <= 1
        assert len(said) < 600


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Study, {"baseline": None}),
        (Study, {"context": 1.5}),
        (Study, {"hypotheses": None}),
        (Study, {"hypotheses": "naive"}),
        (Study, {"model": 3}),
        (Study, {"model": " "}),
        (Study, {"metric": "lost"}),
        (Hypothesis, {"features": {"f": 3}}),
        (Hypothesis, {"study": ""}),
        (Settings, {"seed": 2**64}),
        (Settings, {"seed": None}),
        (Settings, {"batch": True}),
        (Settings, {"draws": 10**12}),
        (Settings, {"parts": "q"}),
        (Settings, {"split": ""}),
        (WhitelistSettings, {"threshold": float("nan")}),
        (WhitelistSettings, {"beta": float("inf")}),
        (WhitelistSettings, {"share": 1}),
        (Training, {"lr": float("nan")}),
        (TokenFeature, {"current": " s"}),
        (TokenFeature, {"current": None}),
        (TokenFeature, {"current": [-1]}),
        (TokenFeature, {"previous": [5.0]}),
        (TokenFeature, {"previous": [True]}),
    ],
)
def test_what_no_field_may_be(kind: type, wrong: dict[str, object]) -> None:
    assert next(iter(wrong)) in refusal(kind, **wrong)


def test_numbers_of_numpy_and_lists_are_taken() -> None:
    settings = Settings(seed=np.int64(3), parts=["q"])  # type: ignore[arg-type]
    assert settings == Settings(seed=3, parts=("q",))
    assert type(settings.seed) is int
    assert hash(settings) == hash(Settings(seed=3, parts=("q",)))


@pytest.mark.parametrize("wanted", [3, None, 1.5, object()])
def test_what_is_no_hypothesis(wanted: Any) -> None:
    with pytest.raises(ScrubError, match=r"load_study: wanted is .*, but must be a string or Path or Hypothesis"):
        load_study(wanted)


# `node` raises ValueError, as its table of operations does. Fields are looked at above, since tests check their types.
FUNCTIONS = [name for name in scrub.__all__ if inspect.isfunction(getattr(scrub, name)) and name != "node"]
CLASSES = ["Grid", "Results"]
METHODS = ["__call__", "begins", "check", "strings", "to", "tokens", "top", "values"]
BAD = (None, 3, 1.5, "x", "", "x" * 5000, [], [None], {}, {"x": 1}, object(), Mute(), -1, True, 10**30, np.zeros(3))


@cache
def right() -> dict[str, dict[str, Any]]:
    """Arguments that are right: those of any function, and those that one takes otherwise. None of them takes long."""
    model = tiny_model()
    pairs = scrub.prompt_pairs(model, "random tokens", count=2, length=3)
    ablation = scrub.ablate(model, pairs, "heads")
    any_function = {"model": model, "spec": model, "on": pairs, "pairs": pairs, "score": ablation.head_score()}
    drawn = {"names": ["a"], "values": [1.0], "rows": ["a"], "columns": ["b"], "root": model.graph}
    nothing = {"wanted": "nowhere", "studies": "nowhere"}
    return {
        "": {**any_function, **drawn, **nothing, "what": "a0.1", "sites": "a0.1", "heads": "a0.1"},
        "generate": {"on": [[1, 2]], "tokens": 2},
        "generation_chart": {"found": scrub.generate(model, [[1, 2]], 2)},
        "heat_map": {"values": [[1.0]], "names": [["x"]]},
        "ablation_chart": {"found": ablation},
        "patching_chart": {"found": scrub.patch(model, pairs, "heads")},
        "read_prompts": {"data": [{"clean": [1, 2], "answer": 3}]},
        "score_heads": {"names": ["previous token"]},
        "study_heads": {"kind": "random tokens", "prompt": None, "count": 2},
        "attention_chart": {"on": "ab"},
        "__call__": {"tokens": [[1, 2]]},
        "check": {"tokens": torch.tensor([[1, 2]])},
        "top": {"on": "ab"},
        "write_submission": {"task": "ioi", "circuit": scrub.Circuit.of(model, None, {"out/emb"})},
        "viewer_json": {"edges": [scrub.Edge("out", "emb")], "prompt_tokens": ["a", "b"]},
        "values": {"on": "ab", "path": "a0"},
    }


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES, *METHODS])
def test_any_argument(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    called = getattr(right()[""]["model"], name) if name in METHODS else getattr(scrub, name)
    taken = inspect.signature(called).parameters.values()
    known = {**right()[""], **right().get(name, {})}
    given = {each.name: known.get(each.name, "x") for each in taken if each.default is each.empty and not several(each)}
    given |= {each.name: known[each.name] for each in taken if each.name in right().get(name, {})}
    for each, bad in product((each for each in taken if not several(each)), BAD):
        said = "taken"
        try:
            called(**{**given, each.name: bad})
        except ScrubError as error:
            said = str(error)
        assert len(said) < 1000
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ablate", {"only": "no"}),
        ("ablate", {"arrays": 3}),
        ("ablate", {"settings": []}),
        ("ablate", {"attend": ""}),
        ("patch", {"every_position": "x"}),
        ("repeated_prompts", {"count": True}),
        ("strings", {"tokens": [31]}),
        ("strings", {"tokens": 1.5}),
        ("top", {"on": "x", "count": -1}),
    ],
)
def test_what_no_argument_may_be(name: str, wrong: dict[str, object]) -> None:
    """Not even where it would be ignored, or read by its truth."""
    model = right()[""]["model"]
    called = getattr(model, name) if name in METHODS else getattr(scrub, name)
    known = {**right()[""], "what": "a0.1"}
    given = {each: known[each] for each in inspect.signature(called).parameters if each in ("model", "on", "pairs")}
    with pytest.raises(ScrubError):
        called(**{**given, **wrong})


def test_what_arguments_may_be_too(tmp_path: Path) -> None:
    """Numbers of numpy's, lists for tuples, arrays for tensors, a path for the folder there."""
    model = right()[""]["model"]
    assert torch.equal(model(np.array([[1, 2]])), model(torch.tensor([[1, 2]])))
    assert model.strings([]) == []
    chart = scrub.bar_chart(np.array(["a", "b"]), np.array([1, 2], dtype=np.float32))
    assert chart.values["estimate"].tolist() == [1, 2]
    assert len(scrub.repeated_prompts(model, "random tokens", count=np.int64(2), length=3)) == 2
    scrub.Results(tmp_path / "results", make=True)
    assert scrub.known(tmp_path / "results") == []


def test_checks_keep_what_help_and_type_checkers_see() -> None:
    assert str(inspect.signature(scrub.listing)) == "(root: 'Node') -> 'str'"
    assert scrub.listing.__doc__ == inspect.unwrap(scrub.listing).__doc__


def test_one_line_tells_what_is_wrong_in_a_grid() -> None:
    with pytest.raises(ScrubError, match=r"^the grid of the sweep: 'draws' is 'z': .*$"):
        scrub.Grid(studies="x", draws="z")


def test_a_long_word_is_cut_in_any_message() -> None:
    for wrong in ({"positions": "x" * 5000}, {"device": "x" * 5000}, {"dtype": "x" * 5000}):
        with pytest.raises(ScrubError, match=r"x\.\.\.x") as error:
            Settings(**wrong)  # type: ignore[arg-type]
        assert len(str(error.value)) < 500


def several(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


@pytest.mark.parametrize(
    "error", [Silent(), Base("hm"), SystemExit(3), GeneratorExit(), MemoryError(), OSError(1, "x")]
)
def test_whatever_their_code_raises(error: BaseException) -> None:
    with (
        pytest.raises(ScrubError, match=f"^it fails: {type(error).__name__}: .*: mend it$"),
        theirs("it fails", "mend it"),
    ):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ScrubError])
def test_what_is_nobody_s_fault_goes_on(error: type[BaseException]) -> None:
    with pytest.raises(error, match=r"^as it is$"), theirs("it fails", "mend it"):
        raise error("as it is")


@pytest.mark.parametrize(
    "raised",
    [
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
        "class E(BaseException): pass\nraise E",
        "class E(Exception):\n    def __str__(self): return 3\nraise E",
    ],
)
def test_a_module_that_raises_anything(tmp_path: Path, raised: str) -> None:
    (tmp_path / "m.py").write_text(raised)
    with pytest.raises(ScrubError, match=r"m.py, line \d: E: raised: mend the module"):
        load_module(tmp_path / "m.py")

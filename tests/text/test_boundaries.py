"""Fuzz: whatever is put into the fields of an object, it is made, or one line names the field."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrub.data.settings import Recipe, WhitelistSettings
from scrub.study.hypothesis import Hypothesis, TokenFeature
from scrub.study.metric import Metric
from scrub.study.settings import Settings
from scrub.study.study import Study, load_module, load_study
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
        (Study, {"metric": "loss"}),
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
    with pytest.raises(ScrubError, match="is no hypothesis"):
        load_study(wanted)


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

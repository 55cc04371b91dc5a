"""Parameters of hypotheses: what they fill in, what the hypotheses are then called, and what can be wrong."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import SHIPPED, tiny_model
from small import paths

from scrub import Hypothesis, ScrubError, Settings, load_study, prepare
from scrub.cli.given import given_parameters
from scrub.study.parameters import suffix

WINDOW = """
    splits  a1.ind/$slot/a0.*  by mask "last $positions"   # the last $positions, $5 each
    keys    a1.ind/$slot/{a0.prev,a0.self,a0.rest}*/** -> y
            a1.ind/$slot/a0.*[last $positions]/v/emb   -> x
"""
PARAMETERS = {"positions": (1, 2, 3), "slot": ("k", "q")}


def window(**fields: object) -> Hypothesis:
    return Hypothesis(WINDOW, **{"name": "window", "parameters": PARAMETERS, **fields})  # type: ignore[arg-type]


def written(positions: int, slot: str) -> Hypothesis:
    """What it means, written by hand."""
    return Hypothesis(
        f"""
        splits  a1.ind/{slot}/a0.* by mask "last {positions}"
        keys    a1.ind/{slot}/{{a0.prev,a0.self,a0.rest}}*/** -> y
                a1.ind/{slot}/a0.*[last {positions}]/v/emb -> x
        """
    )


def test_values_stand_where_their_names_stood() -> None:
    model, wanted = tiny_model(), list(product((1, 2, 3), "kq"))
    found = window().grid()
    assert [each.name for each in found] == [f"window(positions={n},slot={slot})" for n, slot in wanted]
    for each, (positions, slot) in zip(found, wanted, strict=True):
        meant = written(positions, slot)
        assert (each.splits, each.parts) == (meant.splits, meant.parts)
        assert each.scrub(model.graph, model.roles) is meant.scrub(model.graph, model.roles)
        assert each.values == {"positions": positions, "slot": slot}
        assert each.parameters == {}
        assert each.declaration == each.rules
        assert each == window().with_parameters(positions=positions, slot=slot)


def test_a_bare_hypothesis_means_its_first_values() -> None:
    bare = window()
    assert (bare.splits, bare.parts) == (written(1, "k").splits, written(1, "k").parts)
    assert (bare.name, bare.values) == ("window", {"positions": 1, "slot": "k"})
    assert 'by mask "last 1"   # the last $positions, $5 each' in bare.declaration
    assert window().with_parameters(slot="q").name == "window(positions=1,slot=q)"
    assert Hypothesis(WINDOW, parameters=PARAMETERS).with_parameters().name == "hypothesis(positions=1,slot=k)"


def test_some_values_instead_of_the_declared() -> None:
    names = [each.name for each in window().grid({"positions": (7,)})]
    assert names == ["window(positions=7,slot=k)", "window(positions=7,slot=q)"]
    plain = Hypothesis("k a1.ind/k/** -> y")
    assert plain.grid() == [plain]


def test_published_numbers_hold_for_the_defaults_and_the_claim_says_the_values() -> None:
    hypothesis = window(published={"keys": 79}, claim="The last $positions, for $5.")
    assert hypothesis.with_parameters(positions=1).published == {"keys": 79}
    assert hypothesis.with_parameters(positions="1").published == {"keys": 79}
    assert hypothesis.with_parameters(positions=2).published == {}
    assert hypothesis.with_parameters(positions=2).claim == "The last 2, for $5."


@given(st.lists(st.tuples(st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_names_are_told_apart_and_hold_no_slash(choices: list[tuple[str, str]]) -> None:
    first, second = (suffix(dict(zip("ab", each, strict=True))) for each in choices)
    assert first != second
    assert "/" not in first
    assert first.isprintable()


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"heads": "3 4"}, "(heads=3 4)"),
        ({"who": "{prev,rest}"}, "(who={prev%2Crest})"),
        ({"path": "k/a0.prev[last three]", "n": 0.5}, "(path=k%2Fa0.prev[last three],n=0.5)"),
    ],
)
def test_names_stay_readable(values: dict[str, str | float], shown: str) -> None:
    assert suffix(values) == shown


@pytest.mark.parametrize(
    ("rules", "parameters", "message"),
    [
        ("k a1/$who/** -> y", {}, r"'\$who' in the rules is no parameter: the hypothesis declares none; pass para"),
        ("k a1/$who/** -> y", {"how": (1,)}, r"the parameter 'how' is in no rule: write \$how there"),
        ("k a1/$who/** -> y # $how", {"who": "qk", "how": (1,)}, "'who' needs a list of values, not 'qk'"),
        ("k a1/$who/** -> y # $how", {"who": ("q",), "how": (1,)}, r"the parameter 'how' is in no rule"),
        ("k a1/$who/$what/** -> y", {"who": ("q",)}, r"'\$what' .* declares who; pass parameters"),
        ("k a1/$/** -> y", {}, r"'\$' in the rules is no parameter"),
        ("k a1/$who/** -> y", {"who": ()}, "the parameter 'who' has no values"),
        ("k a1/$who/** -> y", {"who": 3}, "'who' needs a list of values, not 3"),
        ("k a1/$who/** -> y", {"who": ("q", None)}, "the value None of the parameter 'who' is no text and no number"),
        ("k a1/$who/** -> y", {"who": (True,)}, "the value True .* is no text and no number"),
        ("k a1/$who/** -> y", {"who": ("q #",)}, "must be one line without '#' and"),
        ("k a1/$who/** -> y", {"who": ("q\n",)}, "must be one line"),
        ("k a1/$who/** -> y", {"wh o": ("q",)}, "'wh o' can't name a parameter"),
        ("k a1/$who/** -> y", {"who": ("",)}, "has an empty step"),
    ],
)
def test_mistakes_in_declarations(rules: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ScrubError, match=message) as caught:
        Hypothesis(rules, parameters=parameters)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_mistakes_in_values() -> None:
    for values, message in [
        ({"position": 1}, "no parameter 'position' of window: did you mean 'positions'"),
        ({"positions": "x"}, r"window\(positions=x,slot=k\): there is no mask 'last x'"),
        ({"positions": '3" -> '}, r"window\(positions=3.*\): "),
        ({"slot": "k/"}, r"window\(positions=1,slot=k%2F\): .*empty step"),
    ]:
        with pytest.raises(ScrubError, match=message) as caught:
            window().with_parameters(**values)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    for grid, message in [
        ({"positions": ()}, "'positions' has no values"),
        ({"position": (1,)}, "no parameter 'position'"),
        ({"positions": ("x",)}, "no mask 'last x'"),
    ]:
        with pytest.raises(ScrubError, match=message):
            window().grid(grid)  # type: ignore[arg-type]


def test_the_command_lines_values() -> None:
    assert given_parameters(None) == {}
    assert given_parameters(["n=1,2", "heads=3 4", "n=0.5"]) == {"n": (1, 2, 0.5), "heads": ("3 4",)}
    assert given_parameters(["who={prev,rest},self", "at=a=b"]) == {"who": ("{prev,rest}", "self"), "at": ("a=b",)}
    assert given_parameters(["n=01,inf,nan,1e3,-2"]) == {"n": ("01", "inf", "nan", "1e3", -2)}
    for wrong in ("n", "n=", "=1", "n=1,", "n=1,,2", " =1"):
        with pytest.raises(ScrubError, match="gives no value: write NAME=VALUE"):
            given_parameters([wrong])


@pytest.fixture
def module(tmp_path: Path) -> Path:
    file = tmp_path / "window.py"
    declared = f'Hypothesis("""{WINDOW}""", study="induction", parameters={PARAMETERS!r})'
    file.write_text(f'"""The last $positions."""\nfrom scrub import Hypothesis\nhypothesis = {declared}\n')
    return file


def test_modules_run_with_the_values_that_were_given(module: Path) -> None:
    def names(*args: object) -> list[str]:
        return [each.name for each in load_study(["induction/naive", module], *args)[1]]  # type: ignore[arg-type]

    assert names() == ["naive", "window"]
    assert names({"positions": (3, 2)}) == ["naive", "window(positions=3,slot=k)", "window(positions=2,slot=k)"]
    assert len(names({"positions": (3, 2)}, True)) == 1 + 4
    assert len(names({}, True)) == 1 + 6
    trial = prepare(module, settings=Settings(sequences=5), parameters={"slot": ("q",)})
    assert [each.name for each in trial.experiments.scrubbed[2:]] == [
        "window(positions=1,slot=q)/keys",
        "window(positions=1,slot=q)/all",
    ]
    assert trial.hypotheses[0].claim == "The last 1."


def test_mistakes_in_what_is_given(module: Path) -> None:
    for wanted, given_values, message in [
        (module, {"position": (1,)}, "no parameter 'position' of these hypotheses: did you mean 'positions'"),
        ("induction/naive", {"positions": (1,)}, "no parameter 'positions' of these hypotheses: there are none"),
        (module, {"positions": (1, 1)}, r"two hypotheses are called 'window\(positions=1,slot=k\)'"),
    ]:
        with pytest.raises(ScrubError, match=message):
            load_study(wanted, given_values)  # type: ignore[arg-type]


def test_the_shipped_window_of_three_positions_is_refined_2() -> None:
    model = tiny_model()
    _, (window_of_3,) = load_study(str(SHIPPED / "window.py"), {"positions": (3,)})
    _, (refined_2,) = load_study(str(SHIPPED / "refined_2.py"))
    for part in ("q", "k", "v", "all"):
        graphs = [each.scrub(model.graph, model.roles, part) for each in (window_of_3, refined_2)]
        fed = [
            {path.replace("last three", "last 3"): source for path, source in paths(each).items()} for each in graphs
        ]
        assert fed[0] == fed[1]

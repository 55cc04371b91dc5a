"""How hypotheses are written, and what the six shipped ones say, against the design's table."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from project import INDUCTION, SHIPPED, byte_tokenizer, tiny_model

from scrub import Hypothesis, ScrubError, TokenFeature, load_study
from scrub.show.picture import picture
from scrub.study.experiments import experiments
from scrub.study.gates import _Without
from scrub.study.study import Study


def said(hypothesis: Hypothesis) -> dict[str, list[str]]:
    """The splits and the rules of each part, as text."""
    splits = {"splits": [str(split) for split in hypothesis.splits]} if hypothesis.splits else {}
    return splits | {part: [str(rule) for rule in rules] for part, rules in hypothesis.parts.items()}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("k a1.ind/k/** -> y", {"k": ["a1.ind/k/** -> y"], "all": ["a1.ind/k/** -> y"]}),
        ("k\ta1.ind/k/**->y", {"k": ["a1.ind/k/** -> y"], "all": ["a1.ind/k/** -> y"]}),
        (
            """
            q   a1.ind/q/** -> y
                a1.ind/q/emb -> x
            v   a1.ind/v/** -> y
            """,
            {
                "q": ["a1.ind/q/** -> y", "a1.ind/q/emb -> x"],
                "v": ["a1.ind/v/** -> y"],
                "all": ["a1.ind/q/** -> y", "a1.ind/q/emb -> x", "a1.ind/v/** -> y"],
            },
        ),
        (
            """
            splits  a1.ind/k/a0.prev by mask "last three"   # and a comment
                    a1.ind/q/a0.self by identity

            # a comment alone
            k       a1.ind/k/a0.*/**    ->   y
            splits  a1.ind/v/a0.rest by heads 2
            """,
            {
                "splits": [
                    'a1.ind/k/a0.prev by mask "last three"',
                    "a1.ind/q/a0.self by identity",
                    "a1.ind/v/a0.rest by heads 2",
                ],
                "k": ["a1.ind/k/a0.*/** -> y"],
                "all": ["a1.ind/k/a0.*/** -> y"],
            },
        ),
        (
            "keys_of_ind  a1.ind/k/a0.*[last three]/v/emb  -> x\n    **/a0.{prev,rest}  ->  like f",
            {
                "keys_of_ind": ["a1.ind/k/a0.*[last three]/v/emb -> x", "**/a0.{prev,rest} -> like f"],
                "all": ["a1.ind/k/a0.*[last three]/v/emb -> x", "**/a0.{prev,rest} -> like f"],
            },
        ),
        ("k  a/{q,k}/** -> rows  like   f", {"k": ["a/{q,k}/** -> rows like f"], "all": ["a/{q,k}/** -> rows like f"]}),
    ],
)
def test_notation(text: str, wanted: dict[str, list[str]]) -> None:
    assert said(Hypothesis(text, features={"f": lambda tokens, _: tokens})) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the hypothesis has no rules: write at least one"),
        ("# nothing\n\n", "the hypothesis has no rules"),
        ('splits a1.ind/k/a0.prev by mask "previous"', "the hypothesis has no rules"),
        ("a1.ind/k/** -> y", "'a1.ind/k/.* -> y' stands under no part: begin the line with its name"),
        ("k a1.ind/k/** -> y\n**/v/emb -> x", "'.*/v/emb -> x' stands under no part"),
        ("emb -> y", "'emb -> y' stands under no part"),
        ("  a1.ind/k/** -> y", "stands under no part"),
        ("k a1.ind/k/**", "'a1.ind/k/.*' is no rule: write 'PATTERN -> SOURCE'"),
        ("k a1.ind/k/** y", "is no rule: write 'PATTERN -> SOURCE'"),
        ("k a1.ind/k/** ->", "there is no source ''"),
        ("k a1.ind/k/** -> z", "k/.* -> z': there is no source 'z': use x, y, 'like FEATURE' or 'rows like FEATURE'"),
        ("k a1.ind//** -> y", "has an empty step"),
        ("k a1.ind/k** -> y", "must be a step of its own"),
        ("k a1.ind/{q,k -> y", "the braces of the path pattern .* don't close"),
        ("all a1.ind/k/** -> y", "a part can't be called 'all'"),
        ("k a1.ind/k/** -> like f", "a rule draws like 'f', which is no feature of the hypothesis: pass features="),
        ("k a1.ind/k/** -> rows like g", "a rule draws like 'g', which is no feature"),
    ],
)
def test_mistakes_in_the_notation(text: str, message: str) -> None:
    with pytest.raises(ScrubError, match=message) as caught:
        Hypothesis(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ("a1.ind/k/a0.prev", "is no split: write 'PATTERN by"),
        ("a1.ind/k/a0.prev by halves", "splits by nothing that scrub knows"),
        ("a1.ind/k/a0.prev by heads", "splits by nothing that scrub knows"),
        ("a1.ind/k/a0.prev by identity 3", "splits by nothing that scrub knows"),
        ('a1.ind/k/a0.prev by mask "next"', "there is no mask 'next': use one of 'current', 'previous', 'last three'"),
        ("a1.ind/k/a0.prev by heads next", "no head of a0 has the role 'next': this model's roles are prev, self, ind"),
        ("a1.ind/k/a0.prev by heads 7", "a0.prev has no head 7: its heads are 1"),
        ("a1.ind/k/a0.next by identity", "'a1.ind/k/a0.next' matches no path: the nearest there are"),
        ("a1.ind/w/a0.prev by identity", "'a1.ind/w/a0.prev' matches no path: .*'a1.ind/[qkv]'"),
        ("a2/k/a0.prev by identity", "'a2/k/a0.prev' matches no path: the nearest there are"),
        ("a1.ind/k/emb by identity", "can't split 'emb': only attention heads split"),
    ],
)
def test_mistakes_in_splits(splits: str, message: str) -> None:
    model = tiny_model()
    with pytest.raises(ScrubError, match=message) as caught:
        Hypothesis(f"splits {splits}\nk a1.ind/k/** -> y").cut(model.graph, model.roles)
    assert "\n" not in str(caught.value)


def test_a_rule_that_matches_nothing_names_what_is_near() -> None:
    model = tiny_model()
    wrong = Hypothesis("k a1.ind/k/a0.prevv/** -> y")
    with pytest.raises(ScrubError, match=r"'a1.ind/k/a0.prevv/\*\*' matches no path: .*'a1.ind/k/a0.prev'"):
        wrong.scrub(model.graph, model.roles)


def test_parts_by_name() -> None:
    hypothesis = Hypothesis("q a1.ind/q/** -> y\nv a1.ind/v/** -> y", name="h")
    assert [str(rule) for rule in hypothesis.part("v")] == ["a1.ind/v/** -> y"]
    with pytest.raises(ScrubError, match="h has no part 'k': it has q, v, all"):
        hypothesis.part("k")


def test_idle_rules() -> None:
    model = tiny_model()
    hypothesis = Hypothesis("k a1.ind/k/emb -> y\n  a1.ind/k/** -> y\n  a1.ind/k/emb -> y")
    # the two rules for emb and the one for all: without any single one of the three, only the middle is missed
    whole = experiments(Study("a1.ind/** -> y"), [hypothesis.named("h")], model.graph, model.roles).scrubbed[-1]
    assert [str(rule) for rule in _Without(whole).idle] == ["a1.ind/k/emb -> y"] * 2


def test_token_features() -> None:
    tokenizer = byte_tokenizer()
    feature = TokenFeature(current=("e", " "), previous=("t",))
    ids = np.array([tokenizer.encode(text).ids for text in ("set it", "tt  et")])
    assert feature(ids, tokenizer).tolist() == [[0, 1, 0, 1, 0, 0], [0, 1, 1, 1, 1, 0]]
    assert TokenFeature()(ids, tokenizer).sum() == 0
    with pytest.raises(ScrubError, match="the text 'et' of a feature is no token of this model"):
        TokenFeature(current=("et",))(ids, tokenizer)
    with pytest.raises(ScrubError, match="needs a model with a tokenizer"):
        feature(ids, None)


# What the design's table says of each slot of the induction heads, as the tree of what feeds what.

Tree = dict[str, Any]


def under(mask: str, heads: list[str], rows: str = "y") -> Tree:
    """Heads under a mask: what is inside is written by x, what is outside by y, the pattern is y's (or rows')."""
    found: Tree = {}
    for head in heads:
        outside = "y" if rows == "y" else {"q": rows, "k": rows, "v": "y"}
        found |= {f"{head}[{mask}]": {"q": rows, "k": rows, "v": "x"}, f"{head}[rest]": outside}
    return found


PREV, SELF, REST = "a0.prev", "a0.self", "a0.rest"
HEADS = [PREV, SELF, REST]
X, Y = {"emb": "x"}, {"emb": "y"}
CURRENT, LAST = X | under("current", HEADS), X | under("last three", HEADS)
OTHERS_Y = X | dict.fromkeys(HEADS, "y")
REFINED_3 = X | {PREV: "x", SELF: "x"} | under("last three", [REST])
REFINED_4 = X | {f"{SELF}[identity]": "x", f"{SELF}[error]": "y"} | under("last three", [PREV, REST])
REFINED_5 = X | under("last three", [PREV], "rows like typicality") | under("last three", [SELF, REST])
TABLE: dict[str, tuple[Tree, Tree, Tree]] = {
    "naive": (OTHERS_Y, Y | under("previous", [PREV]) | {SELF: "y", REST: "y"}, OTHERS_Y),
    "refined_1": (CURRENT, Y | under("previous", HEADS), CURRENT),
    "refined_2": (LAST, LAST, CURRENT),
    "refined_3": (REFINED_3, REFINED_3, CURRENT),
    "refined_4": (REFINED_4, LAST, CURRENT),
    "refined_5": (REFINED_4, REFINED_5, CURRENT),
}


def parsed(text: str) -> Any:
    """The printed tree, as nested dictionaries that end in sources."""
    root: Tree = {}
    open_at: dict[int, Tree] = {0: root}
    for line in text.splitlines():
        guides, step = re.fullmatch(r"([│├└─ ]*)(.*)", line).groups()  # type: ignore[union-attr]
        if not guides:
            continue  # the title, the output, the legend
        name, _, source = step.partition("  ")
        depth = len(guides) // 4
        inner: Tree = {}
        open_at[depth - 1][name] = source or inner
        open_at[depth] = inner
    return root


def by_role(tree: Any) -> Any:
    """The same tree with each group of heads of layer 0 written as the roles that it is made of."""
    if not isinstance(tree, dict):
        return tree
    found: Tree = {}
    for step, inner in tree.items():
        group, bracket, part = step.partition("[")
        of_layer_0 = [f"a0.{role}" for role in group.removeprefix("a0.").split("+")] if "a0." in group else [group]
        names = HEADS if group == "a0" else of_layer_0
        found |= {f"{name}{bracket}{part}": by_role(inner) for name in names}
    return found


@pytest.mark.parametrize("name", INDUCTION)
def test_printed_trees_are_the_designs_table(name: str) -> None:
    model = tiny_model()
    _, (hypothesis,) = load_study(str(SHIPPED / f"{name}.py"))
    wanted = dict(zip("qkv", TABLE[name], strict=True))
    for part in ("q", "k", "v", "all"):
        tree = by_role(parsed(picture(hypothesis.scrub(model.graph, model.roles, part)).text()))
        ind = tree.pop("a1.ind")
        assert tree == {"emb": "x", PREV: "x", SELF: "x", REST: "x", "a1.rest": "x"}
        for slot in "qkv":
            if part in (slot, "all"):
                assert ind[slot] == wanted[slot], f"{name} {part} {slot}"
            else:
                assert ind[slot] == "x", f"{name} {part} {slot}"


def test_the_shipped_study() -> None:
    study, hypotheses = load_study(SHIPPED)
    assert [each.name for each in hypotheses] == list(INDUCTION)
    assert [str(rule) for rule in study.baseline_rules] == ["a1.ind/** -> y"]
    assert (study.name, study.model, study.data, study.positions) == ("induction", "attn2l", "stdlib", "whitelist")
    for each in hypotheses:
        assert list(each.parts) == ["q", "k", "v", "all"]
        assert len(each.claim) > 100
        assert "\n" not in each.claim
        assert set(each.published) == {"q", "k", "v", "all"}
        model = tiny_model()
        for experiment in experiments(study, [each], model.graph, model.roles):
            assert _Without(experiment).idle == []
    published = [each.published["all"] for each in hypotheses]
    assert published == [35, 62, 76, 91, 86, 89]


def test_baselines() -> None:
    assert len(Study(baseline="a1.ind/q/** -> y\n\n  a1.ind/k/** -> y").baseline_rules) == 2
    for text, message in (("", "baseline has no rules"), ("a1.ind", "is no rule"), ("a1 -> w", "no source 'w'")):
        with pytest.raises(ScrubError, match=message):
            Study(baseline=text).baseline_rules  # noqa: B018


def test_a_model_without_roles_is_told_how_to_get_some() -> None:
    model = tiny_model()
    hypothesis = Hypothesis("k  a1.ind/k/** -> y").named("h")
    for roles, told in ((model.roles, False), ({}, True)):
        with pytest.raises(ScrubError, match="matches no path") as caught:
            experiments(Study("a1.nobody/** -> y"), [hypothesis], model.graph, roles)
        assert ("scrub roles MODEL --write" in str(caught.value)) is told

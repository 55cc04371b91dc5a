"""Random hypotheses of the same size: as many kept paths through the same layers, every choice of them as likely."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from scipy.stats import chisquare
from small import ROLES, paths, small, small_gpt2

from scrub import Hypothesis, ScrubError, load_model, load_study
from scrub.graph.node import Node
from scrub.study import null
from scrub.study.experiments import experiments
from scrub.study.metric import losses
from scrub.study.null import Size, random_hypotheses, standing
from scrub.study.study import Study

STUDY = Study("a1.ind/** -> y")
MODEL = small().graph
KEYS = 'splits a1.ind/k/a0.prev by mask "previous"\nk a1.ind/k/** -> y\n  a1.ind/k/a0.prev[previous]/v/emb -> x'
PAIR = "k a1.ind/k/** -> y\n  a1.ind/k/a0.{prev,self}/v -> x"
HEADS = {"prev": 1, "self": 2, "rest": 2, "self.rest": 1, "ind": 2}  # of 5 in layer 0


def named(rules: str, name: str = "h") -> Hypothesis:
    return Hypothesis(rules, name=name, features={"f": lambda tokens, _: tokens})


SPLITS = [
    'a1.ind/k/a0.prev by mask "previous"',
    "a1.ind/k/a0.self by heads 0",
    'a1.ind/{q,v}/a0.* by mask "last three"',
]
PATTERNS = ["{slot}/**", "{slot}/emb", "{slot}/a0.prev*/**", "{slot}/a0.self*/v/**", "{slot}/a0.rest*/{q,k}/**"]
PATTERNS += ["{slot}/a0.*/v", "{slot}/a0.*[*]/q"]


@st.composite
def hypotheses(draw: st.DrawFn) -> Hypothesis:
    """Random splits and rules, most of which keep some paths."""
    splits = draw(st.lists(st.sampled_from(SPLITS), unique=True, max_size=3))
    rules = []
    for slot in draw(st.lists(st.sampled_from("qkv"), min_size=1, unique=True)):
        chosen = draw(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True))
        feeds = draw(st.lists(st.sampled_from(["x", "y", "like f"]), min_size=len(chosen), max_size=len(chosen)))
        rules += [f"  a1.ind/{slot}/** -> y"]
        rules += [f"  a1.ind/{each.replace('{slot}', slot)} -> {s}" for each, s in zip(chosen, feeds, strict=True)]
    text = "".join(f"splits {each}\n" for each in splits) + "k " + "\n".join(rules)
    return named(text)


@given(hypotheses(), st.integers(0, 99))
def test_as_many_paths_are_kept_through_the_same_layers(hypothesis: Hypothesis, seed: int) -> None:
    try:
        graph = hypothesis.scrub(MODEL, ROLES)
        (drawn,) = random_hypotheses(STUDY, hypothesis, "k", MODEL, ROLES, 1, seed)
    except ScrubError as error:
        event(re.sub("'.*'|h/k", "", str(error))[:40])
        assume("is the same one" not in str(error) and "matches no path" not in str(error))
        raise
    whole = [f"a1.ind/{slot}" for slot in "qkv" if set(_below(graph, f"a1.ind/{slot}").values()) == {"x"}]
    scrubbed = drawn.scrub(MODEL, ROLES, "k")

    def counts(of: Node) -> dict[tuple[str, ...], Counter[str]]:
        """By layers alone where paths are shuffled, in every input of the entry; elsewhere by where they are."""
        found: dict[tuple[str, ...], Counter[str]] = {}
        for path, source in paths(of).items():
            steps = [step.partition("[")[0] for step in path.split("/")]
            layers = tuple(step.partition(".")[0] for step in steps if step not in {"q", "k", "v"})
            shuffled = path.startswith("a1.ind/") and not path.startswith(tuple(whole))
            times = np.prod([_heads(step) for step in steps])
            key = layers if shuffled else ("outside", *layers)
            found.setdefault(key, Counter())[source] += int(times)
        return found

    assert counts(scrubbed) == counts(graph)
    event("another one" if scrubbed is not graph else "the same")


def _heads(step: str) -> int:
    layer, dot, names = step.partition(".")
    if not dot:
        return 5 if re.fullmatch(r"a\d", layer) else 1
    return sum(HEADS.get(name, 1) for name in names.split("+"))


def _below(graph: Node, place: str) -> dict[str, str]:
    return {path: source for path, source in paths(graph).items() if path.startswith(f"{place}/")}


def test_every_choice_of_heads_is_as_likely() -> None:
    """Whole heads: layer 0 has 5 of which prev and self are 3."""
    size = Size(STUDY, named("k a1.ind/k/** -> y\n  a1.ind/k/{emb,a0.prev,a0.self} -> x"), "k", MODEL, ROLES)
    assert size.distinct == 10
    rng = np.random.default_rng(3)
    seen: Counter[frozenset[str]] = Counter()
    names = {"a0.prev": "1"}
    for number in range(2000):
        drawn = size.shuffled(rng, number)
        (heads,) = [step for rule in map(str, drawn.part("k")) for step in re.findall(r"a0\.\w+(?:,a0\.\w+)*", rule)]
        seen[frozenset(names.get(each, each[3:]) for each in heads.split(","))] += 1
    assert set(seen) == {frozenset(each) for each in combinations("01234", 3)}
    assert chisquare(list(seen.values())).pvalue > 0.001


@pytest.mark.parametrize(("study", "model"), [("induction", "attn2l"), ("gpt2_induction", "gpt2-mini")])
def test_random_ones_of_everything_that_is_shipped_can_be_lowered(
    study: str, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    declared, hypotheses_ = load_study(study)
    loaded = load_model(model)
    alone = set()
    for each in hypotheses_:
        for part in each.parts:
            try:
                (drawn,) = random_hypotheses(declared, each, part, loaded.graph, loaded.roles, 1, 0)
            except ScrubError as error:
                alone.add(f"{each.name}/{part}: {'keeps all paths or none' in str(error)}")
                continue
            assert drawn.name == f"{each.name}~{part}~1"
            assert drawn.null_of == each.name
            drawn.scrub(loaded.graph, loaded.roles, part)
    naive = {"naive/q", "naive/v"}
    whole = {f"refined_{number}/{part}" for number in (4, 5) for part in "qv"}  # layer 0 whole or not at all
    ind = {f"{each.name}/ind" for each in hypotheses_}
    assert alone == {f"{name}: True" for name in (naive if study == "induction" else naive | whole | ind)}


def scores(graphs: Sequence[Node]) -> dict[Node, float]:
    """The loss of each graph, negative: the more the better."""
    model, distinct = small(), list(dict.fromkeys(graphs))
    found = model.run({str(at): losses(graph) for at, graph in enumerate(distinct)})
    return {graph: -float(found[str(at)].mean()) for at, graph in enumerate(distinct)}


def test_a_random_one_stands_anywhere_among_random_ones_of_its_own_size() -> None:
    of = Size(STUDY, named(PAIR), "k", MODEL, ROLES)
    assert of.distinct == 455  # 3 of 15 slots
    ours = random_hypotheses(STUDY, named(PAIR), "k", MODEL, ROLES, 24, 5)
    theirs = [random_hypotheses(STUDY, each, "k", MODEL, ROLES, 9, at) for at, each in enumerate(ours)]
    assert {Size(STUDY, each, "k", MODEL, ROLES).distinct for each in ours[:5]} == {455}
    every = [[one, *others] for one, others in zip(ours, theirs, strict=True)]
    lowered = [[each.scrub(MODEL, ROLES, "k") for each in row] for row in every]
    score = scores([graph for row in lowered for graph in row])
    p = [standing(score[row[0]], np.array([score[graph] for graph in row[1:]])).p for row in lowered]
    assert 0.35 < np.mean(p) < 0.65
    assert np.mean(np.array(p) <= 0.3) < 0.55
    assert np.std(p) > 0.15
    best, other = max(score.values()), np.array([score[graph] for row in lowered[:10] for graph in row])
    assert standing(best, other[other < best]).p < 0.02


def test_what_a_random_one_is() -> None:
    hypothesis = replace(named(KEYS, "keys"), study="induction", published={"k": 3})
    first, second = random_hypotheses(STUDY, hypothesis, "k", MODEL, ROLES, 2, 7)
    assert [first.name, second.name] == ["keys~k~1", "keys~k~2"]
    assert (first.null_of, first.study, first.published) == ("keys", "induction", {})
    assert first.features == hypothesis.features
    assert "one of 18 such hypotheses, too few for a small p-value" in first.claim
    assert [first, second] == random_hypotheses(STUDY, hypothesis, "k", MODEL, ROLES, 5, 7)[:2]
    seeds = {tuple(h.rules for h in random_hypotheses(STUDY, hypothesis, "k", MODEL, ROLES, 3, s)) for s in range(5)}
    assert len(seeds) == 5
    (whole,) = random_hypotheses(STUDY, hypothesis, "all", MODEL, ROLES, 1, 7)
    lowered = experiments(STUDY, [first, second, whole], MODEL, ROLES)
    assert [each.name for each in lowered.scrubbed[2:]] == ["keys~k~1/k", "keys~k~2/k", "keys~all~1/all"]


def test_rows_of_donors_stay_where_they_are() -> None:
    text = f"{KEYS}\n  a1.ind/k/a0.prev*/{{q,k}}/** -> rows like f"
    assert Size(STUDY, named(text), "k", MODEL, ROLES).distinct == 14  # of 18 slots, 4 have rows
    for each in random_hypotheses(STUDY, named(text), "k", MODEL, ROLES, 5, 0):
        found = paths(each.scrub(MODEL, ROLES, "k"))
        rows = {path for path, source in found.items() if source == "rows like f"}
        assert rows == {f"a1.ind/k/a0.prev[{part}]/{slot}/emb" for part in ("previous", "rest") for slot in "qk"}


def test_groups_stay_together_where_single_heads_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(null, "MAX_PATHS", 14)
    size = Size(STUDY, named(PAIR), "k", MODEL, ROLES)
    assert size.distinct == 36  # 2 of 9 slots
    assert "by heads" not in size.shuffled(np.random.default_rng(0), 1).rules


def test_deep_models_are_bounded() -> None:
    model = small_gpt2(n_layers=12).graph
    roles = {"prev": [(2, 1), (3, 2), (4, 0)], "self": [(0, 1)], "ind": [(5, 1), (5, 2), (6, 4), (9, 3)]}
    study, every = load_study("gpt2_induction/naive")
    began = time.monotonic()
    (drawn,) = random_hypotheses(study, every[0], "k", model, roles, 1, 0)
    drawn.scrub(model, roles, "k")
    assert len(drawn.rules.splitlines()) < 60
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("baseline", "rules", "message"),
    [
        ("a1.ind/** -> y", "k a1.ind/k/** -> y", "every hypothesis of the size of h/k is the same one"),
        ("a1.ind/** -> y", "k a1.rest/k/** -> y", "every hypothesis of the size of h/k is the same one"),
        ("a1.ind/** -> y\na1.ind/q/** -> x", PAIR, r"the baseline's rule 'a1.ind/q/\*\* -> x' keeps paths"),
        ("**/a*.prev/** -> y", "k a0.prev/k/** -> y", "the rules tell apart which path an entry .* is read by"),
        ("a1.ind/** -> y", f"{PAIR}\n  a1.*/k/a0.self/v -> like f", "the rules of h/k can't be told path by path"),
    ],
)
def test_where_there_is_none(baseline: str, rules: str, message: str) -> None:
    with pytest.raises(ScrubError, match=message) as caught:
        random_hypotheses(Study(baseline), named(rules), "k", MODEL, ROLES, 1, 0)
    assert "\n" not in str(caught.value)


def test_the_whole_model_can_be_the_scope() -> None:
    hypothesis = named("k ** -> y\n  {emb,a0.prev} -> x")
    size = Size(Study("** -> y"), hypothesis, "k", MODEL, ROLES)
    assert size.distinct == 5
    assert size.told(size.feeds, "h").scrub(MODEL, ROLES, "k") is hypothesis.scrub(MODEL, ROLES)


def test_standing() -> None:
    found = standing(3.0, np.array([1.0, 2.0, 3.0, 4.0]))
    assert (found.above, found.count, found.p) == (0.5, 4, 0.6)
    assert standing(9.0, np.arange(9.0)).p == 0.1
    with pytest.raises(ScrubError, match="there is no random hypothesis"):
        standing(1.0, np.array([]))

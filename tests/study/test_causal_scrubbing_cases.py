"""What a tool for causal scrubbing must tell apart, case by case, in the language of features and draws.

Models are made by hand: each head reads one number, at a fixed lag, and writes it so many times. xi is the number i
tokens back, -1 or 1; what is written in all is the next token's number. So what a claim comes to is said in one line of
numpy (`writes`): exactly of the rows that were drawn, and in the mean over all that can be drawn, each as often as it
is. Each case says which claims recover everything, and how much the false ones do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch

import scrub
from scrub.data.examples import Examples
from scrub.paths.sources import Y

CONTEXT, D_MODEL, D_HEAD, HEADS = 5, 13, 7, 4
VALUE, OUT, MIDDLE = 5, 7, 8  # in the residual stream, behind the positions
SHARP, REPEATS = 0.5, 40  # of predictions; how often all rows stand in the data
Rows = np.ndarray  # [row, lag]: numbers, by how far back they are


@dataclass(frozen=True)
class Head:
    lag: int
    times: float = 1
    reads: int = VALUE
    writes: int = OUT


@dataclass(frozen=True)
class Claim:
    """Draws (name: like a feature, of another), rules, and what the heads then write of the rows by their names."""

    draws: Mapping[str, tuple[str, str]]
    rules: str
    writes: Callable[[Mapping[str, Rows]], np.ndarray]

    def text(self) -> str:
        lines = [
            f"{name} like {like}{' of ' * bool(of)}{of}" if like else f"{name} any"
            for name, (like, of) in self.draws.items()
        ]
        return "draws " + "\n  ".join(lines) + "\npart " + "\n  ".join(self.rules.split("; "))


@dataclass(frozen=True)
class Case:
    """Heads of two layers, the number that follows rows, and how often each row of (x1, x2, x3) is there."""

    heads: Sequence[Sequence[Head]]
    follows: Callable[[Rows], np.ndarray]
    claims: Mapping[str, Claim]
    often: Callable[[int, int, int], int] = lambda *_: 1

    @property
    def rows(self) -> Rows:
        every = [row for row in product((-1, 1), repeat=3) for _ in range(self.often(*row))]
        return np.array([(-1, *row, 1) for row in every])

    @property
    def numbers(self) -> np.ndarray:
        """What the tokens that follow stand for."""
        return np.unique(self.follows(self.rows))

    def model(self) -> scrub.Model:
        follow, names = torch.from_numpy(self.numbers), [f"layers.{layer}" for layer in range(2)]
        vocab = 2 + len(follow)
        params = {"embed.weight": torch.zeros(vocab, D_MODEL), "pos.weight": torch.eye(CONTEXT, D_MODEL)}
        params["embed.weight"][:, VALUE] = torch.cat([torch.tensor([-1.0, 1.0]), follow])
        for name, heads in zip(names, self.heads, strict=True):
            weights = {slot: torch.zeros(HEADS, D_HEAD, D_MODEL) for slot in "qkv"}
            weights["o"] = torch.zeros(HEADS, D_MODEL, D_HEAD)
            for at, head in enumerate(heads):
                for position in range(head.lag, CONTEXT):
                    weights["q"][at, position - head.lag, position] = 300
                weights["k"][at] = torch.eye(D_HEAD, D_MODEL) * (torch.arange(D_MODEL) < CONTEXT)
                weights["v"][at, 0, head.reads] = 1
                weights["o"][at, head.writes, 0] = head.times
            params |= {f"{name}.w{slot}": each for slot, each in weights.items()}
        params["unembed.weight"] = torch.zeros(vocab, D_MODEL)
        params["unembed.weight"][2:, OUT] = SHARP * follow
        params["unembed.bias"] = torch.cat([torch.full((2,), -99.0), -SHARP * follow.square() / 2])
        config = {"architecture": "attention_only", "n_layers": 2, "n_heads": HEADS, "d_model": D_MODEL}
        config |= {"d_head": D_HEAD, "n_ctx": CONTEXT, "vocab_size": vocab, "bos_token_id": None}
        config |= {"positions": "shortformer", "norm": "none", "biases": ["unembed"], "layer_norm_eps": 1e-5}
        return scrub.load_model((config, {k: v.double() for k, v in params.items()}), torch.float64, name="by_hand")

    def loss(self, written: np.ndarray, of: Rows) -> np.ndarray:
        """In nats, where so much is written and what follows some rows is right."""
        logits = SHARP * (self.numbers * written[:, None] - np.square(self.numbers) / 2)
        right = logits[np.arange(len(of)), np.searchsorted(self.numbers, self.follows(of))]
        return np.asarray(np.log(np.exp(logits).sum(1)) - right)

    def expected(self, claim: Claim) -> tuple[float, float]:
        """The mean loss of a claim over everything that can be drawn, and how far single ones are from it."""
        rows, names = self.rows, ["x", *claim.draws]
        ways = [((x,), 1 / len(rows)) for x in range(len(rows))]
        for like, of in claim.draws.values():
            longer = []
            for drawn, share in ways:
                above = rows[drawn[names.index(of or "x")]]
                agree = [at for at, row in enumerate(rows) if not like or FEATURES[like](row) == FEATURES[like](above)]
                longer += [((*drawn, at), share / len(agree)) for at in agree]
            ways = longer
        by_name = dict(zip(names, rows[np.array([drawn for drawn, _ in ways]).T], strict=True))
        share = np.array([each for _, each in ways])
        losses = self.loss(claim.writes(by_name), by_name["x"])
        mean = float((share * losses).sum())
        return mean, float((share * (losses - mean) ** 2).sum() ** 0.5)


def says(*lags: int) -> Callable[[Rows], int]:
    """What stands so far back, of one row of numbers."""
    return lambda row: sum(int(row[lag] > 0) << at for at, lag in enumerate(lags))


FEATURES: dict[str, Callable[[Rows], int]] = {
    "x1": says(1), "x2": says(2), "x3": says(3), "all_three": says(1, 2, 3),
    "their_sum": lambda row: int(row[1] + row[2]) + 2,
}  # fmt: skip


def of_tokens(feature: Callable[[Rows], int]) -> Callable[[np.ndarray, object], np.ndarray]:
    """The feature as scrub asks for it: of tokens, the last of which stands at lag 0."""
    return lambda tokens, _: np.array([feature(np.where(row == 1, 1, -1)[::-1]) for row in tokens])


ASKED = {name: of_tokens(feature) for name, feature in FEATURES.items()}


def measured(case: Case) -> dict[str, float]:
    """What the claims recover in the mean over all that can be drawn, once scrub's losses are those of the formula."""
    rows = np.tile(case.rows, (REPEATS, 1))
    following = 2 + np.searchsorted(case.numbers, case.follows(rows))
    tokens = np.concatenate([(rows[:, ::-1] > 0).astype(np.int64), following[:, None]], axis=1)
    examples = Examples(tokens, np.arange(CONTEXT) == np.full((len(tokens), 1), CONTEXT - 1))
    claims = tuple(
        scrub.Hypothesis(
            claim.text(), name=name, features={like: ASKED[like] for like, _ in claim.draws.values() if like}
        )
        for name, claim in case.claims.items()
    )
    study = scrub.Study("** -> y", claims, model="by_hand")
    trial = scrub.prepare(
        study, case.model(), examples, scrub.Settings(dtype="float64", controls=False, progress=False)
    )
    result, partners = trial.run(), trial.pairing(0).partners
    own, baseline = case.loss(case.follows(rows), rows), case.loss(case.follows(rows[partners[Y]]), rows)
    np.testing.assert_allclose(result.loss["unscrubbed"], own, rtol=0, atol=1e-9)
    nothing = case.expected(Claim({"U": ("", "")}, "", lambda d: case.follows(d["U"])))[0]
    recovered = {}
    for claim, hypothesis in zip(case.claims.values(), claims, strict=True):
        name = f"{hypothesis.name}/part"
        drawn = {draw.name: rows[partners[draw]] for draw in hypothesis.draws.values() if draw in partners}
        losses = case.loss(claim.writes({**drawn, "x": rows}), rows)
        np.testing.assert_allclose(result.loss[name], losses, rtol=0, atol=1e-9)
        percent = 100 * (baseline - losses).sum() / (baseline - own).sum()
        assert result.recovered(name).estimate == pytest.approx(percent, abs=1e-9)
        mean, spread = case.expected(claim)
        assert abs(losses.mean() - mean) < 4 * spread / len(losses) ** 0.5 + 1e-9
        recovered[hypothesis.name] = 100 * (nothing - mean) / (nothing - float(own.mean()))
        if recovered[hypothesis.name] == pytest.approx(
            100, abs=1e-9
        ):  # then each loss is the model's, whoever is drawn
            np.testing.assert_allclose(losses, own, rtol=0, atol=1e-9)
    return recovered


def of(**draws: str) -> dict[str, tuple[str, str]]:
    """Draws in short: U="" is any row, A="x1" one like that, A="x1 of S" one like that of another's."""
    return {name: (text.split()[0] if text else "", text.partition(" of ")[2]) for name, text in draws.items()}


NOTHING = [Head(0, times=0)] * HEADS
TWO = ([Head(1), Head(2), *NOTHING[:2]], NOTHING)  # one back and two back, into the output
BOTH = "** -> U; a0.0/** -> A; a0.1/** -> B"


def of_two(d: Mapping[str, Rows]) -> np.ndarray:
    return np.asarray(d["A"][:, 1] + d["B"][:, 2])


def sum_of_two(rows: Rows) -> np.ndarray:
    return np.asarray(rows[:, 1] + rows[:, 2])


# The loss where w is written and t is right is log Z(w) - SHARP (t w - t^2 / 2). Where what is written is distributed
# as what follows, the mean of log Z is the model's: what is recovered is then their covariance, of the variance of t.
# Of numbers -2, 0 and 2, log Z is larger by so much at 2 than at 0:
HIGHER = np.log((np.exp(1) + 1 + np.exp(-3)) / (1 + 2 * np.exp(-1)))


def test_an_identical_model_recovers_everything() -> None:
    """What says of each node exactly what it does changes no loss, however rows are drawn that agree on that."""
    exact = {
        "whole": Claim(of(A="all_three"), "** -> A", lambda d: sum_of_two(d["A"])),
        "nested": Claim(of(A="all_three", B="all_three of A"), "** -> A; a0.1/** -> B", of_two),
        "each_alone": Claim(of(U="", A="x1", B="x2"), BOTH, of_two),
    }
    less = {"but_one": Claim(of(U="", A="x1"), "** -> U; a0.0/** -> A", lambda d: d["A"][:, 1] + d["U"][:, 2])}
    case = Case(TWO, sum_of_two, exact | less)
    found = measured(case)
    for name in exact:
        assert found[name] == pytest.approx(100, abs=1e-9), name
    assert found["but_one"] == pytest.approx(50, abs=1e-9)


@pytest.mark.parametrize(("times", "percent"), [(1 / 16, 99.8), (2, 33.3)])
def test_a_node_that_deviates_a_little_or_much(times: float, percent: float) -> None:
    """Two heads carry x1, as is said, and so many times x3 besides, which follows too."""
    heads = ([Head(1), Head(3, times), Head(2), NOTHING[0]], NOTHING)

    def deviating(a: Rows, b: Rows) -> np.ndarray:
        return np.asarray(a[:, 1] + times * a[:, 3] + b[:, 2])

    rules = "** -> U; a0.{0,1}/** -> A; a0.2/** -> B"
    claims = {
        "as_said": Claim(of(U="", A="x1", B="x2"), rules, lambda d: deviating(d["A"], d["B"])),
        "with_the_rest": Claim(of(U="", A="all_three", B="x2"), rules, lambda d: deviating(d["A"], d["B"])),
    }
    found = measured(Case(heads, lambda rows: deviating(rows, rows), claims))
    assert found["with_the_rest"] == pytest.approx(100, abs=1e-9)
    assert found["as_said"] == pytest.approx(percent, abs=0.05)
    assert found["as_said"] == pytest.approx(100 * 2 / (2 + times**2), abs=1e-9)


def test_intermediates_that_cancel() -> None:
    """Heads 1 and 2 write 2 x3 and -2 x3. Neither is idle, though both together are."""
    heads = ([Head(1), Head(3, 2), Head(3, -2), NOTHING[0]], NOTHING)

    def with_noise(of: Rows, one: Rows, two: Rows) -> np.ndarray:
        return np.asarray(of[:, 1] + 2 * one[:, 3] - 2 * two[:, 3])

    claims = {
        "idle_together": Claim(of(D=""), "a0.{1,2}/** -> D", lambda d: with_noise(d["x"], d["D"], d["D"])),
        "idle_apart": Claim(of(D="", E=""), "a0.1/** -> D; a0.2/** -> E",
                            lambda d: with_noise(d["x"], d["D"], d["E"])),
        "one_idle": Claim(of(E=""), "a0.2/** -> E", lambda d: with_noise(d["x"], d["x"], d["E"])),
        "alike_apart": Claim(of(D="x3", E="x3"), "a0.1/** -> D; a0.2/** -> E",
                             lambda d: with_noise(d["x"], d["D"], d["E"])),
        "alike_but_of_another": Claim(of(D="", E="x3 of D"), "a0.{1,2}/** -> D; a0.2/** -> E",
                                      lambda d: with_noise(d["x"], d["D"], d["E"])),
    }  # fmt: skip
    found = measured(Case(heads, lambda rows: rows[:, 1], claims))
    for name in ("idle_together", "alike_apart", "alike_but_of_another"):
        assert found[name] == pytest.approx(100, abs=1e-9), name
    # written is x1 + 4, x1 or x1 - 4, the middle one half the time; the loss of w for 1 is log(1 + exp(-w))
    own, nothing = np.logaddexp(0, -1), np.logaddexp(0, [1, -1]).mean()
    apart = np.logaddexp(0, [-1, -1, -5, 3]).mean()
    for name in ("one_idle", "idle_apart"):
        assert found[name] == pytest.approx(100 * (nothing - apart) / (nothing - own), abs=1e-9)
    assert found["idle_apart"] < -20


def test_swapped_intermediates() -> None:
    """The sum doesn't show which head brought which."""
    claims = {
        "true": Claim(of(U="", A="x1", B="x2"), BOTH, of_two),
        "swapped": Claim(of(U="", A="x2", B="x1"), BOTH, of_two),
        "of_the_wrong_row": Claim(of(U="", A="x1", B="x2 of A"), "** -> U; a0.{0,1}/** -> A; a0.1/** -> B", of_two),
    }
    found = measured(Case(TWO, sum_of_two, claims))
    assert found["true"] == pytest.approx(100, abs=1e-9)
    assert found["swapped"] == pytest.approx(0, abs=1e-9)  # both say nothing of what they bring
    assert found["of_the_wrong_row"] == pytest.approx(50, abs=1e-9)  # x1 is right, and x2 is anything


def test_information_spread_over_the_residual_stream() -> None:
    """Four heads write the same: without one all is well, but that one alone is outvoted, three to one."""
    each = dict.fromkeys("ABCD", "x1")

    def four(*rows: Rows) -> np.ndarray:
        return np.asarray(sum(row[:, 1] for row in rows))

    claims = {
        "one": Claim(of(U="", A="x1"), "** -> U; a0.0/** -> A", lambda d: four(d["A"], d["U"], d["U"], d["U"])),
        "all_but_one": Claim(of(U=""), "a0.0/** -> U", lambda d: four(d["U"], d["x"], d["x"], d["x"])),
        "each_apart": Claim(of(**each), "; ".join(f"a0.{at}/** -> {name}" for at, name in enumerate(each)),
                            lambda d: four(*(d[name] for name in each))),
    }  # fmt: skip
    found = measured(Case(([Head(1)] * HEADS, NOTHING), lambda rows: 4 * rows[:, 1], claims))
    assert found["each_apart"] == pytest.approx(100, abs=1e-9)
    assert found["all_but_one"] == pytest.approx(100, abs=0.1)
    assert found["one"] == pytest.approx(50, abs=0.1)  # half the time the three others agree with it


def test_information_spread_over_two_nodes() -> None:
    """What a head of layer 1 reads is a sum, which two heads write: each of them alone doesn't carry the sum."""
    heads = ([Head(1, writes=MIDDLE), Head(2, writes=MIDDLE), *NOTHING[:2]], [Head(0, reads=MIDDLE), *NOTHING[:3]])
    apart = "** -> U; a1.0/v/a0.0/** -> A; a1.0/v/a0.1/** -> B"
    claims = {
        "together": Claim(of(U="", S="their_sum"), "** -> U; a1.0/v/** -> S", lambda d: sum_of_two(d["S"])),
        "apart": Claim(of(U="", A="their_sum", B="their_sum"), apart, of_two),
        "nested": Claim(of(U="", S="their_sum", A="x1 of S", B="x2 of S"), apart, of_two),
        "half_nested": Claim(of(U="", S="their_sum", A="x1 of S", B="x2"), apart, of_two),
    }
    found = measured(Case(heads, sum_of_two, claims))
    for name in ("together", "nested"):
        assert found[name] == pytest.approx(100, abs=1e-9), name
    # where the sum is 0, half the time, what is written is 0 in half of the cases, and else wrong by two
    for name in ("apart", "half_nested"):
        assert found[name] == pytest.approx(100 * (1 - HIGHER / 4), abs=1e-9), name
    assert found["apart"] < 81


@pytest.mark.parametrize("times", [0, 1, 3])
def test_correlated_data(times: int) -> None:
    """x1 and x3 differ once for so many times that they are the same; never at 0. The head reads x1."""
    claims = {
        "true": Claim(of(U="", A="x1", B="x2"), BOTH, of_two),
        "what_it_is_seen_with": Claim(of(U="", A="x3", B="x2"), BOTH, of_two),
    }
    often = {True: max(1, times), False: int(times > 0)}
    found = measured(Case(TWO, sum_of_two, claims, lambda x1, _, x3: often[x1 == x3]))
    assert found["true"] == pytest.approx(100, abs=1e-9)
    alike = {0: 1, 1: 0, 3: 1 / 2}[times]  # the correlation of both; of x1 with the x1 of a row that has the same x3,
    assert found["what_it_is_seen_with"] == pytest.approx(100 * (1 + alike**2) / 2, abs=1e-9)  # its square


def test_independent_draws_of_correlated_terms_look_better_than_they_are() -> None:
    """Their sum varies less: though nothing is known of either term, less is lost than with one row for both."""
    claims = {
        "nothing": Claim(of(U=""), "** -> U", lambda d: sum_of_two(d["U"])),
        "nothing_of_each": Claim(of(A="", B=""), "** -> A; a0.1/** -> B", of_two),
    }
    alike = measured(Case(TWO, sum_of_two, claims, lambda x1, x2, _: 7 if x1 == x2 else 1))
    assert alike["nothing"] == pytest.approx(0, abs=1e-9)
    # 0 is written half the time and not once in 8; the variance of what follows is 7/2
    assert alike["nothing_of_each"] == pytest.approx(100 * (1 / 2 - 1 / 8) * HIGHER / (SHARP * 7 / 2), abs=1e-9)
    assert alike["nothing_of_each"] > 16
    independent = measured(Case(TWO, sum_of_two, claims))
    assert independent["nothing_of_each"] == pytest.approx(0, abs=1e-9)

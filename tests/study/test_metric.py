"""A metric of one's own, through running, sweeping and comparing, against numbers from another road."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import scrub
from scrub.study.metric import KL, LOSS, Metric
from scrub.text.numbers import MINUS

SETTINGS = scrub.Settings(sequences=7, dtype="float64", progress=False)
LOGIT = Metric("target logit", "logits", lambda logits, _: scrub.node("pick", logits, scrub.node("target")))


def test_a_study_has_one_metric() -> None:
    with pytest.raises(scrub.ScrubError, match="--metric"):
        scrub.Study("** -> y", metric=["loss", "kl"])


@pytest.mark.usefixtures("in_project")
def test_the_unscrubbed_value_is_the_models_own():
    trial = scrub.prepare("induction/naive", settings=SETTINGS, metric=LOGIT)
    result, examples = trial.run(), trial.examples
    logits = trial.model(torch.from_numpy(examples.inputs)).numpy()
    target = np.take_along_axis(logits, examples.tokens[:, 1:, None], 2)[..., 0]
    expected = (target * examples.scored).sum(1)
    np.testing.assert_allclose(result.loss["unscrubbed"], expected, rtol=0, atol=1e-9)
    assert (result.metric, result.unit) == ("target logit", "logits")
    assert {row["metric"] for row in result.to_dict()["rows"]} == {"target logit"}
    assert set(result.losses) == {"unscrubbed", "baseline", "all_scrubbed"}  # a bigram has no logits


@pytest.mark.usefixtures("in_project")
def test_sweeps_keep_metrics_apart(tmp_path: Path):
    asked = {"results": tmp_path / "r", "sequences": 7, "dtype": "float64", "workers": 1, "progress": False}
    by_logit = scrub.sweep("induction/naive", metric=LOGIT, **asked).only()
    by_loss = scrub.sweep("induction/naive", **asked).only()
    direct = scrub.run("induction/naive", settings=SETTINGS, metric=LOGIT)
    assert by_logit.result.recovered("naive/q").estimate == pytest.approx(
        direct.recovered("naive/q").estimate, abs=1e-9
    )
    assert by_logit.result.study != by_loss.result.study
    assert (by_logit.result.metric, by_logit.result.unit) == ("target logit", "logits")
    assert scrub.sweep("induction/naive", metric=LOGIT, **asked).computed == 0
    known = {each.result.metric for each in scrub.known(scrub.Results(tmp_path / "r"))}
    assert known == {"loss", "target logit"}


def test_metrics_are_equal_by_what_they_compute():
    def made(op: str = "pick", by: object = None) -> Metric:  # whatever else a function holds tells none apart
        return Metric("target logit", "logits", lambda logits, _: by and scrub.node(op, logits, scrub.node("target")))

    same = made(by=object())
    assert same == made(by=object())
    assert made("expect", by=object()) != same
    other = Metric("target logit", "logits", lambda logits, _: scrub.node("mean_logit", logits))
    assert same == LOGIT
    assert hash(LOGIT) == hash(same)
    assert len({LOGIT, same, other, LOSS}) == 3


@pytest.mark.usefixtures("in_project")
@pytest.mark.parametrize("metric", [KL, replace(LOGIT, name="change"), replace(LOGIT, name="kl")])
def test_names_of_metrics_stand_in_no_others_way(metric: Metric):
    """Results have the metric, its change and the KL, whatever the metric is called."""
    result = scrub.run("induction/naive", settings=SETTINGS, metric=metric)
    by_loss = scrub.run("induction/naive", settings=SETTINGS)
    for name, kl in by_loss.kl.items():
        np.testing.assert_allclose(result.kl[name], kl, rtol=0, atol=1e-9)
        if metric is KL:
            np.testing.assert_allclose(result.loss[name], kl, rtol=0, atol=1e-9)
            np.testing.assert_allclose(result.change[name], kl, rtol=0, atol=1e-9)  # KL is no less than nothing
    assert result.metric == metric.name


@pytest.mark.usefixtures("in_project")
def test_reports_and_comparisons_speak_of_the_metric(tmp_path: Path):
    """More of a logit is better, where less of a loss is."""
    asked = {"results": tmp_path / "r", "sequences": 7, "dtype": "float64", "workers": 1, "progress": False}
    stored = scrub.sweep("induction/naive", metric=LOGIT, **asked).only()
    moved = scrub.moved(stored, "unscrubbed", "baseline")
    assert (moved.metric, moved.unit) == ("target logit", "logits")
    unscrubbed, baseline = (stored.token_losses(name) for name in ("unscrubbed", "baseline"))
    assert moved.tokens.gained.gain == pytest.approx(
        np.maximum(np.nan_to_num(unscrubbed - baseline), 0).sum(), rel=1e-9
    )
    frame = moved.frame()
    assert (np.sign(frame["gain"]) == np.sign(frame["points"])).all()
    assert moved.recovered.estimate == pytest.approx(100)

    report = scrub.make_report(stored, scrub.prepare("induction/naive", settings=SETTINGS, metric=LOGIT))
    page = report.markdown
    assert "percent of target logit recovered" in page
    assert "target logit, logits" in page
    assert "loss" not in page.partition("Before any number")[0].replace("claim", "")
    changes = {line.split(" | ")[3] for line in page.splitlines() if line.startswith("| worse |")}
    assert changes
    assert all(change.startswith(MINUS) for change in changes)  # a logit that got worse fell


@pytest.mark.usefixtures("in_project")
def test_a_target_of_the_examples_own():
    trial = scrub.prepare("induction/naive", settings=SETTINGS, metric=LOGIT)
    theirs = np.roll(trial.examples.tokens[:, 1:], 1, axis=1)
    examples = replace(trial.examples, targets={"the one before": theirs})
    other = Metric(
        "other",
        "logits",
        lambda logits, _: scrub.node("pick", logits, scrub.node("other_target", name="the one before")),
    )
    found = replace(scrub.prepare("induction/naive", data=examples, settings=SETTINGS, metric=other)).run()
    logits = trial.model(torch.from_numpy(examples.inputs)).numpy()
    expected = (np.take_along_axis(logits, theirs[..., None], 2)[..., 0] * examples.scored).sum(1)
    np.testing.assert_allclose(found.loss["unscrubbed"], expected, rtol=0, atol=1e-9)
    with pytest.raises(scrub.ScrubError, match="the one before"):
        scrub.run("induction/naive", settings=SETTINGS, metric=other)


def fails(*_: object) -> scrub.node:
    raise ZeroDivisionError


@pytest.mark.usefixtures("in_project")
@pytest.mark.parametrize(
    ("metric", "named"),
    [
        (Metric("mine", "nats", fails), "ZeroDivisionError"),
        (Metric("mine", "nats", lambda logits: logits), "mine"),
        (Metric("mine", "nats", lambda *_: 3), "int"),
        (Metric("mine", "nats", lambda logits, _: scrub.node("exp", logits)), "exp"),
        (Metric("mine", "logits", lambda logits, _: logits), "numbers a position"),
        (Metric("loss", "logits", LOGIT.nodes), "'loss'"),
    ],
)
def test_metrics_that_are_none(metric: Metric, named: str):
    with pytest.raises(scrub.ScrubError, match=named) as caught:
        scrub.run("induction/naive", settings=SETTINGS, metric=metric)
    assert "\n" not in str(caught.value)


def test_a_studys_name_may_hold_a_by():
    study = scrub.Study(baseline="a1.ind/** -> y").called("cats by dogs")
    assert study.by(LOGIT).name.startswith("cats by dogs by target logit@")
    assert study.by(LOGIT).by(LOSS).name == "cats by dogs"

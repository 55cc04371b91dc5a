"""What a report says: the numbers of its result, everything that was asked for, in one file that loads nothing."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from browsing import parsed, referred, rendered, tables, text_of
from reported import QUIET, RULES, hypotheses, invented

from scrub import ScrubError, prepare
from scrub.show.reports.report import Report, command, make_report
from scrub.store.results.read import StudyResults
from scrub.study.run import Trial
from scrub.text.numbers import Interval

MINUS = "\N{MINUS SIGN}"
Studied = tuple[StudyResults, Trial]


def shown(interval: Interval, digits: int, sign: str = "") -> str:
    """An interval as a report has it, by other means than the report's."""

    def one(value: float) -> str:
        rounded = round(value, digits) + 0.0
        return format(rounded, f"{sign}.{digits}f").replace("-", MINUS)

    return f"{one(interval.estimate)} [{one(interval.low)}, {one(interval.high)}]"


def in_tables(page: str, markdown: bool) -> list[list[str]]:
    """Every row of every table, cells that belong together joined."""
    root = rendered(page) if markdown else parsed(page)
    rows = [row for table in tables(root) for row in table]
    return [re.sub(r" \| (\[)", r" \1", " | ".join(row)).split(" | ") for row in rows]


@pytest.mark.parametrize("markdown", [False, True])
def test_every_number_is_the_results(study: Studied, report: Report, markdown: bool) -> None:
    result = study[0].result
    rows = in_tables(report.markdown if markdown else report.html, markdown)
    before: dict[str, str] = {}
    for row in result.table:
        assert row.scrubs is not None
        wanted = [row.part, shown(row.recovered, 1), f"{row.scrubs:.1f}"]
        over = before.get(row.part)
        if over is not None and result.claim(row.name).alike(result.claim(over)):
            wanted.append(shown(result.improvement(f"{row.hypothesis}/{row.part}", over), 1, "+"))
        wanted += [shown(each, 3) for each in (row.loss, row.mean_abs_change, row.kl)]
        found = [r for r in rows if r[0] == row.part and [c for c in r if c] == published_left_out(r, wanted)]
        assert found, wanted
        before[row.part] = f"{row.hypothesis}/{row.part}"
    for name, loss in result.losses.items():
        (anchor,) = [r for r in rows if r[0] == name.replace("_", " ")]
        assert anchor[1] == shown(loss, 3)


def published_left_out(row: list[str], wanted: list[str]) -> list[str]:
    """What is wanted, with a published percentage where the row has one."""
    cells = [cell for cell in row if cell]
    extra = [cell for cell in cells if re.fullmatch(r"\d+", cell)]
    return [*wanted[:3], *extra, *wanted[3:]]


@pytest.mark.parametrize("markdown", [False, True])
def test_what_stands_in_it(study: Studied, report: Report, markdown: bool) -> None:
    stored, trial = study
    root = rendered(report.markdown) if markdown else parsed(report.html)
    text = text_of(root)
    for each in trial.hypotheses:
        assert " ".join(each.claim.split()) in text
    for warning in stored.result.warnings:
        assert warning in text
    for name, value in stored.about.items():
        assert [name, value] in in_tables(report.markdown if markdown else report.html, markdown)
    for deviation in stored.result.gates.deviations.values():
        assert f"{deviation:.1e}" in text
    for layer, head in (head for heads in trial.model.roles.values() for head in heads):
        assert f"Head {layer}.{head}" in text
    assert "What changed against naive" in text
    assert "scrub report induction/naive induction/refined_1 induction/refined_5 --sequences 23 --seed 5" in text


def test_one_file_that_loads_nothing(report: Report) -> None:
    elsewhere = {each for each in referred(report.html) if not each.startswith(("#", "data:image/png;base64,"))}
    assert elsewhere <= {"url("}  # of clip paths, which are all within the page
    assert set(re.findall(r"url\((.)", report.html)) <= {"#"}
    root = parsed(report.html)
    assert not [each for each in root.iter() if each.tag in {"script", "link", "iframe", "object", "base"}]
    ids = [each.attrib["id"] for each in root.iter() if "id" in each.attrib]
    assert len(ids) == len(set(ids))
    assert {each[1:] for each in referred(report.html) if each.startswith("#")} <= set(ids)


def test_it_can_be_read_without_seeing(report: Report) -> None:
    root = parsed(report.html)
    for each in root.iter():
        if each.tag == "img":
            assert each.attrib["alt"]
        if each.tag.endswith("svg"):
            assert each.attrib.get("aria-label") or each.attrib.get("aria-hidden") == "true"
        if each.tag == "table" and (head := each.find("thead")) is not None:
            assert all(cell.attrib.get("scope") for cell in head.iter("th"))
    levels = [int(each.tag[1]) for each in root.iter() if re.fullmatch("h[1-6]", str(each.tag))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_same_results_give_the_same_report(study: Studied, report: Report) -> None:
    assert make_report(*study) == report


def test_tokens_are_coloured_by_what_they_lose(study: Studied, report: Report) -> None:
    stored, trial = study
    root = parsed(report.html)
    section = next(s for s in root.iter("section") if s.attrib["aria-labelledby"] == "h1")
    views = [each for each in section.iter("div") if each.attrib.get("class") == "tokens"]
    numbers = [int(each.attrib["aria-label"].removeprefix("Sequence ")) for each in views]
    assert numbers
    change = stored.token_losses("naive/all") - stored.token_losses("unscrubbed")
    for number, view in zip(numbers, views, strict=True):
        spans = list(view.iter("span"))
        scored = np.flatnonzero(trial.examples.scored[number])
        assert len(spans) == len(scored)
        for span, position in zip(spans, scored, strict=True):
            moved = float(change[number, position])
            level = sum(abs(moved) >= step for step in (0.1, 0.5, 2))
            kind = "same" if level == 0 else f"{'up' if moved > 0 else 'down'}{level}"
            assert span.attrib["class"] == f"t {kind}"
            assert f"position {position}" in span.attrib["title"]
            assert span.attrib["title"].startswith(f"{round(moved, 3) or 0.0:+.3f}:".replace("-", MINUS))


def test_a_sequence_is_shown_as_it_is_read(study: Studied, report: Report) -> None:
    stored, trial = study
    tokenizer = trial.model.tokenizer
    assert tokenizer is not None
    views = [each for each in parsed(report.html).iter("div") if each.attrib.get("class") == "tokens"]
    for view in views:
        number = int(view.attrib["aria-label"].removeprefix("Sequence "))
        text = tokenizer.decode(stored.examples.tokens[number].tolist(), skip_special_tokens=False)
        assert "".join(view.itertext()) == text


def test_the_tokens_that_changed_most_come_first(study: Studied, report: Report) -> None:
    stored, _ = study
    change = stored.token_losses("refined_1/all") - stored.token_losses("unscrubbed")
    worst = np.sort(change[np.isfinite(change)])[::-1]
    root = parsed(report.html)
    section = next(s for s in root.iter("section") if s.attrib["aria-labelledby"] == "h2")
    (table,) = [t for t in tables(section) if "text before" in t[0]]
    changes = [cell for row in table[1:] for cell in row if re.fullmatch(rf"[+{MINUS}]\d+\.\d\d", cell)]
    wanted = [f"{value:+.2f}".replace("-", MINUS) for value in worst[:8]]
    assert changes[:8] == wanted


def test_it_is_written_with_its_images(report: Report, tmp_path: Path) -> None:
    for name in ("report.html", "my report (1).md", "plain"):
        report.save(tmp_path / name)
        stem = name.rpartition(".")[0] or name
        assert (tmp_path / f"{stem}.html").read_text(encoding="utf-8") == report.html
        page = rendered((tmp_path / f"{stem}.md").read_text(encoding="utf-8"))
        images = [each.attrib["src"] for each in page.iter("img")]
        there = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / f"{stem}_files").iterdir()}
        assert len(images) >= len(report.images) - 1  # all but the dark plot
        assert set(map(unquote, images)) <= there
        assert there == {f"{stem}_files/{image}" for image in report.images}


def test_where_it_cannot_be_written(report: Report, tmp_path: Path) -> None:
    (tmp_path / "report_files").write_text("a file")
    with pytest.raises(ScrubError, match="report_files"):
        report.save(tmp_path / "report.html")
    with pytest.raises(ScrubError, match="names no file"):
        report.save("")


@pytest.mark.slow
def test_a_dozen_hypotheses_on_long_sequences_stay_readable_and_small() -> None:
    rules = RULES.replace("a1.ind", "a1.2").replace("a0.prev", "a0.1")
    trial = prepare(hypotheses([f"refined_{number}" for number in range(13)], rules=rules), settings=QUIET)
    stored = invented(trial)
    times = math.ceil(1024 / trial.examples.context)  # as in GPT-2, every position scored
    tokens = np.concatenate([stored.examples.tokens[:, :1], np.tile(stored.examples.tokens[:, 1:], times)], 1)
    scored = np.ones((len(tokens), tokens.shape[1] - 1), bool)

    def losses(experiment: str) -> np.ndarray:
        return np.random.default_rng(len(experiment)).exponential(size=scored.shape)

    config = trial.model.config.model_copy(update={"roles": {}})  # it reads no sequence so long
    examples = replace(stored.examples, tokens=tokens, scored=scored)
    without = replace(trial, model=replace(trial.model, config=config))
    report = make_report(replace(stored, examples=examples, token_losses=losses), without)
    root = parsed(report.html)
    assert len(report.html.encode()) < 4_000_000, len(report.html.encode())
    assert f"{len(tokens[0]) - 301} more tokens" in report.html
    assert "no roles yet" in text_of(root)
    links = [each.attrib["href"] for nav in root.iter("nav") for each in nav.iter("a")]
    assert [each for each in links if re.fullmatch(r"#h\d+", each)] == [f"#h{number}" for number in range(1, 14)]
    assert not [e for e in root.iter("details") if "open" in e.attrib and "Token by token" in text_of(e)]


def test_a_hypothesis_that_is_only_stored_has_its_paths_as_text(study: Studied) -> None:
    stored, trial = study
    kept = trial.experiments.only([each for each in trial.experiments.names if not each.startswith("refined_1/")])
    without = replace(trial, experiments=kept)
    report = make_report(stored, without)
    paths = stored.hypotheses["refined_1"].paths["all"]
    assert " ".join(paths.split()) in text_of(parsed(report.html))


def test_random_hypotheses_are_told_of_where_they_belong(study: Studied) -> None:
    stored, trial = study
    described = dict(stored.hypotheses)
    for name in ("refined_1", "refined_5"):
        described[name] = replace(described[name], null_of="naive")
    report = make_report(replace(stored, hypotheses=described), trial)
    text = text_of(parsed(report.html))
    ours, *random = (stored.result.recovered(f"{n}/all") for n in ("naive", "refined_1", "refined_5"))
    beaten = sum(each.estimate < ours.estimate for each in random)
    best = max(random, key=lambda each: each.estimate)
    p = (1 + 2 - beaten) / 3
    assert f"it recovers more than {beaten} of 2 random hypotheses of the same size (p = {p:.3f}, one-sided)" in text
    assert f"the best of them recovers {shown(best, 1)} %" in text
    headings = [text_of(each) for each in parsed(report.html).iter("h2")]
    assert "naive" in headings
    assert "refined_1" not in headings


def test_the_command_names_what_was_asked_for(study: Studied) -> None:
    stored, trial = study
    some = replace(trial, hypotheses=[h for h in trial.hypotheses if h.name in ("naive", "refined_5")])
    described = dict(stored.hypotheses)
    described["naive"] = replace(described["naive"], parameters={"heads": "3 4", "width": 2})
    words = shlex.split(command(replace(stored, hypotheses=described), some))
    assert words[2:4] == ["induction/naive", "induction/refined_5"]
    assert words[-4:] == ["--set", "heads=3 4", "--set", "width=2"]


def test_published_numbers_stand_beside_it(study: Studied, report: Report) -> None:
    published = json.loads(json.dumps(dict(study[0].hypotheses["naive"].published)))
    assert published
    rows = in_tables(report.html, False)
    for part, percent in published.items():
        assert any(row[0] == part and f"{percent:g}" in row for row in rows)

"""Which stored results are meant by the names of hypotheses, which may say their study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scrub.models.find import locate
from scrub.store.results.read import StudyResults
from scrub.study.metric import LOSS
from scrub.study.study import MEANS, against, by_metric
from scrub.text.errors import ScrubError
from scrub.text.files import one_line


def stored_with(
    known: Sequence[StudyResults], names: Sequence[str], study: str | None = None, metric: str | None = None
) -> tuple[StudyResults, list[str]]:
    """Find the results that hold all of the hypotheses, and their names there, which don't say the study.

    They are of the `study`, or of that which the names say; of the loss, or of the `metric` that is named. Of several,
    those with most sequences and pairings. Raises ScrubError if there are none, and for names of two studies.
    """
    plain = [plain_name(name) for name in names]
    wanted = study_of(names, study)
    own = [each for each in known if wanted is None or _is(each, wanted)]
    own = [each for each in own if wanted in {_study(each), each.result.study}] or own  # the others are against a mean
    by = sorted({each.result.metric for each in own})
    own = of_metric(own, metric)
    if by and not own:
        lacking = one_line(metric or LOSS.name)
        raise ScrubError(
            f"what is stored is of {one_line(', '.join(by))} and not of {lacking}: name the metric, "
            f"as in --metric {one_line(by[0])}, or leave --stored out to run what is missing"
        )
    having = [each for each in own if {name for name, _ in each.result.rows}.issuperset(plain)]
    studies = sorted({_study(each) for each in having})
    if not having:
        of = f" of {one_line(wanted)}" if wanted else ""
        of += f" by {one_line(metric)}" if metric else ""
        there = sorted({name for each in own for name, _ in each.result.rows})
        others = sorted({_study(each) for each in known if each not in own})
        elsewhere = f" (what is stored is of {one_line(', '.join(others))})" if others and not own else ""
        raise ScrubError(
            f"no stored results{of} hold {one_line(', '.join(plain))} together: "
            f"there are {one_line(', '.join(there[:12])) or 'none'}{elsewhere}; "
            "leave --stored out to run what is missing"
        )
    if len(studies) > 1:
        raise ScrubError(
            f"several studies have {plain[0]}: {', '.join(studies)}; say which, as in --study {studies[0]}"
        )
    return max(having, key=lambda each: (len(each.result.positions), len(each.pairings))), plain


def _study(stored: StudyResults) -> str:
    return by_metric(stored.result.study)[0]


def study_of(names: Sequence[str], study: str | None) -> str | None:
    """Which study is asked for: that which is given, else that of the names; None where none of them says any."""
    said = dict.fromkeys(folder for folder in map(_folder, names) if folder)
    other = [folder for folder in said if study is not None and folder not in {study, _without_mean(study)}]
    if clash := [*said] if len(said) > 1 else [str(study), *other] if other else []:
        raise ScrubError(
            f"these hypotheses belong to {one_line(' and '.join(clash))}: numbers of two studies don't compare, so "
            "name one's"
        )
    return study if study is not None else next(iter(said), None)


def _folder(name: str) -> str:
    """The study that the name of a hypothesis says; nothing for a bare one, or a module outside a study's folder."""
    if Path(name).parent == Path():
        return ""
    file = locate("hypotheses", name)
    if file is not None and not (file.parent / "study.py").is_file():
        return ""  # which says its study itself
    return (file or Path(name)).resolve().parent.name


def _is(stored: StudyResults, study: str) -> bool:
    """Whether results are of a study by this name, against whichever mean."""
    return study in {stored.result.study, _study(stored), _without_mean(stored.result.study)}


def _without_mean(study: str) -> str:
    plain = by_metric(study)[0]
    return next((plain.removesuffix(end) for end in map(against, MEANS) if plain.endswith(end)), plain)


def of_metric(known: Sequence[StudyResults], metric: str | None) -> list[StudyResults]:
    """Choose the results of a metric by its name: by default of the loss, or of the only one that there is.

    Of an own metric whose code changed, those that were run last.
    """
    there = {each.result.metric for each in known}
    wanted = metric or (LOSS.name if LOSS.name in there or len(there) > 1 else next(iter(there), LOSS.name))
    own = [each for each in known if each.result.metric == wanted]
    last: dict[str, StudyResults] = {}
    for each in sorted(own, key=lambda each: each.about.get("time", "")):
        last[_study(each)] = each
    return [each for each in own if each.result.study == last[_study(each)].result.study]


def plain_name(name: str) -> str:
    """The name of a hypothesis in results, which doesn't say the study."""
    return name.rpartition("/")[2].removesuffix(".py")

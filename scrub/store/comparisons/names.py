"""Find the hypotheses that a comparison names, where a study's modules may be named without the study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from scrub.models.find import find, known, locate
from scrub.store.results.folder import Results
from scrub.store.results.stored import StudyResults
from scrub.study.study import load_study
from scrub.text.errors import ScrubError
from scrub.text.files import one_line


def paths_of(names: Sequence[str], study: str | None = None, stored: Iterable[str] = ()) -> list[str]:
    """Complete the names, as `scrub run` takes them: `naive` becomes `induction/naive`.

    What is no path and no name by itself is looked up among the modules of `study`, else of the study that the other
    names belong to, else of the only one that has them all, if need be among those that are `stored`. Raises
    ScrubError if there is none, or more than one.
    """
    bare = [name for name in names if locate("hypotheses", name) is None]
    if not bare:
        return list(names)
    if study is None:
        others = {load_study(name)[0].name for name in names if name not in bare}
        studies = sorted(others) if others else _studies()
    else:
        studies = [study]
    having = [each for each in studies if all(locate("hypotheses", f"{each}/{name}") for name in bare)]
    if not having:
        missing = next((n for n in bare if not any(locate("hypotheses", f"{s}/{n}") for s in studies)), bare[0])
        find("hypotheses", f"{studies[0]}/{missing}" if len(studies) == 1 else missing)
    one = having if len(having) == 1 else [each for each in having if each in set(stored)]
    if len(one) != 1:
        found = f"several studies have it: {', '.join(having)}" if having else "no study has all of the names"
        example = having[0] if having else "STUDY"
        raise ScrubError(
            f"which hypothesis is {one_line(bare[0])!r}? {found}; write {example}/{one_line(bare[0])}, or give --study"
        )
    return [f"{one[0]}/{name}" if name in bare else name for name in names]


def stored_with(
    known: Sequence[StudyResults], names: Sequence[str], study: str | None = None
) -> tuple[StudyResults, list[str]]:
    """Find the results that hold all of the hypotheses, and their names there, which don't say the study.

    Of several, those with most sequences and pairings. Raises ScrubError if there are none.
    """
    plain = [name.rpartition("/")[2].removesuffix(".py") for name in names]
    folders = {Path(name).parent.name for name in names}
    wanted = {study} if study is not None else folders & {each.result.study for each in known}
    own = [each for each in known if not wanted or each.result.study in wanted]
    having = [each for each in own if {name for name, _ in each.result.rows}.issuperset(plain)]
    studies = sorted({each.result.study for each in having})
    if not having:
        of = f" of {', '.join(sorted(wanted))}" if wanted else ""
        there = sorted({name for each in own for name, _ in each.result.rows})
        raise ScrubError(
            f"no stored results{of} hold {one_line(', '.join(plain))} together: "
            f"there are {one_line(', '.join(there[:12])) or 'none'}; "
            "leave --stored out to run what is missing"
        )
    if len(studies) > 1:
        raise ScrubError(
            f"several studies have {plain[0]}: {', '.join(studies)}; say which, as in --study {studies[0]}"
        )
    return max(having, key=lambda each: (len(each.result.positions), len(each.pairings))), plain


def studies_of(results: Results) -> list[str]:
    """List the studies that a results folder holds something of."""
    return sorted({str(each["setting"]["study"]) for each in results.studies()})


def _studies() -> list[str]:
    """List the studies that there are."""
    return [name for name in known("hypotheses") if locate("hypotheses", f"{name}/study.py")]

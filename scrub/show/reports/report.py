"""Making a report, and writing it."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from scrub.show.reports.content import Content
from scrub.show.reports.patterns import pattern_blocks
from scrub.store.comparisons.models import AcrossModels
from scrub.store.results.read import StudyResults
from scrub.study.metric import LOSS, METRICS
from scrub.study.run import Trial, default_data
from scrub.study.settings import SEQUENCES
from scrub.study.study import by_metric
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import make_folder, shown, write_atomically

FOLDER = "report_files"  # of the images, as `Report.markdown` has it; `save` names it after the file


@dataclass(frozen=True)
class Report:
    """A report as one page of HTML, which loads nothing, and as Markdown, whose `images` lie in a folder beside it."""

    html: str
    markdown: str
    images: Mapping[str, bytes]

    def save(self, path: str | Path) -> None:
        """Write NAME.html, NAME.md and the images into NAME_files/, where the path is NAME.html, NAME.md or NAME.

        Every file is replaced as a whole, those that refer to others last. Raises ScrubError if one can't be written.
        """
        page, markdown, folder = files_of(path)
        make_folder(folder)
        for name, image in self.images.items():
            write_atomically(folder / name, image)
        write_atomically(
            markdown, self.markdown.replace(f"{FOLDER}/", f"{quote(folder.name, errors='surrogateescape')}/")
        )
        write_atomically(page, self.html)

    def _repr_html_(self) -> str:
        frame = b64encode(self.html.encode()).decode()
        return f'<iframe src="data:text/html;base64,{frame}" style="width:100%;height:40rem;border:0"></iframe>'


def files_of(path: str | Path) -> tuple[Path, Path, Path]:
    """Name the page, the Markdown and the folder of images that a report is written to, by the path of any of them.

    Raises ScrubError for a path that names no file.
    """
    path = Path(path)
    base = path.with_suffix("") if path.suffix.lower() in {".html", ".md"} else path
    if not base.name:
        raise ScrubError(f"{shown(path)} names no file: give a path such as report.html")
    page, markdown, folder = (base.with_name(f"{base.name}{end}") for end in (".html", ".md", "_files"))
    return page, markdown, folder


@check_arguments
def make_report(stored: StudyResults, trial: Trial, across: AcrossModels | None = None) -> Report:
    """Report on a study's results.

    The graphs for the drawings, and the model whose attention is measured, are those of the study made ready. With the
    study `across` several models (see :func:`scrub.compare_models`) a section sets them side by side.
    """
    content = Content(stored, trial, across)
    attention = pattern_blocks(trial.model, stored)
    page = content.page(attention, command(stored, trial, across))
    return Report(page.html(), page.markdown(FOLDER), page.images)


def command(stored: StudyResults, trial: Trial, across: AcrossModels | None = None) -> str:
    """Write the command that makes the report again."""
    study, settings, model = trial.study, trial.settings, trial.model.name
    names = [each.name for each in trial.hypotheses]
    declared = [each if isinstance(each, str) else each.name for each in study.hypotheses]
    words = ["scrub", "report", *([by_metric(study.name)[0]] if names == declared else _wanted(trial))]
    seeds = list(dict.fromkeys(seed for seed, _ in stored.pairings))
    draws = len(stored.pairings) // len(seeds)
    count = len(trial.examples)
    random = Counter(each.null_of for each in stored.hypotheses.values() if each.null_of)
    options: dict[str, object] = {
        "model": ",".join(_models(across)) if across else model if model != study.model else None,
        # an own function is where the study declares it
        "metric": study.metric.name if METRICS.get(study.metric.name) == study.metric != LOSS else None,
        "data": trial.examples.name if trial.examples.name != default_data(study, trial.model) else None,
        "sequences": settings.sequences if settings.fold else count if count != SEQUENCES else None,
        "fold": settings.fold,
        "draws": draws if draws != 1 else None,
        "seed": ",".join(map(str, seeds)),
        "null": max(random.values(), default=None),
        "dtype": settings.dtype,
        "parts": ",".join(settings.parts) if settings.parts else None,
        "positions": settings.positions,
        "split": settings.split,
        "column": settings.column,
        "context": settings.context,
    }
    for name, value in options.items():
        words += [f"--{name}", str(value)] if value is not None else []
    for name, values in _parameters(stored, trial).items():
        words += ["--set", f"{name}={','.join(map(str, values))}"]
    return shlex.join(words)


def _models(across: AcrossModels) -> list[str]:
    """Name the models whose results stand beside each other."""
    return list(dict.fromkeys(each.stored.result.model if each.stored else each.model for each in across.on))


def _wanted(trial: Trial) -> Iterator[str]:
    study = by_metric(trial.study.name)[0]
    for each in trial.hypotheses:
        inside = each.path is not None and each.path.parent.name == study
        yield f"{study}/{each.path.stem}" if inside and each.path else str(each.path or each.name)


def _parameters(stored: StudyResults, trial: Trial) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for each in trial.hypotheses:
        for name, value in stored.described(each.name).parameters.items():
            values = found.setdefault(name, [])
            if value not in values:
                values.append(value)
    return found

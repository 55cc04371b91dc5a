"""Making a report, and writing it."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from scrub.show.figure import DARK, LIGHT, Theme, figure_bytes
from scrub.show.page import STYLE as DRAWING_STYLE
from scrub.show.plots import plot_recovery
from scrub.show.rendering import html_page, markdown_page
from scrub.show.reports.content import Content, content, told
from scrub.show.reports.patterns import STYLE as PATTERN_STYLE
from scrub.show.reports.patterns import HeadPattern, measure_patterns
from scrub.show.reports.tokens import STEPS, Tokens
from scrub.store.results.stored import StudyResults
from scrub.study.run import Trial, default_data
from scrub.study.settings import SEQUENCES
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder, shown, write_atomically

FOLDER = "report_files"  # of the images, as `Report.markdown` has it; `save` names it after the file
PLOT, PLOT_DARK = "recovered.svg", "recovered-dark.svg"


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
    """The page, the Markdown and the folder of its images that a report is written to, by the path of any of them.

    Raises ScrubError for a path that names no file.
    """
    path = Path(path)
    base = path.with_suffix("") if path.suffix.lower() in {".html", ".md"} else path
    if not base.name:
        raise ScrubError(f"{shown(path)} names no file: give a path such as report.html")
    page, markdown, folder = (base.with_name(f"{base.name}{end}") for end in (".html", ".md", "_files"))
    return page, markdown, folder


def make_report(stored: StudyResults, trial: Trial) -> Report:
    """The report of a study's results.

    The graphs for the drawings, and the model whose attention is measured, are those of the study made ready.
    """
    tokens = Tokens(stored, len(told(stored)))
    patterns = measure_patterns(trial.model, stored.examples, tokens, stored.result.seed)
    of = content(stored, trial, patterns, tokens, command(stored, trial))
    plots = {theme: _plot(of, theme) for theme in (LIGHT, DARK)}
    values = {"of": of, "steps": STEPS, "says": says}
    style = Markup(DRAWING_STYLE + PATTERN_STYLE)
    html = html_page(
        "page.html",
        **values,
        drawing_style=style,
        plot=_data_uri(plots[LIGHT]),
        plot_dark=_data_uri(plots[DARK]),
        pattern=lambda each: Markup(each.svg(says(each), style=False)),
    )
    written = markdown_page("page.md", **values, folder=Markup(FOLDER), pattern_file=pattern_file)
    images = {PLOT: plots[LIGHT], PLOT_DARK: plots[DARK], **dict(_images(of))}
    return Report(html, written, images)


def command(stored: StudyResults, trial: Trial) -> str:
    """The command that makes the report again."""
    study, settings, model = trial.study, trial.settings, trial.model.name
    names = [each.name for each in trial.hypotheses]
    declared = [each if isinstance(each, str) else each.name for each in study.hypotheses]
    words = ["scrub", "report", *([study.name] if names == declared else _wanted(trial))]
    seeds = list(dict.fromkeys(seed for seed, _ in stored.pairings))
    draws = len(stored.pairings) // len(seeds)
    random = Counter(each.null_of for each in stored.hypotheses.values() if each.null_of)
    options: dict[str, object] = {
        "model": model if model != study.model else None,
        "data": trial.examples.name if trial.examples.name != default_data(study, trial.model) else None,
        "sequences": len(trial.examples) if len(trial.examples) != SEQUENCES else None,
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


def _wanted(trial: Trial) -> Iterator[str]:
    for each in trial.hypotheses:
        inside = each.path is not None and each.path.parent.name == trial.study.name
        yield f"{trial.study.name}/{each.path.stem}" if inside and each.path else str(each.path or each.name)


def _parameters(stored: StudyResults, trial: Trial) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for each in trial.hypotheses:
        described = stored.hypotheses.get(each.name)
        for name, value in (described.parameters if described else {}).items():
            values = found.setdefault(name, [])
            if value not in values:
                values.append(value)
    return found


def says(pattern: HeadPattern) -> str:
    """The text that stands for the drawing of a pattern."""
    strongest = pattern.weights.max(1).argmax()
    key = pattern.weights[strongest].argmax()
    return (
        f"Attention of head {pattern.name} over {len(pattern.labels)} positions: strongest from position {strongest} "
        f"to position {key}, {pattern.weights[strongest, key]:.2f}. The table below it has the numbers."
    )


def pattern_file(role: str, pattern: HeadPattern) -> str:
    """The name of a pattern's image."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in role)
    return f"attention-{plain}-{pattern.name}.svg"


def _plot(of: Content, theme: Theme) -> bytes:
    return figure_bytes(plot_recovery(of.result, of.published, of.published_for, theme), ".svg")


def _images(of: Content) -> Iterator[tuple[str, bytes]]:
    for chapter in of.chapters:
        for drawing in chapter.drawings:
            if drawing.svg:
                yield drawing.image, drawing.svg.encode()
    for role, patterns in (of.patterns.by_role if of.patterns else {}).items():
        for pattern in patterns:
            yield pattern_file(role, pattern), pattern.svg(says(pattern)).encode()


def _data_uri(svg: bytes) -> Markup:
    return Markup("data:image/svg+xml;base64,") + b64encode(svg).decode()

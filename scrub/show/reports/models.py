"""The section of a report that sets the study beside itself on several models."""

from __future__ import annotations

from scrub.show.charts.models import across_chart
from scrub.show.page import Block, Grid, Prose, Section
from scrub.show.tables.models import across_table, scales_table
from scrub.store.comparisons.models import AcrossModels
from scrub.text.wording import printable

PLOT = "models.svg"


def models_section(of: AcrossModels) -> Section:
    """Show what is recovered on each model, as a chart and as a table, what was left out where, and each scale."""
    named = ", ".join(map(printable, of.models))
    chart = across_chart(of, f"{printable(of.metric)} recovered on {named}")
    alt = f"Percent of {printable(of.metric)} recovered on {named}; the table below has the numbers."
    first, *notes = of.notes
    blocks: list[Block] = [
        Prose(f"{first[0].upper()}{first[1:]}.", "caption"),
        chart.image("models", chart.caption, PLOT, alt),
        Grid(
            across_table(of),
            "Percent recovered by part, hypothesis and model",
            f"Percent of {printable(of.metric)} recovered on each model, with its interval.",
        ),
        *(Prose(printable(note), "caption") for note in notes),
        Grid(
            scales_table(of), "The scale of each model", "The scale of each model, from its baseline to its own loss."
        ),
    ]
    return Section("models", "On several models", blocks)

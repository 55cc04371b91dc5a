"""The lines and colours of a terminal as HTML, for a notebook."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType

WIDTH = 112  # characters
_BLOCK = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


def as_html(shown: RenderableType) -> str:
    """Show what a terminal of that many characters would. Its text is escaped."""
    console = Console(record=True, file=StringIO(), width=WIDTH, color_system="truecolor", force_jupyter=False)
    console.print(shown, highlight=False, markup=False)
    return console.export_html(inline_styles=True, code_format=_BLOCK)

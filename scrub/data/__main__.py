"""`python -m scrub.data`: make the whitelist of some data."""

import typer

from scrub.data.command import whitelist

if __name__ == "__main__":
    typer.run(whitelist)

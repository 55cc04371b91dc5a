"""`python -m scrub.training`: train the attention-only model."""

import typer

from scrub.training.command import train

if __name__ == "__main__":
    typer.run(train)

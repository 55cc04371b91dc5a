"""`python -m scrub.training`: train a model in the box."""

import typer

from scrub.training.command import train

if __name__ == "__main__":
    typer.run(train)

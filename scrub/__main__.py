"""`python -m scrub` is `scrub`."""

from scrub.cli import main

main()

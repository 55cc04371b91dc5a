"""The version of scrub, which pyproject.toml reads too: what is installed may be called otherwise."""

__version__ = "0.1.0"

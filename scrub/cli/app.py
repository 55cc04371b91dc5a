"""The commands, in groups, each with an example; and what older names of options mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from scrub.cli import (
    ablate,
    attribute,
    circuit,
    compare,
    composition,
    fetch,
    generate,
    heads,
    inspect,
    list_,
    mechanism,
    new,
    parity,
    patch,
    prompts,
    roles,
    run,
    search,
    stream,
    sweep,
    train,
    whitelist,
)
from scrub.cli.fields import command
from scrub.text.errors import ScrubError
from scrub.text.version import __version__

Table = dict[str, dict[str, tuple[Callable[..., None], str]]]  # of commands and an example of each, by group

COMMANDS: Table = {
    "Write and look at hypotheses": {
        "list": (list_.list_, "scrub list hypotheses"),
        "new": (new.new, "scrub new mine"),
        "show": (inspect.show, "scrub show induction/naive --parts k --out naive.svg"),
        "check": (inspect.check, "scrub check induction/naive"),
        "plan": (inspect.plan, "scrub plan induction/naive --parts k"),
    },
    "Run and compare them": {
        "run": (run.run, "scrub run induction --sequences 128 --json numbers.json"),
        "search": (search.search, "scrub search induction --size 4 --sequences 24 --out found.py"),
        "sweep": (sweep.sweep, "scrub sweep induction --seed 0,1 --draws 2"),
        "compare": (compare.compare, "scrub compare induction/naive induction/refined_1"),
        "leaderboard": (compare.leaderboard, "scrub leaderboard induction"),
        "report": (sweep.report, "scrub report induction --out report.html"),
    },
    "See what heads do": {
        "heads": (heads.heads, "scrub heads attn2l --prompt 'J A M P R X J A M P R'"),
        "ablate": (ablate.ablate, "scrub ablate attn2l a0.1 a1.3+a1.6 --how mean --sequences 8"),
        "patch": (patch.patch, "scrub patch attn2l 'a1.3/k/*' --where prefix"),
        "generate": (generate.generate, "scrub generate attn2l --prompt 'J A M P R X J A' --layers --tokens 4"),
        "direct": (stream.direct, "scrub direct attn2l --prompt 'J A M P' --answer ' J' --wrong ' M'"),
        "lens": (stream.lens, "scrub lens attn2l --prompts letters --metric prob,accuracy"),
        "mechanism": (mechanism.mechanism, "scrub mechanism attn2l --head 1.3 --sequences 8"),
        "composition": (composition.composition, "scrub composition attn2l --to 1.3"),
        "readers": (composition.readers, "scrub readers attn2l 0.1"),
        "attribute": (attribute.attribute, "scrub attribute induction --method eap-ig --sequences 8"),
        "circuit": (circuit.circuit, "scrub circuit ioi.json --model gpt2 --data mib-bench/ioi"),
        "prompts": (prompts.prompts, "scrub prompts attn2l --prompts words --pairs"),
    },
    "Prepare models and data": {
        "fetch": (fetch.fetch, "scrub fetch redwood_attn_2l gpt2"),
        "parity": (parity.parity, "scrub parity gpt2-mini --sequences 4 --context 64"),
        "roles": (roles.roles, "scrub roles attn2l --sequences 16"),
        "typicality": (roles.typicality, "scrub typicality attn2l --write"),
        "whitelist": (whitelist.whitelist, "scrub whitelist stdlib --model attn2l"),
        "train": (train.train, "scrub train runs/mine --shape attn2l"),
    },
}
# What options were called: one thing has one name, and these go on working.
OLD_NAMES = {
    "heads": {"--kind": "--prompts", "--expected": "--answer"},
    "prompts": {"--kind": "--prompts", "--text": "--prompt", "--expected": "--answer", "--sequences": "--count"},
    "patch": {"--prompt": "--clean", "--expected": "--answer", "--sequences": "--count"},
    "ablate": {"--expected": "--answer"},
    "direct": {"--sequences": "--count"},
    "lens": {"--sequences": "--count"},
}


class Command(TyperCommand):
    """A command that knows older names of its options, which its help doesn't show."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what is typed, under the names of today."""
        old = OLD_NAMES.get(self.name or "", {})
        split = [word.partition("=") for word in args]
        words = [old.get(name, name) + equals + value for name, equals, value in split]
        typed, _, given = self.make_parser(ctx).parse_args(list(words))  # before they replace one another
        for each in given:
            values = typed[each.name or ""]
            if "" in (values if isinstance(values, list | tuple) else (values,)):
                called = each.opts[0] if each.param_type_name == "option" else getattr(each, "metavar", "") or "NAME"
                raise ScrubError(f"{called} is empty: give it a value{'' if each.required else ', or leave it out'}")
        if twice := [each for each in given if given.count(each) > 1 and not getattr(each, "multiple", False)]:
            raise ScrubError(f"{twice[0].opts[0]} is given twice: give it once")
        return super().parse_args(ctx, words)


class Groups(TyperGroup):
    """Commands in groups, each with the first sentence of its help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write them into the help."""
        del ctx
        for group, commands in COMMANDS.items():
            with formatter.section(group):
                formatter.write_dl([(name, _first(self.commands[name].help or "")) for name in commands])


def _first(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())


app = typer.Typer(
    cls=Groups,
    help="Causal scrubbing of transformers on explicit computational graphs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"scrub {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Causal scrubbing of transformers on explicit computational graphs."""
    del version


for group, commands in COMMANDS.items():
    for name, (function, example) in commands.items():
        app.command(name, cls=Command, epilog=f"Example: {example}", rich_help_panel=group)(command(function))

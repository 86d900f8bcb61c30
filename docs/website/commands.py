"""A page for each command of the command line, from click: help, arguments, options and examples."""

from __future__ import annotations

from collections.abc import Iterator

import click

from palette_bench.cli import VERBS, main
from website.markdown import Pages, code, examples_fenced, table, toctree

PROGRAM = "palette-bench"


def pages() -> Pages:
    """Return the page of each verb, with its subcommands, and their list."""
    made = {f"reference/commands/{verb}.md": _page(verb, _command(main, verb)) for verb in VERBS}
    rows = [(f"[{code(f'{PROGRAM} {verb}')}]({verb}.md)", says) for verb, says in VERBS.items()]
    lines = [
        "# Command line\n",
        "Every command prints what this page says with `--help`.\n",
        table(("command", "what it does"), rows),
        "## Options of every command\n",
        _options(main, "palette-bench"),
        "They stand before the verb: `palette-bench --quiet check SUB --set SET`.\n",
        toctree(VERBS),
    ]
    return made | {"reference/commands/index.md": "\n".join(lines)}


def commands(group: click.Group, words: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group, with the words that call it; groups are not yielded."""
    for name in group.list_commands(click.Context(group)):
        command = _command(group, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{words}{name} ")
        else:
            yield f"{words}{name}", command


def options(command: click.Command) -> list[click.Option]:
    """Return the options of a command that its help shows, without `--help`."""
    return [p for p in command.params if isinstance(p, click.Option) and not p.hidden]


def _command(group: click.Group, name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command, name
    return command


def _page(verb: str, command: click.Command) -> str:
    if not isinstance(command, click.Group):
        return f"# {PROGRAM} {verb}\n\n{_about(verb, command)}"
    parts = [f"# {PROGRAM} {verb}\n\n{examples_fenced(command.help or '')}\n"]
    for words, below in commands(command, f"{verb} "):
        parts.append(f"## {PROGRAM} {words}\n\n{_about(words, below)}")
    return "\n".join(parts)


def _about(words: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"{PROGRAM} {words}")
    usage = command.get_usage(context).removeprefix("Usage: ")
    usage = " ".join(usage.split())
    return f"```text\n{usage}\n```\n\n{examples_fenced(command.help or '')}\n\n{_options(command, words)}"


def _options(command: click.Command, program: str) -> str:
    """Return the options as entries that links and the search find."""
    context = click.Context(command)
    entries = [f"```{{eval-rst}}\n.. program:: {program}\n```\n"]
    for option in options(command):
        record = option.get_help_record(context)
        assert record, option.name
        names, says = record
        for name in (*option.opts, *option.secondary_opts):  # of Sphinx, an option has one spelling a comma
            names = names.replace(f" / {name}", f", {name}")
        entries.append(f":::{{option}} {names}\n{says.replace('[', chr(92) + '[')}\n:::\n")
    return "\n".join(entries)

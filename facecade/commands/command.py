"""A command whose help ends with its example, and a group that imports its commands only when they are called."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import click

from facecade.base import torchrun
from facecade.base.errors import FacecadeError, file_error
from facecade.base.interrupt import INTERRUPTED, exit_on_interrupt, interrupted
from facecade.base.program import command as command_line
from facecade.base.program import install

EXTRA_PACKAGES = {
    "report": ("cycler", "jinja2", "markupsafe", "matplotlib"),
    "ray": ("ray",),
    "slurm": ("submitit",),
    "web": ("gradio", "fastapi", "uvicorn", "starlette", "python_multipart"),
}
"""For each extra, the packages that it installs and commands import."""


SAME = {"predict": "infer"}
"""Second names of commands; the help lists the first."""

OF_TORCHRUN = "fit-stage"
"""The command that several processes of torchrun can do together."""

OTHER_NAMES = {
    "fit-stage, then fit-meta": ("fit", "train", "training", "learn"),
    "fit-meta": ("stack", "ensemble", "combine", "leaderboard"),
    "infer": ("prediction", "inference", "classify", "label", "run"),
    "evaluate": ("eval", "val", "valid", "validate", "test", "score", "metrics"),
    "explain": ("analyze", "interpret", "why"),
    "serve": ("server", "app", "web", "api", "ui", "gradio"),
    "report": ("results", "plot", "plots"),
    "audit": ("clean", "label-errors"),
    "ls": ("status", "list", "info", "show"),
    "tune": ("search", "sweep", "hpo", "optimize"),
    "compare": ("benchmark", "bench"),
    "eda": ("describe", "explore", "profile"),
    "draw": ("generate", "synthesize", "demo", "download"),
}
"""What other programs call a command, by what it is here."""


class ExampleLast:
    """Prints the "Example:" part of the docstring at the end of the help, after the options."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        text, marker, example = inspect.cleandoc(settings.get("help") or "").partition("\b\nExample:")
        example = example.replace("python cli.py ", command_line(""))
        super().__init__(*arguments, **{**settings, "help": text, "epilog": marker + example})


class Command(ExampleLast, click.Command):
    """A command."""


class LazyGroup(ExampleLast, click.Group):
    """A group that imports each command when it is called, and prints an error as text: what went wrong, where, and
    what to do next. The traceback is shown only with --debug.

    modules: maps each command name to its module, in the order of the help.
    """

    def __init__(self, *arguments: Any, modules: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return None
        command: click.Command = importlib.import_module(self.modules[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = SAME.get(args[0], args[0])
        if name not in self.modules and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}.{_did_you_mean(name, self.modules)}")
        if (place := torchrun.place()) and name != OF_TORCHRUN:
            if place.rank:
                ctx.exit()  # the first process says it
            raise FacecadeError(
                f"torchrun started {place.count} processes, and only {OF_TORCHRUN} can use them", command_line(name)
            )
        return super().resolve_command(ctx, [name, *args[1:]])

    def invoke(self, ctx: click.Context) -> Any:
        say_stopped = functools.cache(partial(self._say_stopped, ctx))  # once, whoever calls it first
        try:
            with exit_on_interrupt(say_stopped):
                try:
                    return super().invoke(ctx)
                except Exception as error:
                    if interrupted():
                        raise KeyboardInterrupt from error
                    raise
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            say_stopped()
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            in_words = _in_words(error)
            click.echo(f"Error: {in_words}", err=True)
            if in_words.hint:
                say_next(in_words.hint)
            ctx.exit(1)

    def _say_stopped(self, ctx: click.Context) -> None:
        """Say that Ctrl-C stopped the command, and how to continue. Imports nothing: a thread may call it while the main
        thread imports."""
        if sys.stderr.isatty():
            click.echo("\x1b[?25h", nl=False, err=True)  # a progress bar hides the cursor
        module = sys.modules.get(self.modules.get(ctx.invoked_subcommand or "", ""))
        command = getattr(module, "command", None)
        has_resume = isinstance(command, click.Command) and any(option.name == "resume" for option in command.params)
        same_command = "the same command with --resume" if has_resume else "the same command"
        click.echo(f"\nStopped. Finished work is kept; {same_command} continues.", err=True)


def _did_you_mean(name: str, commands: Iterable[str]) -> str:
    """A question after the name of a command that does not exist; empty where none is near."""
    if here := next((here for here, names in OTHER_NAMES.items() if name.lower() in names), ""):
        return f" Did you mean {here}?"
    meanings = {other: here for here, names in OTHER_NAMES.items() for other in names} | {
        each: each for each in commands
    }
    near = difflib.get_close_matches(name.lower(), meanings, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(dict.fromkeys(meanings[each] for each in near))}?" if near else ""


def say_next(*steps: str) -> None:
    """Print what usually comes next, most often a command, on stderr: a result on stdout may be for a program."""
    for step in steps:
        click.echo(f"Next: {step}", err=True)


def _in_words(error: Exception) -> FacecadeError:
    """An error as the user reads it."""
    if isinstance(error, FacecadeError):
        return error
    if isinstance(error, OSError) and (error.filename or error.errno):
        return file_error(f"{error.filename or 'a file'} cannot be read or written", error)
    if isinstance(error, ModuleNotFoundError):
        for extra, packages in EXTRA_PACKAGES.items():
            if (error.name or "").partition(".")[0] in packages:
                return FacecadeError(f"this command needs {error.name}", install(extra))
    debug_command = command_line("--debug …")
    return FacecadeError(
        f"{type(error).__name__}: {error}", f"this is a bug; run `{debug_command}` and report the traceback"
    )

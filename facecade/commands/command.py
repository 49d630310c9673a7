"""A command whose help ends with its example, and a group that imports its commands only when they are called."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from facecade.base.errors import FacecadeError, file_error
from facecade.base.interrupt import INTERRUPTED, exit_on_interrupt
from facecade.base.program import command as command_line
from facecade.base.program import install

EXTRA_PACKAGES = {
    "report": ("cycler", "jinja2", "markupsafe", "matplotlib"),
    "web": ("gradio", "fastapi", "uvicorn", "starlette", "python_multipart"),
}
"""For each extra, the packages that it installs and commands import."""


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

    def invoke(self, ctx: click.Context) -> Any:
        say_stopped = functools.cache(partial(self._say_stopped, ctx))  # once, whoever calls it first
        try:
            with exit_on_interrupt(say_stopped):
                return super().invoke(ctx)
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

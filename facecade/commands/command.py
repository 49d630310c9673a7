"""A command whose help ends with its example, and a group that imports its commands only when they are called."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import click

from facecade.base.errors import FacecadeError
from facecade.base.program import command as command_line
from facecade.base.program import install

EXTRA_PACKAGES = {
    "report": ("cycler", "imagehash", "jinja2", "markupsafe", "matplotlib"),
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
        try:
            return super().invoke(ctx)
        except FacecadeError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"Error: {error}", err=True)
            if error.hint:
                click.echo(f"Next: {error.hint}", err=True)
            ctx.exit(1)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            has_resume = command is not None and any(option.name == "resume" for option in command.params)
            same_command = "the same command with --resume" if has_resume else "the same command"
            click.echo(f"\nStopped. Finished work is kept; {same_command} continues.", err=True)
            ctx.exit(130)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            if isinstance(error, ModuleNotFoundError):
                for extra, packages in EXTRA_PACKAGES.items():
                    if (error.name or "").partition(".")[0] in packages:
                        click.echo(f"Error: this command needs {error.name}\nNext: {install(extra)}", err=True)
                        ctx.exit(1)
            click.echo(f"Error: {type(error).__name__}: {error}", err=True)
            debug_command = command_line("--debug …")
            click.echo(f"Next: this is a bug; run `{debug_command}` and report the traceback", err=True)
            ctx.exit(1)

"""A command whose help ends in its example, and a group that imports its commands when they are called."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import click

from facecade.base.errors import FacecadeError
from facecade.base.program import command as as_typed
from facecade.base.program import install

EXTRAS = {
    "report": ("cycler", "imagehash", "jinja2", "markupsafe", "matplotlib"),
    "web": ("gradio", "fastapi", "uvicorn", "starlette", "python_multipart"),
}
"""Packages that an extra installs and a command imports."""


class ExampleLast:
    """Help that ends in its example: what follows "Example:" in the docstring comes after the options."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        text, marker, example = inspect.cleandoc(settings.get("help") or "").partition("\b\nExample:")
        example = example.replace("python cli.py ", as_typed(""))
        super().__init__(*arguments, **{**settings, "help": text, "epilog": marker + example})


class Command(ExampleLast, click.Command):
    """A command."""


class LazyGroup(ExampleLast, click.Group):
    """Commands, each imported when it is called, whose errors are for people: what, where, what next; no traceback without
    --debug.

    modules: the module of each command by its name, in the order of the help.
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
            called = self.get_command(ctx, ctx.invoked_subcommand or "")
            resumes = called is not None and any(option.name == "resume" for option in called.params)
            same = "the same command with --resume" if resumes else "the same command"
            click.echo(f"\nStopped. What is finished is kept; {same} goes on.", err=True)
            ctx.exit(130)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            if isinstance(error, ModuleNotFoundError):
                for extra, packages in EXTRAS.items():
                    if (error.name or "").partition(".")[0] in packages:
                        click.echo(f"Error: this needs {error.name}\nNext: {install(extra)}", err=True)
                        ctx.exit(1)
            click.echo(f"Error: {type(error).__name__}: {error}", err=True)
            again = as_typed("--debug …")
            click.echo(f"Next: this should not happen; run again as `{again}` and report the traceback", err=True)
            ctx.exit(1)

"""Options that several commands share."""

from __future__ import annotations

import shlex
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import click

from facecade import shipped
from facecade.base.choices import Engine, EnsembleKind, Precision
from facecade.base.errors import FacecadeError
from facecade.base.machine import DEVICES, default_workers, parse_device, parse_executor
from facecade.base.place import is_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from facecade.faces.reading import Reading


class Shipped(click.Path):
    """A path, or the name of a file that comes with the package."""

    def __init__(self, kind: shipped.Kind) -> None:
        super().__init__(path_type=Path)
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(shipped.find(self.kind, str(value)), param, ctx)


Function = TypeVar("Function", bound="Callable[..., Any]")


def artifacts(default: str, text: str, envvar: str | None = None) -> Callable[[Function], Function]:
    """The option `--artifacts`: the folder that a command works in."""
    return click.option(
        "--artifacts",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(default),
        show_default=True,
        envvar=envvar,
        show_envvar=envvar is not None,
        help=text,
    )


ARTIFACTS = artifacts("artifacts", "Folder of the run: fits, folds, caches.", "FACECADE_ARTIFACTS")
CASCADE = click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FACECADE_ARTIFACTS",
    show_envvar=True,
    help="Folder of a run or of an export.  [default: artifacts; the released cascade if nothing is there]",
)


class PlacePath(click.Path):
    """A path, or a URL as text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, str) and is_url(value) else super().convert(value, param, ctx)


class DataPath(click.Path):
    """A path; the dataset of a URL is copied to this machine, and the path is that of the copy."""

    def __init__(self, exists: bool = False) -> None:
        super().__init__(path_type=Path, exists=exists)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_url(value) and not (ctx and ctx.resilient_parsing):
            from facecade.faces.remote import local_copy

            value = local_copy(value)
        return super().convert(value, param, ctx)


def output(
    kind: type[click.Path] = click.Path, text: str = "Folder to write results to."
) -> Callable[[Function], Function]:
    """The option `--output`."""
    return click.option(
        "--output",
        type=kind(path_type=Path, file_okay=False),
        default=Path("output"),
        show_default=True,
        envvar="FACECADE_OUTPUT",
        show_envvar=True,
        help=text,
    )


OUTPUT = output()
MOVED_DATA = click.option(
    "--data",
    type=DataPath(exists=True),
    help="Where the run's images are now.  [default: their path when the run was started]",
)
OVERWRITE = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace results of another run or of other data in --output; without it that is an error.",
)
JOBS = click.option(
    "--jobs",
    type=click.IntRange(0),
    default=0,
    help="Number of fits in parallel.  [default: cores / threads; on GPUs one each; elsewhere no limit]",
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Threads of each fit on a CPU. Changing it changes floating-point rounding, hence results slightly; --jobs never does.",
)
LOCAL_DISK = click.option(
    "--local-disk",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Copy the face crops to this folder first, once a machine: where the run's folder is on a network.  "
    "[default: elsewhere than here, a temporary folder]",
)
SAME_PERSON = click.option(
    "--same-person",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="CSV of ids that are one person, or that only look alike: person,other,same (may be repeated).",
)


def reading(function: Function) -> Function:
    """The options `--map`, `--layout` and `--person-pattern` of commands that read labels, as the one parameter `reading`."""

    @wraps(function)
    def with_reading(
        *arguments: Any, maps: tuple[str, ...], layout: Path | None, person_pattern: str | None, **named: Any
    ) -> Any:
        from facecade.faces.reading import make_reading

        return function(*arguments, reading=make_reading(maps, layout, person_pattern), **named)

    result: Any = with_reading
    for option in (
        click.option(
            "--person-pattern",
            metavar="REGEX",
            help="Regular expression with one group that finds the person in an image's path.",
        ),
        click.option(
            "--layout",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="TOML with the labels of each class folder.",
        ),
        click.option(
            "--map",
            "maps",
            multiple=True,
            metavar="FIELD.WORD=LABEL",
            help="Translate a word of the data, for example gender.M=male (may be repeated).",
        ),
    ):
        result = option(result)
    return cast("Function", result)


def data_words(data: Path, reading: Reading, same_person: tuple[Path, ...] = ()) -> str:
    """`--data` as it was given, with the options that say how the data are read, for the next command's line."""
    words = ["--data", str(data), *reading.options]
    return shlex.join([*words, *(word for file in same_person for word in ("--same-person", str(file)))])


MLFLOW = click.option(
    "--mlflow",
    metavar="FILE|URI",
    envvar="FACECADE_MLFLOW",
    show_envvar=True,
    help="Also log to MLflow: a file such as mlflow.db, or a tracking URI.",
)
WANDB = click.option(
    "--wandb",
    metavar="PROJECT",
    envvar="FACECADE_WANDB",
    show_envvar=True,
    help="Also log to a project of Weights & Biases; offline unless you are logged in there.",
)
ABSTAIN = click.option(
    "--abstain",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="RISK",
    help="Flag predictions as unsure so that at most this share of the others is wrong, for example 0.1; "
    "as measured on held-out people.  [default: flag what is rather wrong than right]",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for programs.")
COMPILE = click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Train with torch.compile, and print the compile time. On a CPU it needs a C++ compiler.",
)
AUTOCAST = click.option(
    "--bf16/--fp32",
    "autocast",
    default=None,
    help="Precision of training: bf16 by autocast, or float32.  [default: bf16 on a GPU, float32 on a CPU]",
)


class Checked(click.ParamType):  # type: ignore[type-arg]
    """Text that a function accepts; what it says of other text is the usage error."""

    def __init__(self, name: str, check: Callable[[str], object]) -> None:
        self.name, self.check = name, check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            self.check(value)
        except FacecadeError as error:
            self.fail(f"{error}; {error.hint}", param, ctx)
        return value


DEVICE = click.option(
    "--device",
    type=Checked("device", parse_device),
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help=f"What networks run on: {', '.join(DEVICES)}. auto: a CUDA device if there is one, else the CPU.",
)


def executor(function: Function) -> Function:
    """The options `--executor` and `--executor-option` of commands that fit many networks."""
    result: Any = function
    for option in (
        click.option(
            "--executor-option",
            "executor_options",
            multiple=True,
            metavar="KEY=VALUE",
            help="For slurm: an option of sbatch, for example partition=gpu (may be repeated).",
        ),
        click.option(
            "--executor",
            type=Checked("executor", parse_executor),
            default="processes",
            show_default=True,
            metavar="NAME",
            envvar="FACECADE_EXECUTOR",
            show_envvar=True,
            help="What runs the fits: processes of this machine; ray or ray://ADDRESS; slurm. See docs/scale.md.",
        ),
    ):
        result = option(result)
    return cast("Function", result)


WORKERS = click.option(
    "--workers",
    type=click.IntRange(1),
    default=default_workers(),
    show_default="cores, at most 16",
    help="Threads that decode images; on a GPU also processes that augment. Does not change results.",
)
ENGINE = click.option(
    "--engine",
    type=click.Choice(get_args(Engine)),
    default="auto",
    show_default=True,
    help="What runs the fitted networks. auto: the fastest, measured once for a run.",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="auto",
    show_default=True,
    help="Precision of the networks. bf16 needs OpenVINO; images whose two best classes are close are re-run in fp32. "
    "auto: bf16 if the CPU has it and it is faster.",
)
ENSEMBLE = click.option(
    "--ensemble",
    type=click.Choice(get_args(EnsembleKind)),
    help="Which networks of each stage predict.  [default: the recipe's]",
)

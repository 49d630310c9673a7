#!/usr/bin/env python
"""Commands: parse, call, print. Whatever is heavy is imported inside a command."""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from facecade import __version__, shipped
from facecade.base.machine import cores

if TYPE_CHECKING:
    from collections.abc import Callable

    from facecade.recipe import Answer


class Shipped(click.Path):
    """A file that comes with the package by its name, or any by its path."""

    def __init__(self, kind: shipped.Kind) -> None:
        super().__init__(path_type=Path)
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(shipped.find(self.kind, str(value)), param, ctx)


Function = TypeVar("Function", bound="Callable[..., Any]")


def artifacts_option(default: str, text: str, envvar: str | None = None) -> Callable[[Function], Function]:
    """`--artifacts`: the folder that a command works in."""
    return click.option(
        "--artifacts",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(default),
        show_default=True,
        envvar=envvar,
        show_envvar=envvar is not None,
        help=text,
    )


ARTIFACTS = artifacts_option("artifacts", "Folder of the run: fits, folds, caches.", "FACECADE_ARTIFACTS")
OUTPUT = click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("output"),
    show_default=True,
    envvar="FACECADE_OUTPUT",
    show_envvar=True,
    help="Folder to write results to.",
)
JOBS = click.option(
    "--jobs", type=click.IntRange(0), default=0, help="Fits at once.  [default: cores / threads; on a GPU 1]"
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Threads of each fit on a processor. Another number rounds differently; that of jobs changes nothing.",
)
MLFLOW = click.option(
    "--mlflow",
    metavar="FILE|URI",
    envvar="FACECADE_MLFLOW",
    show_envvar=True,
    help="Write each fit to MLflow as well: a file, as mlflow.db, or a tracking URI.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, for programs.")
COMPILE = click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Train by torch.compile. Says how long compiling took; needs a C++ compiler on a processor.",
)
AUTOCAST = click.option(
    "--bf16/--fp32",
    "autocast",
    default=None,
    help="What training computes in: bf16 by autocast, or float32.  [default: bf16 on a GPU, float32 on a processor]",
)
DEVICE = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(1),
    default=min(16, cores()),
    show_default="cores, at most 16",
    help="Threads that decode; on a GPU also processes that augment. Does not change a result.",
)


ENGINE = click.option(
    "--engine",
    type=click.Choice(["auto", "torch", "openvino", "onnx"]),
    default="auto",
    show_default=True,
    help="What runs the fitted networks. auto: the quickest, measured once for a run.",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="bf16, OpenVINO's alone, asks again in fp32 where an answer is near another. auto: bf16 where the processor has it and it pays.",
)

ANSWER = click.option(
    "--answer",
    type=click.Choice(["mean", "soup", "refit", "first"]),
    help="Which networks of each stage are asked.  [default: as the recipe says]",
)


PAGES_NEED = ("cycler", "imagehash", "jinja2", "markupsafe", "matplotlib")
"""Packages of the extra `report`, which eda, report and audit import."""


class ExampleLast:
    """Help that ends in its example: what follows "Example:" in the docstring comes after the options."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        text, marker, example = inspect.cleandoc(settings.get("help") or "").partition("\b\nExample:")
        super().__init__(*arguments, **{**settings, "help": text, "epilog": marker + example})


class Command(ExampleLast, click.Command):
    """A command."""


class Group(ExampleLast, click.Group):
    """Commands whose errors are for people: what, where, what next; no traceback without --debug."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        from facecade.base.errors import FacecadeError

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
            asked = self.commands.get(ctx.invoked_subcommand or "")
            resumes = asked is not None and any(option.name == "resume" for option in asked.params)
            again = "the same command with --resume" if resumes else "the same command"
            click.echo(f"\nStopped. What is finished is kept; {again} goes on.", err=True)
            ctx.exit(130)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            if isinstance(error, ModuleNotFoundError) and error.name in PAGES_NEED:
                click.echo(f"Error: the page needs {error.name}\nNext: pip install -e '.[report]'", err=True)
                ctx.exit(1)
            click.echo(f"Error: {type(error).__name__}: {error}", err=True)
            click.echo(
                "Next: this should not happen; run again as `cli.py --debug …` and report the traceback", err=True
            )
            ctx.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="facecade")
def main(debug: bool) -> None:
    """Train a cascade of face models, stack it, and label photographs.

    \b
    Example:
      python cli.py fit-stage all --data DATA && python cli.py fit-meta && python cli.py infer eval/
    """


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@JSON
@WORKERS
def check(data: Path, as_json: bool, workers: int) -> None:
    """Count what DATA holds; name every bad row and file, and why.

    DATA is a folder with train.csv or info.csv and images/, a manifest CSV, a folder of photographs
    or one photograph. Exits with 1 where anything is bad.

    \b
    Example:
      python cli.py check ../shared/data/faces/train
    """
    from facecade.report.check import check_source

    result = check_source(data, workers)
    click.echo(json.dumps(result, indent=2) if as_json else _check_text(result))
    if result["problems"]:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--recipe", type=Shipped("recipe"), default="cpu", show_default=True, help="Recipe whose faces are looked for."
)
@OUTPUT
@WORKERS
@JSON
def eda(data: Path, recipe: Path, output: Path, workers: int, as_json: bool) -> None:
    """Write eda.html, which shows what DATA holds before anything is trained on it.

    Class balance, ages and censoring, sizes, light and blur, faces found and missed, the same photograph twice or as
    somebody else's; and every bad row and file. DATA is whatever check takes; what needs labels is left out where there are none.

    \b
    Example:
      python cli.py eda ../shared/data/faces/train --output output
    """
    from facecade.pages.eda import write_eda
    from facecade.recipe import parse, read_toml

    face = parse(read_toml(recipe), str(recipe)).face
    result = write_eda(data, output, face, workers)
    click.echo(json.dumps(result, indent=2) if as_json else _eda_text(result))


@main.command("fit-stage")
@click.argument("stages", nargs=-1, required=True, metavar="STAGE...")
@click.option("--data", type=click.Path(path_type=Path), help="Training data; later commands find it by themselves.")
@click.option("--recipe", type=Shipped("recipe"), help="Recipe to begin with, by name or path.  [default: cpu]")
@click.option("--fold", "folds", type=click.IntRange(0), multiple=True, help="Fit this fold alone (may be repeated).")
@click.option("--resume", is_flag=True, help="Keep what is fitted already, and go on from checkpoints.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe, as stages.mask.lr=1e-3."
)
@click.option("--weights", metavar="none|hub|package|FILE", help="Where training starts; short for --set weights=….")
@click.option(
    "--corrections",
    type=Shipped("corrections"),
    multiple=True,
    help="CSV of label corrections: id,field,value (may be repeated).",
)
@click.option("--skip-bad", is_flag=True, help="Go on without bad rows and files, naming each.")
@click.option(
    "--pseudo",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Learn also from what RUN labelled: see pseudo-label.",
)
@click.option(
    "--extra",
    type=click.Path(path_type=Path),
    metavar="DATA",
    help="Learn also from these labelled photographs, which are never scored.",
)
@JOBS
@THREADS
@COMPILE
@AUTOCAST
@click.option("--dry-run", is_flag=True, help="Check data and recipe, say what would be fitted, write nothing.")
@MLFLOW
@ARTIFACTS
@DEVICE
@WORKERS
@JSON
def fit_stage(
    stages: tuple[str, ...],
    data: Path | None,
    recipe: Path | None,
    folds: tuple[int, ...],
    resume: bool,
    settings: tuple[str, ...],
    weights: str | None,
    corrections: tuple[Path, ...],
    skip_bad: bool,
    pseudo: Path | None,
    extra: Path | None,
    jobs: int,
    threads: int,
    compiled: bool,
    autocast: bool | None,
    dry_run: bool,
    mlflow: str | None,
    artifacts: Path,
    device: str,
    workers: int,
    as_json: bool,
) -> None:
    """Train stages, fold by fold.

    STAGE is mask, gender, age-male, age-female, joint, flat or gender-age, as the recipe has them, or all.

    The first call names the data and draws the folds; later calls use the same.

    \b
    Example:
      python cli.py fit-stage mask --data DATA --recipe cpu --set stages.mask.epochs=2
    """
    from facecade import pipeline
    from facecade.base.errors import FacecadeError, unknown_name
    from facecade.base.machine import Machine
    from facecade.base.progress import note
    from facecade.recipe import override, parse, read_toml, require_folds
    from facecade.report.tracking import Tracker
    from facecade.run import begin_run, change_recipe, open_run

    tracker = Tracker(mlflow) if mlflow else None
    if (corrections or pseudo or extra) and not data:
        raise FacecadeError("--corrections, --pseudo and --extra change what a run begins with", "give --data as well")
    begun = (artifacts / "run.json").exists()
    if not data and not begun:
        raise FacecadeError(f"{artifacts} holds no run yet", "name the training data: --data DATA")
    old = open_run(artifacts) if begun and not (data and recipe) else None
    tables = read_toml(recipe) if recipe else old.tables if old else read_toml(shipped.find("recipe", "cpu"))
    known = parse(tables, str(recipe or "the recipe")).stages
    for stage in stages:
        if stage != "all" and stage not in known:
            raise unknown_name("stage", stage, [*known, "all"])
    chosen = list(known) if "all" in stages else list(dict.fromkeys(stages))
    if weights:
        settings = (*settings, f"weights={json.dumps(weights)}")
    tables = override(tables, settings, chosen)
    pipeline.check_parts(parse(tables, str(recipe or "the recipe")), chosen)
    if data:
        if old:
            note(f"with the recipe of the run in {artifacts}; name another with --recipe")
        run = begin_run(artifacts, data, tables, corrections, skip_bad, workers, dry_run, pseudo=pseudo, extra=extra)
    else:
        assert old, "without data there is a run"
        run = change_recipe(old, tables, dry_run) if tables != old.tables else old
    require_folds(folds, run.recipe.folds)
    wanted = folds or run.recipe.fits
    if dry_run:
        keys = pipeline.plan(run, chosen, wanted, resume)
        plan = [
            {"stage": stage, "fold": fold, "name": run.recipe.fit_name(fold), "state": run.state(stage, fold)}
            for stage, fold in keys
        ]
        recipes = {stage: run.recipe.stages[stage].model_dump() for stage in chosen}
        text = "\n".join(f"would fit {item['stage']} {item['name']} (now {item['state']})" for item in plan)
        click.echo(json.dumps({"plan": plan, "stages": recipes}, indent=2) if as_json else text)
        return
    machine = Machine(device, jobs, threads, workers, compile=compiled, autocast=autocast)
    records = pipeline.fit_stage(run, chosen, wanted, machine, resume, tracker)
    if as_json:
        click.echo(json.dumps(records, indent=2, default=str))
    else:
        click.echo("\n".join(_stage_line(stage, records) for stage in chosen))


@main.command("fit-meta")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a combiner key, as combiner.rounds=80."
)
@click.option(
    "--recipe", type=click.Path(path_type=Path), help="Take the settings of this recipe.  [default: the run's]"
)
@MLFLOW
@ARTIFACTS
@JSON
def fit_meta(
    settings: tuple[str, ...], recipe: Path | None, mlflow: str | None, artifacts: Path, as_json: bool
) -> None:
    """Stack the fitted stages into 18 labels.

    Prints every way of combining them, nested-scored, and keeps the best.

    \b
    Example:
      python cli.py fit-meta --artifacts artifacts
    """
    from facecade import pipeline
    from facecade.recipe import override, read_toml
    from facecade.report.tracking import Tracker
    from facecade.run import change_recipe, open_run

    tracker = Tracker(mlflow) if mlflow else None
    run = open_run(artifacts)
    if settings or recipe:
        run = change_recipe(run, override(read_toml(recipe) if recipe else run.tables, settings, []))
    record = pipeline.fit_meta(run, tracker)
    click.echo(json.dumps(record, indent=2) if as_json else _meta_text(record))


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@ARTIFACTS
@OUTPUT
@ENGINE
@PRECISION
@ANSWER
@DEVICE
@WORKERS
@JSON
def infer(
    data: Path,
    artifacts: Path,
    output: Path,
    engine: str,
    precision: str,
    answer: Answer | None,
    device: str,
    workers: int,
    as_json: bool,
) -> None:
    """Label a data folder, a folder of photographs, or one file.

    DATA is a folder with info.csv and images/, a folder of photographs, a manifest CSV, or a photograph.
    Writes submission.csv (ImageID,ans) and predictions.csv (answers, ages, probabilities, flags).
    --artifacts may also be what `export` wrote, which needs no torch.

    \b
    Example:
      python cli.py infer eval/ --output output
    """
    from facecade import pipeline
    from facecade.base.machine import Machine

    machine = Machine(device, workers=workers, engine=engine, precision=precision)
    summary = pipeline.infer(artifacts, data, output, machine, answer)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    flags = ", ".join(f"{name} {count}" for name, count in summary["flags"].items()) or "none"
    if said := summary.get("answer"):
        years = "" if said["age"] is None else f", {said['age']:.0f} years"
        click.echo(
            f"{said['ImageID']}: {said['mask']}, {said['gender']}, {said['band']}{years}; "
            f"class {said['ans']}, confidence {said['confidence']:.2f}"
        )
    click.echo(
        f"photographs: {summary['photographs']}; flagged: {flags}; {summary['seconds']:.0f} s by {summary['engine']}"
    )
    click.echo(f"{summary['submission']}\n{summary['predictions']}")


@main.command()
@click.argument("image", type=click.Path(path_type=Path))
@ARTIFACTS
@click.option(
    "--attention",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write each face's crop there, with where each stage looked laid over it; needs grad-cam.",
)
@DEVICE
@JSON
def explain(image: Path, artifacts: Path, attention: Path | None, device: str, as_json: bool) -> None:
    """Say what is answered for one photograph, and why.

    Of every face in it: the answer, what each stage says and how far its networks agree, and what tipped the combiner.
    --artifacts may also be what `export` wrote, without --attention.

    \b
    Example:
      python cli.py explain eval/images/photograph.jpg --attention output/attention
    """
    from facecade import pipeline
    from facecade.base.machine import Machine

    result = pipeline.explain(artifacts, image, Machine(device), attention)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    from rich.console import Console

    from facecade.report.explained import explained

    screen = Console(file=sys.stdout, highlight=False)
    for part in explained(result, image.name):
        screen.print(part)
    if attention:
        screen.print(f"\n{len(result['pictures'])} pictures in {attention}", soft_wrap=True)


@main.command()
@ARTIFACTS
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Any but this machine's own lets others send photographs; nothing asks who they are.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 takes a free one.")
@click.option(
    "--max-megabytes",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Largest file that is taken.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1, 100_000_000),
    default=50_000_000,
    show_default=True,
    help="Largest photograph that is unpacked.",
)
@click.option(
    "--max-files", type=click.IntRange(1), default=32, show_default=True, help="Photographs that are taken at once."
)
@click.option("--open/--no-open", "opened", default=False, help="Open the page in a browser.  [default: no-open]")
@ENGINE
@DEVICE
def serve(
    artifacts: Path,
    host: str,
    port: int,
    max_megabytes: float,
    max_pixels: int,
    max_files: int,
    opened: bool,
    engine: str,
    device: str,
) -> None:
    """Open a local page to drop, paste or shoot photographs on.

    It shows the faces found, the answers, the ages, which stage was unsure and where each looked; of several photographs a
    table, and a CSV to download. POST /predict answers programs, as /openapi.json describes; Ctrl-C ends it.
    --artifacts may also be what `export` wrote, which shows no attention.

    \b
    Example:
      python cli.py serve --port 7860
    """
    from facecade.base.machine import Machine
    from facecade.web.limits import Limits
    from facecade.web.serve import serve as keep_up

    limits = Limits(max_megabytes, max_pixels, max_files)
    with suppress(KeyboardInterrupt):  # which the server may have heard already
        keep_up(artifacts, Machine(device, engine=engine), limits, host, port, opened, __version__, click.echo)
    click.echo("stopped", err=True)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@ANSWER
@ARTIFACTS
@JSON
def export(folder: Path, answer: Answer | None, artifacts: Path, as_json: bool) -> None:
    """Write the fitted cascade as ONNX, to a folder that `infer` needs no torch for.

    FOLDER gets the networks, MTCNN's too, the combiner, a manifest, and a requirements.txt of what infer needs there.

    \b
    Example:
      python cli.py export cascade/ && python cli.py infer eval/ --artifacts cascade/ --engine onnx
    """
    from facecade import pipeline
    from facecade.run import open_run

    exported = pipeline.export(open_run(artifacts), answer, folder)
    if as_json:
        click.echo(json.dumps(exported.manifest, indent=2))
        return
    rows = [
        [
            ", ".join(each["stages"]),
            "×".join(map(str, each["size"])),
            str(len(each["files"])),
            f"{max(each['off']):.0e}",
        ]
        for each in exported.manifest["networks"]
    ]
    click.echo(_table(rows, ["stages", "input", "networks", "off torch by"]))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    click.echo(f"{folder}: {size / 2**20:.0f} MB")
    click.echo(f"Next: python cli.py infer DATA --artifacts {folder} --engine onnx")


@main.command("pseudo-label")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Least probability of a label that is kept.",
)
@ARTIFACTS
@ENGINE
@DEVICE
@WORKERS
@JSON
def pseudo_label(
    data: Path, confidence: float, artifacts: Path, engine: str, device: str, workers: int, as_json: bool
) -> None:
    """Label photographs for another run to learn from.

    Says how often such labels are right.
    Each fold of the other run gets the labels of models that never saw the people it is scored on; it must have the
    same data, folds and seed.

    \b
    Example:
      python cli.py pseudo-label DATA --confidence 0.9
      python cli.py fit-stage all --data DATA --pseudo artifacts --artifacts student
    """
    from facecade import pipeline
    from facecade.base.machine import Machine
    from facecade.run import open_run

    machine = Machine(device, workers=workers, engine=engine)
    record = pipeline.pseudo_label(open_run(artifacts), data, confidence, machine)
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    click.echo(f"{record['text']}.")
    click.echo(f"{record['new']} photographs, {sum(record['labels'])} labels (one a fold): {record['labels_file']}")
    click.echo(f"Next: python cli.py fit-stage all --data DATA --pseudo {artifacts} --artifacts STUDENT")


@main.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path))
@OUTPUT
@JSON
def evaluate(predictions: Path, labels: Path, output: Path, as_json: bool) -> None:
    """Score predictions against labels, with 95 % intervals.

    PREDICTIONS is a submission.csv or predictions.csv, LABELS a CSV with ImageID,ans and, if known, age and person.

    \b
    Example:
      python cli.py evaluate output/submission.csv eval/eval_labels.csv
    """
    from facecade.report.evaluate import evaluate as score
    from facecade.report.evaluate import match

    result = score(match(predictions, labels), output)
    click.echo(json.dumps(result, indent=2) if as_json else _score_text(result))


@main.command()
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What evaluate wrote of answers by this run.  [default: evaluation.json in --output, where it is]",
)
@ARTIFACTS
@OUTPUT
@WORKERS
@JSON
def report(evaluation: Path | None, artifacts: Path, output: Path, workers: int, as_json: bool) -> None:
    """Write report.html, which opens from disk, and MODEL_CARD.md.

    Where the cascade is right, where it fails and for whom, by nested answers; learning curves, calibration, and the worst errors.

    \b
    Example:
      python cli.py report --output output
    """
    from facecade.pages.report import write_report
    from facecade.run import open_run

    beside = output / "evaluation.json"
    files = write_report(open_run(artifacts), output, evaluation or (beside if beside.exists() else None), workers)
    click.echo(json.dumps({"files": list(map(str, files))}) if as_json else "\n".join(map(str, files)))


@main.command()
@click.option(
    "--most",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    help="How many are shown with their photographs.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least probability of an error that is put down as a correction.",
)
@ARTIFACTS
@OUTPUT
@WORKERS
@JSON
def audit(most: int, confidence: float, artifacts: Path, output: Path, workers: int, as_json: bool) -> None:
    """Rank the people and photographs whose label is probably wrong.

    By out-of-fold answers; with the reason in words. Writes audit.html with thumbnails, audit.csv with all of them, and
    corrections.csv, which `fit-stage --corrections` takes when a person has looked through it.

    \b
    Example:
      python cli.py audit --output output
    """
    from dataclasses import asdict

    from facecade.pages.audit import write_audit
    from facecade.run import open_run

    run = open_run(artifacts)
    found, files = write_audit(run, output, most, confidence, workers)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(one) for one in found], "files": list(map(str, files))}, indent=2))
        return
    rows = [
        [str(place), one.kind, one.id, one.recorded, one.suggested, f"{one.score:.2f}", one.reason]
        for place, one in enumerate(found[:20], 1)
    ]
    click.echo(_table(rows, ["", "kind", "id", "recorded", "suggested", "wrong", "why"]))
    click.echo("\n".join(map(str, files)))
    sheets = [run.corrections_file] * bool(run.corrections) + [files[-1]]
    again = " ".join([f"fit-stage all --data {run.root}", *(f"--corrections {sheet}" for sheet in sheets)])
    click.echo(f"Next: look through {files[-1]}, then {run.command(again)}")


@main.command()
@click.argument("recipes", nargs=-1, required=True, type=Shipped("recipe"), metavar="RECIPE...")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Training data.")
@click.option("--budget", type=Shipped("budget"), help="The compute that every recipe is scaled to, by name or path.")
@click.option("--eval", "evaluation", type=click.Path(path_type=Path), help="Folder to label and score as well.")
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of --eval.")
@click.option("--folds", type=click.IntRange(3), default=4, show_default=True, help="Folds that all recipes share.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Train each network so often, and score the average.",
)
@JOBS
@THREADS
@artifacts_option("artifacts/compare", "Folder of the comparison: a run for each recipe.")
@OUTPUT
@DEVICE
@WORKERS
@MLFLOW
@JSON
def compare(
    recipes: tuple[Path, ...],
    data: Path,
    budget: Path | None,
    evaluation: Path | None,
    labels: Path | None,
    folds: int,
    seed: int,
    repeats: int,
    jobs: int,
    threads: int,
    artifacts: Path,
    output: Path,
    device: str,
    workers: int,
    mlflow: str | None,
    as_json: bool,
) -> None:
    """Train recipes on the same people and folds, and rank them.

    Called again, it goes on where it was.
    Writes leaderboard.md, leaderboard.csv and leaderboard.json.

    \b
    Example:
      python cli.py compare quick published/resnet34-soft --data DATA --budget cpu
    """
    from facecade.base.artifact import write_csv, write_json, write_text
    from facecade.base.errors import FacecadeError
    from facecade.base.machine import Machine
    from facecade.comparison.budget import read_budget
    from facecade.comparison.compare import Terms
    from facecade.comparison.compare import compare as run_comparison
    from facecade.report.leaderboard import flat_table, markdown
    from facecade.report.tracking import Tracker

    if (evaluation is None) != (labels is None):
        raise FacecadeError("--eval and --labels go together", "give both, or neither")
    asked = (evaluation, labels) if evaluation and labels else None
    terms = Terms(data, folds, seed, read_budget(budget) if budget else None, asked, repeats)
    tracker = Tracker(mlflow) if mlflow else None
    result = run_comparison(recipes, artifacts, terms, Machine(device, jobs, threads, workers), tracker)
    write_text(output / "leaderboard.md", markdown(result))
    write_csv(output / "leaderboard.csv", flat_table(result))
    write_json(output / "leaderboard.json", result)
    click.echo(json.dumps(result, indent=2) if as_json else markdown(result))
    if result["failed"]:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("stage")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Training data.")
@click.option(
    "--recipe", type=Shipped("recipe"), default="cpu", show_default=True, help="Recipe to begin with, by name or path."
)
@click.option(
    "--space",
    type=Shipped("space"),
    default="default",
    show_default=True,
    help="What is searched, by name or path.",
)
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Trials in all.")
@click.option("--fold", "folds", type=click.IntRange(0), multiple=True, help="Folds of a trial.  [default: 0 and 1]")
@click.option("--measure", help="Score that is searched for.  [default: the stage's own]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe first.")
@artifacts_option("artifacts/tune", "Folder of the study.")
@DEVICE
@WORKERS
@MLFLOW
@JSON
def tune(
    stage: str,
    data: Path,
    recipe: Path,
    space: Path,
    trials: int,
    folds: tuple[int, ...],
    measure: str | None,
    settings: tuple[str, ...],
    artifacts: Path,
    device: str,
    workers: int,
    mlflow: str | None,
    as_json: bool,
) -> None:
    """Search for the settings of a stage that score best.

    Scores are on held-out training people. Called again, it goes on where it was.
    Writes tuning.json, and the best trial as a recipe, best.toml.

    \b
    Example:
      python cli.py tune age-male --data DATA --trials 30
    """
    from facecade.base.errors import unknown_name
    from facecade.base.machine import Machine
    from facecade.comparison.tune import Search, read_space
    from facecade.comparison.tune import tune as search
    from facecade.recipe import override, parse, read_toml
    from facecade.report.tracking import Tracker

    tables = override(read_toml(recipe), settings, [stage])
    known = parse(tables, str(recipe))
    if stage not in known.stages:
        raise unknown_name("stage", stage, known.stages)
    asked = Search(
        stage,
        measure,
        read_space(space),
        trials,
        folds or (0, 1),
    )
    tracker = Tracker(mlflow) if mlflow else None
    result = search(data, tables, artifacts / stage, asked, Machine(device, 1, 1, workers), tracker)
    click.echo(json.dumps(result, indent=2) if as_json else _tuning_text(result, artifacts / stage))


@main.command("ls")
@ARTIFACTS
@JSON
def list_run(artifacts: Path, as_json: bool) -> None:
    """List the run: stages, folds, scores, and what is stale.

    \b
    Example:
      python cli.py ls --artifacts artifacts
    """
    from facecade.run import describe, open_run

    result = describe(open_run(artifacts))
    click.echo(json.dumps(result, indent=2) if as_json else _list_text(result))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--people",
    type=click.IntRange(12),
    default=90,
    show_default=True,
    help="People to train on; a third as many to evaluate.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@JSON
def draw(folder: Path, people: int, seed: int, as_json: bool) -> None:
    """Draw faces with known labels, in the competition's layout.

    They go to FOLDER/train and FOLDER/eval.

    \b
    Example:
      python cli.py draw demo/data --people 90
    """
    from facecade.faces.synthetic import draw_data

    draw_data(folder, people, seed)
    drawn = {part: str(folder / part) for part in ("train", "eval")}
    click.echo(json.dumps(drawn, indent=2) if as_json else "\n".join(drawn.values()))


@main.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--as", "backbone", metavar="BACKBONE", help="Whose weights they are, where the file's name does not say it."
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="[default: weights/BACKBONE.safetensors]"
)
@click.option("--list", "listed", is_flag=True, help="Say which weights are to be had, installed or not.")
@JSON
def weights(file: Path | None, backbone: str | None, output: Path | None, listed: bool, as_json: bool) -> None:
    """Make pretrained weights of others ready to start from.

    Converts FILE once to safetensors, with its source, licence and the statistics of its input inside. Weights that a package
    installs need no conversion: a recipe takes them by weights = "package".

    \b
    Example:
      python cli.py weights --list
      python cli.py weights faceres-deep.json
    """
    if listed == (file is not None):
        raise click.UsageError("give a FILE to convert, or --list")
    from facecade.backbones.weights import convert, listing

    if listed:
        found = listing()
        click.echo(json.dumps(found, indent=2) if as_json else _weights_text(found))
        return
    assert file is not None
    pretrained, place = convert(file, backbone, output)
    if as_json:
        click.echo(
            json.dumps({"backbone": pretrained.backbone, "file": str(place), "licence": pretrained.licence}, indent=2)
        )
        return
    click.echo(f"{place}: {pretrained.backbone}, trained on {pretrained.trained_on}; licence: {pretrained.licence}")
    click.echo(f'Next: in a recipe, backbone = "{pretrained.backbone}" and weights = "{place}"')


def _weights_text(found: list[dict[str, Any]]) -> str:
    """Each backbone with pretrained weights, in lines that fit a terminal."""
    lines = []
    for each in found:
        lines.append(f"{each['backbone']}  {each['state']}")
        start = [f'weights = "{each["start"]}"'] if each["start"] else each["steps"]
        about = [
            f"{each['megabytes']:.0f} MB, {each['size']}, trained on {each['trained_on']}",
            f"licence: {each['licence']}",
        ]
        for text in [*about, *start]:
            lines += textwrap.wrap(
                text,
                76,
                break_long_words=False,
                break_on_hyphens=False,
                initial_indent=" " * 4,
                subsequent_indent=" " * 6,
            )
    return "\n".join(lines)


def _stage_line(stage: str, records: list[dict[str, Any]]) -> str:
    """A stage's scores on held-out people: their mean over the folds fitted, and their range."""
    mine = [record["score"] for record in records if record["stage"] == stage and record["score"]]
    parts = []
    for name in mine[0]:
        values = [score[name] for score in mine]
        parts.append(f"{name} {sum(values) / len(values):.4f} (folds {min(values):.4f} to {max(values):.4f})")
    return f"{stage}: {', '.join(parts)} on held-out people"


def _table(rows: list[list[str]], head: list[str]) -> str:
    """Rows under a head in columns; numbers and words alike to the left."""
    width = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width[place]) for place, cell in enumerate(row)).rstrip() for row in [head, *rows]]
    return "\n".join([lines[0], "  ".join("-" * size for size in width), *lines[1:]])


def _interval(value: dict[str, float], digits: int = 4) -> str:
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def _check_text(result: dict[str, Any]) -> str:
    lines = [f"{result['layout']}: {result['photographs']} photographs of {result['people']} people"]
    if result["classes"]:
        rows = [[str(c["class"]), c["name"], str(c["photographs"]), str(c["people"])] for c in result["classes"]]
        lines += ["", _table(rows, ["class", "meaning", "photographs", "people"]), ""]
    lines += [f"note: {text}" for text in result["notes"]]
    lines += [f"bad: {text}" for text in result["problems"]]
    lines.append(f"{len(result['problems'])} problem(s)" if result["problems"] else "no problems")
    return "\n".join(lines)


def _eda_text(result: dict[str, Any]) -> str:
    """The summary of a data set in a few lines, and the page."""
    twice, ages, faces = result["duplicates"], result["ages"], result["faces"]
    apart = "across people" if twice["people_known"] else "among photographs"
    people = f" of {result['people']} people" if result["people"] else ""
    lines = [f"{result['layout']}: {result['photographs']} photographs{people}; {result['readable']} can be read"]
    if there := sorted(result["classes"], key=lambda each: int(each["photographs"])):
        few, many = there[0], there[-1]
        lines.append(
            f"classes: from {few['photographs']} photographs ({few['name']}) to {many['photographs']} ({many['name']})"
        )
    if ages:
        cap = ages["censored_at"]
        said = "not censored" if cap is None else f"censored at {cap:.0f}: 'at least {cap:.0f}'"
        lines.append(
            f"ages: {ages['lowest']:.0f} to {ages['highest']:.0f}, {ages['at_highest']} of the highest; {said}"
        )
    sizes = [f"{size}: {count}" for size, count in result["sizes"].items()]
    lines.append(f"sizes: {', '.join(sizes[:3])}{f', {len(sizes) - 3} more' if len(sizes) > 3 else ''}")
    if faces:
        lines.append(f"faces: none found in {faces['none']} photographs, several in {faces['several']}")
    lines.append(
        f"alike {apart}: {twice['same_files_across']} photographs of the same bytes, {twice['near_pairs_across']} pairs nearly"
    )
    problems = len(result["problems"])
    lines.append(f"{problems} problem(s), listed on the page" if problems else "no problems")
    return "\n".join([*lines, *result["files"]])


def _meta_text(record: dict[str, Any]) -> str:
    from facecade.report.results import difference

    rows = [
        [("* " if name == record["way"] else "  ") + name, _interval(scores["macro-F1"]), _interval(scores["accuracy"])]
        for name, scores in record["nested"].items()
    ]
    choice, gain = record["nested_choice"], record["gain_over_simplest"]
    others = {name: value for name, value in choice.items() if name not in ("macro-F1", "accuracy")}
    return "\n".join(
        [
            "Nested out-of-fold scores, 95 % intervals over people:",
            "",
            _table(rows, ["  way of combining", "macro-F1", "accuracy"]),
            "",
            f"Kept: {record['way']} — the highest nested macro-F1; {difference(gain)} over {record['simplest']}.",
            f"Expect on new people (the choice itself nested): macro-F1 {_interval(choice['macro-F1'])}, accuracy {_interval(choice['accuracy'])}.",
            ", ".join(f"{name} {_interval(value, 2 if name == 'age MAE' else 4)}" for name, value in others.items())
            + ".",
            *_cuts_text(record["cuts"]),
            *[f"Learned from as well: {text}." for text in record["further"]],
        ]
    )


def _cuts_text(cuts: dict[str, list[float]]) -> list[str]:
    """Learned cuts in one line; no line where no stage knows years."""
    said = "; ".join(f"{name} {low:.2f} and {high:.2f}" for name, (low, high) in cuts.items())
    return [f"Cuts in years: {said}."] if said else []


def _score_text(result: dict[str, Any]) -> str:
    from facecade.faces.labels import class_name

    digits = {"age MAE": 2}
    rows = [[name, _interval(value, digits.get(name, 4))] for name, value in result["score"].items()]
    classes = [
        [str(label), class_name(label), str(count), "-" if f1 is None else f"{f1:.3f}"]
        for label, (count, f1) in enumerate(zip(result["per_class_count"], result["per_class_f1"], strict=True))
    ]
    return "\n".join(
        [
            f"{result['photographs']} photographs of {result['people']} people, 95 % intervals over people",
            "",
            _table(rows, ["score", "value"]),
            "",
            _table(classes, ["class", "meaning", "photographs", "F1"]),
        ]
    )


def _tuning_text(result: dict[str, Any], folder: Path) -> str:
    best = result["best"]
    trials = [
        [str(item["trial"]), item["state"], "-" if item["score"] is None else f"{item['score']:.4f}"]
        + [f"{value:.4g}" if isinstance(value, float) else str(value) for value in item["settings"].values()]
        for item in sorted(result["trials"], key=lambda item: item["trial"])
    ]
    weights = ", ".join(f"{name} {share:.0%}" for name, share in result["importance"].items())
    return "\n".join(
        [
            _table(trials, ["trial", "state", result["measure"], *best["settings"]]),
            "",
            f"Best: trial {best['trial']}, {result['measure']} {best['score']:.4f} on folds {result['folds']}: chosen on the people it is"
            " measured on, so a little too good.",
            *([f"Importance: {weights}."] if weights else []),
            f"The best trial as a recipe: {folder / 'best.toml'}",
        ]
    )


def _list_text(result: dict[str, Any]) -> str:
    measures = list(dict.fromkeys(_measure(fit["stage"], name) for fit in result["fits"] for name in fit["score"]))
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for fit in result["fits"]:
        by_stage.setdefault(fit["stage"], []).append(fit)
    rows = []
    for stage, fits in by_stage.items():
        states = Counter(fit["state"] for fit in fits)
        scores: dict[str, list[float]] = {}
        for fit in fits:
            for name, value in fit["score"].items() if fit["state"] == "fitted" else ():
                scores.setdefault(_measure(stage, name), []).append(value)
        means = {name: sum(values) / len(values) for name, values in scores.items()}
        shown = [f"{means[name]:.{2 if name == 'age MAE' else 4}f}" if name in means else "" for name in measures]
        minutes = f"{sum(fit['seconds'] or 0 for fit in fits) / 60:.1f}"
        folds = ", ".join(f"{count} {state}" for state, count in states.items())
        rows.append([stage, folds, *shown, minutes, fits[0]["backbone"]])
    combiner = result["combiner"]
    lines = [
        f"data {result['data']}: {result['photographs']} photographs of {result['people']} people; folds {result['folds_hash']}",
        *result["further"],
        "",
        _table(rows, ["stage", "folds", *measures, "minutes", "backbone"]),
        *(["", "Scores are means over the folds fitted, each on the people that it held out."] if measures else []),
        "",
        f"combiner: {combiner['state']}"
        + (f" ({combiner['way']}, nested macro-F1 {_interval(combiner['score'])})" if combiner.get("way") else ""),
    ]
    return "\n".join(lines + [f"Next: {command}" for command in result["next"]])


def _measure(stage: str, name: str) -> str:
    """What a stage's measure is called beside those of other stages."""
    if name.endswith("mae"):
        return "age MAE"
    return name if " " in name else f"{stage.rstrip('-0123456789')} {name}"


if __name__ == "__main__":
    sys.exit(main())

"""`check`: count the images, people and classes of a dataset; list every bad row and file with its reason."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facecade import shipped
from facecade.base.program import command as command_line
from facecade.commands import options
from facecade.commands.command import Command, say_next
from facecade.report.text import columns

if TYPE_CHECKING:
    from facecade.faces.reading import Reading
    from facecade.report.check import Checked

UNLABELLED = "unlabelled: can be predicted, not trained on"


@click.command("check", cls=Command)
@click.argument("data", type=options.DataPath())
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["training", "prediction"]),
    help="training: report everything that fit-stage all would refuse.  [default: training if there are labels]",
)
@click.option("--recipe", type=options.Shipped("recipe"), help="Recipe that you will train.  [default: cpu]")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe, for example folds=3."
)
@options.reading
@options.SAME_PERSON
@click.option(
    "--write-pairs",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the people who share images to a new CSV. Complete it and give it as --same-person.",
)
@options.JSON
@options.WORKERS
def command(
    data: Path,
    purpose: str | None,
    recipe: Path | None,
    settings: tuple[str, ...],
    reading: Reading,
    same_person: tuple[Path, ...],
    write_pairs: Path | None,
    as_json: bool,
    workers: int,
) -> None:
    """Count images, people and classes; list every problem.

    DATA is a folder with train.csv or info.csv and images/, a manifest, a folder for each class, a folder of images
    or one image. Bad rows and files are listed with the reason. People who share images, as equal files or near-duplicates, are bad too:
    they may be one person under two ids. Everything that fit-stage would refuse is also bad, such as too few people for the folds.
    Exits with 1 if anything is bad.

    \b
    Example:
      python cli.py check DATA
    """
    from facecade.faces.problems import map_hint
    from facecade.faces.shared_images import advice
    from facecade.report.check import check_source

    checked = check_source(data, workers, same_person, write_pairs, reading)
    stages = _check_training(checked, recipe, settings, purpose == "training") if purpose != "prediction" else []
    click.echo(json.dumps(checked.json(), indent=2) if as_json else _check_text(checked))
    if maps := map_hint(checked.problems):
        say_next(f"if that is meant: {maps}")
    if checked.pairs:
        say_next(advice(write_pairs))
    if checked.problems or checked.pairs:
        raise click.exceptions.Exit(1)
    if not stages:
        say_next(command_line(f"infer {shlex.quote(str(data))}"))
        return
    chosen = ["--recipe", shipped.name_of("recipe", recipe)] if recipe else []
    chosen += [word for setting in settings for word in ("--set", setting)]
    words = [
        "fit-stage",
        *stages,
        options.data_words(data, reading, same_person),
        *([shlex.join(chosen)] if chosen else []),
    ]
    say_next(command_line(" ".join(words)))


def _check_training(checked: Checked, recipe: Path | None, settings: tuple[str, ...], all_stages: bool) -> list[str]:
    """Add what `fit-stage` would refuse, and what it would note.

    Args:
        all_stages: whether every stage of the recipe is to be trained; else some are enough.

    Returns:
        The stages that can be trained, as `fit-stage` takes them; none of data without labels.
    """
    from facecade.faces.problems import Problem
    from facecade.recipe_file import override, parse, read_toml
    from facecade.runs.prepare import DEFAULT_RECIPE
    from facecade.runs.trainable import trainable

    parsed = parse(override(read_toml(recipe or shipped.find("recipe", DEFAULT_RECIPE)), settings, []))
    if not checked.source.labelled:
        if all_stages and not checked.problems:  # else the labels may only be wrong
            checked.problems.append(Problem(str(checked.data), UNLABELLED))
        return []
    result = trainable(checked.table, parsed)
    name = recipe.stem if recipe else DEFAULT_RECIPE
    checked.notes.append(
        f"for training with {parsed.folds} folds, as recipe {name} has"
        + ("" if recipe or settings else "; another: --recipe, --set folds=N")
    )
    checked.notes += result.notes
    checked.problems += [Problem("training", reason) for reason in result.refused]
    if not result.refused:
        for stage, reason in result.stages.items():
            if all_stages:
                checked.problems.append(Problem(f"stage {stage}", reason, kind=stage))
            else:
                checked.notes.append(f"stage {stage} cannot be trained: {reason}")
    return [stage for stage in parsed.stages if stage not in result.stages] if result.stages else ["all"]


def _check_text(checked: Checked) -> str:
    result = checked.json()
    lines = [f"{result['layout']}: {result['images']} images of {result['people']} people"]
    if result["classes"]:
        rows = [[str(c["class"]), c["name"], str(c["images"]), str(c["people"])] for c in result["classes"]]
        lines += ["", columns(rows, ["class", "meaning", "images", "people"]), ""]
    elif not result["labelled"] and not result["problems"]:
        lines.append(UNLABELLED)
    lines += [f"note: {text}" for text in result["notes"]]
    lines += [f"bad: {text}" for text in checked.lines()]
    lines.append(f"{len(result['problems'])} problem(s)" if result["problems"] else "no problems")
    return "\n".join(lines)

"""The part of `infer` that predicts a listing: its options, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from facecade.base.machine import is_ray
from facecade.base.place import Place
from facecade.commands.command import say_next

if TYPE_CHECKING:
    from facecade.base.machine import Machine

Function = TypeVar("Function", bound=Callable[..., Any])

ONLY_LISTING = ("shards", "shard", "shard_rows", "executor", "embeddings", "merge", "dry_run", "allow_http")
"""Parameters that mean something for a listing alone."""


def _executor(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None or is_ray(value):
        return value
    raise click.BadParameter(f"'{value}' is none; choose ray, ray://HOST:PORT or ray://auto")


def options(function: Function) -> Function:
    """The options of a listing."""
    result: Any = function
    for option in (
        click.option("--allow-http", is_flag=True, help="Listing: also fetch http:// and https:// URLs."),
        click.option(
            "--merge", is_flag=True, help="Listing: write submission.csv from all parts, in the order of the listing."
        ),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Listing: predict a few hundred photographs, print hours and bytes for all, write no parts.",
        ),
        click.option("--embeddings", is_flag=True, help="Listing: also write the networks' embeddings, as float16."),
        click.option(
            "--executor",
            callback=_executor,
            metavar="ray[://ADDRESS]",
            help="Listing: deal the shards to actors of Ray, one for each GPU or machine.",
        ),
        click.option(
            "--shard-rows",
            type=click.IntRange(1, 1_000_000),
            default=10_000,
            show_default=True,
            help="Listing: rows of a shard, which become one part.",
        ),
        click.option(
            "--shard",
            type=click.IntRange(0),
            help="Listing: this process's number, from 0 to N-1; it takes every N-th shard.",
        ),
        click.option("--shards", type=click.IntRange(1), metavar="N", help="Listing: processes that share the shards."),
    ):
        result = option(result)
    return cast("Function", result)


def run(
    artifacts: Path, listing: Place, output: Place, machine: Machine, given: Mapping[str, Any], as_json: bool
) -> None:
    """Predict a listing, merge its parts, or print the cost.

    Args:
        given: parameters of the command that `shards.ListingOptions` has too, and those of ONLY_LISTING.
    """
    shards, shard = given["shards"] or 1, given["shard"]
    if shard is not None and not given["shards"]:
        raise click.UsageError("--shard needs --shards N, the number of processes")
    if given["shards"] and shard is None and not given["dry_run"]:
        raise click.UsageError(f"--shards {shards} needs --shard K, this process's number, 0 to {shards - 1}")
    if shard is not None and shard >= shards:
        raise click.UsageError(f"--shard {shard} is not below --shards {shards}: numbers begin at 0")
    if given["merge"] and given["dry_run"]:
        raise click.UsageError("--merge and --dry-run: give one of them")

    try:
        from facecade.inference.shards import ListingOptions, ListingRun
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        from facecade.base.errors import FacecadeError
        from facecade.base.program import install

        raise FacecadeError("parts are Parquet, for which a package is missing", install("parquet")) from None

    names = ("shard_rows", "faces", "abstain", "ensemble", "embeddings", "allow_missing", "allow_http", "overwrite")
    listing_run = ListingRun(
        artifacts, listing, output, machine, ListingOptions(shards, shard or 0, **{name: given[name] for name in names})
    )
    if given["merge"]:
        from facecade.inference.merge import merge

        summary = merge(listing_run)
        text = f"photographs: {summary['images']:,}; parts: {summary['parts']:,}\n{summary['submission']}"
    elif given["dry_run"]:
        summary = listing_run.cost(_processes(given["executor"], machine, shards))
        text = cost_text(summary)
    else:
        deal = None
        if given["executor"]:
            from facecade.inference.ray_actors import RayActors

            deal = RayActors(given["executor"])
        summary = listing_run.infer(deal)
        text = infer_text(summary)
    click.echo(json.dumps(summary, indent=2) if as_json else text)
    if summary.get("missing") == 0:
        say_next(f"{listing_run.command} --merge")


def _processes(executor: str | None, machine: Machine, shards: int) -> int:
    """How many processes will share the work."""
    if not executor:
        return shards
    from facecade.inference.ray_actors import RayActors

    return len(RayActors(executor).resources(machine))


def cost_text(cost: Mapping[str, Any]) -> str:
    """What `--dry-run` prints."""
    flags = ", ".join(f"{name} {count}" for name, count in cost["flags"].items()) or "none"
    count = cost["processes"]
    others = f"by {count} processes, each on a machine or GPU like this" if count > 1 else "by one process"
    return "\n".join(
        [
            f"photographs: {cost['images']:,}; parts: {cost['parts']:,}",
            f"speed: {cost['images_per_second']:g} photographs/s here by {cost['engine']}, measured on {cost['measured']};"
            f" flagged: {flags}",
            f"time: {duration(cost['hours'])} {others}",
            f"output: {size(cost['bytes'])}",
        ]
    )


def infer_text(summary: Mapping[str, Any]) -> str:
    """What a prediction of shards prints."""
    flags = ", ".join(f"{name} {count}" for name, count in summary["flags"].items()) or "none"
    there = summary["parts"] - summary["missing"]
    done = f"photographs: {summary['images']:,}; flagged: {flags}; {summary['seconds']:.0f} s by {summary['engine']}\n"
    return f"{done if summary['written'] else ''}{there:,} of {summary['parts']:,} parts are in {summary['output']}"


def duration(hours: float) -> str:
    """Hours as text."""
    return f"{hours:,.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes" if hours >= 1 / 60 else "below a minute"


def size(count: int) -> str:
    """Bytes as text."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"

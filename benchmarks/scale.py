"""Many machines, as far as one can show them: fits by Ray, millions of photographs, and what is lost; write benchmarks/SCALE.md.

    python benchmarks/scale.py

`--only PART` measures some parts again; the page keeps the rows of the others, each with its commit, from benchmarks/scale.json.
The part `hosts` needs root, `ip` (apt-get install iproute2) and network namespaces. Nothing here needs another machine, and no
process talks to one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.scaling import costs, fits, listings, paper
from benchmarks.steps import ROOT, commit, machine
from benchmarks.tables import commit_of, tables
from facecade.base.artifact import write_text

MEASURED = ROOT / "benchmarks/scale.json"

PAGE = ROOT / "benchmarks/SCALE.md"

INFERENCE = ROOT / "benchmarks/INFERENCE.md"

ROWS = 20_000

REQUIRED_RATE = 0.9
REQUIRED_GROWTH = 1.1

REAL_NETWORKS = "artifacts/quick"
"""Networks of benchmarks/INFERENCE.md that 10⁸ photographs are calculated with."""


@dataclass(frozen=True)
class Part:
    """What a part measured, where and at which commit. load: how many processes wanted a core before the
    command began."""

    result: Any
    commit: str
    machine: str
    load: float | None = None

    @property
    def origin(self) -> str:
        """Of its rows, in words."""
        load = "not recorded" if self.load is None else f"{self.load:.1f}"
        return f"commit {self.commit} (load of the machine before: {load})"


def parts(work: Path, rows: int) -> dict[str, Callable[[], Any]]:
    """What measures each part, by its name."""
    return {
        **{name: partial(measure, work) for name, measure in fits.PARTS.items()},
        "throughput": partial(listings.throughput, work, rows),
        "killed": partial(listings.killed, work, rows),
        "costs": partial(costs.measure, work, rows),
    }


NAMES = tuple(parts(Path(), 0))


@click.command()
@click.option(
    "--work", type=click.Path(path_type=Path), default=ROOT / "artifacts/scale", help="Folder to work in; not in /tmp."
)
@click.option("--rows", type=click.IntRange(4096), default=ROWS, show_default=True, help="Rows of the listing.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Parts to measure.")
@click.option("--trial", is_flag=True, help="Print what was measured, and write no page.")
def main(work: Path, rows: int, only: tuple[str, ...], trial: bool) -> None:
    """Measure fits and listings on several raylets, hosts and processes, and write down what happened."""
    work = work.absolute()
    if work.is_relative_to("/tmp"):
        raise click.UsageError(f"--work {work}: each host has a /tmp of its own")
    for folder in ("shared", "hidden", "parts"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    measured_at, load = commit(), round(os.getloadavg()[0], 2)  # before this benchmark changes its files, and works
    for name, measure in parts(work, rows).items():
        if only and name not in only:
            continue
        click.echo(name, err=True)
        part = Part(measure(), measured_at, machine(), load)
        if trial:
            click.echo(json.dumps(part.result, indent=1))
        else:
            everything = {each: asdict(one) for each, one in {**read(), name: part}.items()}
            write_text(MEASURED, json.dumps(everything, indent=1) + "\n")
    if not trial and set(measured := read()) == set(NAMES):
        write_text(PAGE, page(measured))
        click.echo(PAGE)


def read() -> dict[str, Part]:
    """What was measured so far."""
    return {name: Part(**part) for name, part in json.loads(MEASURED.read_text()).items()} if MEASURED.exists() else {}


def page(measured: Mapping[str, Part]) -> str:
    """The page's Markdown."""
    machines = dict.fromkeys(part.machine for part in measured.values())
    throughput = measured["throughput"].result
    return f"""# Many machines, many photographs

Machine: {"; ".join(machines)}. Written by `python benchmarks/scale.py`; `--only PART` measures a part again. No other machine took part: raylets,
hosts and processes share these cores. So this page shows that the results are the same and that nothing is lost, and what Ray and shards cost;
not how a real network behaves.

{_bars(measured)}

## Fits

The {_fits_of(measured)} fits of `recipes/demo.toml` on {fits.PEOPLE} drawn people. *Other bytes* are weights, outputs and the sample table that differ from those of one process.
*Overhead* is the time more than two processes, for each fit.

{_fits_table(measured["fits"])}

Part `fits`, {measured["fits"].origin}.

## A raylet, the command or a host is lost

An epoch is *trained twice* if its line of the learning curve is written again: what was lost is the begun epoch alone. *Ended before* are the fits that had ended when something was
killed; none of them may be fitted again.

{_lost_table([*measured["lost"].result, *_host_rows(measured["hosts"])])}

{_hosts_text(measured["hosts"])}

Parts `lost`, {measured["lost"].origin}; `hosts`, {measured["hosts"].origin}.

## Photographs in shards

{throughput["rows"][0]["rows"]:,} rows that name the same few hundred drawn faces, a small demo run, OpenVINO with one thread, shards of {listings.SHARD_ROWS} rows; each process or actor has a core of its own.
The engine alone, without listing, shards and parts, predicts {throughput["engine"]:.1f} photographs a second on one core, and {" and ".join(f"{each:.1f}" for each in throughput["engines"])} on {len(throughput["engines"])} cores at once.
Rates leave out start and end. *Growth* is the peak memory against the peak of the first third of the time.

{_throughput_table(throughput)}

{_killed_table(measured["killed"].result)}

Parts `throughput`, {measured["throughput"].origin}; `killed`, {measured["killed"].origin}. Rates are against the engine alone; with all cores busy, a core may be slower.

## What a photograph costs beside the networks

{_costs_table(measured["costs"].result)}

Part `costs`, {measured["costs"].origin}. One thread, processor time.

{paper_text(measured)}
"""


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def _bars(measured: Mapping[str, Part]) -> str:
    """What was required."""
    fitted = [*measured["fits"].result, *measured["lost"].result, *_host_rows(measured["hosts"])]
    throughput = measured["throughput"].result
    listed = [*throughput["rows"], *measured["killed"].result]
    slowest = min(_share(row, throughput) for row in throughput["rows"])
    growth = max(row["growth"] for row in listed)
    outside = {each for row in [*fitted, *listed] for each in row["outside"]}
    counts = [
        ("files of fits with other bytes", sum(len(row["other_bytes"]) for row in fitted)),
        ("epochs trained twice", sum(row["epochs_twice"] for row in fitted)),
        ("fits that had ended, and were fitted again", sum(row["finished_again"] for row in fitted)),
        ("rows of the listing lost or doubled", sum(row["lost"] + row["doubled"] for row in listed)),
        ("parts with other bytes", sum(len(row["other_bytes"]) for row in listed)),
        ("sockets to or for other machines", len(outside)),
    ]
    rows = [[what, str(count), "0", _met(count == 0)] for what, count in counts]
    rows.append(
        [
            "photographs a second on each core, against the engine alone (slowest)",
            f"{slowest:.2f}",
            f"≥ {REQUIRED_RATE}",
            _met(slowest >= REQUIRED_RATE),
        ]
    )
    rows.append(
        ["growth of memory (largest)", f"{growth:.2f}", f"≤ {REQUIRED_GROWTH}", _met(growth <= REQUIRED_GROWTH)]
    )
    text = table(["what", "measured", "bar", "met"], rows)
    return text + "".join(f"\n\n* socket: `{each}`" for each in sorted(outside))


def _met(yes: bool) -> str:
    return "yes" if yes else "no"


def _share(row: Mapping[str, Any], throughput: Mapping[str, Any]) -> float:
    """Photographs a second on each core, against the engine alone."""
    return float(row["rate"] / row["processes"] / throughput["engine"])


def _fits_of(measured: Mapping[str, Part]) -> int:
    return int(measured["fits"].result[0]["fits"])


def _host_rows(part: Part) -> list[dict[str, Any]]:
    return part.result if isinstance(part.result, list) else []


def _fits_table(part: Part) -> str:
    rows = [
        [
            row["what"],
            str(row["fits"]),
            f"{row['seconds']:.1f} s",
            f"{row['overhead']:+.2f} s",
            str(len(row["other_bytes"])),
        ]
        for row in part.result
    ]
    return table(["by", "fits", "time", "overhead a fit", "other bytes"], rows)


def _lost_table(lost: list[dict[str, Any]]) -> str:
    rows = [
        [
            row["what"],
            *(str(row[name]) for name in ("fits", "epochs", "epochs_twice")),
            f"{row['finished_again']} of {row['finished_before']}",
            str(row["begun_before"]),
            str(len(row["other_bytes"])),
            f"{row['seconds']:.1f} s",
        ]
        for row in lost
    ]
    head = ["what", "fits", "epochs", "trained twice", "of those ended before, again", "begun before"]
    return table([*head, "other bytes", "time"], rows)


def _hosts_text(part: Part) -> str:
    about = (
        "*Hosts* are network namespaces joined by veth, with processes, names and temporary folders of their own. They share the run's folder; the photographs\n"
        "are on the first alone. This part needs root and iproute2 (`apt-get install iproute2`). "
    )
    if isinstance(part.result, str):
        return f"{about}**Not run:** {part.result}."
    first = part.result[0]
    return f"{about}Fits ran on {' and '.join(first['hosts'])}. Copies of the crops on the disk of each: {', '.join(first['copies_of_crops'])}."


def _throughput_table(throughput: Mapping[str, Any]) -> str:
    rows = [
        [
            row["what"],
            f"{row['rate']:.1f}",
            f"{_share(row, throughput):.2f}",
            f"{row['seconds']:.0f} s",
            str(row["lost"] + row["doubled"]),
            f"{len(row['other_bytes'])} of {row['parts']}",
            f"{row['peak_mib']:,} MiB",
            f"{row['growth']:.2f}",
        ]
        for row in throughput["rows"]
    ]
    head = [
        "by",
        "photographs/s",
        "of the engine, each core",
        "time in all",
        "rows lost or doubled",
        "parts with other bytes",
    ]
    return table([*head, "peak memory", "growth"], rows)


def _killed_table(killed: list[dict[str, Any]]) -> str:
    rows = [
        [
            row["what"],
            f"{row['rows']:,}",
            str(row["lost"]),
            str(row["doubled"]),
            f"{len(row['other_bytes'])} of {row['parts']}",
            f"{row['seconds']:.0f} s",
            f"{row['peak_mib']:,} MiB",
            f"{row['growth']:.2f}",
        ]
        for row in killed
    ]
    return table(["what", "rows", "lost", "doubled", "parts with other bytes", "time", "peak memory", "growth"], rows)


def _costs_table(measured: Mapping[str, Any]) -> str:
    rows = []
    for each in measured["listing"]:
        what = f"a row of a listing in {'Parquet' if each['kind'] == 'parquet' else 'CSV'}, of {each['rows']:,}"
        rows.append([f"{what}: read and dealt", _micro(each["read"]), f"{each['bytes'] / each['rows']:.0f}"])
        rows.append([f"{what}: passed over by a process of many", _micro(each["passed"]), ""])
    request = measured["request"]
    what = f"a GET on this machine without TLS, one connection (of {request['requests']:,})"
    rows.append([what, _micro(request["seconds"]), f"{request['bytes']:,}"])
    for each in measured["decoding"]:
        height, width = each["size"]
        rows.append([f"decoding a JPEG of {width}×{height}", _micro(each["seconds"]), f"{each['bytes']:,}"])
    part = measured["part"]
    rows.append([f"a row of a part of {part['rows']:,}: written", _micro(part["seconds"]), f"{part['bytes']:.0f}"])
    return table(["what", "µs", "bytes"], rows)


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.2f}"


def real_networks() -> tuple[dict[str, float], str]:
    """Seconds of a core that finding a face and the networks take, of benchmarks/INFERENCE.md, and its commit."""
    text = INFERENCE.read_text()
    found = next(
        each for each in tables(text) if each.heading.startswith(f"`{REAL_NETWORKS}`") and "what" in each.rows[0]
    )
    cores = int(text.split("Machine: ")[1].split(" cores")[0])
    return paper.networks_of(found.rows, cores), commit_of(text)


def paper_text(measured: Mapping[str, Part]) -> str:
    """10⁸ photographs, calculated."""
    given, known = paper.Assumptions(), measured["costs"].result
    networks, at = real_networks()
    one = paper.photograph(known, networks["all folds"], given)
    rows = [[each.what, _hours(each.hours), each.halved] for each in paper.bounds(one, given)]
    csv = paper.photograph(known, networks["all folds"], given, listing=1)
    cases = [
        ("as above", one),
        ("one network of each stage (`--ensemble first`)", paper.photograph(known, networks["one network"], given)),
        ("photographs of 4000×3000", paper.photograph(known, networks["all folds"], given, size=1)),
        (
            "the small networks of this page, no detector",
            paper.photograph(known, _small_networks(measured, known), given),
        ),
    ]
    twice = []
    for what, case in cases:
        for machines in (given.machines, 2 * given.machines):
            with_these = paper.Assumptions(machines=machines)
            slowest = max(paper.bounds(case, with_these), key=lambda each: each.hours)
            of_machines, of_requests = paper.dollars(case, with_these)
            price = f"{of_machines:,.0f} + {of_requests:,.0f}"
            twice.append([what, str(machines), _hours(slowest.hours), slowest.what, price])
    reading = next(each.hours for each in paper.bounds(one, given) if each.what.startswith("listing"))
    passed = known["listing"][1]["passed"] * paper.PHOTOGRAPHS / 3600
    return f"""## On paper: {paper.PHOTOGRAPHS:,} photographs

On {given.machines} machines with {given.cores} cores like these, with the networks of `{REAL_NETWORKS}` (`benchmarks/INFERENCE.md`, commit {at}) and JPEGs of
512×384. The command calculates this from the rows above. **Assumed, not measured:** a network of {given.gigabits:g} Gbit/s for each machine; {given.latency * 1000:g} ms to the first byte
of a request, {given.workers} threads of a machine that fetch; photographs under {given.prefixes} prefixes of a store that answers {given.requests_a_second:,.0f} requests a second for each; a store's client that takes
{given.request_factor:g} times the processor time of the GET above; {given.core_hour:g} $ for a core and hour; {given.thousand_gets:g} $ for 1,000 requests.

{table(["bound", "hours", "half of it takes"], rows)}

Work on the same cores adds up; the other bounds are met meanwhile. A listing in CSV takes {_hours(next(each.hours for each in paper.bounds(csv, given) if each.what.startswith("listing")))} hours to read and deal; each process of many passes
over it in {_hours(passed)} hours, twice, before its last shard.

What it costs to be twice as fast, and what then holds it up:

{table(["with", "machines", "hours", "the largest bound", "$: machines + requests"], twice)}

As long as cores are the bound, twice the machines take half the time for the same price. One command that deals a Parquet listing to Ray could keep
{paper.machines_for(one, given, reading):,} such machines busy; beyond that, and beyond a prefix's requests, use `--shards` and several prefixes.
"""


def _small_networks(measured: Mapping[str, Part], known: Mapping[str, Any]) -> float:
    """Of the engine that this page measured, without decoding a photograph: its drawn faces take less than the smallest one here."""
    return max(0.0, 1 / float(measured["throughput"].result["engine"]) - float(known["decoding"][0]["seconds"]))


def _hours(hours: float) -> str:
    return f"{hours:.3g}"


if __name__ == "__main__":
    main()

"""Make the released cascade, measure it, and write benchmarks/RELEASED.md and the measured part of its model card.

    python benchmarks/released.py make ../shared/data/faces/train ../shared/data/extra
    python benchmarks/released.py report ../shared/data/faces/eval ../shared/data/extra
    python benchmarks/released.py few-shot ../shared/data/faces/eval

A tenth of the extra people is held out, by a hash of the person's id, and never trained on. Every command is one of `cli.py`; a step
that is done is not run again, so an interrupted call resumes.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scored import COLUMNS, people_of, scored, scores_of, write_to_predict
from steps import ROOT, Steps, commit, into, kept, machine, marked

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_csv
from facecade.base.errors import FacecadeError
from facecade.base.released import RELEASED
from facecade.faces.labels import AXES, decode
from facecade.inference.exported import MANIFEST, Exported
from facecade.records import Reliability, read_combiner_record
from facecade.report.calibration import BINS
from facecade.report.groups import group_means
from facecade.report.metrics import Interval, bootstrap_interval, bootstrap_weights, sum_by_person
from facecade.report.results import SCORES, score_interval, table
from facecade.report.text import interval

HELD_OUT = 10
"""One of so many extra people is held out."""

MAX_MIB = 25
RISKS = (0.1, 0.2, 0.3)
STARTS = 5
"""Processes whose time is measured; the median counts."""

FEW = 100
"""People of a run of the few-shot table."""

MARK, NOT_MEASURED = "released", "Not measured yet: `python benchmarks/released.py few-shot`."
"""Of what is replaced in the model card, and of the few-shot table on the page."""

PORTRAIT = ROOT / "docs/portrait.jpg"

TARGETS = {
    "macro-F1 on eval": (">=", 0.651),
    "gender accuracy, held-out extra people": (">=", 0.94),
    "age MAE in years, held-out extra people": ("<=", 6.5),
    "share of classes that float16 keeps, eval": (">=", 0.999),
    "MiB": ("<=", MAX_MIB),
    "first prediction / ONNX Runtime and networks": ("<=", 3),
}

ARTIFACTS = click.option(
    "--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/released"), show_default=True
)
TARGET = click.option("--target", type=click.Path(path_type=Path), default=Path("facecade/released"), show_default=True)
SETTINGS = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe.")
DATA = click.Path(path_type=Path, exists=True)


def is_held_out(person: str) -> bool:
    """Whether an extra person is never trained on; the same on every machine."""
    return _number(person) % HELD_OUT == 0


def _number(person: str) -> int:
    """Of a person, by a hash of the id."""
    return int(hashlib.sha256(person.encode()).hexdigest(), 16)


def split_extra(extra: Path, folder: Path) -> None:
    """Write extra.csv, which is trained on, and held-out.csv (without labels) with held-out-labels.csv."""
    rows = people_of(extra)
    held_out = rows["person"].map(is_held_out)
    write_csv(folder / "extra.csv", rows[~held_out])
    write_to_predict(folder, "held-out", rows[held_out])


def fit(steps: Steps, data: Path, folder: Path, recipe: Path, settings: Sequence[str]) -> Path:
    """Fit a run on `data` and the folder's extra.csv; the run."""
    run = folder / "run"
    changed = [word for setting in settings for word in ("--set", setting)]
    extra = ["--extra", folder / "extra.csv", "--recipe", recipe]
    steps("fit-stage", "fit-stage", "all", "--resume", "--data", data, *extra, "--artifacts", run, *changed)
    steps("fit-meta", "fit-meta", "--artifacts", run)
    return run


def publish(exported: Path, target: Path, private: Sequence[Path]) -> None:
    """Copy the files that an export's manifest names to the released cascade's folder, the manifest last.

    Args:
        private: paths of this machine that no file may hold.

    Raises:
        FacecadeError: it is too large, or a file holds a path of this machine.
    """
    names = [*Exported.open(exported).manifest.files, MANIFEST]
    contents = {name: (exported / name).read_bytes() for name in names}
    size = sum(map(len, contents.values())) / 2**20
    if size > MAX_MIB:
        raise FacecadeError(f"{exported} has {size:.1f} MiB, more than {MAX_MIB}", "use smaller networks")
    for name, content in contents.items():
        for path in private:
            if str(path).encode() in content:
                raise FacecadeError(f"{exported / name} holds the path {path}", "give relative paths")
    (target / MANIFEST).unlink(missing_ok=True)
    for part in ("networks", "detector", "combiner"):
        shutil.rmtree(target / part, ignore_errors=True)
    for name, content in contents.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)


def infer(steps: Steps, name: str, data: Path, exported: Path, folder: Path) -> Path:
    """Predict with an export, by ONNX Runtime; predictions.csv."""
    words = ["--artifacts", exported, "--engine", "onnx", "--output", folder / name, "--overwrite"]
    steps(f"infer {name}", "infer", data, *words)
    return folder / name / "predictions.csv"


def gaps_table(rows: pd.DataFrame, kinds: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str]) -> str:
    """Scores of the groups of each kind, and below them the widest difference in each score."""
    true, predicted = decode(rows["label"].to_numpy()), decode(rows["prediction"].to_numpy())
    values = {f"{axis} accuracy": (true[i] == predicted[i]).astype(float) for i, axis in enumerate(AXES)}
    values["age error"] = np.abs(rows["years"] - rows["age"]).to_numpy()
    values = {name: values[name] for name in names}
    lines = []
    for kind, groups in kinds.items():
        present = {name: each for name, each in groups.items() if each.any()}
        means, gaps = group_means(values, present, rows["person"].to_numpy())
        for name, each in means.items():
            count = f"{int(present[name].sum()):,}"
            lines.append([kind, name, count, *(score_interval(s, each[s].json(), 3) for s in values)])
        if gaps:
            shown = [f"{score_interval(gap.score, gap.difference.json(), 3)} ({gap.worse})" for gap in gaps]
            lines.append([kind, "*difference (behind)*", "", *shown])
    return table(["by", "group", "images", *values], lines)


def groups_of(rows: pd.DataFrame, axes: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Rows of each gender, band and mask state."""
    true = dict(zip(AXES, decode(rows["label"].to_numpy()), strict=True))
    return {axis: {name: true[axis] == value for value, name in enumerate(AXES[axis])} for axis in axes}


def ratio(rows: pd.DataFrame, part: np.ndarray, whole: np.ndarray) -> Interval:
    """The share of rows in `part` among those in `whole`, with its interval over people."""
    sums = sum_by_person(rows["person"].to_numpy(), np.column_stack([part, whole]).astype(float))
    drawn = bootstrap_weights(len(sums)) @ sums
    with np.errstate(invalid="ignore"):
        return bootstrap_interval(part.sum() / whole.sum(), drawn[:, 0] / drawn[:, 1])


def calibration_error(rows: pd.DataFrame, column: str) -> Interval:
    """Expected calibration error of the confidences in a column, with its interval over people."""
    confidence, right = rows[column].to_numpy(), (rows["label"] == rows["prediction"]).to_numpy()
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)[:, None] == np.arange(BINS)
    sums = sum_by_person(rows["person"].to_numpy(), np.hstack([bins * (confidence - right)[:, None], bins]))

    def error(total: np.ndarray) -> np.ndarray:
        return np.abs(total[..., :BINS]).sum(-1) / total[..., BINS:].sum(-1)

    return bootstrap_interval(float(error(sums.sum(0))), error(bootstrap_weights(len(sums)) @ sums))


def abstain_table(sets: Mapping[str, pd.DataFrame], reliability: Reliability) -> str:
    """What is answered, and how much of it is wrong, at each risk; calibration errors below."""
    lines = []
    for risk in RISKS:
        for name, rows in sets.items():
            answered = rows["confidence"].to_numpy() >= reliability.sure_from(risk)
            wrong = answered & (rows["label"] != rows["prediction"]).to_numpy()
            everything = np.ones(len(rows), bool)
            error = interval(ratio(rows, wrong, answered).json(), 3) if answered.any() else "nothing is answered"
            lines.append([f"{risk:.0%}", name, interval(ratio(rows, answered, everything).json(), 3), error])
    return table(["`--abstain`", "people", "answered", "wrong among the answers"], lines)


def start_times(target: Path) -> tuple[float, float]:
    """Seconds of a new process: to import ONNX Runtime and load all networks; and to predict a photograph. Medians; files are in the
    system's cache."""
    load = """
import sys, pathlib, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
for file in sorted(pathlib.Path(sys.argv[1]).rglob("*.onnx")):
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
"""
    predict = ["cli.py", "infer", str(PORTRAIT), "--artifacts", str(target), "--engine", "onnx"]
    commands = [[sys.executable, "-c", load, str(target)], [sys.executable, *predict]]
    seconds: list[list[float]] = [[], []]
    for _ in range(STARTS + 1):
        for times, words in zip(seconds, commands, strict=True):
            started = time.monotonic()
            subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
            times.append(time.monotonic() - started)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


def targets_table(measured: Mapping[str, float]) -> str:
    """What was asked for, and whether it is met."""
    lines = []
    for name, (sign, required) in TARGETS.items():
        met = measured[name] >= required if sign == ">=" else measured[name] <= required
        lines.append([name, f"{measured[name]:.4g}", f"{sign} {required:g}", "yes" if met else "**no**"])
    return table(["of", "measured", "required", "met"], lines)


def measured_part(sets: Mapping[str, pd.DataFrame], reliability: Reliability) -> str:
    """Scores, gaps and calibration, for the page and for the model card."""
    columns = {name: scores_of(rows) for name, rows in sets.items()}
    main = [[each, *(score_interval(each, of[each].json()) for of in columns.values())] for each in SCORES]
    drawn, held_out = sets.values()
    bare = drawn[groups_of(drawn, ["mask"])["mask"]["normal"]]
    both = pd.concat([bare, held_out], ignore_index=True)
    first = np.arange(len(both)) < len(bare)
    origins = {"origin": {"All-Age-Faces, bare": first, "UTKFace": ~first}}
    accuracies = [f"{axis} accuracy" for axis in AXES]
    errors = [
        [
            name,
            interval(calibration_error(rows, "probability").json()),
            interval(calibration_error(rows, "confidence").json()),
        ]
        for name, rows in sets.items()
    ]
    return f"""### Scores

{table(["score", *(f"{name}: {len(rows):,} images of {rows['person'].nunique():,} people" for name, rows in sets.items())], main)}

Macro-F1 is the mean over the classes that occur: on bare faces six of the eighteen.

### Gaps between groups

Both sides of each gap, and the difference between the best and the worst group; in brackets the group that is behind. The bootstrap
draws the same people for all groups.

On eval:

{gaps_table(drawn, groups_of(drawn, list(AXES)), [*accuracies, "age error"])}

On held-out people of the extra data, who wear no mask:

{gaps_table(held_out, groups_of(held_out, [axis for axis in AXES if axis != "mask"]), [*accuracies, "age error"])}

By origin, bare faces alone. The two sets also differ in ages, cameras and in how ages were found:

{gaps_table(both, origins, [*accuracies, "age error"])}

### Confidence and abstaining

{abstain_table(sets, reliability)}

Nothing is answered where no confidence promises the risk for new people. Expected calibration error ({BINS} bins), before and after
calibration on held-out people of the training data, which is left out where it does not help there. Noise only adds to this error, so an
interval may lie above its value:

{table(["people", "before", "after"], errors)}"""


def in_short(scores: Mapping[str, Mapping[str, Interval]]) -> str:
    """A sentence for README."""
    drawn, bare = scores.values()
    return f"""Measured on people whom it never saw: with drawn masks (eval) its macro-F1 is {score_interval("macro-F1", drawn["macro-F1"].json(), 3)}; on bare faces of
many origins its gender accuracy is {score_interval("gender accuracy", bare["gender accuracy"].json(), 3)} and its age error {score_interval("age MAE", bare["age MAE"].json())} years (`benchmarks/RELEASED.md`)."""


@click.group()
def main() -> None:
    """Make the released cascade, and measure it."""


@main.command()
@click.argument("train", type=DATA)
@click.argument("extra", type=DATA)
@click.option("--recipe", type=click.Path(path_type=Path), default=Path("recipes/released.toml"), show_default=True)
@ARTIFACTS
@TARGET
@SETTINGS
def make(train: Path, extra: Path, recipe: Path, artifacts: Path, target: Path, settings: tuple[str, ...]) -> None:
    """Train on TRAIN and nine tenths of the people of EXTRA; put the export into the package."""
    split_extra(extra, artifacts)
    steps = Steps(artifacts)
    run = fit(steps, train, artifacts, recipe, settings)
    steps("export float32", "export", artifacts / "float32", "--artifacts", run)
    steps("export", "export", artifacts / "export", "--artifacts", run, "--half")
    publish(artifacts / "export", target, [ROOT, train.resolve(), extra.resolve()])
    click.echo(target)


@main.command()
@click.argument("evaluated", type=DATA)
@click.argument("extra", type=DATA)
@ARTIFACTS
@TARGET
@click.option("--page", type=click.Path(path_type=Path), default=ROOT / "benchmarks/RELEASED.md")
def report(evaluated: Path, extra: Path, artifacts: Path, target: Path, page: Path) -> None:
    """Measure on EVALUATED and on the held-out people of EXTRA; write the page and the card's measured part."""
    split_extra(extra, artifacts)
    steps, exported = Steps(artifacts), Exported.open(target)
    labels = evaluated / "eval_labels.csv"
    drawn = scored(infer(steps, "eval", evaluated, target, artifacts), labels)
    full = scored(infer(steps, "eval float32", evaluated, artifacts / "float32", artifacts), labels)
    held_out = infer(steps, "held-out", artifacts / "held-out.csv", target, artifacts)
    sets = {"eval": drawn, "held-out extra people": scored(held_out, artifacts / "held-out-labels.csv")}
    loading, predicting = start_times(target)
    scores = {name: scores_of(rows) for name, rows in sets.items()}
    size = sum((target / file).stat().st_size for file in [*exported.manifest.files, MANIFEST]) / 2**20
    measured = {
        "macro-F1 on eval": scores["eval"]["macro-F1"].value,
        "gender accuracy, held-out extra people": scores["held-out extra people"]["gender accuracy"].value,
        "age MAE in years, held-out extra people": scores["held-out extra people"]["age MAE"].value,
        "share of classes that float16 keeps, eval": float((drawn["prediction"] == full["prediction"]).mean()),
        "MiB": size,
        "first prediction / ONNX Runtime and networks": predicting / loading,
    }
    part = measured_part(sets, read_combiner_record(exported.combiner).reliability)
    fitting = [
        [name, f"`{step['command']}`", f"{step['seconds'] / 60:.1f} min", f"{step['peak_mib']} MiB"]
        for name, step in steps.done.items()
    ]
    few = kept(page, MARK) if page.exists() else marked(MARK, NOT_MEASURED)
    page.write_text(f"""# The released cascade

Machine: {machine()}. Commit: {commit()}. Written by `python benchmarks/released.py report`. Intervals are 95 %, by bootstrap over
people. *Eval* has drawn masks (All-Age-Faces); the *held-out extra people* are a tenth of UTKFace's, bare, and nobody trained on them.

{targets_table(measured)}

The first prediction is that of a new process with the base install's engine, `python cli.py predict` on one photograph: {predicting:.2f} s. Importing ONNX Runtime and
loading the networks takes {loading:.2f} s. Both are medians of {STARTS}, with all files in the system's cache.

## Scores, gaps and confidence

{part}

## How it was made

{table(["step", "command", "wall time", "peak memory"], fitting)}

## Few people

{few}
""")
    if (target / "MODEL_CARD.md").exists():
        into(target / "MODEL_CARD.md", MARK, part)
    if target.resolve() == RELEASED.resolve():
        into(ROOT / "README.md", MARK, in_short(scores))
    click.echo(page)


STARTING_POINTS = {
    "ImageNet": [
        'stages.joint.backbone="tf_efficientnet_lite0"',
        "stages.joint.backbone_args={}",
        'stages.joint.weights="package"',
    ],
    "face weights": [],
    "the released cascade": ["stages.joint.weights=released"],
}
"""Settings of `quick` for each start of its joint network."""


def split_few(evaluated: Path, folder: Path) -> int:
    """Deal the people of eval to parts of `FEW`; for each part write few.csv, which is trained on, and others.csv (without labels) with
    others-labels.csv. The number of parts."""
    rows = pd.read_csv(evaluated / "eval_labels.csv", dtype={"person": str})
    rows["path"] = [str((evaluated / "images" / name).resolve()) for name in rows["ImageID"]]
    rows, by_hash = rows[COLUMNS], sorted(rows["person"].unique(), key=_number)
    parts = len(by_hash) // FEW
    for part in range(parts):
        few = rows["person"].isin(by_hash[part * FEW : (part + 1) * FEW])
        write_csv(folder / str(part) / "few.csv", rows[few])
        write_to_predict(folder / str(part), "others", rows[~few])
    return parts


@main.command("few-shot")
@click.argument("evaluated", type=DATA)
@click.option("--runs", type=click.IntRange(1), default=2, show_default=True, help="Runs for each start.")
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/few-shot"), show_default=True)
@TARGET
@click.option("--page", type=click.Path(path_type=Path), default=ROOT / "benchmarks/RELEASED.md")
@SETTINGS
def few_shot(evaluated: Path, runs: int, artifacts: Path, target: Path, page: Path, settings: tuple[str, ...]) -> None:
    """Fit `quick` on a hundred people of EVALUATED, whom the released cascade never saw, from three starts, and score all others. Each
    run has another hundred."""
    parts = min(runs, split_few(evaluated, artifacts))
    predicted = infer(Steps(artifacts), "as it is", evaluated, target, artifacts)
    scores = {"no training: the released cascade as it is": scores_of(scored(predicted, evaluated / "eval_labels.csv"))}
    for name, changes in STARTING_POINTS.items():
        rows = []
        for part in range(parts):
            data, folder = artifacts / str(part), artifacts / name.replace(" ", "-") / str(part)
            steps = Steps(folder)
            words = [word for change in [*changes, *settings] for word in ("--set", change)]
            begin = ["--data", data / "few.csv", "--recipe", "recipes/quick.toml", "--artifacts", folder / "run"]
            steps("fit-stage", "fit-stage", "all", "--resume", *begin, *words)
            steps("fit-meta", "fit-meta", "--artifacts", folder / "run")
            steps("infer", "infer", data / "others.csv", "--artifacts", folder / "run", "--output", folder / "others")
            rows.append(scored(folder / "others/predictions.csv", data / "others-labels.csv"))
        scores[f"`quick`, `joint` from {name}"] = scores_of(pd.concat(rows, ignore_index=True))
    lines = [[name, *(score_interval(each, of[each].json()) for each in SCORES)] for name, of in scores.items()]
    text = f"""`recipes/quick.toml` on {FEW} people of eval, scored on all others; {parts} runs for each start, each on other people. The released cascade was trained on none of these people. Scores are those of all runs' predictions together; the bootstrap draws people with
all predictions of them. Written at commit {commit()}.

{table(["", *SCORES], lines)}"""
    into(page, MARK, text)
    click.echo(text)


if __name__ == "__main__":
    main()

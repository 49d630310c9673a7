"""The commands fit-stage, fit-meta and infer as a person calls them, with good and bad input."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
from conftest import TINY, call, succeed
from PIL import Image
from safetensors.torch import load_file, save_file

from facecade.base.machine import Machine
from facecade.cli import main
from facecade.faces.reader import FaceCrop
from facecade.faces.words import prediction_in_words
from facecade.inference.cascade import RowPredictor
from facecade.inference.loading import cascade_of_run
from facecade.inference.stream import BatchOutputs
from facecade.records import Reliability
from facecade.runs.run import open_run

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = sorted(main.list_commands(click.Context(main)))


@pytest.fixture(scope="session")
def inferred(fitted: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `infer` on the drawn eval set."""
    output = tmp_path_factory.mktemp("inferred")
    succeed("infer", drawn / "eval", "--artifacts", fitted, "--engine", "torch", "--output", output)
    return output


def copy_run(fitted: Path, to: Path) -> Path:
    shutil.copytree(fitted, to, ignore=shutil.ignore_patterns(".lock"))
    return to


def test_submission_has_every_row_in_order(inferred: Path, drawn: Path) -> None:
    info = pd.read_csv(drawn / "eval/info.csv")
    submission = pd.read_csv(inferred / "submission.csv")
    assert list(submission.columns) == ["ImageID", "ans"]
    assert submission["ImageID"].tolist() == info["ImageID"].tolist()
    assert submission["ans"].between(0, 17).all()


def test_predictions_have_mask_gender_band_and_probabilities(inferred: Path) -> None:
    table = pd.read_csv(inferred / "predictions.csv", keep_default_na=False)
    probability = table[[f"p{label}" for label in range(18)]].to_numpy(float)
    assert abs(probability.sum(1) - 1).max() < 1e-3
    masks, genders, bands = ["wear", "incorrect", "normal"], ["male", "female"], ["<30", "30-59", ">=60"]
    for row in table.itertuples():
        assert row.ans == 6 * masks.index(row.mask) + 3 * genders.index(row.gender) + bands.index(row.band)
        assert float(row.confidence) == pytest.approx(probability[row.Index, row.ans], abs=1e-3)
        assert (
            min(row.age_if_male, row.age_if_female) - 0.01 <= row.age <= max(row.age_if_male, row.age_if_female) + 0.01
        )
    assert set(table["flags"]) <= {"", "unsure"}


def test_evaluate_scores_and_writes(inferred: Path, drawn: Path, tmp_path: Path) -> None:
    labels = drawn / "eval/eval_labels.csv"
    result = json.loads(succeed("evaluate", inferred / "submission.csv", labels, "--output", tmp_path, "--json"))
    assert result == json.loads((tmp_path / "evaluation.json").read_text())
    both = pd.read_csv(inferred / "submission.csv").merge(pd.read_csv(labels), on="ImageID")
    assert result["score"]["accuracy"]["value"] == pytest.approx((both["ans_x"] == both["ans_y"]).mean(), abs=1e-6)
    assert "age MAE" in result["score"] and result["people"] == 12
    assert "macro-F1" in succeed("evaluate", inferred / "predictions.csv", labels, "--output", tmp_path)


def test_evaluate_counts_people_only_where_labels_name_them(inferred: Path, drawn: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(pd.read_csv(drawn / "eval/eval_labels.csv")[["ImageID", "ans"]].to_csv(index=False))
    words = ["evaluate", inferred / "submission.csv", labels, "--output", tmp_path]
    result = call(*words)
    assert result.stdout.startswith("84 images, 95 % intervals over images\n") and "people" not in result.stdout
    assert "labels name no person" in result.stderr
    assert json.loads(succeed(*words, "--json"))["people"] is None
    named = succeed(*words[:2], drawn / "eval/eval_labels.csv", *words[3:])
    assert named.startswith("84 images of 12 people, 95 % intervals over people\n")


def test_the_same_seed_gives_the_same_bytes(fitted: Path, inferred: Path, drawn: Path, tmp_path: Path) -> None:
    """A new run with other worker counts: the same submission and predictions."""
    artifacts = tmp_path / "again"
    recipe = ["--recipe", "recipes/demo.toml", "--artifacts", artifacts, "--workers", 1]
    succeed("fit-stage", "all", "--data", drawn / "train", *recipe, *TINY)
    succeed("fit-meta", "--artifacts", artifacts)
    words = ["--engine", "torch", "--workers", 5]
    succeed("infer", drawn / "eval", "--artifacts", artifacts, "--output", tmp_path, *words)
    for name in ("submission.csv", "predictions.csv"):
        assert (tmp_path / name).read_bytes() == (inferred / name).read_bytes()


def test_prediction_does_not_depend_on_the_other_images(
    fitted: Path, inferred: Path, drawn: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(inferred / "predictions.csv", keep_default_na=False).set_index("ImageID")
    one = table.index[5]
    text = succeed("infer", drawn / "eval/images" / one, "--artifacts", fitted, "--output", tmp_path)
    assert f"{one}: {prediction_in_words(int(table.loc[one, 'ans']), float(table.loc[one, 'age']))}\n" in text
    single = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False).set_index("ImageID")
    assert single.loc[one].equals(table.loc[one])


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has written the file."""
    deadline = time.monotonic() + 180
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()


def test_killed_run_resumes_to_the_same_weights(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    """SIGKILL between the stages, then --resume: the weights equal those of an uninterrupted run."""
    artifacts = tmp_path / "killed"
    command = [sys.executable, "cli.py", "fit-stage", "all", "--data", drawn / "train", "--recipe", "recipes/demo.toml"]
    command += ["--artifacts", artifacts, *TINY]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(artifacts / "stages/mask/fold1/meta.json", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (artifacts / "stages/age-female/fold1/meta.json").exists()
    succeed("fit-stage", "all", "--resume", "--artifacts", artifacts)
    weights = sorted(path.relative_to(fitted) for path in fitted.rglob("weights.safetensors"))
    assert len(weights) == 15
    for path in weights:
        assert (artifacts / path).read_bytes() == (fitted / path).read_bytes(), path


def test_parallel_fits_equal_sequential_fits(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    """Two processes, killed with their parent and resumed: the same weights."""
    artifacts = tmp_path / "jobs"
    command = [sys.executable, "cli.py", "fit-stage", "all", "--data", drawn / "train", "--recipe", "recipes/demo.toml"]
    command += ["--artifacts", artifacts, *TINY, "--jobs", 2]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(artifacts / "stages/mask/fold0/meta.json", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    text = succeed("fit-stage", "all", "--resume", "--artifacts", artifacts, "--jobs", 2)
    assert all(stage in text for stage in ("joint", "mask", "gender", "age-male", "age-female"))
    for path in fitted.rglob("weights.safetensors"):
        assert (artifacts / path.relative_to(fitted)).read_bytes() == path.read_bytes(), path


def test_failed_fit_is_named_and_the_others_are_fitted(fitted: Path, tmp_path: Path) -> None:
    """Every fold of the joint stage fails; stages that start from it are not tried, the others are fitted."""
    run = copy_run(fitted, tmp_path / "run")
    weights = tmp_path / "another.safetensors"
    tensors = load_file(fitted / "stages/joint/fold0/weights.safetensors")
    save_file({**tensors, "model.conv_stem.weight": tensors["model.conv_stem.weight"] * math.nan}, weights)
    settings = [*TINY, "--set", "stages.mask.lr=2e-3", "--set", f"stages.joint.weights={weights}", "--jobs", 2]
    result = call("fit-stage", "all", "--resume", "--artifacts", run, *settings)
    assert result.exit_code == 1 and "12 of 15 fits failed" in result.stderr
    assert "joint fold 0: conv_stem.weight of the weights" in result.stderr and "is not finite" in result.stderr
    assert "gender fold 2: not tried: joint, which it is made from, failed" in result.stderr
    listed = json.loads(succeed("ls", "--artifacts", run, "--json"))["fits"]
    assert {item["stage"] for item in listed if item["state"] == "fitted"} == {"mask"}


def test_fit_is_stale_when_its_weight_file_has_changed(fitted: Path, tmp_path: Path) -> None:
    run, weights = copy_run(fitted, tmp_path / "run"), tmp_path / "start.safetensors"
    shutil.copy(fitted / "stages/joint/fold0/weights.safetensors", weights)

    def states() -> set[str]:
        listed = json.loads(succeed("ls", "--artifacts", run, "--json"))["fits"]
        return {item["state"] for item in listed if item["fold"] == 0 and item["stage"] in ("joint", "gender")}

    setting = ["--set", f"stages.joint.weights={weights}"]
    succeed("fit-stage", "joint", "gender", "--fold", 0, "--artifacts", run, *setting)
    assert states() == {"fitted"}
    shutil.copy(fitted / "stages/joint/fold1/weights.safetensors", weights)
    assert states() == {"stale"}, "joint, and gender, which starts from it"
    weights.unlink()
    assert states() == {"fitted"}, "a fit no longer needs the file it started from"


def test_training_uses_and_notes_the_requested_precision(fitted: Path, tmp_path: Path) -> None:
    run = copy_run(fitted, tmp_path / "run")
    for option, message, expected in (("--bf16", "cpu, bfloat16 autocast", True), ("--fp32", "cpu, float32", False)):
        result = call("fit-stage", "joint", "--fold", 0, "--artifacts", run, "--device", "cpu", "--json", option)
        assert result.exit_code == 0 and message in result.stderr
        assert json.loads(result.stdout)[0]["bf16"] is expected
    before, after = (folder / "stages/joint/fold0/weights.safetensors" for folder in (fitted, run))
    assert before.read_bytes() == after.read_bytes(), "float32 is the default on a CPU"


def test_the_fit_of_a_killed_process_is_tried_again_with_fewer_at_a_time(drawn: Path, tmp_path: Path) -> None:
    """As when memory runs out."""
    artifacts = tmp_path / "jobs"
    command = [sys.executable, "cli.py", "fit-stage", "mask", "--data", drawn / "train", "--jobs", 2]
    command += ["--recipe", "recipes/demo.toml", "--artifacts", artifacts, *TINY[:-2], "--set", "stages.mask.epochs=9"]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for fold in range(2):  # both are then near the first of nine epochs
        wait_for(artifacts / f"stages/mask/fold{fold}/history.jsonl", process)
    os.kill(fit_processes(process.pid)[0], signal.SIGKILL)
    _, messages = process.communicate(timeout=240)
    assert process.returncode == 0, messages
    assert "its process was killed, perhaps for want of memory; again, with --jobs 1" in messages, messages
    assert len(list(artifacts.rglob("meta.json"))) == 3


def test_idle_process_that_is_killed_fails_no_fit(drawn: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "jobs"
    command = [sys.executable, "cli.py", "fit-stage", "joint", "mask", "gender", "age-male", "--fold", 0, "--jobs", 2]
    command += ["--data", drawn / "train", "--recipe", "recipes/demo.toml", "--artifacts", artifacts, *TINY[:-2]]
    command += ["--set", "stages.joint.epochs=20"]
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    assert any("mask fold 0: accuracy" in line for line in process.stderr)
    os.kill(fit_processes(process.pid)[1], signal.SIGKILL)  # the process of the joint stage started first
    _, messages = process.communicate(timeout=240)
    assert process.returncode == 0, messages
    assert len(list(artifacts.rglob("meta.json"))) == 4


def fit_processes(parent: int) -> list[int]:
    """The child processes that fit, the oldest first."""
    children = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("loss=0.3*ce + 0.7*focl", "did you mean focal"),
        ("backbone=resnet_18", "did you mean resnet18"),
        ("stages.joint.vote=hard", "stages.joint.vote = 'hard' counts votes for classes"),
    ],
)
def test_unknown_name_is_an_error_before_anything_is_fitted(fitted: Path, setting: str, message: str) -> None:
    result = call("fit-stage", "mask", "--artifacts", fitted, "--set", setting)
    assert result.exit_code == 1 and message in result.stderr
    assert json.loads(succeed("ls", "--artifacts", fitted, "--json"))["combiner"]["state"] == "fitted", (
        "nothing changed"
    )


def test_start_stage_is_fitted_first(fitted: Path, tmp_path: Path) -> None:
    run = copy_run(fitted, tmp_path / "run")
    (run / "stages/joint/fold1/meta.json").unlink()
    plan = json.loads(succeed("fit-stage", "gender", "--artifacts", run, "--dry-run", "--json"))["plan"]
    assert [(item["stage"], item["fold"]) for item in plan] == [
        ("joint", 1),
        ("gender", 0),
        ("gender", 1),
        ("gender", 2),
    ]
    result = call("fit-stage", "gender", "--fold", 1, "--artifacts", run, "--jobs", 2)
    assert result.exit_code == 0 and "joint fold 1: fitting it first" in result.stderr
    assert "gender fold 1: fitted already" in result.stderr and "--resume would keep it" in result.stderr
    for stage in ("joint", "gender"):
        weights = f"stages/{stage}/fold1/weights.safetensors"
        assert (run / weights).read_bytes() == (fitted / weights).read_bytes()


def test_artifacts_hold_no_pickle_and_record_their_origin(fitted: Path) -> None:
    suffixes = {path.suffix for path in fitted.rglob("*") if path.is_file() and path.parent.name != "events"}
    assert suffixes <= {".json", ".jsonl", ".csv", ".npz", ".safetensors", ".u8", ".onnx", ".txt", ""}
    for meta in fitted.rglob("meta.json"):
        record = json.loads(meta.read_text())
        assert record["versions"]["torch"] and "seed" in record and "recipe" in record
    assert not list(fitted.rglob(".*.npz")), "a temporary file was left"


def test_unreadable_images_are_predicted_and_flagged(fitted: Path, inferred: Path, drawn: Path, tmp_path: Path) -> None:
    data = tmp_path / "eval"
    shutil.copytree(drawn / "eval", data)
    ids = pd.read_csv(data / "info.csv")["ImageID"].tolist()
    (data / "images" / ids[0]).unlink()
    (data / "images" / ids[1]).write_bytes(b"")
    content = (data / "images" / ids[2]).read_bytes()
    (data / "images" / ids[2]).write_bytes(content[: len(content) // 3])
    (data / "images" / ids[3]).write_text("no image")
    words = ["--artifacts", fitted, "--engine", "torch", "--output", tmp_path, "--json"]
    summary = json.loads(succeed("infer", data, *words))
    assert summary["flags"]["unreadable"] == 3 and summary["flags"]["no-file"] == 1
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert table["ImageID"].tolist() == ids
    assert table["flags"][:4].str.split(":").str[0].tolist() == ["no-file", "unreadable", "unreadable", "unreadable"]
    assert (table[["ans", "mask", "gender", "band", "age", "confidence", "p0", "p17"]][:4] == "").all(axis=None)
    submission, trained = pd.read_csv(tmp_path / "submission.csv"), pd.read_csv(drawn / "train/train.csv")
    assert submission["ImageID"].tolist() == ids and submission["ans"][:4].nunique() == 1 and len(trained) > 0
    assert submission["ans"][4:].tolist() == table["ans"][4:].astype(int).tolist()
    before = pd.read_csv(inferred / "predictions.csv", keep_default_na=False)
    assert table[4:].astype(str).equals(before[4:].astype(str))


def test_an_info_csv_that_names_no_file_is_an_error(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    """A submission of one class with exit code 0 would be sent in."""
    image = next((drawn / "eval/images").iterdir())
    (tmp_path / "images").mkdir()
    shutil.copy(image, tmp_path / "images/a.jpg")
    (tmp_path / "info.csv").write_text("ImageID,ans\n1.jpg,0\na.jpg,0\na.jpg,0\n2.jpg,0\n3.jpg,0\n4.jpg,0\n")
    words = ["infer", tmp_path, "--artifacts", fitted, "--engine", "torch", "--output", tmp_path / "out"]
    refused = call(*words)
    assert refused.exit_code == 1 and not (tmp_path / "out/submission.csv").exists()
    assert "4 of 6 images do not exist" in refused.stderr and "info.csv row 2: no file images/1.jpg" in refused.stderr
    accepted = call(*words, "--allow-missing")
    assert accepted.exit_code == 0 and "info.csv row 4: ImageID 'a.jpg' is already in row 3" in accepted.stderr
    flags = pd.read_csv(tmp_path / "out/predictions.csv", keep_default_na=False)["flags"]
    assert (flags == "no-file").tolist() == [True, False, False, True, True, True]


def test_an_unreadable_image_alone_has_a_row_without_a_prediction(fitted: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    summary = json.loads(succeed("infer", tmp_path / "a.jpg", "--artifacts", fitted, "--output", tmp_path, "--json"))
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 1 and not (tmp_path / "submission.csv").exists()
    assert (
        summary["prediction"]["ans"] is summary["prediction"]["age"] is None
        and summary["prediction"]["flags"] == "unreadable: empty file"
    )


def test_training_images_are_flagged_and_not_scored(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    source = sorted((drawn / "train/images").glob("*/mask1.jpg"))[:3]
    rows = ["ImageID,ans"]
    (tmp_path / "trained-on").mkdir()
    for number, path in enumerate(source):
        shutil.copy(path, tmp_path / f"trained-on/{number}.jpg")
        rows.append(f"{number}.jpg,{number}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    succeed("infer", tmp_path / "trained-on", "--artifacts", fitted, "--output", tmp_path)
    assert pd.read_csv(tmp_path / "predictions.csv")["flags"].str.contains("trained-on").all()
    result = call("evaluate", tmp_path / "predictions.csv", tmp_path / "labels.csv", "--output", tmp_path)
    assert result.exit_code == 1 and "trained on" in result.stderr and "macro-F1" not in result.stdout


def test_unusual_images_are_predicted(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    face = Image.open(next((drawn / "eval/images").iterdir()))
    folder = tmp_path / "unusual"
    folder.mkdir()
    face.convert("CMYK").save(folder / "cmyk.jpg")
    face.convert("L").save(folder / "grey.png")
    face.convert("RGBA").save(folder / "alpha.png")
    face.resize((900, 1200)).save(folder / "large.JPEG")
    face.resize((5, 7)).save(folder / "tiny.png")
    succeed("infer", folder, "--artifacts", fitted, "--output", tmp_path)
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert len(table) == 5 and set(table["flags"]) <= {"", "unsure"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_strange_file_names_take_one_row_each(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    """Line breaks, quotes and bytes that are not UTF-8: every image is predicted, under a name that can be read back."""
    image = next((drawn / "eval/images").iterdir()).read_bytes()
    folder = tmp_path / "some"
    folder.mkdir()
    names = [b"a\rb.jpg", b"a\nb.jpg", b"a\r\nb.jpg", b'a"b,c.jpg', b"\xff.jpg", "한글.jpg".encode(), b"plain.jpg"]
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(image)
    succeed("check", folder)
    done = subprocess.run(
        [sys.executable, "cli.py", "infer", folder, "--artifacts", fitted, "--engine", "torch", "--output", tmp_path],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "predictions.csv", encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    shown = {row["ImageID"].encode().replace(b"\\udcff", b"\xff") for row in rows}
    assert shown == set(names) and len({row["ans"] for row in rows}) == 1
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == len(names)


def test_rows_without_a_regular_file_stop_nothing(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    """A pipe would block for ever, a device would fill the memory, and some names no file system takes."""
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "images/pipe.jpg")
    (tmp_path / "images/folder.jpg").mkdir()
    good = next((drawn / "eval/images").iterdir())
    shutil.copy(good, tmp_path / "images/good.jpg")
    names = ["pipe.jpg", "../../../../../../../dev/zero", "folder.jpg", "n" * 300 + ".jpg", "good.jpg"]
    (tmp_path / "info.csv").write_text("ImageID,ans\n" + "".join(f"{name},0\n" for name in names))
    words = ["--artifacts", fitted, "--engine", "torch", "--output", tmp_path / "output", "--allow-missing"]
    succeed("infer", tmp_path, *words)
    table = pd.read_csv(tmp_path / "output/predictions.csv", keep_default_na=False)
    assert table["ImageID"].tolist() == names
    assert [row == "" for row in table["ans"]] == [True, True, True, True, False]
    checked = call("check", tmp_path)
    assert checked.exit_code == 1 and "should not happen" not in checked.stderr + checked.stdout


def test_ls_shows_states_and_the_next_command(fitted: Path) -> None:
    listed = json.loads(succeed("ls", "--artifacts", fitted, "--json"))
    assert [item["state"] for item in listed["fits"]] == ["fitted"] * 15 and listed["combiner"]["state"] == "fitted"
    text = succeed("ls", "--artifacts", fitted)
    assert "nested macro-F1" in text and "Next: " not in text
    assert call("ls", "--artifacts", fitted).stderr == f"Next: python cli.py infer DATA --artifacts {fitted}\n"
    lines = {line.split()[0]: line for line in text.splitlines() if " 3 fitted " in line}
    assert list(lines) == ["joint", "mask", "gender", "age-male", "age-female"]
    mean = np.mean([item["score"]["mask accuracy"] for item in listed["fits"] if item["stage"] == "joint"])
    assert f"{mean:.4f}" in lines["joint"] and "test_efficientnet" in lines["gender"]


def test_stale_and_missing_folds_are_refused_with_the_command_that_fits_them(fitted: Path, tmp_path: Path) -> None:
    run = copy_run(fitted, tmp_path / "run")
    succeed("fit-stage", "gender", "--fold", 0, "--set", "lr=2e-3", "--artifacts", run)
    states = {
        (item["stage"], item["fold"]): item["state"]
        for item in json.loads(succeed("ls", "--artifacts", run, "--json"))["fits"]
    }
    assert states["gender", 0] == "fitted" and states["gender", 1] == "stale" and states["mask", 0] == "fitted"
    (run / "stages/mask/fold1/meta.json").unlink()
    for command in (["fit-meta"], ["infer", "anywhere"]):
        result = call(*command, "--artifacts", run)
        assert result.exit_code == 1
        assert "gender: fold 1 stale, fold 2 stale" in result.stderr and "mask: fold 1 missing" in result.stderr
        assert f"Next: python cli.py fit-stage mask gender --resume --artifacts {run}\n" in result.stderr
    succeed("fit-stage", "mask", "gender", "--resume", "--artifacts", run)
    result = call("infer", "anywhere", "--artifacts", run)
    assert "the combiner is stale" in result.stderr and "fit-meta" in result.stderr


def test_damaged_artifact_is_named(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    run = copy_run(fitted, tmp_path / "run")
    (run / "stages/mask/fold0/weights.safetensors").write_bytes(b"\0" * 100)
    result = call("infer", drawn / "eval", "--artifacts", run, "--engine", "torch", "--output", tmp_path)
    assert result.exit_code == 1 and "fold0/weights.safetensors was changed or is damaged" in result.stderr
    (run / "stages/mask/fold0/outputs.npz").write_bytes(b"PK\3\4 not an archive")
    result = call("fit-meta", "--artifacts", run)
    assert result.exit_code == 1 and "outputs.npz" in result.stderr and "Traceback" not in result.stderr


def test_labelled_folder_can_be_inferred(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    succeed("infer", drawn / "train", "--artifacts", fitted, "--output", tmp_path)
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert table["ImageID"].nunique() == len(table) == 24 * 7
    assert all((drawn / "train" / name).exists() for name in table["ImageID"])
    assert table["flags"].str.split().map(lambda flags: "trained-on" in flags).all()


def test_dry_run_writes_nothing(drawn: Path, tmp_path: Path) -> None:
    text = succeed("fit-stage", "mask", "--data", drawn / "train", "--artifacts", tmp_path / "none", "--dry-run", *TINY)
    assert text.splitlines() == [f"would fit mask fold {fold} (now missing)" for fold in range(3)]
    assert not (tmp_path / "none").exists()


def test_dry_run_shows_the_states_of_an_existing_run(fitted: Path, drawn: Path) -> None:
    words = ["--data", drawn / "train", "--recipe", "recipes/demo.toml", "--artifacts", fitted, "--dry-run", *TINY]
    assert succeed("fit-stage", "mask", *words, "--resume").strip() == ""
    assert "would fit mask fold 0 (now fitted)" in succeed("fit-stage", "mask", *words)
    assert "would fit mask fold 0 (now stale)" in succeed("fit-stage", "mask", *words, "--set", "stages.mask.lr=1e-5")


def test_artifacts_and_output_come_from_the_environment(
    fitted: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACECADE_ARTIFACTS", str(fitted))
    monkeypatch.setenv("FACECADE_OUTPUT", str(tmp_path / "there"))
    succeed("infer", drawn / "eval")
    assert (tmp_path / "there/submission.csv").exists()


def test_face_and_training_flags(fitted: Path) -> None:
    cascade = cascade_of_run(open_run(fitted), Machine(engine="torch"))
    row_predictor = RowPredictor.load(cascade, cascade.combiner)
    face = FaceCrop("content", None, np.zeros((2, 2, 3), np.uint8))
    (stage_outputs,) = cascade.ensemble.predict_chunks([face.crop[None]])
    for detects, trained_on, flag in (
        (True, {}, "no-face"),
        (True, {"content": "trained-on"}, "no-face trained-on"),
        (False, {}, ""),
    ):
        for offset, unsure in ((100.0, ""), (-100.0, "unsure")):
            record = row_predictor.record.model_copy(update={"reliability": Reliability(log_odds=(1.0, 1.0, offset))})
            predictor = replace(row_predictor, record=record, detects=detects, trained_on=trained_on)
            (flags,) = predictor.rows(BatchOutputs([face], stage_outputs)).table(["a"])["flags"]
            assert set(flags.split()) == {*flag.split(), *unsure.split()}


def test_stopped_infer_resumes_to_the_same_predictions(
    fitted: Path, inferred: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    rows = RowPredictor.rows

    def stop_at_the_second(self: RowPredictor, batch: BatchOutputs) -> Any:
        counts.append(len(batch.faces))
        if len(counts) == 2:
            raise KeyboardInterrupt
        return rows(self, batch)

    words = ["infer", drawn / "eval", "--artifacts", fitted, "--engine", "torch", "--output", tmp_path]
    with monkeypatch.context() as patched:
        patched.setattr(RowPredictor, "rows", stop_at_the_second)
        stopped = call(*words)
    assert stopped.exit_code != 0 and "the same command continues" in stopped.stderr
    assert not (tmp_path / "submission.csv").exists()
    result = call(*words)
    assert result.exit_code == 0 and "resuming after 64 of 84 images" in result.stderr
    for name in ("predictions.csv", "submission.csv"):
        assert (tmp_path / name).read_bytes() == (inferred / name).read_bytes()


def test_draw_writes_the_requested_people(tmp_path: Path) -> None:
    succeed("draw", tmp_path / "data", "--people", 12)
    summary = json.loads(succeed("check", tmp_path / "data/train", "--json"))
    assert (summary["people"], summary["images"], summary["problems"]) == (12, 84, [])
    assert (tmp_path / "data/eval/eval_labels.csv").exists()


def test_labelled_data_without_a_valid_row_lists_the_problems(fitted: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "mine.csv"
    sheet.write_text("path,person,mask,gender,age\ngone.jpg,ann,normal,female,33\n")
    for command in (["infer", sheet, "--artifacts", fitted], ["fit-stage", "mask", "--data", sheet]):
        result = call(*command, *(["--artifacts", tmp_path / "a"] if command[0] == "fit-stage" else []))
        assert result.exit_code == 1 and "mine.csv row 2: no file 'gone.jpg'" in result.stderr


def test_giving_the_data_again_keeps_the_recipe(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    run = copy_run(fitted, tmp_path / "run")
    before = json.loads((run / "run.json").read_text())["recipe"]
    again = ["fit-stage", "all", "--resume", "--data", drawn / "train", "--artifacts", run, "--jobs", 1]
    result = call(*again)
    assert result.exit_code == 0 and result.stderr.count("fitted already") == 15, result.stderr
    assert f"with the recipe of the run in {run}" in result.stderr
    assert json.loads((run / "run.json").read_text())["recipe"] == before


def test_new_fit_makes_the_combiner_stale(fitted: Path, tmp_path: Path) -> None:
    """Even with the same settings: other threads round differently, and the alignment belongs to the old fit."""
    run = copy_run(fitted, tmp_path / "run")
    meta = run / "stages/mask/fold0/meta.json"
    meta.write_text(meta.read_text().replace(json.loads(meta.read_text())["outputs"], "0" * 32))
    assert "the combiner is stale" in call("infer", "anywhere", "--artifacts", run).stderr


BAD_CALLS = [
    (["fit-stage", "gender", "--data", "{drawn}/train", "--weights", "nosuch.pth"], 1, "no weights at nosuch.pth"),
    (["fit-stage", "mask", "--data", "{drawn}/train", "--weights", "package"], 1, "no package carries weights of"),
    (["fit-stage", "mask", "--artifacts", "nowhere"], 1, "--data DATA"),
    (["fit-stage", "maks", "--data", "{drawn}/train"], 1, "did you mean mask?"),
    (["fit-stage", "mask", "--data", "{drawn}/train", "--set", "stages.mask.epoch=2"], 1, "did you mean epochs"),
    (["fit-stage", "mask", "--data", "{drawn}/train", "--set", "epochs=many"], 1, "stages.mask.epochs"),
    (["fit-stage", "mask", "--data", "{drawn}/train", "--set", "epochs"], 1, "expected key=value"),
    (["fit-stage", "mask", "--data", "{drawn}/train", "--recipe", "recipes/cpy.toml"], 1, "did you mean cpu"),
    (
        ["fit-stage", "mask", "--data", "{drawn}/train", "--recipe", "published/b7-focl"],
        1,
        "did you mean published/b7-focal",
    ),
    (["fit-stage", "mask", "--data", "{drawn}/eval"], 1, "no labels"),
    (["fit-stage", "mask", "--data", "{drawn}"], 1, "did you mean"),
    (["fit-stage", "mask", "--artifacts", "{fitted}", "--fold", "7"], 1, "folds 0 to 2"),
    (["fit-stage", "mask", "--artifacts", "{fitted}", "--set", "folds=4"], 1, "begin the run anew"),
    (["fit-stage", "mask", "--artifacts", "{fitted}", "--device", "cuda"], 1, "--device cpu"),
    (["fit-stage"], 2, "Missing argument"),
    (["fit-stagge", "mask"], 2, "No such command"),
    (["fit-meta", "--artifacts", "nowhere"], 1, "holds no run"),
    (["infer", "nowhere", "--artifacts", "{fitted}"], 1, "nowhere does not exist"),
    (["evaluate", "nowhere.csv", "{drawn}/eval/info.csv"], 1, "nowhere.csv does not exist"),
    (["evaluate", "{drawn}/eval/info.csv", "{drawn}/eval/info.csv"], 1, "a form to fill in"),
    (["evaluate", "{drawn}/train/train.csv", "{drawn}/eval/eval_labels.csv"], 1, "lacks the column(s) ImageID, ans"),
    (["check", "nowhere"], 1, "nowhere does not exist"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), BAD_CALLS, ids=[" ".join(case[0])[:60] for case in BAD_CALLS]
)
def test_wrong_calls_give_a_message_and_an_exit_code(
    arguments: list[str], code: int, message: str, drawn: Path, fitted: Path, tmp_path: Path
) -> None:
    formatted = [argument.format(drawn=drawn, fitted=fitted) for argument in arguments]
    if arguments[0] == "fit-stage" and "--artifacts" not in arguments and len(arguments) > 1:
        formatted += ["--artifacts", str(tmp_path / "a")]
    result = call(*formatted)
    assert result.exit_code == code, result.output
    assert message in result.stderr and "Traceback" not in result.output
    assert not (tmp_path / "a/run.json").exists()


def test_evaluate_names_bad_rows(drawn: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "s.csv"
    sheet.write_text("ImageID,ans\na.jpg,3\nb.jpg,18\nc.jpg,old\na.jpg,4\n")
    result = call("evaluate", sheet, drawn / "eval/eval_labels.csv")
    for line in ("row 3: ans is '18'", "row 4: ans is 'old'", "row 5: ImageID 'a.jpg' appears twice"):
        assert line in result.stderr
    sheet.write_text("ImageID,ans,age,person\na.jpg,3,,ann\nb.jpg,4,31,\nc.jpg,5,old,bob\n")
    result = call("evaluate", drawn / "eval/info.csv", sheet)
    for line in ("row 2: age is blank", "row 3: person is blank", "row 4: age is 'old'"):
        assert line in result.stderr
    sheet.write_text("ImageID,ans\na.jpg,3\n")
    result = call("evaluate", sheet, drawn / "eval/eval_labels.csv")
    assert "lacks 84 of the labelled images" in result.stderr


def test_bad_images_stop_training_without_skip_bad(drawn: Path, tmp_path: Path) -> None:
    data = tmp_path / "train"
    shutil.copytree(drawn / "train", data)
    bad = sorted((data / "images").iterdir())[0]
    (bad / "mask1.jpg").write_bytes(b"")
    (bad / "mask2.jpg").write_text("no image")
    arguments = [
        "fit-stage",
        "mask",
        "--fold",
        0,
        "--data",
        data,
        "--recipe",
        "recipes/demo.toml",
        "--artifacts",
        tmp_path / "a",
        *TINY,
    ]
    result = call(*arguments)
    assert result.exit_code == 1 and "2 image(s) cannot be read" in result.stderr
    assert "mask1.jpg: empty file" in result.stderr and "mask2.jpg: not an image" in result.stderr
    result = call(*arguments, "--skip-bad")
    assert result.exit_code == 0 and result.stderr.count("skipped: ") == 2
    assert len(pd.read_csv(tmp_path / "a/table.csv")) == 24 * 7 - 2


def test_check_counts_and_lists_all_problems(drawn: Path, tmp_path: Path) -> None:
    good = json.loads(succeed("check", drawn / "train", "--json"))
    assert good["images"] == 168 and good["people"] == 24 and good["problems"] == []
    assert sum(item["images"] for item in good["classes"]) == 168
    data = tmp_path / "eval"
    shutil.copytree(drawn / "eval", data)
    ids = pd.read_csv(data / "info.csv")["ImageID"].tolist()
    (data / "images" / ids[0]).unlink()
    (data / "images" / ids[1]).write_bytes(b"")
    result = call("check", data)
    assert result.exit_code == 1
    assert f"info.csv row 2: no file images/{ids[0]}" in result.stdout and f"{ids[1]}: empty file" in result.stdout
    assert "2 problem(s)" in result.stdout


def test_corrections_are_applied_noted_and_saved(drawn: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "c.csv"
    sheet.write_text("id,field,value\n000000,age,33\n999999,gender,male\n")
    other = tmp_path / "d.csv"
    other.write_text("reason,id,field,value\nlooks so,000000,age,34\n")
    arguments = ["fit-stage", "mask", "--fold", 0, "--data", drawn / "train", "--recipe", "recipes/demo.toml", *TINY]
    result = call(*arguments, "--artifacts", tmp_path / "a", "--corrections", sheet, "--corrections", other)
    assert (
        result.exit_code == 0 and "000000: age" in result.stderr and "999999: no such id in the table" in result.stderr
    )
    table = pd.read_csv(tmp_path / "a/table.csv", dtype={"id": str})
    assert (table.loc[table["id"] == "000000", "age"] == 34).all()
    file = tmp_path / "a/corrections.csv"
    assert file.read_text() == "id,field,value\n000000,age,33\n000000,age,34\n"
    succeed("fit-stage", "mask", "--artifacts", tmp_path / "a", "--set", "batch_size=8", "--fold", 0)
    assert len(open_run(tmp_path / "a").corrections) == 2, "another recipe keeps the corrections"
    succeed(*arguments, "--artifacts", tmp_path / "a")
    assert not file.exists(), "the new run has no corrections"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_ends_in_an_example(command: str) -> None:
    text = succeed(command, "--help")
    assert "Options:" in text.partition("Example:")[0]
    lines = text.partition("Example:")[2].strip().splitlines()
    assert all(line.strip().startswith("python cli.py ") for line in lines)
    example = lines[0].strip()
    assert example.startswith(f"python cli.py {command} ")
    words = example.removeprefix("python cli.py ").split("&&")[0].split()
    parser = main.get_command(click.Context(main), command).make_parser(
        main.make_context("cli", [], resilient_parsing=True)
    )
    parser.parse_args(args=words[1:])  # raises for an unknown option


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom facecade import cli\ntry: cli.main(['fit-stage', '--help'])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'pandas', 'numpy', 'xgboost', 'timm', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "cli.py", "--debug", "ls", "--artifacts", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ},
    )
    assert done.returncode == 1 and "Traceback" in done.stderr

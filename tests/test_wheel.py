"""The installed wheel works in a folder whose modules have the same names as ours."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import TINY

ROOT = Path(__file__).resolve().parents[1]


SETTINGS = [word for word in TINY if "=" in word]
API = f"""
from pathlib import Path
import facecade
run = facecade.fit("data/train", "demo", settings={SETTINGS}, jobs=1)
print(facecade.__file__)
print(run.leaderboard().set_index("kept").method[True])
image = next(Path("data/eval/images").iterdir())
print(run.load(engine="torch").predict(image)[0].label)
"""
"""Opens the run that the commands fitted, and predicts the same."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_adds_one_top_level_name(wheel: Path) -> None:
    files = zipfile.ZipFile(wheel).namelist()
    top_level = {name.partition("/")[0] for name in files}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"facecade"}
    assert not [name for name in files if "__pycache__" in name or "/tests/" in name]
    assert {"facecade/stages/fit.py", "facecade/pipeline.py", "facecade/cli.py"} <= set(files)
    assert {"facecade/recipes/quick.toml", "facecade/recipes/corrections/competition.csv"} <= set(files)
    assert {"facecade/pages/page.html", "facecade/web/page.css"} <= set(files)
    assert {"facecade/released/LICENSE", "facecade/released/MODEL_CARD.md"} <= set(files)


def test_wheel_works_beside_modules_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--ignore-installed",
        "--prefix",
        environment,
        wheel,
    ]
    subprocess.run(command, check=True)
    # The installed packages, without the .pth file of an editable install of the clone.
    (Path(site) / "others.pth").write_text(f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n")
    user_folder = tmp_path / "user_folder"
    for name in ("run.py", "report.py", "recipe.py", "cli.py", "pipeline.py", "base/__init__.py", "stages/__init__.py"):
        (user_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (user_folder / name).write_text("raise SystemExit('a module of the folder was imported')\n")

    def facecade(*words: object) -> str:
        done = subprocess.run(
            [python, "-m", "facecade", *map(str, words)],
            cwd=user_folder,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": ""},
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    facecade("draw", "data", "--people", 24)
    facecade("fit-stage", "all", "--data", "data/train", "--recipe", "demo", *TINY)
    facecade("fit-meta")
    facecade("infer", "data/eval", "--engine", "torch")
    image = next((user_folder / "data/eval/images").iterdir())
    assert "mask" in facecade("explain", image)
    assert (user_folder / "output/submission.csv").exists()
    listed = subprocess.run(
        [python, python.parent / "facecade", "ls"], cwd=user_folder, check=True, capture_output=True, text=True
    )
    assert "Next: facecade infer DATA" in listed.stderr

    done = subprocess.run(
        [python, "-c", API], cwd=user_folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr
    where, method, label = done.stdout.strip().splitlines()[-3:]
    assert Path(where).is_relative_to(environment) and f"({method}," in listed.stdout
    submission = (user_folder / "output/submission.csv").read_text().splitlines()
    assert f"{image.name},{label}" in submission

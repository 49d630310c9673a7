"""What `pip install` of a wheel gives to people whose folder has modules of its own by our parts' names."""

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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_adds_one_name(wheel: Path) -> None:
    files = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"facecade"}
    assert not [name for name in files if "__pycache__" in name or "/tests/" in name]
    assert {"facecade/stages/fit.py", "facecade/pipeline.py", "facecade/cli.py"} <= set(files)
    assert {"facecade/recipes/quick.toml", "facecade/recipes/corrections/competition.csv"} <= set(files)
    assert {"facecade/pages/page.html", "facecade/web/page.css"} <= set(files)


def test_all_of_it_works_beside_modules_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--prefix", environment, wheel]
    subprocess.run(command, check=True)
    # The packages that are there, as a .pth would add them: but not what an editable install of the clone adds.
    (Path(site) / "others.pth").write_text(f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n")
    desk = tmp_path / "desk"
    for name in ("run.py", "report.py", "recipe.py", "cli.py", "pipeline.py", "base/__init__.py", "stages/__init__.py"):
        (desk / name).parent.mkdir(parents=True, exist_ok=True)
        (desk / name).write_text("raise SystemExit('a module of the folder was imported')\n")

    def facecade(*words: object) -> str:
        done = subprocess.run(
            [python, "-m", "facecade", *map(str, words)],
            cwd=desk,
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
    image = next((desk / "data/eval/images").iterdir())
    assert "mask" in facecade("explain", image)
    assert (desk / "output/submission.csv").exists()
    command = [python, "-P", "-c", "import facecade; print(facecade.__file__)"]
    said = subprocess.run(command, cwd=desk, check=True, capture_output=True, text=True)
    assert Path(said.stdout.strip()).is_relative_to(environment)

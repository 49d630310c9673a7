"""Imports run one way, and what must stay light stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "facecade"
CORE = {
    "base",
    "shipped",
    "backbones",
    "recipe",
    "recipe_file",
    "records",
    "faces",
    "report",
    "training",
    "stages",
    "combiner",
    "runs",
    "inference",
    "pipeline",
}
MAY_IMPORT = {
    "base": set(),
    "backbones": {"base"},
    "shipped": {"base"},
    "recipe": {"base"},
    "recipe_file": {"base", "shipped", "recipe"},
    "faces": {"base", "recipe"},
    "records": {"base", "recipe", "faces"},
    "report": {"base", "faces", "records"},
    "training": {"base", "backbones", "recipe"},
    "stages": {"base", "backbones", "recipe", "faces", "records", "training"},
    "combiner": {"base", "recipe", "faces", "records", "report"},
    "runs": {
        "base",
        "shipped",
        "recipe",
        "recipe_file",
        "faces",
        "records",
        "report",
        "training",
        "stages",
        "combiner",
    },
    "plots": {"base", "faces", "inference", "predictions"},
    "predictions": {"faces", "report", "plots"},
    "inference": CORE - {"pipeline"} | {"plots"},
    "pipeline": CORE - {"pipeline"},
    "api": CORE | {"predictions", "plots"},
    "comparison": CORE,
    "html": set(),
    "pages": CORE | {"html"},
    "web": CORE | {"html"},
    "benchmarks": CORE | {"pages", "html"},
    "commands": CORE | {"comparison", "pages", "web"},
    "cli": {"commands"},
}
"""Every part of the project, and the other parts it may import."""

HEAVY = {
    "combiner": {"torch", "timm", "albumentations"},
    "report": {"torch", "timm", "albumentations", "xgboost"},
    "base": {"torch", "timm", "albumentations", "xgboost"},
    "recipe": {"torch", "timm", "albumentations", "xgboost", "numpy", "pandas"},
    "records": {"torch", "timm", "albumentations", "xgboost"},
    "runs": {"torch", "timm", "albumentations", "xgboost"},
    "commands": {"torch", "timm", "numpy", "pandas", "pydantic"},
}


def files(part: str) -> list[Path]:
    places = [root / name for root in (ROOT, PACKAGE) for name in (part, f"{part}.py") if (root / name).exists()]
    assert len(places) == 1, places
    return sorted(places[0].rglob("*.py")) if places[0].is_dir() else places


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, inside functions too; for the package its parts. The standard library's
    html is left out: it has the name of a part."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("facecade.").partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "facecade":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module != "html":
            names.add(node.module.removeprefix("facecade.").partition(".")[0])
    return names


def test_every_part_is_listed() -> None:
    packages = {path.parent.name for root in (ROOT, PACKAGE) for path in root.glob("*/__init__.py")}
    modules = {path.stem for root in (ROOT, PACKAGE) for path in root.glob("*.py")}
    assert packages | modules - {"__init__", "__main__"} == set(MAY_IMPORT) | {"facecade"}


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_imports_run_one_way(part: str) -> None:
    for path in files(part):
        others = imported(path) & set(MAY_IMPORT) - {part}
        assert others <= MAY_IMPORT[part], f"{path.relative_to(ROOT)} imports {others - MAY_IMPORT[part]}"
        assert not imported(path) & HEAVY.get(part, set()), path


def test_one_file_imports_albumentations() -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for part in MAY_IMPORT
        for path in files(part)
        if "albumentations" in imported(path)
    ]
    assert users == ["facecade/training/augment.py"]


def test_one_file_imports_each_package_of_an_executor() -> None:
    for package, file in (("ray", "ray_cluster.py"), ("submitit", "slurm_jobs.py")):
        users = [path for part in set(MAY_IMPORT) - {"benchmarks"} for path in files(part) if package in imported(path)]
        assert [path.name for path in users] == [file]


def test_one_file_knows_torch_distributed() -> None:
    users = {
        path.name
        for part in MAY_IMPORT
        for path in files(part)
        for line in path.read_text().splitlines()
        if "torch.distributed" in line and "import" in line.split() and not line.strip().startswith("#")
    }
    assert users == {"distributed.py"}


def test_packages_of_executors_and_stores_are_imported_only_where_one_is_chosen() -> None:
    lines = "import sys, facecade, facecade.cli, facecade.api, facecade.comparison.tune, facecade.stages.jobs, facecade.stages.executors"
    lines += ", facecade.stages.executors.ray_tasks, facecade.stages.executors.slurm_jobs, facecade.base.storage"
    lines += ", facecade.faces.remote, facecade.faces.listing_table, facecade.inference.ray_actors, facecade.stages.executors.together\n"
    lines += "print([name for name in ('ray', 'submitit', 'fsspec', 'facecade.training.distributed') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_cli_imports_at_its_head_only_what_is_light() -> None:
    head = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.parse((ROOT / "cli.py").read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert head <= {
        "__future__",
        "collections",
        "collections.abc",
        "contextlib",
        "inspect",
        "io",
        "signal",
        "json",
        "os",
        "sys",
        "textwrap",
        "pathlib",
        "typing",
        "click",
        "facecade",
        "facecade.commands.command",
    }

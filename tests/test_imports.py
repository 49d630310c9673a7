"""Imports run one way, and what must stay light stays light."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "facecade"
WHOLE_RUN = {
    "base",
    "shipped",
    "backbones",
    "recipe",
    "faces",
    "report",
    "run",
    "training",
    "stages",
    "combiner",
    "inference",
    "pipeline",
}
MAY_IMPORT = {
    "base": set(),
    "backbones": {"base"},
    "shipped": {"base"},
    "recipe": {"base", "shipped"},
    "faces": {"base", "recipe"},
    "report": {"base", "faces"},
    "run": {"base", "recipe", "faces"},
    "training": {"base", "backbones", "recipe"},
    "stages": {"base", "backbones", "recipe", "faces", "training"},
    "combiner": {"base", "recipe", "faces", "report"},
    "inference": {"base", "backbones", "recipe", "faces", "report", "training", "stages", "combiner"},
    "pipeline": WHOLE_RUN - {"pipeline"},
    "comparison": {"base", "recipe", "faces", "report", "run", "training", "stages", "inference", "pipeline"},
    "pages": WHOLE_RUN,
    "web": WHOLE_RUN | {"pages"},
    "benchmarks": WHOLE_RUN | {"pages"},
    "cli": {
        "base",
        "shipped",
        "backbones",
        "recipe",
        "faces",
        "report",
        "run",
        "pipeline",
        "comparison",
        "pages",
        "web",
    },
}
"""Every part of the project, and the other parts it may import."""

HEAVY = {
    "combiner": {"torch", "timm", "albumentations"},
    "report": {"torch", "timm", "albumentations", "xgboost"},
    "base": {"torch", "timm", "albumentations", "xgboost"},
    "recipe": {"torch", "timm", "albumentations", "xgboost", "numpy", "pandas"},
}


def files(part: str) -> list[Path]:
    places = [root / name for root in (ROOT, PACKAGE) for name in (part, f"{part}.py") if (root / name).exists()]
    assert len(places) == 1, places
    return sorted(places[0].rglob("*.py")) if places[0].is_dir() else places


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, inside functions too; of the package the parts."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("facecade.").partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "facecade":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
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
        "json",
        "os",
        "sys",
        "textwrap",
        "pathlib",
        "typing",
        "click",
        "facecade",
        "facecade.base.machine",
    }

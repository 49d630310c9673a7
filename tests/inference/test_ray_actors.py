"""A listing predicted by actors of Ray, and the class for Ray Data; skipped where Ray is not installed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import call

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.base.ray_cluster import connect
from facecade.inference import ray_actors
from facecade.inference.ray_actors import RayActors
from facecade.inference.shards import ListingOptions, ListingRun, _in_this_process

ray = pytest.importorskip("ray")
pytest.importorskip("pyarrow")

ROOT = Path(__file__).resolve().parents[2]
MACHINE = Machine("cpu", workers=1, engine="torch")


@pytest.fixture(scope="module", autouse=True)
def own_ray() -> Iterator[None]:
    """An instance for these tests: without it, Ray Data would join whichever runs on this machine."""
    connect("ray")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def listing(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven photographs and one that does not exist."""
    folder = tmp_path_factory.mktemp("listing")
    (folder / "images").mkdir()
    for image in sorted((drawn / "eval/images").iterdir())[:11]:
        shutil.copy(image, folder / "images")
    rows = [(path.name, f"images/{path.name}") for path in sorted((folder / "images").iterdir())]
    pd.DataFrame([*rows, ("none", "images/none.jpg")], columns=["id", "uri"]).to_csv(folder / "list.csv", index=False)
    return folder / "list.csv"


def dying(marker: Path) -> type:
    """An actor whose process ends while it predicts shard 1, the first time. A local class: workers get it by value."""

    class Dying(ray_actors._Actor):
        def predict(self, shard: Any) -> Any:
            if shard.number == 1 and not marker.exists():
                marker.touch()
                os._exit(1)
            return super().predict(shard)

    return Dying


def test_the_shard_of_a_dead_actor_is_dealt_again(
    fitted: Path, listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_actors, "_Actor", dying(tmp_path / "died"))
    run = ListingRun(fitted, listing, tmp_path / "o", MACHINE, ListingOptions(shard_rows=4))
    summary = run.infer(RayActors("ray"))
    assert summary["written"] == 3 and summary["flags"]["no-file"] == 1 and summary["engine"] == "torch cpu"
    assert (tmp_path / "died").exists() and "shard 1: its actor was lost; it is dealt again" in capsys.readouterr().err
    here = ListingRun(fitted, listing, tmp_path / "here", MACHINE, ListingOptions(shard_rows=4))
    here.infer(_in_this_process)
    for path in (tmp_path / "here").iterdir():
        assert (tmp_path / "o" / path.name).read_bytes() == path.read_bytes(), "by Ray or not, the same bytes"
    again = call(
        "infer", listing, "--artifacts", fitted, "--output", tmp_path / "o", "--shard-rows", 4, "--executor", "ray"
    )
    assert again.exit_code == 0 and "3 of 3 parts are there" in again.stderr


def test_errors_of_actors_are_those_of_the_command(fitted: Path, listing: Path, tmp_path: Path) -> None:
    (tmp_path / "gone.csv").write_text("id,uri\n1,gone.jpg\n")
    run = ListingRun(fitted, tmp_path / "gone.csv", tmp_path / "o", MACHINE, ListingOptions())
    with pytest.raises(FacecadeError, match="1 of 1 photographs of shard 0 do not exist") as caught:
        run.infer(RayActors("ray"))
    assert "--allow-missing" in caught.value.hint and not (tmp_path / "o").exists()


def test_the_recipe_for_ray_data(fitted: Path, listing: Path, tmp_path: Path) -> None:
    """As docs/scale-inference.md shows it, with other paths."""
    text = (ROOT / "docs/scale-inference.md").read_text()
    block = next(each for each in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "ray" in each)
    for written, path in (
        ("photos", listing.parent / "images"),
        ("artifacts", fitted),
        ("predictions", tmp_path / "o"),
    ):
        assert f'"/data/{written}"' in block
        block = block.replace(f"/data/{written}", str(path))
    exec(block, {})
    table = pd.read_parquet(tmp_path / "o")
    assert len(table) == 11 and table["label"].between(0, 17).all() and table["path"].str.endswith(".jpg").all()
    assert "bytes" not in table and table["p0"].dtype == "float32"

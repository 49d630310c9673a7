"""Runs in Weights & Biases."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from facecade.base.errors import FacecadeError, first_line
from facecade.base.program import install
from facecade.report.tracking import TrackedRun

INIT_SECONDS = 30
"""Seconds to wait for the server at the begin of a run."""


class WandbStore:
    """A project of Weights & Biases; its files are in `folder/wandb`.

    Nothing is sent unless the user's wandb is online: with `WANDB_MODE=offline`, after `wandb offline`, or where nobody is logged in,
    runs are only files, which `wandb sync` sends later. Code, console output, packages and the machine are not recorded.
    """

    name = "wandb"

    def __init__(self, project: str, folder: Path) -> None:
        """
        Raises:
            FacecadeError: wandb is not installed, or its settings are wrong.
        """
        try:
            import wandb
        except ImportError:
            raise FacecadeError("wandb is not installed", install("wandb")) from None
        self._wandb, self._project, self._folder = wandb, project, folder
        try:
            self._mode = _mode(wandb.setup().settings)
        except Exception as error:  # pydantic's, and wandb's own
            raise FacecadeError(
                f"wandb cannot start: {first_line(error)}", "check WANDB_MODE and wandb's settings"
            ) from None

    def log_run(self, run: TrackedRun) -> None:
        """Write one finished run: settings and tags as its config, curves by epoch, scores as its summary, files as one artifact."""
        self._folder.mkdir(parents=True, exist_ok=True)
        logged = self._wandb.init(
            project=self._project,
            name=run.name,
            config={**run.settings, **run.tags},
            dir=self._folder,
            mode=self._mode,
            reinit="create_new",
            settings=self._wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                init_timeout=INIT_SECONDS,
                x_disable_machine_info=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        try:
            logged.define_metric("*", step_metric="epoch")
            for line in run.history:
                logged.log(dict(line), step=int(line["epoch"]))
            logged.summary.update(dict(run.scores))
            if run.files:
                artifact = self._wandb.Artifact(_artifact_name(run.name), "report")
                for file in run.files:
                    artifact.add_file(str(file))
                logged.log_artifact(artifact)
        finally:
            logged.finish()
            _remove_links_out(self._folder / "wandb")


def _mode(settings: Any) -> Any:
    """The mode that the user chose; where none was, offline unless somebody is logged in: wandb would ask."""
    if os.environ.get("WANDB_MODE"):
        return settings.mode
    known = os.environ.get("WANDB_API_KEY") or settings.api_key or _in_netrc(urlsplit(settings.base_url).hostname or "")
    return "offline" if settings.mode == "online" and not known else settings.mode


def _in_netrc(host: str) -> bool:
    """Whether the user is logged in to a host, as `wandb login` keeps it."""
    for path in (os.environ.get("NETRC", ""), Path.home() / ".netrc", Path.home() / "_netrc"):
        try:
            if path and netrc.netrc(path).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _remove_links_out(folder: Path) -> None:
    """Remove wandb's link to a log of its own in the user's cache: no link may lead out of a run (base/files.py)."""
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            path.unlink()


def _artifact_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)

"""The page: drop, paste or shoot photographs, and see what is answered and why."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from facecade.base.artifact import write_csv
from facecade.web.answers import Answers
from facecade.web.api import crash
from facecade.web.batch import Line, Unread, batch_table, predictions
from facecade.web.limits import RefusedError, require_count
from facecade.web.sheet import attention_sheet, message, sheet

AT_ONCE = 8
"""People who may wait for an answer of one kind at a time; the others stand in a queue."""

KEPT = 600
"""Seconds for which an uploaded photograph is kept."""

FONTS = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")

SUFFIXES = [".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"]

EMPTY = message("Give a photograph: what is answered for it, and why, appears here.")
EMPTY_BATCH = message("Give photographs: a table of what is answered, and a CSV to download, appear here.")
LOOKING = message("Asking every network where it looked…")


def add_page(app: FastAPI, answers: Answers, folder: Path) -> FastAPI:
    """The application with the page at its root.

    Args:
        folder: for files that people download.
    """
    blocks = _blocks(_Handlers(answers, folder), answers)
    return gr.mount_gradio_app(
        app,
        blocks.queue(max_size=4 * AT_ONCE, default_concurrency_limit=AT_ONCE),
        "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size=answers.limits.bytes,
        theme=gr.themes.Soft(font=FONTS, font_mono=("ui-monospace", "monospace")),
        css_paths=Path(__file__).parent / "page.css",
    )


class _Handlers:
    """What the page does with what it is given. Files come as Gradio has them: a mapping with `path` and `orig_name`."""

    def __init__(self, answers: Answers, folder: Path) -> None:
        self.answers, self.folder = answers, folder

    def one(self, photograph: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
        """The answer as soon as it is there, then where the networks looked, which takes longer."""
        if photograph is None:
            yield EMPTY, ""
            return
        try:
            answered = self.answers(*_file(photograph))
            wait = LOOKING if self.answers.maps else message(self.answers.unmapped)
            said = sheet(answered)
            yield said, wait
            if self.answers.maps:
                yield said, attention_sheet(self.answers.looked_at(answered), len(answered.explanation.faces))
        except Exception as error:
            yield _wrong(error), ""

    def many(
        self, photographs: Sequence[Mapping[str, Any]] | None, progress: gr.Progress
    ) -> tuple[str, dict[str, Any]]:
        """The table, and its CSV."""
        hidden = gr.update(visible=False)
        if not photographs:
            return EMPTY_BATCH, hidden
        try:
            require_count(len(photographs), self.answers.limits)
            lines = [self._line(each) for each in progress.tqdm(photographs, unit="photographs")]
            file = Path(tempfile.mkdtemp(dir=self.folder)) / "predictions.csv"
            write_csv(file, predictions(lines))
        except Exception as error:
            return _wrong(error), hidden
        return batch_table(lines), gr.update(value=str(file), visible=True)

    def _line(self, photograph: Mapping[str, Any]) -> Line | Unread:
        path, name = _file(photograph)
        try:
            return Line.of(self.answers(path, name))
        except RefusedError as error:
            return Unread(name, error)


def _file(given: Mapping[str, Any]) -> tuple[Path, str]:
    path = Path(given["path"])
    return path, given.get("orig_name") or path.name


def _wrong(error: Exception) -> str:
    said = error if isinstance(error, RefusedError) else crash(error)
    return message(str(said), said.hint, bad=True)


def _blocks(handlers: _Handlers, answers: Answers) -> gr.Blocks:
    limits = answers.limits
    terms = f"Up to {limits.megabytes:g} MB and {limits.pixels / 1e6:g} megapixels each. Forgotten within minutes."
    with gr.Blocks(title="Facecade", analytics_enabled=False, delete_cache=(KEPT, KEPT), fill_width=True) as blocks:
        gr.HTML(
            '<header class="fc-head"><h1>Facecade</h1><p>Mask, gender and age band of every face, and why.</p></header>'
        )
        with gr.Tabs():
            with gr.Tab("One photograph"), gr.Row(equal_height=False):
                with gr.Column(scale=2, min_width=300):
                    photograph = gr.Image(
                        label="Photograph",
                        sources=["upload", "clipboard", "webcam"],
                        type="filepath",
                        height=360,
                        buttons=[],
                        elem_id="photograph",
                    )
                    gr.HTML(f'<p class="fc-faint">{terms}</p>')
                with gr.Column(scale=3, min_width=300):
                    answer = gr.HTML(EMPTY, elem_id="answer")
                    attention = gr.HTML("", elem_id="attention")
            with gr.Tab("Several"), gr.Row(equal_height=False):
                with gr.Column(scale=2, min_width=300):
                    files = gr.File(
                        label=f"Photographs: at most {limits.files}",
                        file_count="multiple",
                        file_types=SUFFIXES,
                        height=260,
                        elem_id="photographs",
                    )
                    gr.HTML(f'<p class="fc-faint">{terms}</p>')
                with gr.Column(scale=3, min_width=300):
                    rows = gr.HTML(EMPTY_BATCH, elem_id="batch")
                    download = gr.DownloadButton("Download predictions.csv", visible=False, elem_id="download")

        def many(given: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008 Gradio finds it by this
            return handlers.many(given, progress)

        # Files are handed on as they came: Gradio would open them itself, and fail in its own words.
        photograph.change(
            handlers.one,
            photograph,
            [answer, attention],
            preprocess=False,
            show_progress="minimal",
            api_visibility="private",
        )
        files.change(many, files, [rows, download], preprocess=False, show_progress_on=rows, api_visibility="private")
    # Until it is told that it was launched, which is not said of a mounted page, Gradio takes any path of this machine for an upload.
    blocks.has_launched = True
    return blocks

"""The page: drop, paste or shoot images, and see what is answered and why."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from facecade.base.artifact import write_csv
from facecade.web.api import crash
from facecade.web.batch_html import Line, Unread, batch_table, predictions
from facecade.web.limits import RefusedError, require_count
from facecade.web.predictor import Predictor
from facecade.web.result_html import attention_sheet, message, sheet

AT_ONCE = 8
"""People who may wait for an answer of one kind at a time; the others stand in a queue."""

KEPT = 600
"""Seconds for which an uploaded image is kept."""

FONTS = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")

SUFFIXES = [".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"]

EMPTY = message("Give an image: what is answered for it, and why, appears here.")
EMPTY_BATCH = message("Give images: a table of what is answered, and a CSV to download, appear here.")
LOOKING = message("Asking every network where it looked…")


def add_page(app: FastAPI, predictor: Predictor, folder: Path) -> FastAPI:
    """The application with the page at its root.

    Args:
        folder: for files that people download.
    """
    blocks = _blocks(_Handlers(predictor, folder), predictor)
    return gr.mount_gradio_app(
        app,
        blocks.queue(max_size=4 * AT_ONCE, default_concurrency_limit=AT_ONCE),
        "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size=predictor.limits.bytes,
        theme=gr.themes.Soft(font=FONTS, font_mono=("ui-monospace", "monospace")),
        css_paths=Path(__file__).parent / "page.css",
    )


class _Handlers:
    """What the page does with what it is given. Files come as Gradio has them: a mapping with `path` and `orig_name`."""

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self.predictor, self.folder = predictor, folder

    def one(self, image: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
        """The answer as soon as it is there, then where the networks looked, which takes longer."""
        if image is None:
            yield EMPTY, ""
            return
        try:
            predicted = self.predictor(*_file(image))
            wait = LOOKING if self.predictor.maps else message(self.predictor.unmapped)
            said = sheet(predicted)
            yield said, wait
            if self.predictor.maps:
                yield (
                    said,
                    attention_sheet(self.predictor.attention_overlays(predicted), len(predicted.explanation.faces)),
                )
        except Exception as error:
            yield _wrong(error), ""

    def many(self, images: Sequence[Mapping[str, Any]] | None, progress: gr.Progress) -> tuple[str, dict[str, Any]]:
        """The table, and its CSV."""
        hidden = gr.update(visible=False)
        if not images:
            return EMPTY_BATCH, hidden
        try:
            require_count(len(images), self.predictor.limits)
            lines = [self._line(each) for each in progress.tqdm(images, unit="images")]
            file = Path(tempfile.mkdtemp(dir=self.folder)) / "predictions.csv"
            write_csv(file, predictions(lines))
        except Exception as error:
            return _wrong(error), hidden
        return batch_table(lines), gr.update(value=str(file), visible=True)

    def _line(self, image: Mapping[str, Any]) -> Line | Unread:
        path, name = _file(image)
        try:
            return Line.of(self.predictor(path, name))
        except RefusedError as error:
            return Unread(name, error)


def _file(given: Mapping[str, Any]) -> tuple[Path, str]:
    path = Path(given["path"])
    return path, given.get("orig_name") or path.name


def _wrong(error: Exception) -> str:
    said = error if isinstance(error, RefusedError) else crash(error)
    return message(str(said), said.hint, bad=True)


def _blocks(handlers: _Handlers, predictor: Predictor) -> gr.Blocks:
    limits = predictor.limits
    terms = f"Up to {limits.megabytes:g} MB and {limits.pixels / 1e6:g} megapixels each. Forgotten within minutes."
    with gr.Blocks(title="Facecade", analytics_enabled=False, delete_cache=(KEPT, KEPT), fill_width=True) as blocks:
        gr.HTML(
            '<header class="fc-head"><h1>Facecade</h1><p>Mask, gender and age band of every face, and why.</p></header>'
        )
        with gr.Tabs():
            with gr.Tab("One image"), gr.Row(equal_height=False):
                with gr.Column(scale=2, min_width=300):
                    image = gr.Image(
                        label="Image",
                        sources=["upload", "clipboard", "webcam"],
                        type="filepath",
                        height=360,
                        buttons=[],
                        elem_id="image",
                    )
                    gr.HTML(f'<p class="fc-faint">{terms}</p>')
                with gr.Column(scale=3, min_width=300):
                    prediction = gr.HTML(EMPTY, elem_id="answer")
                    attention = gr.HTML("", elem_id="attention")
            with gr.Tab("Several"), gr.Row(equal_height=False):
                with gr.Column(scale=2, min_width=300):
                    files = gr.File(
                        label=f"Images: at most {limits.files}",
                        file_count="multiple",
                        file_types=SUFFIXES,
                        height=260,
                        elem_id="images",
                    )
                    gr.HTML(f'<p class="fc-faint">{terms}</p>')
                with gr.Column(scale=3, min_width=300):
                    rows = gr.HTML(EMPTY_BATCH, elem_id="batch")
                    download = gr.DownloadButton("Download predictions.csv", visible=False, elem_id="download")

        def many(given: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008 Gradio finds it by this
            return handlers.many(given, progress)

        # Files are handed on as they came: Gradio would open them itself, and fail in its own words.
        image.change(
            handlers.one,
            image,
            [prediction, attention],
            preprocess=False,
            show_progress="minimal",
            api_visibility="private",
        )
        files.change(many, files, [rows, download], preprocess=False, show_progress_on=rows, api_visibility="private")
    # Until it is told that it was launched, which is not said of a mounted page, Gradio takes any path of this machine for an upload.
    blocks.has_launched = True
    return blocks

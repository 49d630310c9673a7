"""The web page: upload or paste images, or use the camera, and see the predictions explained."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from fastapi import FastAPI
from markupsafe import Markup
from PIL import Image
from starlette.middleware import Middleware

from facecade.base.artifact import write_csv
from facecade.faces.listing import IMAGE_SUFFIXES
from facecade.faces.synthetic import draw_face
from facecade.faces.words import GENDER_WORDS, LEGEND, MASK_WORDS
from facecade.web.api import internal_error
from facecade.web.batch_html import BatchRow, RefusedImage, batch_table, predictions
from facecade.web.limits import RefusedError, require_count
from facecade.web.page_calls import PageCalls, is_upload
from facecade.web.predictor import Predictor
from facecade.web.result_html import attention_html, message, result_html
from facecade.web.scratch import LIFETIME_TEXT

MAX_CONCURRENT = 8
"""Requests of one handler that Gradio runs at a time; up to four times as many wait in its queue."""

LEGEND_TEXT = f"In predictions.csv: {LEGEND}."

FONTS = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")

EXAMPLES = (("normal", "female", 70), ("wear", "male", 24), ("incorrect", "female", 45))
"""Mask, gender and age of the faces that the page draws on request."""

EXAMPLE_HEIGHT = 512
"""Pixels of a drawn face."""

WATCH_IMAGES = """() => {
  const mark = broken => event => event.target.tagName === "IMG" && event.target.classList.toggle("fc-broken", broken);
  document.addEventListener("error", mark(true), true);
  document.addEventListener("load", mark(false), true);
}"""
"""JavaScript that hides previews which the browser cannot show: of damaged files, and of formats that only the server reads."""

EMPTY = message("Add an image: its prediction and the explanation appear here.")
EMPTY_BATCH = message("Add images: a table of predictions and a CSV to download appear here.")
WORKING = Markup('<div class="fc-working"></div>')
"""Room for Gradio's progress."""

ATTENTION_PENDING = message("Computing attention maps…")


def add_page(app: FastAPI, predictor: Predictor, folder: Path) -> FastAPI:
    """Mount the page at the root of the application.

    Args:
        folder: of uploads, and of files to download.
    """
    blocks = _blocks(_Handlers(predictor, folder), predictor)
    app.user_middleware.append(Middleware(PageCalls, folder=folder))  # innermost: the limits on requests come first
    return gr.mount_gradio_app(
        app,
        blocks.queue(max_size=4 * MAX_CONCURRENT, default_concurrency_limit=MAX_CONCURRENT),
        "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size=predictor.limits.bytes,
        theme=gr.themes.Soft(font=FONTS, font_mono=("ui-monospace", "monospace")),
        css_paths=Path(__file__).parent / "page.css",
        js=WATCH_IMAGES,
    )


class _Handlers:
    """The page's event handlers. A file is Gradio's mapping with `path` and `orig_name`."""

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self.predictor, self.folder = predictor, folder

    def one(self, image: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
        """First the prediction, then the attention maps, which take longer."""
        if image is None:
            yield EMPTY, ""
            return
        try:
            predicted = self.predictor(*self._upload(image))
            result = result_html(predicted)
            if not self.predictor.has_attention:
                yield result, message(self.predictor.no_attention_reason)
                return
            yield result, ATTENTION_PENDING
            overlays = self.predictor.attention_overlays(predicted)
            yield result, attention_html(overlays, len(predicted.explanation.faces))
        except Exception as error:
            yield _error_message(error), ""

    def example(self, number: int) -> str:
        """The path of a drawn face, a new one each time; it is deleted as uploads are."""
        seed = int(np.random.default_rng().integers(2**31))
        face = draw_face(*EXAMPLES[number], seed, 0)
        file = Path(tempfile.mkdtemp(dir=self.folder)) / "drawn.png"
        face.resize((EXAMPLE_HEIGHT * face.width // face.height, EXAMPLE_HEIGHT), Image.Resampling.BICUBIC).save(file)
        return str(file)

    def many(
        self, images: Sequence[Mapping[str, Any]] | None, every_face: bool, progress: gr.Progress
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The table of predictions, and the CSV.

        Args:
            every_face: a row for each face.
        """
        hidden = gr.update(visible=False)
        if not images:
            yield EMPTY_BATCH, hidden
            return
        yield WORKING, hidden
        try:
            if not isinstance(images, list):
                raise RefusedError(400, "images must be a list of uploads", "upload them again")
            require_count(len(images), self.predictor.limits)
            found = [self._rows(each, bool(every_face)) for each in progress.tqdm(images, unit="images")]
            rows = [row for rows in found for row in rows]
            file = Path(tempfile.mkdtemp(dir=self.folder)) / "predictions.csv"
            write_csv(file, predictions(rows))
        except Exception as error:
            yield _error_message(error), hidden
            return
        yield batch_table(rows), gr.update(value=str(file), visible=True)

    def _rows(self, image: Mapping[str, Any], every_face: bool) -> Sequence[BatchRow | RefusedImage]:
        name = str(image.get("orig_name") or "image") if isinstance(image, Mapping) else "image"
        try:
            return BatchRow.of(self.predictor(*self._upload(image)), every_face)
        except RefusedError as error:
            return [RefusedImage(name, error)]

    def _upload(self, upload: Any) -> tuple[Path, str]:
        """The path and the name of an upload. The values come unchecked from the client: every path that is not an upload of this
        server is refused in the same words, whether the file exists or not."""
        path = upload.get("path") if isinstance(upload, Mapping) else None
        if isinstance(path, str) and is_upload(path, self.folder):
            return Path(path).resolve(), str(upload.get("orig_name") or Path(path).name)
        raise RefusedError(400, "the image is not an upload of this page", "upload it again")


def _refuse_urls(component: Any) -> None:
    """Gradio would download a URL that a client sends in place of an upload's path."""
    move = component.async_move_resource_to_block_cache

    async def move_local(path: Any) -> Any:
        if "://" in str(path):
            raise gr.Error("URLs are not downloaded: upload the image")
        return await move(path)

    component.async_move_resource_to_block_cache = move_local


def _error_message(error: Exception) -> str:
    shown = error if isinstance(error, RefusedError) else internal_error(error)
    return message(str(shown), shown.hint, is_error=True)


def _blocks(handlers: _Handlers, predictor: Predictor) -> gr.Blocks:
    limits = predictor.limits
    terms = f"Up to {limits.megabytes:g} MB each. Images are deleted {LIFETIME_TEXT}."
    with gr.Blocks(title="Facecade", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(
            Markup(
                '<header class="fc-head"><h1>Facecade</h1><p>Mask, gender and age band of every face, explained.</p><p>{}</p></header>'
            ).format(predictor.about)
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
                    gr.HTML('<p class="fc-faint">No photo at hand? Draw a face:</p>')
                    with gr.Row(elem_id="examples"):
                        examples = [
                            gr.Button(f"{MASK_WORDS[mask]} · {GENDER_WORDS[gender]} · {age}", size="sm", min_width=90)
                            for mask, gender, age in EXAMPLES
                        ]
                    gr.HTML(f'<p class="fc-faint">{terms}</p>')
                with gr.Column(scale=3, min_width=300):
                    prediction = gr.HTML(EMPTY, elem_id="answer")
                    attention = gr.HTML("", elem_id="attention")
            with gr.Tab("Several"), gr.Row(equal_height=False):
                with gr.Column(scale=2, min_width=300):
                    files = gr.File(
                        label=f"Images: at most {limits.files}",
                        file_count="multiple",
                        file_types=list(IMAGE_SUFFIXES),
                        height=260,
                        elem_id="images",
                    )
                    every_face = gr.Checkbox(label="Every face, not only the largest", elem_id="every-face")
                    gr.HTML(f'<p class="fc-faint">{terms} {LEGEND_TEXT}</p>')
                with gr.Column(scale=3, min_width=300):
                    rows = gr.HTML(EMPTY_BATCH, elem_id="batch")
                    download = gr.DownloadButton("Download predictions.csv", visible=False, elem_id="download")

        for component in (image, files):
            _refuse_urls(component)

        def many(images: Any, every: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008 Gradio needs this default
            yield from handlers.many(images, every, progress)

        # Without preprocessing: Gradio would decode the files itself, with its own error messages.
        image.change(
            handlers.one,
            image,
            [prediction, attention],
            preprocess=False,
            show_progress="minimal",
            api_visibility="private",
        )
        gr.on(
            [files.change, every_face.change],
            many,
            [files, every_face],
            [rows, download],
            preprocess=False,
            show_progress_on=rows,
            api_visibility="private",
        )
        for number, button in enumerate(examples):
            button.click(
                partial(handlers.example, number), None, image, show_progress="hidden", api_visibility="private"
            )
    # Gradio accepts any path of this machine as an upload until has_launched is set, which mounting does not do.
    blocks.has_launched = True
    return blocks

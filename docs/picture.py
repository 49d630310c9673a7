"""Make docs/page.png, the picture in the README: the page of `serve` with the prediction for a drawn face.

    make demo
    python docs/picture.py demo/artifacts demo/data/eval/images

It needs Chromium (apt-get install chromium) and the extra `dev`. Only drawn faces may be shown: the picture is published.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1180, 690
MAX_BYTES = 200_000
TIMEOUT_MS = 120_000


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.argument("images", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--number", default=0, show_default=True, help="Which of the images, in the order of their names.")
def main(run: Path, images: Path, number: int) -> None:
    """Predict one of IMAGES on the page of RUN, and write docs/page.png."""
    image = sorted(images.iterdir())[number]
    command = [
        sys.executable,
        str(ROOT / "cli.py"),
        "serve",
        "--artifacts",
        str(run),
        "--port",
        "0",
        "--engine",
        "torch",
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_PROXY": "*"})
    try:
        assert server.stdout
        address = server.stdout.readline().strip()
        pixels = _screenshot(address, image)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    picture = Image.open(io.BytesIO(pixels)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    target = ROOT / "docs/page.png"
    picture.save(target, optimize=True)
    if target.stat().st_size > MAX_BYTES:
        raise click.ClickException(f"{target} has {target.stat().st_size} bytes, more than {MAX_BYTES}")
    click.echo(target)


def _screenshot(address: str, image: Path) -> bytes:
    """The page as PNG, after the prediction has arrived."""
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(address)
        page.set_input_files("#image input[type=file]", image)
        page.wait_for_selector("#answer .fc-card")
        page.wait_for_selector("#attention .fc-maps")
        pixels = page.screenshot()
        browser.close()
    return pixels


if __name__ == "__main__":
    main()

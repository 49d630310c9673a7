"""The server's limits, and its error messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stubs import encoded

from facecade.faces import decode as decode_module
from facecade.faces.decode import FORMATS, decode
from facecade.web.limits import Limits, RefusedError, read_image, require_count


def refusal(path: Path, data: bytes, limits: Limits = Limits()) -> RefusedError:  # noqa: B008 it is frozen
    path.write_bytes(data)
    with pytest.raises(RefusedError) as caught:
        read_image(path, limits)
    assert str(path) not in str(caught.value) and caught.value.hint, "messages must not show the temporary file's name"
    return caught.value


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        ("JPEG", "CMYK"),
        ("PNG", "RGBA"),
        ("PNG", "I;16"),
        ("WEBP", "RGB"),
        ("TIFF", "L"),
        ("AVIF", "RGB"),
        ("GIF", "P"),
        ("PPM", "RGB"),
    ],
)
def test_images_are_read_as_infer_reads_them(format: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(encoded(format, mode=mode))
    pixels = read_image(tmp_path / "p", Limits())
    assert pixels.shape == (80, 60, 3)
    np.testing.assert_array_equal(pixels, decode(tmp_path / "p"))


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (60, 80)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg", Limits()).shape == (60, 80, 3)


def test_files_that_are_not_images_are_refused_with_a_hint(tmp_path: Path) -> None:
    text, empty, cut = (
        refusal(tmp_path / "t", b"words"),
        refusal(tmp_path / "e", b""),
        refusal(tmp_path / "c", encoded(size=(300, 300))[:700]),
    )
    assert (text.status, str(text)) == (415, "the file is not an image") and "JPEG" in text.hint
    assert (empty.status, str(empty)) == (422, "the file is empty")
    assert (cut.status, str(cut)) == (422, "the image cannot be read: truncated")


def test_postscript_is_not_passed_to_its_interpreter(tmp_path: Path) -> None:
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / "page.eps").write_bytes(page)
    assert Image.open(tmp_path / "page.eps").format == "EPS", "Pillow itself would read it"
    assert refusal(tmp_path / "page.jpg", page).status == 415


def test_large_files_are_refused_by_size(tmp_path: Path) -> None:
    data = encoded("BMP", (600, 600))
    error = refusal(tmp_path / "large.bmp", data, Limits(megabytes=1))
    assert (error.status, str(error)) == (413, "the file is too large: 1.0 MB") and "at most 1 MB" in error.hint
    (tmp_path / "large.bmp").write_bytes(data)
    assert read_image(tmp_path / "large.bmp", Limits(megabytes=2)).shape == (600, 600, 3)


def test_a_decompression_bomb_is_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not_run(image: Image.Image) -> np.ndarray:
        raise AssertionError("the image was decoded")

    monkeypatch.setattr(decode_module, "_to_rgb", must_not_run)
    bomb = encoded("PNG", (9000, 8000), "1")
    assert len(bomb) < 2**16
    error = refusal(tmp_path / "bomb.png", bomb)
    assert (error.status, str(error)) == (413, "the image is enormous: 9000×8000 pixels, over 50,000,000")
    assert "scale it down" in error.hint
    huge = refusal(tmp_path / "huge.png", encoded("PNG", (20_000, 10_000), "1"))
    assert huge.status == 413 and "enormous" in str(huge)


def test_no_image_and_too_many_images_are_refused() -> None:
    limits = Limits(files=2)
    require_count(2, limits)
    for count, status in ((0, 400), (3, 413)):
        with pytest.raises(RefusedError) as caught:
            require_count(count, limits)
        assert caught.value.status == status


def test_pillow_knows_every_accepted_format() -> None:
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN), "Pillow fails on an unknown format name"

"""Every unusual file gives the right pixels, or an error with the file's name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facecade.base.files import MAX_IMAGE_BYTES, content_hash, is_file
from facecade.faces import decode as module
from facecade.faces.decode import DecodeError, decode

RED, BLUE = (250, 10, 10), (10, 10, 250)


def red_and_blue() -> Image.Image:
    """40 wide, 20 high: red left, blue right."""
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (20, 0, 40, 20))
    return image


def close(pixels: np.ndarray, colour: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool((np.abs(pixels.astype(int) - colour) <= tolerance).all())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".bmp", ".webp", ".tiff"])
def test_formats_give_rgb_pixels(tmp_path: Path, suffix: str) -> None:
    red_and_blue().save(tmp_path / f"a{suffix}", quality=95)
    pixels = decode(tmp_path / f"a{suffix}")
    assert pixels.shape == (20, 40, 3) and pixels.dtype == np.uint8
    assert close(pixels[5:15, 4:14], RED, 20) and close(pixels[5:15, 26:36], BLUE, 20)


@pytest.mark.parametrize(
    ("orientation", "shape", "red_at"),
    [(1, (20, 40), "left"), (3, (20, 40), "right"), (6, (40, 20), "top"), (8, (40, 20), "bottom")],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, shape: tuple[int, int], red_at: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    red_and_blue().save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = decode(tmp_path / "a.jpg")
    assert pixels.shape[:2] == shape
    sides = {"left": pixels[10, 3], "right": pixels[10, -4], "top": pixels[3, 10], "bottom": pixels[-4, 10]}
    assert close(sides[red_at], RED, 20)


def test_alpha_is_composited_over_white(tmp_path: Path) -> None:
    image = red_and_blue().convert("RGBA")
    image.putalpha(Image.new("L", (40, 20), 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    image.save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png")
    assert close(pixels[:, :20], (255, 255, 255), 0) and close(pixels[:, 20:], BLUE, 0)


def test_palette_with_transparency(tmp_path: Path) -> None:
    red_and_blue().quantize(4).save(tmp_path / "a.png", transparency=0)
    pixels = decode(tmp_path / "a.png")
    whites = (pixels == 255).all(2).mean()
    assert 0.4 < whites < 0.6


def test_plain_palette(tmp_path: Path) -> None:
    red_and_blue().quantize(4).save(tmp_path / "a.png")
    assert close(decode(tmp_path / "a.png")[:, :18], RED)


def test_cmyk(tmp_path: Path) -> None:
    red_and_blue().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert close(decode(tmp_path / "a.jpg")[5:15, 4:14], RED, 30)


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png")
    assert pixels[0, 0, 0] == 0 and pixels[-1, -1, 0] == 255 and 120 < pixels[8, 0, 0] < 136


@pytest.mark.parametrize(
    ("values", "dtype"),
    [(1.0, np.float32), (255, np.float32), (1023, np.uint16), (4095, np.uint16), (16383, np.uint16), (65535, np.int32)],
    ids=["0..1", "0..255", "10 bits", "12 bits", "14 bits", "32 bits that hold 16"],
)
def test_gray_values_of_any_depth_give_the_same_pixels(values: float, dtype: type, tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray((gray / 255 * values).astype(dtype)).save(tmp_path / "a.tiff")
    assert np.abs(decode(tmp_path / "a.tiff")[..., 0].astype(int) - gray).max() <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_numbers_are_an_error(value: float, tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.float32)
    pixels[3, 3] = value
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    assert "not numbers" in reason(tmp_path / "a.tiff")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_of_a_phone_is_scaled_while_it_is_decoded(
    progressive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    red_and_blue().resize((400, 200)).save(tmp_path / "a.jpg", quality=95, progressive=progressive)
    monkeypatch.setattr(module, "MAX_PIXELS", 400 * 200 // 4)
    pixels = decode(tmp_path / "a.jpg")
    assert pixels.shape == (100, 200, 3)
    assert close(pixels[20:80, 10:90], RED, 20) and close(pixels[20:80, 110:190], BLUE, 20)


def test_more_megapixels_than_pillow_opens_are_decoded(tmp_path: Path) -> None:
    """Pillow refuses 179 megapixels, and a phone makes 200."""
    Image.new("L", (16320, 12240), 200).save(tmp_path / "a.jpg")
    pixels = decode(tmp_path / "a.jpg")
    assert pixels.shape == (6120, 8160, 3) and close(pixels[::99, ::99], (200, 200, 200), 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "PA", "L", "LA", "I;16", "CMYK", "1"])
def test_strips_give_the_pixels_of_the_whole(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 256, (50, 30, 4), np.uint8)
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    elif mode in ("P", "PA"):
        image = image.quantize(16)
    else:
        image = image.convert(mode)
    more = {"transparency": 3} if mode == "PA" else {}
    image.save(tmp_path / ("a.tiff" if mode == "CMYK" else "a.png"), **more)
    (path,) = tmp_path.iterdir()
    whole = decode(path)
    monkeypatch.setattr(module, "ROWS_PER_STRIP", 7)
    assert whole.shape == (50, 30, 3) and (decode(path) == whole).all()


def test_threads_wait_while_too_many_pixels_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    red_and_blue().save(tmp_path / "a.png")
    monkeypatch.setattr(module, "_pixels_in_flight", module._PixelsInFlight(2 * 40 * 20))
    at_once: list[int] = []
    running = Counter[str]()

    def use(_: int) -> None:
        with module.decoded(tmp_path / "a.png"):
            running["now"] += 1
            at_once.append(running["now"])
            time.sleep(0.01)
            running["now"] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(16)))
    assert len(at_once) == 16 and max(at_once) == 2


def test_an_image_larger_than_the_memory_bound_is_decoded_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    red_and_blue().save(tmp_path / "a.png")
    monkeypatch.setattr(module, "_pixels_in_flight", module._PixelsInFlight(10))
    with ThreadPoolExecutor(4) as pool:
        assert {pixels.shape for pixels in pool.map(decode, [tmp_path / "a.png"] * 8)} == {(20, 40, 3)}


def test_an_error_while_an_image_is_used_is_not_the_image_s(tmp_path: Path) -> None:
    red_and_blue().save(tmp_path / "a.png")
    with pytest.raises(ZeroDivisionError), module.decoded(tmp_path / "a.png"):
        1 / 0  # noqa: B018


HEIC = Path(__file__).with_name("red-and-blue.heic")


def test_heic_is_read_where_its_package_is_installed() -> None:
    pytest.importorskip("pi_heif")
    pixels = decode(HEIC)
    assert pixels.shape == (48, 64, 3)
    assert close(pixels[5:40, 4:26], RED, 30) and close(pixels[5:40, 38:60], BLUE, 30)


def test_heic_is_named_where_its_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_formats", lambda: module.FORMATS)
    with pytest.raises(DecodeError, match="HEIC") as caught:
        decode(HEIC)
    assert "[heic]" in caught.value.hint


def test_pillow_s_warnings_do_not_reach_the_terminal(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + b"\x12\x01\x03\0" + b"\xff" * 6
    red_and_blue().save(tmp_path / "a.jpg", exif=exif)
    script = (
        f"from pathlib import Path; from facecade.faces.decode import decode; decode(Path({str(tmp_path / 'a.jpg')!r}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == ""


def test_gray_becomes_three_equal_channels(tmp_path: Path) -> None:
    red_and_blue().convert("L").save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png")
    assert pixels.shape == (20, 40, 3) and (pixels[..., 0] == pixels[..., 2]).all()


def reason(path: Path) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(path)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_files_that_are_not_images_give_the_reason(tmp_path: Path) -> None:
    assert reason(tmp_path / "nowhere.jpg") == "no such file"
    assert "folder" in reason(tmp_path)
    (tmp_path / "empty.jpg").touch()
    assert reason(tmp_path / "empty.jpg") == "empty file"
    (tmp_path / "text.jpg").write_text("I am no image")
    assert reason(tmp_path / "text.jpg") == "not an image"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_truncated_files_are_rejected(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole{suffix}")
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    (tmp_path / f"half{suffix}").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in reason(tmp_path / f"half{suffix}") or "damaged" in reason(tmp_path / f"half{suffix}")


def test_enormous_files_are_rejected_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("a.jpg", "MAX_JPEG_PIXELS"), ("a.webp", "MAX_WEBP_PIXELS"), ("a.png", "MAX_PIXELS")):
        red_and_blue().save(tmp_path / name)
        monkeypatch.setattr(module, limit, 799)
        assert reason(tmp_path / name).startswith("enormous: 40×20")


def test_a_damaged_exif_block_names_the_file(tmp_path: Path) -> None:
    red_and_blue().save(tmp_path / "a.png", exif=b"Exif\0\0II*\0")
    with pytest.raises(DecodeError, match="damaged") as caught:
        decode(tmp_path / "a.png")
    assert str(tmp_path / "a.png") in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])
def test_what_is_no_regular_file_is_not_opened(kind: str, tmp_path: Path) -> None:
    """Reading a pipe would wait for ever, and a device would fill the memory."""
    path = tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    else:
        path.mkdir()
    assert content_hash(path) == "" and not is_file(path)
    with pytest.raises(DecodeError, match=r"not a regular file|a folder, not a file"):
        decode(path)


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)  # sparse: it takes no space
    assert content_hash(path) == ""
    with pytest.raises(DecodeError, match="too large"):
        decode(path)


@pytest.mark.parametrize("name", ["a" * 300 + ".jpg", "a\0b.jpg"])
def test_a_name_that_no_file_system_takes_is_no_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert content_hash(path) == "" and not is_file(path)
    with pytest.raises(DecodeError):
        decode(path)


def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would start Ghostscript for it, whatever the file is called."""
    ran = tmp_path / "ran"
    for name in ("gs", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n")
    with pytest.raises(DecodeError, match="not an image"):
        decode(tmp_path / "a.jpg")
    assert not ran.exists()


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """2 MB of them took 138 seconds."""
    red_and_blue().save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    assert 1 < data.count(b"\xff\xda") <= 20
    assert decode(tmp_path / "a.jpg").shape == (20, 40, 3)
    last = data.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:last] + data[last:-2] * 20_000 + data[-2:])
    started = time.monotonic()
    with pytest.raises(DecodeError, match="scans"):
        decode(tmp_path / "a.jpg")
    assert time.monotonic() - started < 2


def test_scans_outside_the_image_are_not_counted(tmp_path: Path) -> None:
    """A phone appends a video, and a camera embeds thumbnails: their bytes may look like scans."""
    red_and_blue().save(tmp_path / "plain.jpg")
    data, many = (tmp_path / "plain.jpg").read_bytes(), b"\xff\xda\x00\x02" * 10_000
    comment = b"\xff\xfe" + (len(many) + 2).to_bytes(2) + many
    (tmp_path / "a.jpg").write_bytes(data[:2] + comment + data[2:] + many)
    assert (decode(tmp_path / "a.jpg") == decode(tmp_path / "plain.jpg")).all()

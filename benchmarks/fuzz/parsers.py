"""Coverage-guided fuzzing of one parser by atheris.

    python -m benchmarks.fuzz.parsers TARGET [CORPUS] -atheris_runs=100000 -seed=1 -timeout=10 -rss_limit_mb=2048

Ends with another code than 0 at the first input that raises anything but FacecadeError, takes longer or takes more memory.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["facecade"]):
    from facecade.backbones.catalog import CATALOG
    from facecade.base.errors import FacecadeError
    from facecade.faces.csv_rows import read_csv_rows
    from facecade.faces.decode import decode
    from facecade.recipe_file import parse, read_toml

TARGETS: dict[str, Callable[[Path], object]] = {
    "image": decode,
    "csv": lambda file: read_csv_rows(file, ["id", "path"]),
    "recipe": lambda file: parse(read_toml(file)),
    "fails": lambda file: 1 / 0,  # tests that the fuzzer finds exceptions
    **{each.backbone: each.tensors for each in CATALOG if each.trained_on != "ImageNet"},
}
"""Functions of a file."""


def main() -> None:
    read = TARGETS[sys.argv.pop(1)]
    with TemporaryDirectory(dir="/dev/shm") as folder:
        file = Path(folder, "input")
        file.with_suffix(".bin").write_bytes(bytes(4096))  # the tensors of formats with two files

        def one(data: bytes) -> None:
            file.write_bytes(data)
            with contextlib.suppress(FacecadeError):
                read(file)

        # The alarm that ends slow inputs would end the interpreter, which frees torch for seconds.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
        atheris.Setup(sys.argv, one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

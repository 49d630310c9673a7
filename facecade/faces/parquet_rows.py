"""Tables in Parquet, as rows of text like those of a CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facecade.base.errors import FacecadeError, excerpt, first_line
from facecade.base.files import not_regular
from facecade.base.program import install
from facecade.faces.csv_rows import MAX_TABLE_BYTES, Row, named_columns

MAX_ROWS = 3_000_000
"""Maximum number of rows."""

MAX_CELL = 4096
"""Maximum bytes of a text. A column that repeats one text stores it once, so its size in the file bounds nothing."""

ROWS_PER_BATCH = 10_000


def read_parquet_rows(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """The rows of a Parquet file, numbered from 1. Missing values and NaN are blank; 34.0 is `34`.

    Args:
        columns: that must be there, in any case; others but `optional` are not read.

    Raises:
        FacecadeError: pyarrow is missing; the file is not Parquet, too large, or lacks columns; a column holds neither text nor
            numbers.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise FacecadeError(
            f"{path} is Parquet, for which a package is missing", f"{install('parquet')}, or save it as CSV"
        ) from None
    try:
        if reason := not_regular(path):
            raise FacecadeError(f"{path}: {reason}", "give a file")
        with pq.ParquetFile(path) as file:
            schema, header = file.schema_arrow, named_columns(path, file.schema_arrow.names, columns, optional)
            wanted = {
                name: known for name, known in zip(schema.names, header, strict=True) if known in (*columns, *optional)
            }
            _require_size(path, file.metadata, list(wanted))
        texts = [name for name in wanted if pa.types.is_string(schema.field(name).type)]
        rows: list[Row] = []
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(ROWS_PER_BATCH, columns=list(wanted)):
                cells = [_texts(path, name, batch.column(name)) for name in wanted]
                rows += [
                    Row(len(rows) + number, dict(zip(wanted.values(), row, strict=True)))
                    for number, row in enumerate(zip(*cells, strict=True), 1)
                ]
        return rows
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist", "check its name") from None
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise FacecadeError(
            f"{path} cannot be read as Parquet: {first_line(error)}", "save it again, or as CSV"
        ) from None


def _require_size(path: Path, metadata: Any, names: Sequence[str]) -> None:
    """Raises FacecadeError for more rows or bytes than are read, and for columns of several values."""
    if metadata.num_rows > MAX_ROWS:
        raise FacecadeError(f"{path} has {metadata.num_rows:,} rows, more than the allowed {MAX_ROWS:,}", "give fewer")
    number = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
    if several := [name for name in names if name not in number]:
        raise FacecadeError(f"{path}: column {several[0]} holds neither text nor numbers", "write text or numbers")
    size = sum(
        metadata.row_group(group).column(number[name]).total_uncompressed_size
        for group in range(metadata.num_row_groups)
        for name in names
    )
    if size > MAX_TABLE_BYTES:
        raise FacecadeError(
            f"{path} has {size:,} bytes in its columns, more than the allowed {MAX_TABLE_BYTES:,}", "give another file"
        )


def _texts(path: Path, name: str, column: Any) -> list[str]:
    """A column's values as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind) and (
        pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
    ):
        longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
    elif pa.types.is_large_string(kind):
        longest = pc.max(pc.binary_length(column)).as_py() or 0
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        return [_number(value) for value in column.to_pylist()]
    else:
        raise FacecadeError(
            f"{path}: column {name} holds {excerpt(kind)}, neither text nor numbers", "write text or numbers"
        )
    if longest > MAX_CELL:
        raise FacecadeError(f"{path}: column {name} has a text of {longest:,} bytes", f"write at most {MAX_CELL:,}")
    return [(value or "").strip() for value in column.to_pylist()]


def _number(value: float | None) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if value == int(value) else f"{value:.6f}".rstrip("0")

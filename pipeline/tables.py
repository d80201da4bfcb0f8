"""Parquet tables that detect damage: a checksum on every page and a hash of the schema, compared on reading.

Statistics are left out, because they have no checksum and a wrong one would hide rows from a filter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError

HASH = b"sha256"  # key of the hash in the metadata


def write_table(table: pa.Table | pd.DataFrame, path: Path, facts: Mapping[str, str] | None = None) -> None:
    """Write a table, without a data frame's index, with facts in its metadata."""
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **(facts or {})})
    metadata = {**(table.schema.metadata or {}), HASH: _digest(table.schema, table.num_rows)}
    pq.write_table(table.replace_schema_metadata(metadata), path, write_page_checksum=True, write_statistics=False)


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Read a table that a stage wrote.

    Args:
        options: passed to ``pyarrow.parquet.read_table``: columns, filters.

    Raises:
        PipelineError: the file is missing or damaged; names it.
    """
    read_schema(path)
    with intact(path):
        return pq.read_table(path, page_checksum_verification=True, **options).to_pandas()


def read_schema(path: Path) -> pa.Schema:
    """Read the columns of a table that a stage wrote, with its facts as metadata.

    Raises:
        PipelineError: the file is missing or damaged; names it.
    """
    with intact(path):
        about = pq.read_metadata(path)
        schema = about.schema.to_arrow_schema()
        stated = (schema.metadata or {}).get(HASH)
        if stated is not None and stated != _digest(schema, about.num_rows):  # tables of earlier versions have no hash
            raise ValueError("its columns have changed since it was written")
        return schema


def _digest(schema: pa.Schema, rows: int) -> bytes:
    columns = [(name, _kind(kind)) for name, kind in zip(schema.names, schema.types, strict=True)]
    others = sorted((key, value) for key, value in (schema.metadata or {}).items() if key != HASH)
    return hashlib.sha256(repr((rows, columns, others)).encode()).digest()


def _kind(kind: pa.DataType) -> str:
    """Describe a type the same way before writing and after reading; parquet renames the elements of lists."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {_kind(kind.value_type)}"
    if pa.types.is_struct(kind):
        return repr([(part.name, _kind(part.type)) for part in kind])
    return str(kind)


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Turn any error of reading a file into a PipelineError that names the file.

    Raises:
        PipelineError: the block raised any error.
    """
    try:
        yield
    except FileNotFoundError:
        raise PipelineError(f"{path}: no such file; run `dvc repro`, which makes it") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise PipelineError(f"{path} is damaged ({reason}); remove it and run `dvc repro`, which makes it again") from error

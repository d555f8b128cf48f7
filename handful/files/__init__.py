"""Readers of support sets, queries and descriptions from files of many formats."""

from handful.files.reading import read_descriptions, read_queries, read_support, read_support_bytes
from handful.files.rows import FileInvalid, ReadFile, ReadOptions, Row

__all__ = [
    "FileInvalid",
    "ReadFile",
    "ReadOptions",
    "Row",
    "read_descriptions",
    "read_queries",
    "read_support",
    "read_support_bytes",
]

"""The commands' view of the reader: plain records, and its errors as those of an option."""

from dataclasses import asdict

import typer

from service import files


def read_support(source: str) -> list[dict[str, str]]:
    """Labelled examples as a request has them.

    Raises:
        typer.BadParameter: The file cannot be read, or a row is no example.
    """
    try:
        rows = files.read_support(source).rows
    except files.FileInvalid as error:
        raise typer.BadParameter(str(error)) from error
    return [
        {name: value for name, value in asdict(row).items() if name != "line" and value is not None} for row in rows
    ]


def read_descriptions(source: str) -> dict[str, str]:
    """What labels mean, in words.

    Raises:
        typer.BadParameter: The file holds no descriptions.
    """
    try:
        return files.read_descriptions(source)
    except files.FileInvalid as error:
        raise typer.BadParameter(str(error)) from error


def read_queries(source: str) -> list[str | dict[str, str]]:
    """Texts to classify.

    Raises:
        typer.BadParameter: The file cannot be read, or a row is no text.
    """
    try:
        rows = files.read_queries(source).rows
    except files.FileInvalid as error:
        raise typer.BadParameter(str(error)) from error
    return [row.text if row.text_pair is None else {"text": row.text, "text_pair": row.text_pair} for row in rows]

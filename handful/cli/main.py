"""The command line. Its import is light: a command loads the server's part, with torch, when it runs."""

import errno
import re
import sys
from typing import Annotated

import typer

from handful.cli import checkpoint, doctor, evaluate, keys, metatrain, serve, store, tasks, texts, trial
from handful.cli.output import complain
from handful.cli.server_part import advice_on
from handful.errors import HandfulError
from handful.files import FileInvalid
from metalearn.errors import MetalearnError
from model_store.errors import ModelStoreError

_ADVICE = {
    errno.ENOENT: "check the path; a folder to write into has to be there",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EISDIR: "name a file in that folder",
    errno.EEXIST: "name another place, or remove what is there",
    errno.EACCES: "check owner and mode, or name another place",
    errno.EPERM: "check owner and mode, or name another place",
    errno.EROFS: "name a place on a disk that can be written",
    errno.ENOSPC: "make room on that disk",
}
"""What to do about an error of the system."""

app = typer.Typer(
    name="handful",
    help="A handful of labelled examples in, a classifier out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"handful {version('handful')}")
        raise typer.Exit


@app.callback()
def handful(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A handful of labelled examples in, a classifier out."""


serve.add_to(app)
texts.add_to(app)
trial.add_to(app)
app.add_typer(tasks.app, name="tasks")
app.add_typer(keys.app, name="keys")
app.add_typer(store.app, name="store")
app.add_typer(checkpoint.app, name="checkpoint")
doctor.add_to(app)
metatrain.add_to(app)
evaluate.add_to(app)


def main() -> None:
    """Runs a command. A known error is one line on standard error and status 1."""
    try:
        app(prog_name="handful")
    except HandfulError as error:
        complain(*_parts(error))
    except (FileInvalid, ModelStoreError, MetalearnError) as error:
        complain(str(error))
    except OSError as error:
        complain(_with_advice(error))
    except ModuleNotFoundError as error:
        advice = advice_on(error)
        if advice is None:
            raise
        complain(advice)
    except Exception as error:
        # Looked up, not imported: the settings need packages that the light client does not have
        settings = sys.modules.get("service.settings")
        if settings is None or not isinstance(error, settings.SettingsInvalid):
            raise
        complain(str(error))
    sys.exit(1)


def _with_advice(error: OSError) -> str:
    advice = _ADVICE.get(error.errno or 0)
    if advice is None:
        return str(error)
    return f"{error.strerror}{'' if error.filename is None else f': {error.filename}'}; {advice}"


def _parts(error: HandfulError) -> list[str]:
    """The lines of an error, without the repetition: a server's detail repeats the first field error."""
    message = str(error)
    lines = [f"{part['pointer']}: {part['detail']}" for part in error.errors]
    more = re.search(r" \((\d+) more not shown\)$", message)
    if more:
        lines.append(f"{more[1]} more not shown")
        message = message[: more.start()]
    return lines if message in lines else [message, *(line for line in lines if line.partition(": ")[2] not in message)]

"""The command line. Light at import: torch is loaded by the commands that compute."""

import sys

import typer

from model_store.errors import ModelStoreError
from service.client import HandfulError
from service.commands import checkpoint, doctor, evaluate, keys, metatrain, serve, store, tasks, texts
from service.commands.output import complain
from service.settings import SettingsInvalid

app = typer.Typer(
    name="handful",
    help="A handful of labelled examples in, a classifier out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
serve.add_to(app)
texts.add_to(app)
app.add_typer(tasks.app, name="tasks")
app.add_typer(keys.app, name="keys")
app.add_typer(store.app, name="store")
app.add_typer(checkpoint.app, name="checkpoint")
doctor.add_to(app)
metatrain.add_to(app)
evaluate.add_to(app)


def main() -> None:
    """Runs a command; what can go wrong is one line on standard error and status 1."""
    try:
        app()
    except HandfulError as error:
        complain(str(error), *(f"{e['pointer']}: {e['detail']}" for e in error.errors))
    except (SettingsInvalid, ModelStoreError, OSError) as error:
        complain(str(error))
    except Exception as error:
        # The learning core's errors; imported here, since the core is slow to import and most commands do without it
        from metalearn.errors import MetalearnError

        if not isinstance(error, MetalearnError):
            raise
        complain(str(error))
    sys.exit(1)

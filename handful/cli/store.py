"""``handful store``. The commands work on the store itself, so they need the server's own settings."""

import re
from typing import Annotated

import typer

from handful.cli.connection import AsJson
from handful.cli.keys import Store
from handful.cli.opened_store import opened_store
from handful.cli.output import note, print_json, show
from handful.cli.server_part import load_settings

app = typer.Typer(help="Show the server's store, and go on after it has lost its data.", no_args_is_help=True)


@app.command(name="show")
def show_store(store: Store = None, as_json: AsJson = False) -> None:
    """Print the store's id, and the ids of lost stores that it stands in for."""
    with opened_store(load_settings(store=store), create=False) as opened:
        marker = opened.marker()
        shown = {
            "id": marker.store_id if marker else None,
            "replaces": list(marker.replaces) if marker else [],
            "created_at": marker.created_at if marker else None,
            "needs_keys": opened.needs_keys(),
        }
    show(("field", "value"), shown.items(), [shown], as_json=as_json)


@app.command()
def accept(
    lost_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The id of the store that was lost: servers that know it have it in their log."
        ),
    ],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Let servers go on with this store in place of a store that has lost its data. Those data are gone then.

    Servers that know the lost store see it within seconds, forget what they have in memory, and answer again.
    """
    if not re.fullmatch("[0-9a-f]{32}", lost_id):
        raise typer.BadParameter(
            "the id of a store has 32 hexadecimal digits; a server that knows it has it in its log"
        )
    with opened_store(load_settings(store=store), create=True) as opened:
        marker = opened.marker()
        if marker is not None and marker.store_id == lost_id:
            raise typer.BadParameter(f"this store is {lost_id} itself: it was not lost, and nothing has to be accepted")
        marker = opened.accept(lost_id)
    note(f"{marker.store_id} stands in for {lost_id} from now on")
    if as_json:
        print_json({"id": marker.store_id, "replaces": list(marker.replaces)})

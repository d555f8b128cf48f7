"""``handful keys``. The commands work on the store itself, so they need the server's own settings."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from handful.cli.connection import AsJson
from handful.cli.opened_store import opened_store
from handful.cli.output import note, print_json, show
from handful.cli.server_part import load_settings
from model_store.records import is_name

if TYPE_CHECKING:
    from model_store.records import ApiKeyRecord
    from service.settings import Settings

app = typer.Typer(help="Make, list and revoke API keys in the server's store.", no_args_is_help=True)

_MIN_HINT = 12

Store = Annotated[str | None, typer.Option("--store", help="The server's store. [env: HANDFUL_STORE]")]


@app.command()
def create(
    tenant: Annotated[str, typer.Argument(help="The tenant whose requests the key authenticates.")],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Make a key for a tenant and print it; it is stored hashed and cannot be shown again."""
    if not is_name(tenant):
        raise typer.BadParameter("a tenant's name has letters, digits, '.', '_' and '-', at most 128")
    from service.auth import new_key

    key, record = new_key(tenant)
    settings = load_settings(store=store)
    with opened_store(settings, create=True) as opened:
        first = not opened.needs_keys()
        opened.add_key(record)
    if first:
        note("from now on every request needs a key: callers without one get 401")
    note(f"A key for {tenant} in the store {_place(settings)}; keep it, it is not shown again:")
    if as_json:
        print_json({"key": key, **_shown(record)})
    else:
        print(key)  # noqa: T201 - alone on standard output, for scripts


@app.command(name="list")
def list_keys(store: Store = None, as_json: AsJson = False) -> None:
    """List the keys by their first characters."""
    settings = load_settings(store=store)
    with opened_store(settings, create=False) as opened:
        records = opened.keys()
    note(f"{len(records)} keys in the store {_place(settings)}")
    shown = [{"key": f"{record.hint}…", **_shown(record)} for record in records]
    rows = [(each["key"], each["tenant"], f"{each['created_at']:.0f}", each["sha256"]) for each in shown]
    show(("key", "tenant", "created, s since 1970", "sha256"), rows, shown, as_json=as_json)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key, or the beginning of its sha256 in `keys list`.")],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key; servers follow within HANDFUL_AUTH_CACHE_S."""
    from service.auth import key_digest

    settings = load_settings(store=store)
    with opened_store(settings, create=False) as opened:
        digests = [record.digest for record in opened.keys()]
        found = [d for d in digests if d == key_digest(key) or (len(key) >= _MIN_HINT and d.startswith(key))]
        if len(found) != 1:
            raise typer.BadParameter(
                f"{len(found)} keys match in the store {_place(settings)}; give the key, or {_MIN_HINT} or more digits "
                "of its sha256"
            )
        opened.remove_key(found[0])
        none_is_left = not opened.has_keys()
    note(f"revoked in the store {_place(settings)}")
    if as_json:
        print_json({"revoked": found[0], "keys_left": len(digests) - 1})
    if none_is_left:
        note(
            "no key is left: every request is refused until one is made (`handful keys create TENANT`); "
            "`handful keys open` lets callers in without a key again"
        )


@app.command(name="open")
def open_again(store: Store = None, as_json: AsJson = False) -> None:
    """Let callers in without a key again, once all keys are revoked. Servers follow when they are restarted."""
    with opened_store(load_settings(store=store), create=False) as opened:
        if opened.has_keys():
            raise typer.BadParameter("there are keys: revoke them first (`handful keys list` shows them)")
        opened.set_needs_keys(False)
    note(
        "callers need no key any more: restart the servers. Those on a loopback address, and those with --allow-open, "
        "answer everybody as the tenant 'default'"
    )
    if as_json:
        print_json({"needs_keys": False})


def _shown(record: "ApiKeyRecord") -> dict[str, Any]:
    """The fields of a key's record as JSON has them."""
    return {"tenant": record.tenant, "created_at": record.created_at, "sha256": record.digest}


def _place(settings: "Settings") -> str:
    from service.store_access import store_name

    return store_name(settings)

"""``handful tasks readapt``: one task, or all that were made from a checkpoint that is not loaded."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import typer
from pydantic import BaseModel

from handful.checkpoint_answers import CheckpointResponse
from handful.cli.completion import task_names
from handful.cli.connection import ApiKey, AsJson, Checkpoint, Local, StoreUrl, Url, connect, load_or_ask_for
from handful.cli.opened_store import opened_service
from handful.cli.output import complain, note, show, waiting
from handful.cli.progress import progress
from handful.cli.text_options import given
from handful.client import Client
from handful.errors import HandfulError
from model_store.records import StoredTask

_AT_ONCE = 8
"""Number of tasks that are adapted at once, so that their texts share batches."""
_FIGURES = {
    "former_leave_one_out_accuracy",
    "leave_one_out_accuracy",
    "former_leave_one_out",
    "leave_one_out",
    "agreement",
}
_MOST_NAMED = 20
_CLOSED = frozenset(
    {
        "unauthorized",
        "store_unavailable",
        "store_full",
        "store_emptied",
        "server_stopping",
        "not_found",
        "unknown_checkpoint",
    }
)
"""Error codes that every further task would get, too."""

Outcome = Literal["readapted", "not_needed", "support_not_kept", "refused", "failed"]


class ReadaptSummary(BaseModel):
    """Counts of tasks by the outcome of ``readapt --all``."""

    tasks: int
    readapted: int
    not_needed: int
    support_not_kept: int
    refused: int
    failed: int


class PlannedReadapt(BaseModel):
    """The planned action of ``readapt --all --dry-run`` for a task."""

    tenant: str | None
    task: str
    checkpoint: str | None
    action: Literal["readapt", "not_needed", "support_not_kept", "refused", "failed"]
    former_leave_one_out_accuracy: float | None = None
    leave_one_out_accuracy: float | None = None
    former_leave_one_out: dict[str, float] | None = None
    leave_one_out: dict[str, float] | None = None
    agreement: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """The stale tasks of a server or of a store.

    Attributes:
        total: The number of all tasks.
        stale: The tasks to adapt again.
        client: Returns the client for a task's tenant.
        options: The fields of the requests.
    """

    total: int
    stale: list[StoredTask]
    client: Callable[[str], Client]
    options: Mapping[str, Any]


def readapt(
    task: Annotated[
        str | None, typer.Argument(help="The task's name; or give --all.", autocompletion=task_names)
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All tasks that were made from a checkpoint that is not loaded; with --checkpoint, all that were not "
            "made from that one.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --all: store nothing, and print what would become of each task.")
    ] = False,
    even_if_worse: Annotated[
        bool,
        typer.Option(
            "--even-if-worse",
            help="With --all: also tasks that would be worse than HANDFUL_READAPT_MAX_DROP and "
            "HANDFUL_READAPT_MAX_DISAGREEMENT of the server allow.",
        ),
    ] = False,
    version: Annotated[
        int | None, typer.Option(min=1, help="Take this version's support set; the newest version's where missing.")
    ] = None,
    checkpoint: Checkpoint = None,
    tenant: Annotated[
        str | None,
        typer.Option(help="With --local: the tenant. Without it `default`, and with --all every tenant."),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Adapt again on the stored support set, from the default checkpoint or the one that --checkpoint names.

    Against a server, --all means the tasks of the API key's tenant; with --local those of all tenants of the store.
    """
    if (task is None) != every:
        raise typer.BadParameter("give the name of a task, or --all")
    if tenant is not None and not local:
        raise typer.BadParameter("--tenant goes with --local; a server knows the tenant by the API key")
    if task is not None:
        if dry_run or even_if_worse:
            raise typer.BadParameter(f"{'--dry-run' if dry_run else '--even-if-worse'} goes with --all")
        loaded, asked = load_or_ask_for(checkpoint, local=local)
        options = given(version=version, checkpoint=asked)
        with connect(url, api_key, local=local, store=store, existing=True, tenant=tenant, checkpoint=loaded) as client:
            answer = client.readapt(task, **options)
        if answer.checkpoint_choice is not None:
            note(answer.checkpoint_choice.reason)
        columns = ("task", "version", "classes", "examples", "bytes", "checkpoint")
        row = (task, answer.version, len(answer.labels), answer.n_support, answer.bytes, answer.checkpoint[:12])
        show(columns, [row], [answer], as_json=as_json)
        return
    if version is not None:
        raise typer.BadParameter("--version goes with the name of a task")
    with _plan(url, api_key, local=local, store=store, tenant=tenant, checkpoint=checkpoint) as plan:
        if dry_run:
            _show_plan(plan, even_if_worse=even_if_worse, as_json=as_json)
            return
        summary = _readapt_all(plan, even_if_worse=even_if_worse)
    show(("outcome", "tasks"), summary.model_dump().items(), [summary], as_json=as_json)
    raise typer.Exit(1 if summary.failed else 0)


@contextmanager
def _plan(
    url: str | None,
    api_key: str | None,
    *,
    local: bool,
    store: str | None,
    tenant: str | None,
    checkpoint: str | None,
) -> Iterator[_Plan]:
    loaded, asked = load_or_ask_for(checkpoint, local=local)
    options = given(checkpoint=asked)
    if not local:
        with connect(url, api_key, local=False) as client:
            with waiting("looking for stale tasks"):
                kept = _fingerprints(client.checkpoints(), asked)
                found = [StoredTask("", t.task, t.checkpoint, t.support_kept) for t in client.tasks()]
            yield _Plan(len(found), [t for t in found if t.checkpoint not in kept], lambda _: client, options)
        return
    from service.stale_tasks import is_stale, walk_tasks

    with opened_service(store, loaded) as service:
        with waiting("looking for stale tasks"):
            # By name, since Redis may name a task twice
            by_name = {(t.tenant, t.task): t for t in walk_tasks(service.store) if tenant in {None, t.tenant}}
        checkpoints = service.parts.engine.checkpoints
        stale = [by_name[name] for name in sorted(by_name) if is_stale(by_name[name], checkpoints)]
        yield _Plan(len(by_name), stale, service.client, options)


def _fingerprints(loaded: Sequence[CheckpointResponse], asked: str | None) -> set[str]:
    """The fingerprints of the checkpoints whose tasks stay as they are.

    Raises:
        BadParameter: The server has not loaded the checkpoint that is asked for.
    """
    if asked in {None, "auto"}:
        return {each.fingerprint for each in loaded}
    found = {each.fingerprint for each in loaded if each.name == asked or each.fingerprint.startswith(asked or "")}
    if not found:
        names = ", ".join(f"{each.name} ({each.fingerprint[:12]})" for each in loaded)
        raise typer.BadParameter(f"the checkpoint {asked!r} is not loaded; loaded: {names}", param_hint="--checkpoint")
    return found


def _show_plan(plan: _Plan, *, even_if_worse: bool, as_json: bool) -> None:
    with progress(len(plan.stale), "compared") as advance, ThreadPoolExecutor(_AT_ONCE) as threads:
        planned = []
        for each in threads.map(lambda stored: _planned(plan, stored, even_if_worse=even_if_worse), plan.stale):
            planned.append(each)
            advance()
    columns = ("tenant", "task", "checkpoint", "action", "accuracy before", "after", "agreement", "reason")
    rows = [
        (
            p.tenant or "",
            p.task,
            (p.checkpoint or "")[:12],
            p.action,
            _figure(p.former_leave_one_out_accuracy, p.former_leave_one_out),
            _figure(p.leave_one_out_accuracy, p.leave_one_out),
            _figure(p.agreement),
            p.reason or "",
        )
        for p in planned
    ]
    show(columns, rows, planned, as_json=as_json)
    counts = Counter(p.action for p in planned)
    note(
        f"{len(plan.stale):,} of {plan.total:,} tasks were made from another checkpoint: {counts['readapt']:,} would "
        f"be adapted again, {counts['refused']:,} would be worse, of {counts['support_not_kept']:,} no support set is "
        f"kept, {counts['failed']:,} would fail"
    )


def _planned(plan: _Plan, stored: StoredTask, *, even_if_worse: bool) -> PlannedReadapt:
    planned = PlannedReadapt(
        tenant=stored.tenant or None, task=stored.task, checkpoint=stored.checkpoint, action="readapt"
    )
    if not stored.support_kept:
        return planned.model_copy(update={"action": "support_not_kept"})
    try:
        with _client(plan, stored) as client:
            preview = client.preview_readapt(stored.task, checkpoint=plan.options.get("checkpoint"))
    except HandfulError as error:
        if error.status == 0 or error.code in _CLOSED:
            raise
        action = "not_needed" if error.code == "task_not_found" else "failed"
        return planned.model_copy(update={"action": action, "reason": str(error)})
    figures = preview.model_dump(include=_FIGURES)
    refused = preview.worse is not None and not even_if_worse
    return planned.model_copy(
        update={**figures, "reason": preview.worse, "action": "refused" if refused else "readapt"}
    )


def _figure(value: float | None, others: Mapping[str, float] | None = None) -> str:
    if value is None and others:
        return ", ".join(f"{name} {other:.3f}" for name, other in others.items())
    return "" if value is None else f"{value:.3f}"


def _readapt_all(plan: _Plan, *, even_if_worse: bool) -> ReadaptSummary:
    """Adapts all stale tasks again, several at once; unless told so, not those that would be worse.

    Raises:
        HandfulError: The server or the store is away, or refuses every task. Tasks that were adapted stay adapted.
    """
    counts: dict[Outcome, int] = dict.fromkeys(get_args(Outcome), 0)
    counts["not_needed"] = plan.total - len(plan.stale)
    without = [t for t in plan.stale if not t.support_kept]
    counts["support_not_kept"] = len(without)
    work = [t for t in plan.stale if t.support_kept]
    options = plan.options if even_if_worse else {**plan.options, "unless_worse": True}
    with progress(len(work), "adapted again") as advance, ThreadPoolExecutor(_AT_ONCE) as threads:
        running = {threads.submit(_readapt_one, plan, t, options): t for t in work}
        for done in as_completed(running):
            stored = running.pop(done)
            try:
                counts[done.result()] += 1
            except HandfulError as error:
                if error.status == 0 or error.code in _CLOSED:
                    threads.shutdown(wait=False, cancel_futures=True)
                    note(f"{counts['readapted']:,} of {len(work):,} tasks are done; run the command again for the rest")
                    raise
                counts["failed"] += 1
                complain(f"{_name(stored)}: {error}")
            advance()
    if without:
        named = ", ".join(map(_name, without[:_MOST_NAMED])) + ("…" if len(without) > _MOST_NAMED else "")
        note(f"no support set is kept of {len(without):,} tasks, adapt them again with their examples: {named}")
    return ReadaptSummary(tasks=plan.total, **counts)


def _readapt_one(plan: _Plan, stored: StoredTask, options: Mapping[str, Any]) -> Outcome:
    with _client(plan, stored) as client:
        try:
            client.readapt(stored.task, **options)
        except HandfulError as error:
            if error.code == "task_not_found":  # deleted or expired meanwhile
                return "not_needed"
            if error.code == "support_not_kept":  # adapted anew meanwhile, and not kept
                return "support_not_kept"
            if error.code == "readapt_refused":
                complain(f"{_name(stored)}: {error}")
                return "refused"
            if error.code != "version_conflict":
                raise
            # Adapted anew meanwhile, perhaps by a server that still has the old checkpoint
            if client.task(stored.task).checkpoint != stored.checkpoint:
                return "not_needed"
            client.readapt(stored.task, **options)
    return "readapted"


@contextmanager
def _client(plan: _Plan, stored: StoredTask) -> Iterator[Client]:
    """The client for a task; one of a tenant is closed at the end, and that of a server stays open."""
    client = plan.client(stored.tenant)
    if not stored.tenant:
        yield client
        return
    with client:
        yield client


def _name(stored: StoredTask) -> str:
    return f"{stored.tenant}/{stored.task}" if stored.tenant else stored.task

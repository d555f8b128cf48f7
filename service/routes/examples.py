"""The routes of a task's examples: add, list and erase."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from handful.wire_examples import (
    EXAMPLE_ID_PATTERN,
    AddExamplesRequest,
    AddExamplesResponse,
    EraseResponse,
    ExampleList,
    ExampleSource,
    ExampleState,
)
from service.routes.request import (
    KNOWN_QUERY,
    PROBLEMS,
    AppParts,
    TaskName,
    Tenant,
    committed_response,
    idempotent_request,
    json_body,
    json_response,
    request_body,
)
from service.routes.versions import PageLimit
from service.tasks import examples

router = APIRouter(
    prefix="/v1/tasks/{task}/examples", responses=PROBLEMS, dependencies=[KNOWN_QUERY], tags=["examples"]
)

ExampleId = Annotated[str, Path(pattern=EXAMPLE_ID_PATTERN, description="An example's id.")]


@router.post("", response_model=AddExamplesResponse, openapi_extra=request_body(AddExamplesRequest, idempotent=True))
async def add_examples(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[AddExamplesRequest, Depends(json_body(AddExamplesRequest, too_large="send fewer at a time"))],
) -> Response:
    """Appends examples to the newest version's support set and adapts on all of them, with that version's options."""
    return committed_response(await examples.add_examples(parts, tenant, task, body, idempotent_request(request, body)))


@router.get("", response_model=ExampleList)
async def list_examples(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    label: Annotated[str | None, Query(description="Those of this class.")] = None,
    source: Annotated[ExampleSource | None, Query(description="Those that this call brought.")] = None,
    state: Annotated[ExampleState | None, Query(description="Those that are in this state.")] = None,
    text: Annotated[str | None, Query(description="Those with this in their text; case does not count.")] = None,
    limit: PageLimit = 100,
    after: Annotated[str | None, Query(pattern=EXAMPLE_ID_PATTERN, description="`next` of the page before.")] = None,
) -> Response:
    """The examples of the newest version, by id."""
    return json_response(
        await examples.list_examples(
            parts, tenant, task, label=label, source=source, state=state, text=text, after=after, limit=limit
        )
    )


@router.delete("/{example}", response_model=EraseResponse)
async def erase_example(task: TaskName, example: ExampleId, tenant: Tenant, parts: AppParts) -> Response:
    """Adapts without the example, and removes every version and all else that was derived from its text."""
    return committed_response(await examples.erase_example(parts, tenant, task, example))

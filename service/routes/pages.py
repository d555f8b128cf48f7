"""The pages: the playground, and the interactive documentation. They load nothing from other hosts."""

import functools
import hashlib
import html
import json
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from service.path_prefix import link

router = APIRouter(include_in_schema=False)

_ASSETS = "static-offline-docs"
_FOLDER = Path(__file__).parents[1] / "playground"
_PAGE = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".csv": "text/csv; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SAFETY = {
    # Scripts and styles of this server alone; and no text of anybody can become HTML, not even by mistake
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_LINKS = ("docs", "openapi.json", "readyz", "livez", "metrics")
_START = """\
curl {base}/v1/tasks/mail/adapt -H 'Content-Type: application/json' \
-d '{{"support": [{{"text": "send my money back", "label": "refund"}}, {{"text": "where is my parcel", \
"label": "delivery"}}]}}'
curl {base}/v1/tasks/mail/predict -H 'Content-Type: application/json' -d '{{"queries": ["the package has not come"]}}'
curl {base}/v1/tasks
"""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


@functools.cache
def _files() -> dict[str, _File]:
    """The files of the playground, by their path in its folder; nothing else can be asked for."""
    found = {}
    for path in sorted(_FOLDER.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            found[path.relative_to(_FOLDER).as_posix()] = _File(content, _TYPES[path.suffix], etag)
    return found


@router.get("/")
async def start(request: Request) -> Response:
    """The playground; links alone for a client that asks for JSON."""
    headers = {"Vary": "Accept, X-Forwarded-Prefix"}
    accepted = request.headers.get("accept", "")
    if "application/json" in accepted and "text/html" not in accepted:
        links = {name.partition(".")[0]: link(request.scope, name) for name in _LINKS}
        return Response(json.dumps({"name": "Handful", **links}), media_type="application/json", headers=headers)
    base = f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
    page = _files()[_PAGE].content.decode()
    page = page.replace("{{curl}}", html.escape(_START.format(base=base)))
    page = page.replace("{{root}}", html.escape(link(request.scope, "playground").removesuffix("playground")))
    return HTMLResponse(page, headers={**headers, **_SAFETY, "Cache-Control": "no-cache"})


@router.get("/playground/{name:path}")
async def playground_file(name: str, request: Request) -> Response:
    """A file that the playground loads."""
    file = None if name == _PAGE else _files().get(name)
    if file is None:
        raise HTTPException(404)
    headers = {**_SAFETY, "Cache-Control": "no-cache", "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Swagger UI."""
    return get_swagger_ui_html(
        openapi_url=link(request.scope, "openapi.json"),
        title="Handful",
        swagger_js_url=link(request.scope, f"{_ASSETS}/swagger-ui-bundle.js"),
        swagger_css_url=link(request.scope, f"{_ASSETS}/swagger-ui.css"),
        swagger_favicon_url=link(request.scope, f"{_ASSETS}/favicon.png"),
    )

"""The pages: a start page, and the interactive documentation. They load nothing from other hosts."""

import html
import json

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

from service.path_prefix import link

router = APIRouter(include_in_schema=False)

_ASSETS = "static-offline-docs"
_LINKS = {
    "docs": "interactive documentation",
    "openapi.json": "the same as data",
    "readyz": "ready?",
    "livez": "alive?",
    "metrics": "metrics for Prometheus",
}
_START = """\
curl {base}/v1/tasks/mail/adapt -H 'Content-Type: application/json' \
-d '{{"support": [{{"text": "send my money back", "label": "refund"}}, {{"text": "where is my parcel", \
"label": "delivery"}}]}}'
curl {base}/v1/tasks/mail/predict -H 'Content-Type: application/json' -d '{{"queries": ["the package has not come"]}}'
curl {base}/v1/tasks
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Handful</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 3rem auto; padding: 0 1rem; }}
pre {{ background: #8881; padding: 1rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>Handful</h1>
<p>A handful of labelled examples in, a classifier out.</p>
<ul>
{links}
</ul>
<h2>Start</h2>
<pre>{start}</pre>
<p>Once an API key exists, each call needs <code>-H 'Authorization: Bearer KEY'</code>.</p>
</body>
</html>
"""


@router.get("/")
async def start(request: Request) -> Response:
    """The start page."""
    headers = {"Vary": "Accept, X-Forwarded-Prefix"}
    accepted = request.headers.get("accept", "")
    if "application/json" in accepted and "text/html" not in accepted:
        links = {name.partition(".")[0]: link(request.scope, name) for name in _LINKS}
        return Response(json.dumps({"name": "Handful", **links}), media_type="application/json", headers=headers)
    base = f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
    items = (
        f'<li><a href="{html.escape(link(request.scope, name))}">/{name}</a>: {text}</li>'
        for name, text in _LINKS.items()
    )
    page = _PAGE.format(links="\n".join(items), start=html.escape(_START.format(base=base)))
    return HTMLResponse(page, headers=headers)


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

"""A fake server of a few pages, for wire formats that a test writes out itself."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

EVENTS, LINES = "text/event-stream", "application/x-ndjson"


@contextlib.asynccontextmanager
async def serve_pages(pages: dict[str, Any], seen: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Serve pages by path and yield the base URL; any other path is a 404.

    Args:
        pages: JSON; a status and JSON; bytes of an event stream; or a content type and bytes.
        seen: Gets the path, the headers by lower-case name and the decoded body of each request.
    """

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        told = {"path": request.path, "headers": {k.lower(): v for k, v in request.headers.items()}}
        seen.append(told | {"body": json.loads(body) if body else None})
        match pages.get(request.path, (404, {})):
            case bytes() as events:
                return web.Response(body=events, content_type=EVENTS)
            case str() as kind, bytes() as data:
                return web.Response(body=data, content_type=kind)
            case int() as status, content:
                return web.json_response(content, status=status)
            case content:
                return web.json_response(content)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()

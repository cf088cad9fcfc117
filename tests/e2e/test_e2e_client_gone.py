"""A client that hangs up, whatever it asked for and of whatever kind of server, stops the work."""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest

from tests.e2e.slow_server import SLOW, Server, body_of, check_took, marker, pass_seconds, post
from tests.e2e.stack import Stack, running
from tests.support import Lateness, wait_until

BACKEND = """\
[[backends]]
name = "{name}"
kind = "{kind}"
url = "{url}"
probe_s = 3600
[[backends.models]]
name = "{name}"
upstream = "healthy"
"""
GENERATING = "tgi-generate"
"""A TGI whose model has no chat template."""
CHAT, MESSAGES, COMPLETIONS = "/v1/chat/completions", "/v1/messages", "/v1/completions"
ASKED = [
    (CHAT, "openai"),
    (MESSAGES, "openai"),
    (COMPLETIONS, "openai"),
    (CHAT, "anthropic"),
    (MESSAGES, "anthropic"),
    (CHAT, "ollama"),
    (MESSAGES, "tgi"),
    (CHAT, GENERATING),
]
"""Path and backend."""
pytestmark = [pytest.mark.timeout(120), pytest.mark.parametrize(("path", "model"), ASKED)]


@pytest.fixture(name="slow", scope="module")
def _slow() -> Iterator[Server]:
    server = Server(SLOW)
    yield server
    server.close()


@pytest.fixture(name="generating", scope="module")
def _generating() -> Iterator[Server]:
    server = Server(msgspec.structs.replace(SLOW, chat_template=False))
    yield server
    server.close()


@pytest.fixture(name="stack", scope="module")
def _stack(
    tmp_path_factory: pytest.TempPathFactory, slow: Server, generating: Server
) -> Iterator[Stack]:
    urls = {
        "openai": f"{slow.url}/v1",
        "anthropic": slow.url,
        "ollama": slow.url,
        "tgi": slow.url,
        GENERATING: generating.url,
    }
    backends = (
        BACKEND.format(name=name, kind=name.partition("-")[0], url=url)
        for name, url in urls.items()
    )
    with running(Stack(tmp_path_factory.mktemp("gone"), "\n".join(backends))) as stack:
        yield stack


@pytest.fixture(name="server")
def _server(slow: Server, generating: Server, model: str) -> Server:
    return generating if model == GENERATING else slow


def asking(text: str, path: str, model: str, **more: Any) -> dict[str, Any]:
    body = body_of(text, model=model, **more)
    if path == COMPLETIONS:
        body["prompt"] = body.pop("messages")[0]["content"]
    return body


async def check_let_go(server: Server, text: str, gone_at: float, late: Lateness) -> None:
    """Check that the model server's connection was closed soon after the client went."""
    await wait_until(lambda: server.saw(text)[0].ended_at, description="the backend is let go")

    (seen,) = server.saw(text)
    assert (seen.client_gone, seen.finished) == (True, False)
    check_took(seen.ended_at - gone_at, 1, late)


async def test_at_any_byte_of_a_stream(
    stack: Stack, server: Server, rng: random.Random, late: Lateness, path: str, model: str
):
    async def go_after(size: int) -> None:
        text = marker()
        with closing(post(stack, asking(text, path, model, stream=True), path)) as connection:
            left = size
            while left > 0:
                data = await asyncio.to_thread(connection.recv, left)
                assert data, "it ended"
                left -= len(data)
        await check_let_go(server, text, time.time(), late)

    sizes = (1, *(rng.randrange(1, 6000) for _ in range(3)))
    await asyncio.gather(*map(go_after, sizes))


async def test_before_an_unstreamed_answer(
    stack: Stack, server: Server, rng: random.Random, late: Lateness, path: str, model: str
):
    async def go_after(patience_s: float) -> None:
        text = marker()
        with closing(post(stack, asking(text, path, model), path)):
            await wait_until(lambda: server.saw(text), description="the backend works")
            await pass_seconds(patience_s)
        await check_let_go(server, text, time.time(), late)

    await asyncio.gather(*map(go_after, (0.0, *(rng.uniform(0, 0.4) for _ in range(3)))))

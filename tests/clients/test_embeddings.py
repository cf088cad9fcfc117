"""Embeddings through the whole stack."""

import asyncio
import base64
import struct
from typing import Any

import pytest

from localforge.config import RedisConfig
from localforge.registry import RegistryStore
from tests.clients.conftest import IBAN, post
from tests.e2e.stack import Provider, Reply, Stack
from tests.fakes.openai_server import Behaviour
from tests.support import wait_until


def embed(stack: Stack, given: Any, **members: Any) -> Reply:
    return post(stack, "/v1/embeddings", {"model": "vectors", "input": given} | members)


@pytest.mark.parametrize("given", ["one text", ["one text"], ["one", "two words", "and three"]])
def test_embeddings_come_as_the_backend_made_them(stack: Stack, local: Provider, given: Any):
    reply = embed(stack, given, dimensions=2, user="u")

    texts = [given] if isinstance(given, str) else given
    assert reply.status == 200, reply.body
    assert reply.json["model"] == "vectors"
    assert [item["embedding"] for item in reply.json["data"]] == [
        [len(text), text.count(" ") + 1] for text in texts
    ]
    assert reply.json["usage"]["prompt_tokens"] == sum(len(text.split()) for text in texts)
    assert reply.headers["x-localforge-zone"] == "local"
    assert local.seen[-1].body == {"model": "vectors", "input": given, "dimensions": 2, "user": "u"}


def test_embeddings_may_be_base64(stack: Stack):
    data = embed(stack, "one text", encoding_format="base64").json["data"]

    assert struct.unpack("<2f", base64.b64decode(data[0]["embedding"])) == (8.0, 2.0)


def test_embeddings_cost_what_their_tokens_cost(stack: Stack):
    reply = embed(stack, "one two three", model="cloud-vectors")

    assert reply.status == 200, reply.body
    assert float(reply.headers["x-localforge-cost-usd"]) == pytest.approx(3e-6)


@pytest.mark.parametrize("given", [IBAN, ["harmless", IBAN]])
def test_sensitive_texts_are_embedded_here_or_not_at_all(stack: Stack, cloud: Provider, given: Any):
    before = len(cloud.seen)

    assert embed(stack, given).status == 200
    refused = embed(stack, given, model="cloud-vectors")

    assert (refused.status, refused.json["error"]["code"]) == (403, "no_eligible_model")
    assert len(cloud.seen) == before


def test_tokens_are_kept_here_since_nobody_has_read_them(stack: Stack):
    assert embed(stack, [1, 2, 3]).status == 200
    assert embed(stack, [[1, 2], [3]]).status == 200
    assert embed(stack, [1, 2, 3], model="cloud-vectors").status == 403


def test_no_choice_is_made_between_vectors_that_cannot_be_compared(stack: Stack):
    reply = embed(stack, "text", model="auto")

    assert (reply.status, reply.json["error"]["code"]) == (400, "ambiguous_model")
    assert "cloud-vectors, vectors" in reply.json["error"]["message"]


async def test_a_model_at_two_backends_embeds_where_it_can(
    stack: Stack, local: Provider, cloud: Provider
):
    store = RegistryStore(RedisConfig(url=stack.runtime["redis_url"]))
    # What is left are two backends with the same model, whose vectors are the same.
    await store.switch("cloud-vectors", enabled=False)
    try:
        await wait_until(
            lambda: asyncio.to_thread(lambda: embed(stack, "text", model="auto").status == 200),
            timeout=20,
            description="the router knows",
        )
        answered = {}
        for name, provider in {"vectors": cloud, "vectors-too": local}.items():
            with provider.behaving(vectors=Behaviour(cut_after=0)):
                reply = await asyncio.to_thread(embed, stack, "two words", model="auto")
            assert reply.status == 200, reply.body
            answered[name] = reply
    finally:
        await store.switch("cloud-vectors", enabled=True)
        await store.close()
    await wait_until(
        lambda: asyncio.to_thread(lambda: embed(stack, "text", model="auto").status == 400),
        timeout=20,
        description="the router knows",
    )

    assert {n: r.headers["x-localforge-model"] for n, r in answered.items()} == {
        "vectors": "vectors",
        "vectors-too": "vectors-too",
    }
    assert [r.json["data"][0]["embedding"] for r in answered.values()] == [[9.0, 2.0]] * 2

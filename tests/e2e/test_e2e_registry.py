"""Models by hand while everything runs: added, switched, probed, removed, seen by the routers."""

import asyncio
import json
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from localforge.config import RedisConfig
from localforge.registry import RegistryStore
from tests.e2e.stack import Provider, Stack, running
from tests.fakes.openai_server import WORDS, Behaviour
from tests.support import Lateness, unclaimed_ports, wait_until

CONFIG = """\
[up]
# The router in a process of its own, with its own copy of the registry.
together = ["edge", "profiler", "sweeper"]

[telemetry]
metrics_port = {metrics_port}

[[backends]]
name = "fake"
kind = "openai"
url = "{url}"
[[backends.models]]
name = "fake-a"
context_tokens = 32768
"""
WITHIN_S = 1.0


@pytest.fixture(name="small", scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory, local: Provider) -> Iterator[Stack]:
    # The router has it, then the evaluator and the executor the next two.
    config = CONFIG.format(url=local.url, metrics_port=unclaimed_ports(3)[0])
    with running(Stack(tmp_path_factory.mktemp("registry"), config)) as stack:
        yield stack


def _fine(done: Any) -> str:
    assert done.returncode == 0, done.stderr + done.stdout
    return str(done.stdout)


def _ask(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


def _eligible(stack: Stack) -> set[str]:
    return {entry["model"] for entry in stack.route(_ask("auto"))["candidates"]}


async def test_a_model_added_by_hand_answers_until_it_is_removed(small: Stack, local: Provider):
    added = json.loads(
        _fine(
            small.cli(
                *("models", "add", "mine", "--backend", "fake", "--upstream", "fake-mine"),
                *("--price-in", "0.5", "--price-out", "1.5", "--capability", "tools", "--json"),
            )
        )
    )
    await wait_until(
        lambda: asyncio.to_thread(lambda: small.chat(_ask("mine")).status == 200),
        timeout=10,
        description="it answers",
    )
    answer = small.chat(_ask("mine"))
    shown = json.loads(_fine(small.cli("models", "show", "mine", "--json")))
    listed = json.loads(_fine(small.cli("models", "list", "--json")))
    _fine(small.cli("models", "remove", "mine"))
    await wait_until(
        lambda: asyncio.to_thread(lambda: small.chat(_ask("mine")).status == 404),
        timeout=10,
        description="it is gone",
    )

    assert (added["name"], added["upstream"], added["price_out"]) == ("mine", "fake-mine", 1.5)
    assert answer.json["choices"][0]["message"]["content"] == " ".join(WORDS)
    assert [seen for seen in local.saw("fake-mine") if seen.body["model"] == "fake-mine"]
    assert (shown["added"], shown["state"]) == (True, "up")
    assert {entry["name"] for entry in listed} == {"fake-a", "mine"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("add", "x", "--backend", "nowhere"), "no backend is called 'nowhere'; configured: fake"),
        (("add", "auto", "--backend", "fake"), "choose another name"),
        (("add", "a b", "--backend", "fake"), "`$.name`"),
        (("remove", "fake-a"), "take it out of the configuration"),
        (("remove", "nothing"), "no model is called 'nothing'"),
        (("show", "nothing"), "no model is called 'nothing'"),
        (("probe", "nothing"), "no model is called 'nothing'"),
        (("probe", "--backend", "nowhere"), "no backend is called 'nowhere'"),
    ],
)
def test_what_cannot_be_done_is_said(small: Stack, arguments: tuple[str, ...], told: str):
    done = small.cli("models", *arguments)

    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_probe_tells_how_a_backend_is_and_how_fast_a_model_answers(small: Stack, local: Provider):
    with local.behaving(fake_a=Behaviour(first_s=0.2)):
        (found,) = json.loads(_fine(small.cli("models", "probe", "fake-a", "--json")))
    (plain,) = json.loads(_fine(small.cli("models", "probe", "--backend", "fake", "--json")))
    with local.behaving(fake_a=Behaviour(status=500, error={"message": "broken"})):
        broken = small.cli("models", "probe", "fake-a", "--json")

    assert (found["backend"], found["zone"], found["health"]) == ("fake", "local", "up")
    assert found["answer_s"] >= 0.2
    assert found["probe_s"] > 0
    assert "answer_s" not in plain or plain["answer_s"] == 0
    assert broken.returncode == 1
    assert "HTTP 500" in json.loads(broken.stdout)[0]["error"]


def test_processes_without_the_edge_have_a_port_for_prometheus(small: Stack):
    first = tomllib.loads(small.config.read_text())["telemetry"]["metrics_port"]
    assert small.chat(_ask("fake-a")).status == 200

    pages = []
    for port in range(first, first + 3):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            pages.append(answer.read().decode())

    assert 'localforge_facts_pending{user="router"}' in pages[0]
    assert 'localforge_facts_pending{user="evaluator"}' in pages[1]
    assert 'localforge_executor_attempts_total{model="fake-a",status="ok"}' in pages[2]


async def test_a_change_reaches_the_router_within_a_second(small: Stack):
    store = RegistryStore(RedisConfig(url=small.runtime["redis_url"]))
    seconds = []
    try:
        async with Lateness() as late:
            for enabled in [False, True] * 3:
                await store.switch("fake-a", enabled=enabled)
                changed_at = time.monotonic()

                def is_there(wanted: bool = enabled) -> bool:
                    reply = small.http("POST", "/v1/route", _ask("auto"))
                    return (reply.status == 200) is wanted

                await wait_until(
                    lambda: asyncio.to_thread(is_there), timeout=10, description="the router knows"
                )
                seconds.append(time.monotonic() - changed_at)
    finally:
        await store.switch("fake-a", enabled=True)
        await store.close()

    assert max(seconds) < late.allowed(WITHIN_S, at_most=5), (seconds, late.worst_s)

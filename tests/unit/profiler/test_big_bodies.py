"""A big body is profiled beside the others, not before them."""

import json
import time

import pytest

from localforge.config import Config, SealConfig
from localforge.contracts.live import ChatCall, Failed, Lane, RouteCall
from localforge.hosting import Host
from localforge.profiler.app import BIG_BODY, ProfilerApp
from localforge.trust import ensure_key_pair
from tests.support import wait_until


class FakeBus:
    """Keeps what the profiler sends; there is no broker here."""

    def __init__(self):
        self.sent = []
        self.broken = None

    def forward(self, subject, message, *, reply=""):
        if self.broken:
            raise self.broken
        self.sent.append(message)

    def publish(self, subject, message):
        self.sent.append(message)

    async def leave(self, *subjects):
        self.sent.append("left")

    async def finish_durable(self):
        pass

    async def close(self):
        self.sent.append("closed")


@pytest.fixture(name="bus")
def _bus():
    return FakeBus()


@pytest.fixture(name="app")
def _app(tmp_path, bus, monkeypatch):
    private, _ = ensure_key_pair(tmp_path)
    monkeypatch.setattr(Host, "bus", lambda *_: bus)
    return ProfilerApp(Host(Config(seal=SealConfig(private_key_file=str(private))), {}))


def call_of(request_id, size, **fields):
    text = "Please compare the two contracts. " * (size // 34 + 1)
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    call = {"request_id": request_id, "lane": Lane.LIVE, "body": body}
    return ChatCall(**call | {"deadline": time.time() + 60} | fields)


async def test_a_small_request_is_answered_while_a_big_one_is_profiled(app, bus):
    app.on_live(call_of("big", 12_000_000), "inbox")
    app.on_live(call_of("small", 10), "inbox")

    assert [routed.call.request_id for routed in bus.sent] == ["small"]
    await wait_until(lambda: len(bus.sent) == 2, timeout=30, description="the big one is routed")
    assert isinstance(bus.sent[1], RouteCall)
    assert bus.sent[1].call.request_id == "big"


async def test_a_wrong_big_request_is_refused(app, bus):
    app.on_live(call_of("big", 0, body=b"{" + b" " * BIG_BODY), "inbox")

    await wait_until(lambda: bus.sent, description="the refusal")
    assert isinstance(bus.sent[0], Failed)
    assert bus.sent[0].status == 400


@pytest.mark.parametrize("size", [10, 2 * BIG_BODY])
async def test_what_nothing_foresaw_is_told_to_the_caller_without_its_words(app, bus, size):
    bus.broken = RuntimeError("secret words")
    app.on_live(call_of("r1", size), "inbox")

    await wait_until(lambda: bus.sent, description="the refusal")
    [failed] = bus.sent
    assert isinstance(failed, Failed)
    assert (failed.request_id, failed.status) == ("r1", 500)
    assert (failed.error.type, failed.error.code) == ("api_error", "internal")
    assert "secret" not in failed.error.message


async def test_stopping_takes_no_more_and_lets_a_big_request_finish(app, bus):
    app.on_live(call_of("big", 2 * BIG_BODY), "inbox")
    await app.stop()

    assert bus.sent[0] == "left"
    assert isinstance(bus.sent[1], RouteCall)
    assert bus.sent[2] == "closed"

"""The edge as the host runs it: real HTTP and a real broker; the rest of the lane is scripted."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from localforge.bus.bus import Bus
from localforge.bus.connection import settle
from localforge.bus.permissions import ADMIN, APP, PROFILER, ROUTER, permissions
from localforge.config import Config, EdgeConfig, KeyConfig, RedisConfig
from localforge.contracts import subjects
from localforge.contracts.chat import ChatCompleted, ChatRequested, FeedbackSubmitted
from localforge.contracts.live import CancelCall, ChatCall, Completed, Delta, FactsDelayed, Summary
from localforge.edge.app import Edge, create
from localforge.embedded import start_nats
from localforge.errors import ConfigError
from localforge.hosting import Host
from tests.support import wait_until
from tests.support_nats import BACKENDS, ProvisionedServer
from tests.unit.edge.lane import decided

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
NOBODY = "redis://127.0.0.1:1"
"""The registry is not needed here, so there is none."""


def config(server: ProvisionedServer, port: int = 0) -> Config:
    return Config(
        nats=server.config, redis=RedisConfig(url=NOBODY), edge=EdgeConfig(port=port, progress_s=30)
    )


@pytest.fixture
async def edge(provisioned_server) -> AsyncIterator[Edge]:
    host = Host(config(provisioned_server), {})
    edge = create(host)
    await edge.start()
    yield edge
    await edge.stop()
    await host.close()


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def lane(provisioned_server):
    """A profiler that answers by itself; a body that streams gets no end."""
    bus = Bus(provisioned_server.config, PROFILER)
    await bus.connect()
    calls: list[ChatCall] = []

    def on_call(call: ChatCall, reply: str) -> None:
        calls.append(call)
        summary = Summary(decision_id=call.request_id, model="tiny", zone="local")
        if call.stream:
            frame = Delta(request_id=call.request_id, data=b"data: {}\n\n", summary=summary)
        else:
            frame = Completed(request_id=call.request_id, summary=summary, body=b'{"ok":true}')
        bus.publish(reply, frame)

    await bus.on_live(subjects.PROFILE, ChatCall, on_call, queue="profiler")
    yield calls
    await bus.close()


async def test_a_chat_goes_out_and_its_answer_comes_back(edge, http, lane):
    async with http.post(f"{edge.url}/v1/chat/completions", json=CHAT) as response:
        answer = await response.json()

    assert (response.status, answer) == (200, {"ok": True})
    assert response.headers["x-localforge-decision"] == lane[0].request_id
    assert msgspec.json.decode(lane[0].body) == CHAT


async def test_many_at_once_each_get_their_own_answer(edge, http, lane):
    async def ask() -> str:
        async with http.post(f"{edge.url}/v1/chat/completions", json=CHAT) as response:
            assert response.status == 200
            return response.headers["x-localforge-decision"]

    decisions = await asyncio.gather(*(ask() for _ in range(100)))

    assert sorted(decisions) == sorted(call.request_id for call in lane)


async def test_without_anybody_behind_it_a_chat_is_503(edge, http):
    async with http.post(f"{edge.url}/v1/chat/completions", json=CHAT) as response:
        answer = await response.json()

    assert (response.status, answer["error"]["code"]) == (503, "unserved")
    assert int(response.headers["retry-after"]) >= 1


async def test_a_chat_waits_for_a_lane_that_is_just_starting(edge, http, request):
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(
            http.post(f"{edge.url}/v1/chat/completions", json=CHAT).__aenter__()
        )
        server = request.getfixturevalue("provisioned_server")
        bus = Bus(server.config, PROFILER)
        await bus.connect()

        def on_call(call: ChatCall, reply: str) -> None:
            summary = Summary(decision_id=call.request_id, model="tiny", zone="local")
            frame = Completed(
                request_id=call.request_id, attempt=call.attempt, summary=summary, body=b"{}"
            )
            bus.publish(reply, frame)

        await bus.on_live(subjects.PROFILE, ChatCall, on_call)
    response = asking.result()
    response.release()
    await bus.close()

    assert response.status == 200


async def test_a_chat_needs_no_stream(edge, http, lane, provisioned_server):
    """The streams take what a request leaves behind; none of them is in its way."""
    admin = await provisioned_server.connect(ADMIN)
    for stream in subjects.STREAMS:
        await admin.jetstream().delete_stream(stream.name)

    async with http.post(f"{edge.url}/v1/chat/completions", json=CHAT) as response:
        assert (response.status, await response.json()) == (200, {"ok": True})


async def test_a_client_that_hangs_up_is_broadcast(edge, http, lane, provisioned_server):
    admin = await provisioned_server.connect(ADMIN)
    cancels = []

    async def on_cancel(msg) -> None:
        cancels.append(CancelCall.decode(msg.data).request_id)

    await admin.subscribe(subjects.CANCEL, cb=on_cancel)
    await settle(admin)
    async with http.post(
        f"{edge.url}/v1/chat/completions", json=CHAT | {"stream": True}
    ) as response:
        await response.content.readuntil(b"\n\n")
        response.close()

    await wait_until(lambda: cancels, description="the cancel")
    assert cancels == [lane[0].request_id]


async def test_feedback_is_in_the_stream_when_it_is_accepted(edge, http, provisioned_server):
    router = await provisioned_server.connect(ROUTER)
    await router.jetstream().publish(subjects.decision("01"), decided("01").encode())
    verdict = {"completion_id": "chatcmpl-01", "score": 1, "feedback_id": "f-1"}
    for _ in range(2):
        async with http.post(f"{edge.url}/v1/feedback", json=verdict) as response:
            assert response.status == 202

    admin = await provisioned_server.connect(ADMIN)
    info = await admin.jetstream().stream_info(subjects.REQUESTS.name)
    stored = await admin.jetstream().get_last_msg(subjects.REQUESTS.name, subjects.REQUEST_FEEDBACK)
    assert info.state.messages == 1, "the same feedback id is stored once"
    assert stored.data is not None
    assert FeedbackSubmitted.decode(stored.data).completion_id == "chatcmpl-01"


async def test_a_feedback_id_is_its_completions_own_and_nobody_else_can_take_it(
    edge, http, provisioned_server
):
    router = await provisioned_server.connect(ROUTER)
    for decision_id in ("01", "02"):
        record = decided(decision_id).encode()
        await router.jetstream().publish(subjects.decision(decision_id), record)
    app = await provisioned_server.connect(APP)
    await app.jetstream().publish(
        subjects.REQUEST_CHAT, b"first", headers={"Nats-Msg-Id": "feedback-1"}
    )
    for decision_id in ("01", "02"):
        verdict = {"completion_id": f"chatcmpl-{decision_id}", "score": 1, "feedback_id": "1"}
        async with http.post(f"{edge.url}/v1/feedback", json=verdict) as response:
            assert response.status == 202

    admin = await provisioned_server.connect(ADMIN)
    info = await admin.jetstream().stream_info(
        subjects.REQUESTS.name, subjects_filter=subjects.REQUEST_FEEDBACK
    )
    assert info.state.subjects == {subjects.REQUEST_FEEDBACK: 2}


async def test_another_keys_verdict_under_the_same_id_displaces_none(http, provisioned_server):
    keys = tuple(KeyConfig(id=name, secret=f"env:{name}") for name in ("mine", "theirs"))
    with_keys = msgspec.structs.replace(config(provisioned_server), keys=keys)
    host = Host(with_keys, {"mine": "m", "theirs": "t"})
    edge = create(host)
    await edge.start()
    # While decisions are not written, nobody knows whose completion it is.
    router = await provisioned_server.connect(ROUTER)
    delayed = FactsDelayed(service=ROUTER, pending=1, dropped=0)
    await router.publish(subjects.status(ROUTER), delayed.encode())
    verdict = {"completion_id": "chatcmpl-01", "score": 1, "feedback_id": "1"}

    async def judge(secret: str) -> bool:
        headers = {"x-api-key": secret}
        async with http.post(f"{edge.url}/v1/feedback", json=verdict, headers=headers) as response:
            return response.status == 202

    await wait_until(lambda: judge("t"), description="verdicts are taken on trust")
    accepted = await judge("m")
    await edge.stop()
    await host.close()

    admin = await provisioned_server.connect(ADMIN)
    stored = (await admin.jetstream().stream_info(subjects.REQUESTS.name)).state.messages
    assert (accepted, stored) == (True, 2)


async def test_readiness_tells_losses_apart(edge, http, lane, provisioned_server):
    async def ready() -> tuple[int, dict[str, str]]:
        async with http.get(f"{edge.url}/readyz") as response:
            found = (await response.json())["dependencies"]
            return response.status, {name: one["status"] for name, one in found.items()}

    assert await ready() == (
        503,  # no model can be known without a registry
        {
            "nats": "ok",
            "jetstream": "ok",
            "registry": "degraded",
            "models": "down",
            "facts": "ok",
            "live_lane": "ok",
        },
    )

    await provisioned_server.supervisor.remove("nats")

    async def is_down() -> bool:
        _, found = await ready()
        return found["nats"] == "down"

    await wait_until(is_down, description="readiness to say that the broker is away")
    feedback = {"completion_id": "chatcmpl-01", "score": 1}
    async with http.post(f"{edge.url}/v1/feedback", json=feedback) as response:
        answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (503, "broker_unavailable")

    port = int(provisioned_server.config.url.rpartition(":")[2])
    await start_nats(
        provisioned_server.supervisor,
        provisioned_server.data,
        permissions(BACKENDS),
        choose_port=lambda: port,
    )

    async def is_up() -> bool:
        _, found = await ready()
        return found["nats"] == found["jetstream"] == "ok"

    await wait_until(is_up, timeout=20, description="readiness to say that the broker is back")
    async with http.post(f"{edge.url}/v1/chat/completions", json=CHAT) as response:
        assert response.status == 200


async def test_a_nats_application_can_ask_and_wait(edge, lane, provisioned_server):
    app = await provisioned_server.connect(APP)
    asked = ChatRequested(id="job-1", request=msgspec.Raw(msgspec.json.encode(CHAT)))
    reply = await app.request(subjects.LIVE_CHAT, asked.encode(), timeout=20)

    result = ChatCompleted.decode(reply.data)
    assert (result.id, result.status, result.model) == ("job-1", 200, "tiny")
    assert bytes(result.response) == b'{"ok":true}'


async def test_an_edge_that_stops_answers_what_it_has_and_takes_no_more(provisioned_server):
    host = Host(config(provisioned_server), {})
    edge = create(host)
    await edge.start()
    profiler = Bus(provisioned_server.config, PROFILER)
    await profiler.connect()
    calls: list[tuple[ChatCall, str]] = []
    await profiler.on_live(subjects.PROFILE, ChatCall, lambda *call: calls.append(call))
    app = await provisioned_server.connect(APP)
    asked = ChatRequested(id="job-1", request=msgspec.Raw(msgspec.json.encode(CHAT))).encode()
    first = asyncio.create_task(app.request(subjects.LIVE_CHAT, asked, timeout=20))
    await wait_until(lambda: calls, description="the first request")
    stopping = asyncio.create_task(edge.stop())

    async def is_left() -> bool:
        try:
            await app.request(subjects.LIVE_CHAT, asked, timeout=0.5)
        except NoRespondersError:
            return True
        except NatsTimeoutError:
            return False
        return False

    await wait_until(is_left, timeout=5, description="nobody takes live requests")
    for call, reply in calls:
        summary = Summary(decision_id=call.request_id, model="tiny", zone="local")
        profiler.publish(reply, Completed(request_id=call.request_id, summary=summary, body=b"{}"))
    result = ChatCompleted.decode((await first).data)
    await stopping
    await host.close()
    await profiler.close()

    assert (result.id, result.status) == ("job-1", 200)


async def test_a_message_with_an_unknown_member_is_answered_with_an_error(
    edge, lane, provisioned_server
):
    app = await provisioned_server.connect(APP)
    asked = ChatRequested(id="job-1", request=msgspec.Raw(msgspec.json.encode(CHAT))).encode()
    misspelt = asked[:-1] + b',"Label":"restricted"}'
    reply = await app.request(subjects.LIVE_CHAT, misspelt, timeout=20)

    result = ChatCompleted.decode(reply.data)
    assert (result.status, result.error.code) == (400, "contract")
    assert "unknown field; known are" in result.error.message


async def test_a_port_in_use_stops_the_start_and_leaves_nothing(edge, provisioned_server):
    port = int(edge.url.rpartition(":")[2])
    host = Host(config(provisioned_server, port), {})
    second = create(host)

    with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is in use"):
        await second.start()
    assert not second._bus.connected
    await host.close()

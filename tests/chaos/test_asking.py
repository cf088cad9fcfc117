"""What the clients of the chaos run take for what, so that their verdict can be trusted."""

import aiohttp
import pytest

from localforge.faults import FaultServer, Schedule
from tests.chaos.asking import WRONG, Asking, Chat, Messages

BOTH = (Chat, Messages)


async def ask(asking: Asking, fault: str) -> str:
    """Ask a server that has the fault and nothing of LocalForge in front of it."""
    server = FaultServer(schedule=Schedule.parse(fault))
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            return await asking.ask(session, server.url)
    except aiohttp.ClientError:
        return "connection"
    finally:
        await server.close()


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("api", BOTH)
@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ("healthy", "whole"),
        ("ended-early", WRONG),
        ("malformed-chunk", WRONG),
        ("cut-mid-stream", "connection"),
    ],
)
async def test_a_short_answer_is_wrong_and_a_cut_connection_is_none(
    api: type[Asking], stream: bool, fault: str, end: str
):
    assert await ask(api(stream=stream), fault) == end


@pytest.mark.parametrize("api", BOTH)
@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ("duplicated-chunks", WRONG),
        ("empty-answer", WRONG),
        ("error-mid-stream", "error overloaded_error"),
        ("503", "error api_error"),
    ],
)
async def test_a_mixed_answer_is_wrong_and_an_error_is_one(api: type[Asking], fault: str, end: str):
    assert await ask(api(stream=True), fault) == end

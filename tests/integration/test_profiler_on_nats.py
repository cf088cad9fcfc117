"""The profiler as the host runs it, on a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from localforge.bus.permissions import ADMIN, APP
from localforge.config import Config, SealConfig
from localforge.contracts import subjects
from localforge.contracts.chat import ChatRequested
from localforge.contracts.live import DeadLetter
from localforge.hosting import Host
from localforge.profiler.app import ProfilerApp, create
from localforge.trust import ensure_key_pair
from tests.support import wait_until
from tests.support_nats import ProvisionedServer

CHAT = msgspec.Raw(b'{"model":"auto","messages":[{"role":"user","content":"hello"}]}')


@pytest.fixture(name="profiler")
async def _profiler(
    provisioned_server: ProvisionedServer, tmp_path: Path
) -> AsyncIterator[ProfilerApp]:
    private, _ = ensure_key_pair(tmp_path)
    seal = SealConfig(private_key_file=str(private))
    app = create(Host(Config(nats=provisioned_server.config, seal=seal), {}))
    await app.start()
    yield app
    await app.stop()


@pytest.mark.usefixtures("profiler")
async def test_a_request_whose_id_makes_no_subject_is_refused_before_it_costs_anything(
    provisioned_server: ProvisionedServer,
):
    app = await provisioned_server.connect(APP)
    admin = await provisioned_server.connect(ADMIN)

    async def is_dead() -> bool:
        return (await admin.jetstream().stream_info(subjects.DEAD.name)).state.messages == 1

    async def is_done() -> bool:
        return (await admin.jetstream().stream_info(subjects.REQUESTS.name)).state.messages == 0

    await app.jetstream().publish(
        subjects.REQUEST_CHAT, ChatRequested(id="abc\n", request=CHAT).encode()
    )
    await wait_until(is_dead, description="the dead letter")
    await wait_until(is_done, description="nothing is left of it, for a router either")

    stored = await admin.jetstream().get_msg(subjects.DEAD.name, 1)
    letter = DeadLetter.decode(stored.data or b"")
    assert (letter.service, letter.code, letter.deliveries) == ("profiler", "contract", 1)

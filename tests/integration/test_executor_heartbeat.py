"""What an executor tells a real Redis of itself."""

from localforge.config import BackendConfig, ModelConfig
from localforge.executor.breaker import Breaker
from localforge.executor.heartbeat import Heartbeat
from localforge.executor.pool import Pool
from localforge.executor.server import Server as ModelServer
from localforge.executor.service import ExecutorService
from localforge.executor.speed import Speed
from localforge.inference.protocol import BackendLoad
from localforge.registry import RegistryStore
from tests.fakes.backend import FakeAdapter
from tests.support import wait_until
from tests.support_redis import Server, _server, _store  # noqa: F401  # fixtures


class Stumbling(FakeAdapter):
    """Fails to say how busy it is, the first few times it is asked."""

    times = 2

    async def load(self) -> BackendLoad:
        self.times -= 1
        if self.times >= 0:
            raise RuntimeError("unable to perform operation; the handler is closed")
        return BackendLoad(running=1)


async def test_a_beat_that_fails_unexpectedly_is_not_the_last(server: Server, store: RegistryStore):
    backend = BackendConfig(
        name="b", kind="vllm", url="http://b/v1", models=(ModelConfig(name="m"),)
    )
    pool = Pool([ModelServer("s", Stumbling(), Breaker(2, 60.0))])
    service = ExecutorService(backend, pool, replica="r", verifier=None)
    heartbeat = Heartbeat(backend, "r", RegistryStore(server.config), pool, service, Speed())
    await heartbeat.start()
    before = (await store.read()).replicas

    async def beats() -> bool:
        heartbeat.hurry()
        return bool((await store.read()).replicas)

    await wait_until(beats, description="a heartbeat")
    await heartbeat.stop()

    assert before == {}

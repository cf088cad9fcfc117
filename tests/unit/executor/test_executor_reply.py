"""Where an executor says how a live call goes on: to an edge, and to nobody else."""

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from localforge.config import BackendConfig, Config, RedisConfig
from localforge.executor.app import ExecutorApp
from localforge.hosting import Host
from tests.fakes.calls import at_step, execute_call
from tests.support import wait_until

INBOX = "lf.inbox.e1.r1"


class Facts:
    """Takes what is recorded."""

    def record(self, *_: Any, **__: Any) -> None:
        return


class FakeBus:
    """Keeps what is said over it; there is no broker here."""

    user = "executor-local-fake"

    def __init__(self) -> None:
        self.facts = Facts()
        self.sent: list[tuple[str, Any]] = []
        self.broken: Exception | None = None

    def publish(self, subject: str, message: Any) -> None:
        if self.broken is not None:
            broken, self.broken = self.broken, None
            raise broken
        self.sent.append((subject, message))


@pytest.fixture(name="bus")
def _bus() -> FakeBus:
    return FakeBus()


@pytest.fixture(name="app")
def _app(monkeypatch: pytest.MonkeyPatch, bus: FakeBus) -> ExecutorApp:
    backend = BackendConfig(name="fake", kind="openai", url="http://fake/v1")
    config = Config(backends=[backend], redis=RedisConfig(url="redis://127.0.0.1:1"))
    monkeypatch.setattr(Host, "bus", lambda *_: bus)
    return ExecutorApp(Host(config, {}, backend), backend)


@pytest.mark.parametrize("reply", ["", "lf.outcome.local.fake", "lf.answer.x", "_INBOX_x.y"])
def test_a_call_that_names_another_reply_subject_is_dropped(
    app: ExecutorApp, monkeypatch: pytest.MonkeyPatch, reply: str
):
    spawned: list[Any] = []
    run: Callable[..., None] = lambda *work: spawned.append(work)  # noqa: E731
    monkeypatch.setattr(app, "_spawn", run)

    with capture_logs() as logs:
        app.on_live(execute_call(), reply)

    assert spawned == []
    assert [line["event"] for line in logs] == ["reply_to_no_edge"]


async def test_a_step_outside_the_plan_is_told_to_the_edge(app: ExecutorApp, bus: FakeBus):
    app.on_live(at_step(execute_call(), -5), INBOX)
    await wait_until(lambda: bus.sent, description="the refusal")

    [(subject, failed)] = bus.sent
    assert (subject, failed.status, failed.error.code) == (INBOX, 500, "wrong_step")


async def test_what_nothing_foresaw_is_told_to_the_edge_without_its_words(
    app: ExecutorApp, bus: FakeBus
):
    bus.broken = RuntimeError("secret words")
    app.on_live(execute_call(zones=("elsewhere",)), INBOX)
    await wait_until(lambda: bus.sent, description="the refusal")

    [(subject, failed)] = bus.sent
    assert (subject, failed.status) == (INBOX, 500)
    assert (failed.error.type, failed.error.code) == ("api_error", "internal")
    assert "secret" not in failed.error.message

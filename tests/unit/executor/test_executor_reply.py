"""Where an executor says how a live call goes on: to an edge, and to nobody else."""

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from localforge.config import BackendConfig, Config, RedisConfig
from localforge.executor.app import ExecutorApp
from localforge.hosting import Host
from tests.fakes.calls import execute_call


class FakeBus:
    """A connection that nothing may be sent over."""

    user = "executor-local-fake"


@pytest.fixture(name="app")
def _app(monkeypatch: pytest.MonkeyPatch) -> ExecutorApp:
    backend = BackendConfig(name="fake", kind="openai", url="http://fake/v1")
    config = Config(backends=[backend], redis=RedisConfig(url="redis://127.0.0.1:1"))
    monkeypatch.setattr(Host, "bus", lambda *_: FakeBus())
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

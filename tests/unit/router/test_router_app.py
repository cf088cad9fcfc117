"""What a caller of the live lane is told when the router fails where nothing foresaw it."""

from typing import Any

import pytest

from localforge.config import Config
from localforge.contracts.live import ExecuteCall, Failed
from localforge.hosting import Host
from localforge.router.app import RouterApp
from tests.routing import NOW, card, route_call, service

INBOX = "lf.inbox.e1.r1"


class Facts:
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.subjects: list[str] = []

    def record(self, subject: str, _: Any) -> None:
        self.subjects.append(subject)


class FakeBus:
    """Keeps what the router sends; there is no broker here."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.sent: list[Any] = []
        self.broken: Exception | None = None

    def forward(self, _: str, message: Any, *, reply: str, backend: str) -> None:
        if self.broken is not None:
            raise self.broken
        self.sent.append(message)

    def publish(self, _: str, message: Any) -> None:
        self.sent.append(message)


class BrokenShadow:
    """Fails at every decision."""

    def decide(self, *_: Any) -> None:
        raise ZeroDivisionError


@pytest.fixture(name="bus")
def _bus() -> FakeBus:
    return FakeBus()


@pytest.fixture(name="app")
def _app(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> RouterApp:
    monkeypatch.setattr(Host, "bus", lambda *_: bus)
    monkeypatch.setattr("localforge.router.app.time.time", lambda: NOW)
    app = RouterApp(Host(Config(), {}))
    app._service = service(card("a"))
    app._fold = app._service.fold
    return app


def test_what_nothing_foresaw_is_told_to_the_edge_without_its_words(app: RouterApp, bus: FakeBus):
    bus.broken = RuntimeError("secret words")
    app.on_live(route_call(), INBOX)

    [failed] = bus.sent
    assert isinstance(failed, Failed)
    assert (failed.request_id, failed.status) == ("r1", 500)
    assert (failed.error.type, failed.error.code) == ("api_error", "internal")
    assert "secret" not in failed.error.message


def test_a_shadow_that_fails_does_not_end_a_request_that_is_on_its_way(
    app: RouterApp, bus: FakeBus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app, "_shadow", BrokenShadow())
    app.on_live(route_call(), INBOX)

    assert [type(message) for message in bus.sent] == [ExecuteCall]
    assert len(bus.facts.subjects) == 1

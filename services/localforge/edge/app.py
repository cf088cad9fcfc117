"""Wiring: the ASGI application from its parts, and the service for the host."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from importlib.metadata import version

from nats.errors import Error as NatsError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from localforge.bus.decision_log import read_decision
from localforge.bus.permissions import EDGE
from localforge.config import Config, EdgeConfig
from localforge.contracts import subjects
from localforge.contracts.chat import ChatCompleted, FeedbackSubmitted
from localforge.contracts.live import FactsDelayed
from localforge.edge.asgi import HttpRequest
from localforge.edge.body import encode
from localforge.edge.catalogue import ModelsEndpoint, Registry
from localforge.edge.chat import ChatEndpoint
from localforge.edge.completions import CompletionsEndpoint
from localforge.edge.decisions import DecisionsEndpoint, Fetch
from localforge.edge.delays import DelayedFacts
from localforge.edge.dispatch import BusDispatch
from localforge.edge.feedback import FeedbackEndpoint, Publish
from localforge.edge.health import Check, HealthEndpoint
from localforge.edge.host_guard import HostGuard
from localforge.edge.keys import KeyRing
from localforge.edge.live_door import LiveDoor
from localforge.edge.messages import ANTHROPIC_ERRORS, MessagesEndpoint
from localforge.edge.openapi import document
from localforge.edge.readiness import ReadinessCheck
from localforge.edge.routes import EdgeApp, Handler, Route
from localforge.edge.server import serve_http
from localforge.edge.service import EdgeService
from localforge.errors import ConfigError, DependencyUnavailable
from localforge.hosting import Host
from localforge.hosting.machine import machine_id
from localforge.request.strict import StrictChatRequested
from localforge.telemetry import log, metrics

_log = log.get("edge")

MEGABYTE = 1_000_000
GRACE_S = 10.0
"""For requests in flight when the edge stops."""


def create_app(
    config: EdgeConfig,
    service: EdgeService,
    registry: Registry,
    check: Check,
    publish: Publish,
    fetch: Fetch,
    *,
    is_delayed: Callable[[], bool],
    keys: Callable[[], KeyRing],
    aliases: Callable[[], Mapping[str, str]],
) -> EdgeApp:
    """Return the ASGI application.

    Args:
        config: Limits.
        service: The logic, with its way into the live lane.
        registry: For the list of models.
        check: Looks at the dependencies, for readiness.
        publish: Stores feedback durably.
        fetch: Gets one decision from the log.
        is_delayed: Tells whether the log may lack decisions for longer than a moment.
        keys: Returns the key ring in force.
        aliases: Returns the aliases in force.
    """
    release = version("localforge")
    max_body = int(config.max_body_mb * MEGABYTE)
    chat = ChatEndpoint(service, keys, max_body)
    completions = CompletionsEndpoint(chat, service)
    messages = MessagesEndpoint(chat)
    models = ModelsEndpoint(registry, aliases, keys, int(service.clock()))
    feedback = FeedbackEndpoint(
        publish, fetch, is_delayed, keys, service.new_id, service.clock, max_body
    )
    decisions = DecisionsEndpoint(fetch, keys)
    health = HealthEndpoint(check)
    return EdgeApp(
        [
            Route("GET", "/", _fixed(encode(_about(release)))),
            Route("POST", "/v1/chat/completions", chat.complete),
            Route("POST", "/v1/completions", completions.create),
            Route("POST", "/v1/embeddings", chat.embed),
            Route("POST", "/v1/messages", messages.create, errors=ANTHROPIC_ERRORS),
            Route(
                "POST",
                "/v1/messages/count_tokens",
                messages.count_tokens,
                errors=ANTHROPIC_ERRORS,
            ),
            Route("POST", "/v1/route", chat.route),
            Route("GET", "/v1/models", models.list_all),
            Route("GET", "/v1/models/{id}", models.get_one),
            Route("POST", "/v1/feedback", feedback.submit),
            Route("GET", "/v1/decisions/{id}", decisions.get_one),
            Route("GET", "/livez", health.live, is_logged=False),
            Route("GET", "/readyz", health.ready, is_logged=False),
            Route("GET", "/metrics", _metrics, is_logged=False),
            Route("GET", "/openapi.json", _fixed(encode(document(release)))),
        ],
        HostGuard(config.host, config.hosts, keys),
        service.new_id,
    )


class Edge:
    """The edge as a service of a host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._config = host.config
        self._keys = KeyRing(host.config.keys, host.secret)
        if self._keys.problems:
            raise ConfigError("; ".join(self._keys.problems))
        self._bus = host.bus(EDGE)
        self._running = AsyncExitStack()
        self._secret = secrets.token_bytes(16)
        self.url = ""
        """Base URL once started."""

    async def start(self) -> None:
        """Connect, take the inbox, listen.

        Raises:
            ConfigError: The port is in use.
            DependencyUnavailable: The broker does not answer.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        config = self._config.edge
        await self._bus.connect()
        self._running.push_async_callback(self._bus.close)
        registry = await self._host.registry()
        service = EdgeService(
            config,
            BusDispatch(self._bus),
            secrets.token_hex(4),
            registry,
            machine_id(),
            aliases=lambda: self._config.aliases,
        )
        self._running.callback(service.close)
        metrics.EDGE_IN_FLIGHT.set_function(lambda: service.in_flight)

        def on_inbox(subject: str, data: bytes, nobody: bool) -> None:
            if nobody:
                service.on_no_responders(subject.rpartition(".")[2], data.decode())
            else:
                service.on_frame(data)

        presence = subjects.lost(service.edge_id, "")

        def on_presence(subject: str, _: bytes, nobody: bool) -> None:
            service.on_presence(subject.removeprefix(presence), nobody=nobody)

        await self._bus.subscribe(subjects.inbox(service.edge_id, "*"), on_inbox)
        await self._bus.subscribe(subjects.lost(service.edge_id, ">"), on_presence)
        door = LiveDoor(service, self._answer, config.deadline_s)
        self._running.push_async_callback(door.close, GRACE_S)
        await self._bus.on_live(
            subjects.LIVE_CHAT, StrictChatRequested, door.on_request, queue=EDGE, refuse=door.refuse
        )
        delays = DelayedFacts()
        await self._bus.on_live(subjects.status("*"), FactsDelayed, delays.on_word)
        app = create_app(
            config,
            service,
            registry,
            ReadinessCheck(self._bus, registry, service, delays),
            self._publish,
            self._fetch_decision,
            is_delayed=lambda: bool(delays.current()),
            keys=lambda: self._keys,
            aliases=lambda: self._config.aliases,
        )
        self.url = await self._running.enter_async_context(
            serve_http(app, config.host, config.port, grace_s=GRACE_S)
        )
        _log.info("edge_listening", url=self.url)

    async def stop(self) -> None:
        """Stop accepting, finish what is in flight, disconnect."""
        # Whoever asks from now on is for another edge to answer.
        await self._bus.leave(subjects.LIVE_CHAT)
        await self._running.aclose()

    async def reload(self, config: Config) -> None:
        """Take new keys and aliases; address and limits need a restart.

        Raises:
            ConfigError: A key's secret cannot be resolved: that key does not work, all others do.
        """
        self._config = config
        self._keys = KeyRing(config.keys, self._host.secret)
        if self._keys.problems:
            raise ConfigError(
                f"{'; '.join(self._keys.problems)}. A running process keeps the environment it was "
                "started with: restart LocalForge, or use file:/path"
            )

    def _answer(self, reply: str, result: ChatCompleted) -> None:
        try:
            self._bus.publish(reply, result)
        except NatsError as exc:
            raise DependencyUnavailable(f"the broker did not take the answer: {exc}") from exc

    async def _fetch_decision(self, decision_id: str) -> bytes | None:
        self._check_connected()
        return await read_decision(self._bus.client, decision_id)

    async def _publish(self, verdict: FeedbackSubmitted) -> None:
        self._check_connected()
        await self._bus.publish_durable(
            subjects.REQUEST_FEEDBACK, verdict, message_id=self._message_id(verdict)
        )

    def _message_id(self, verdict: FeedbackSubmitted) -> str:
        """Name a verdict: clients choose `id` each for itself, and applications use the stream too.

        Another edge has another name for it, and what is there twice teaches once.
        """
        said = f"{verdict.key_id} {verdict.completion_id} {verdict.id}"
        return hashlib.blake2b(said.encode(), key=self._secret, digest_size=16).hexdigest()

    def _check_connected(self) -> None:
        if not self._bus.connected:
            raise DependencyUnavailable("the broker does not answer", code="broker_unavailable")


def create(host: Host) -> Edge:
    """Return the service; called by the host.

    Raises:
        ConfigError: A key's secret cannot be resolved.
    """
    return Edge(host)


async def _metrics(request: HttpRequest) -> None:
    await request.reply(200, generate_latest(), kind=CONTENT_TYPE_LATEST.encode())


def _fixed(body: bytes) -> Handler:
    async def handler(request: HttpRequest) -> None:
        await request.reply(200, body)

    return handler


def _about(release: str) -> dict[str, object]:
    return {
        "name": "LocalForge",
        "version": release,
        "what": "A control plane for large language models with OpenAI's API; use `model: auto`.",
        "openapi": "/openapi.json",
        "ready": "/readyz",
        "models": "/v1/models",
    }

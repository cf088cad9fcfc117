"""The fault server: listens, finds out which fault is asked for, keeps the journal."""

import asyncio
import re
import socket
import ssl
import time
from contextlib import suppress
from typing import Any

import msgspec

from localforge.errors import RequestRefused
from localforge.faults.catalogue import DESCRIPTIONS, PREFIX, Fault, find_fault
from localforge.faults.connection import Connection, Request
from localforge.faults.formats import CHAT, FORMATS, NO_TEMPLATE, Format, Question
from localforge.faults.journal import Journal, SeenRequest
from localforge.faults.pages import TEMPLATE_PATH, page
from localforge.faults.playing import JSON, Play
from localforge.faults.schedule import Schedule
from localforge.faults.settings import Settings

JOURNAL_PATH = "/faults/journal"
SCHEDULE_PATH = "/faults/schedule"
LIST_PATH = "/faults"
SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
_IN_PROMPT = re.compile(r"\bfault:([a-z0-9-]+)(?:@([\w./:-]*\w))?")

_json = msgspec.json.Decoder(dict[str, Any])
_encoder = msgspec.json.Encoder(enc_hook=list)  # a journal is made of deques


class FaultServer:
    """A model server on a free port, or on one of your choice.

    Which fault a request gets: one named in its prompt, `fault:cut-mid-stream` for whatever model
    or `fault:cut-mid-stream@small` for the model `small`; or else the one its model is named
    after, `fault-cut-mid-stream`; or else the next of the schedule; or else none.

    Args:
        settings: How slow and how big the faults are.
        schedule: For requests that name no fault.
        tls: Speak TLS with this context.

    Attributes:
        journal: What it saw.
        schedule: Faults still to come; may be replaced.
        url: Base URL, without a path, once started.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        schedule: Schedule | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.schedule = schedule or Schedule()
        self.journal = Journal()
        self.url = ""
        self._tls = tls
        self._host = ""
        self._port = 0
        self._server: asyncio.Server | None = None
        self._held: socket.socket | None = None
        self._connections: set[Connection] = set()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one."""
        self._host, self._port = host, port
        await self.listen()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if self._tls else 'http'}://{shown}:{self._port}"

    async def close(self) -> None:
        """Close every connection and stop."""
        await self._stop()

    async def listen(self) -> None:
        """Serve at the address, again after `refuse` or `break_tls`."""
        await self._open(self._tls)

    async def refuse(self) -> None:
        """Close every connection and refuse new ones; the port stays ours."""
        await self._stop()
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # Bound and not listening: the kernel refuses, and nobody else can take the port.
        self._held = socket.socket(family)
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind((self._host, self._port))

    async def break_tls(self) -> None:
        """Close every connection and end every TLS handshake with an alert."""
        await self._open(None)

    async def _open(self, tls: ssl.SSLContext | None) -> None:
        await self._stop()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._connect, self._host, self._port, ssl=tls, reuse_address=True
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None
        if self._server is not None:
            self._server.close()
            for connection in tuple(self._connections):
                connection.abort()
            await self._server.wait_closed()
            self._server = None

    def _connect(self) -> Connection:
        return Connection(self.journal, self._answer, self._connections)

    async def _answer(self, connection: Connection, request: Request) -> None:
        wire = FORMATS.get(request.path) if request.method == "POST" else None
        if wire is not None:
            await self._play(connection, request, wire)
        elif request.path == TEMPLATE_PATH and not self.settings.chat_template:
            await connection.whole(422, JSON, NO_TEMPLATE)
        elif found := page(request.method, request.path, self.settings, self.journal):
            await connection.whole(200, {"Content-Type": found[0]}, found[1])
        elif not await self._control(connection, request):
            body = _encoder.encode({"error": {"message": f"there is no {request.path}"}})
            await connection.whole(404, JSON, body)

    async def _play(self, connection: Connection, request: Request, wire: Format) -> None:
        try:
            body = _json.decode(request.body)
            question = self._named(wire.read(body, request.path, self.settings.words))
            fault = self._fault(question)
        except (msgspec.DecodeError, RequestRefused, KeyError, TypeError) as exc:
            error = wire.error(str(exc), "invalid_request_error")
            await connection.whole(400, JSON, error)
            return
        if wire is CHAT and not self.settings.chat_template:
            await connection.whole(422, JSON, NO_TEMPLATE)
            return
        seen = self._note(connection, request, wire, question, fault)
        try:
            await Play(connection, wire, _fitted(question, fault), fault, self.settings).run()
            seen.finished = True
        except (asyncio.CancelledError, ConnectionResetError):
            seen.client_gone = True
            raise
        finally:
            seen.ended_at = time.time()
            seen.bytes_sent = connection.bytes_sent

    def _named(self, question: Question) -> Question:
        """Return a question for the first model when it names none, as TGI's do."""
        if question.model:
            return question
        return msgspec.structs.replace(question, model=self.settings.models[0])

    def _fault(self, question: Question) -> Fault:
        for name, model in _IN_PROMPT.findall(question.prompt):
            if not model or model == question.model:
                return find_fault(name)
        if question.model.startswith(PREFIX):
            return find_fault(question.model)
        return self.schedule.take()

    def _note(
        self,
        connection: Connection,
        request: Request,
        wire: Format,
        question: Question,
        fault: Fault,
    ) -> SeenRequest:
        self.journal.count += 1
        seen = SeenRequest(
            id=self.journal.count,
            connection=connection.seen.id,
            path=request.path,
            format=wire.name,
            model=question.model,
            fault=fault,
            stream=question.stream,
            at=time.time(),
            headers={k: v for k, v in request.headers.items() if k not in SECRET_HEADERS},
            body=request.body.decode(errors="replace") if self.settings.keep_bodies else "",
        )
        self.journal.requests.append(seen)
        return seen

    async def _control(self, connection: Connection, request: Request) -> bool:
        """Answer what is asked of the server itself; False when nothing is."""
        match request.method, request.path:
            case "GET", path if path == JOURNAL_PATH:
                await connection.whole(200, JSON, _encoder.encode(self.journal))
            case "DELETE", path if path == JOURNAL_PATH:
                self.journal.clear()
                await connection.whole(200, JSON, b"{}")
            case "GET", path if path == LIST_PATH:
                await connection.whole(200, JSON, _encoder.encode(DESCRIPTIONS))
            case "PUT", path if path == SCHEDULE_PATH:
                try:
                    self.schedule = Schedule.parse(request.body.decode(errors="replace"))
                except RequestRefused as exc:
                    await connection.whole(400, JSON, _encoder.encode({"error": exc.message}))
                else:
                    await connection.whole(200, JSON, b'{"faults":%d}' % len(self.schedule))
            case _:
                return False
        return True


def _fitted(question: Question, fault: Fault) -> Question:
    """Return the question as faults of the answer's content want it answered."""
    replace = msgspec.structs.replace
    if fault is Fault.EMPTY:
        return replace(question, words=(), is_cut=False)
    if fault is Fault.NO_USAGE:
        return replace(question, wants_usage=False)
    if fault is Fault.USAGE_WITH_CHOICES:
        return replace(question, usage_with_content=True)
    return question


async def serve_forever(server: FaultServer) -> None:
    """Keep a started server until the task is cancelled, then close it."""
    try:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    finally:
        await server.close()

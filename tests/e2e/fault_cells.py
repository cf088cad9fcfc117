"""The cells of the fault matrix: every fault, API, kind of backend, way of answering and place."""

import itertools
from typing import Any, NamedTuple

from localforge.faults import Fault, Settings

SLOW_S = 6.0
DEADLINE_S = 20.0
SETTINGS = Settings(
    slow_s=SLOW_S,
    retry_after_s=1.0,
    # On a loaded machine too, what came before a fault must be read before the fault comes.
    settle_s=0.5,
    keep_bodies=True,
    models=("faulty", "healthy"),
)
TEXT = " ".join(SETTINGS.words)
STUTTER = TEXT.replace(" sea", " sea sea")
DURABLE_DEADLINE_S = 8.0
"""Less than the 10 s after which a delivery comes again."""

APIS = ("chat", "messages")
PLACES = ("first", "last")
OPENAI, GENERATING = "openai", "tgi-generate"
MESSAGES_KINDS = (OPENAI, "anthropic")
"""Kinds that `/v1/messages` is asked of: one in another format and one in its own."""
OTHER_KINDS = ("vllm", "anthropic", "ollama", "tgi", GENERATING)
"""Backends with a format of their own; `tgi-generate` is a TGI whose model has no chat template."""
KINDS = (OPENAI, *OTHER_KINDS)
READ_AS_STREAMS = ("anthropic", "ollama", GENERATING)
"""Kinds of which a whole answer is read as a stream too."""
SWITCHED = (Fault.REFUSED, Fault.TLS)
"""Faults of the whole server, which the matrix switches on for a while."""
HARMLESS = (Fault.HEALTHY, Fault.USAGE_WITH_CHOICES, Fault.NO_USAGE, Fault.DUPLICATED)
MID_STREAM = (
    Fault.STALL,
    Fault.CUT,
    Fault.ENDED_EARLY,
    Fault.MALFORMED,
    Fault.ERROR_MID_STREAM,
    Fault.TRUNCATED_UTF8,
    Fault.LONG_LINE,
)
WAITING = (
    Fault.SILENT,
    Fault.SLOW_FIRST_TOKEN,
    *(fault for fault in MID_STREAM if fault is not Fault.LONG_LINE),
)
"""Faults that take time and nobody's CPU."""


class Cell(NamedTuple):
    """One request: `api` is `chat`, `messages` or `durable`, or `again` for `COMEBACK`."""

    fault: Fault
    api: str
    stream: bool
    place: str
    """Of the faulty model in the plan."""
    kind: str = OPENAI
    """Of the faulty model's backend."""

    @property
    def marker(self) -> str:
        """A word that only its request has, as long as that of its pair streamed and whole."""
        way = "s" if self.stream else "w"
        return f"cell-{self.kind}-{self.fault}-{self.api}-{self.place}-{way}"

    @property
    def model(self) -> str:
        """The faulty model."""
        return f"{self.kind}-{self.place}"

    @property
    def lane(self) -> str:
        """The column of the table."""
        if self.api in APIS:
            return "streamed" if self.stream else "whole"
        return self.api

    @property
    def breaks_in_the_middle(self) -> bool:
        """Whether content has reached the client when the fault strikes."""
        return self.stream and self.fault in MID_STREAM

    @property
    def is_read_as_stream(self) -> bool:
        """Whether the model server streams its answer, whatever the client gets."""
        return self.stream or self.kind in READ_AS_STREAMS

    @property
    def prompt(self) -> str:
        """What the user says."""
        if self == COMEBACK:
            return f"{self.marker} please and nothing more"
        return f"{self.marker} please fault:{self.fault}@faulty now"


COMEBACK = Cell(Fault.CUT, "again", stream=False, place="last")
"""A durable request that fails as often as it is tried when it first comes, and is answered when it
comes again. Its faults are from the server's schedule."""

CELLS = [
    *(
        Cell(fault, "messages", stream, place, kind)
        for fault, stream, place, kind in itertools.product(
            Fault, (True, False), PLACES, MESSAGES_KINDS
        )
    ),
    *(Cell(fault, "durable", False, place) for fault, place in itertools.product(Fault, PLACES)),
    *(
        Cell(fault, "chat", stream, place, kind)
        for fault, stream, place, kind in itertools.product(Fault, (True, False), PLACES, KINDS)
    ),
]


def body_of(cell: Cell) -> dict[str, Any]:
    """Return a cell's request. What the last model needs, the first and the second cannot do."""
    needs: dict[str, Any] = {}
    if cell.place == "last":
        schema = {"type": "object", "properties": {}}
        if cell.kind == GENERATING:
            needs = {"logprobs": True}
        elif cell.api == "messages":
            needs = {"tools": [{"name": "look", "input_schema": schema}]}
        else:
            function = {"name": "look", "parameters": schema}
            needs = {"tools": [{"type": "function", "function": function}]}
    asked = {
        "model": "auto",
        "messages": [{"role": "user", "content": cell.prompt}],
        "max_tokens": 16,
        "provider": {"only": [cell.kind, "rest"]},
        **needs,
    }
    if cell.stream:
        asked["stream"] = True
        if cell.api == "chat":
            asked["stream_options"] = {"include_usage": True}
    return asked

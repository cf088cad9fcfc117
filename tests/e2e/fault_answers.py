"""What a client saw of one cell of the fault matrix, read from the wire of either API."""

import json
from typing import Any

import msgspec

from localforge.contracts.chat import Usage
from localforge.contracts.facts import OutcomeObserved
from localforge.faults.journal import SeenRequest
from tests.e2e.fault_cells import STUTTER

ANTHROPIC_STATUSES = {500: 502, 529: 503}
"""What `/v1/messages` says for what the table calls the other."""


class Seen(msgspec.Struct, kw_only=True):
    """What the client saw of one cell, and what the log and the model servers have of it."""

    status: int
    text: str = ""
    error: dict[str, Any] | None = None
    """The error's object, whole or from an event."""
    is_whole: bool = False
    """The API's own sign of a complete answer came."""
    reasons: int = 0
    """How often a reason was given why the answer ends."""
    usage: tuple[int, int] | None = None
    """Tokens of prompt and answer."""
    cost_usd: float | None = None
    """By the header, or in the durable result."""
    logged_usd: float | None = None
    """By the edge's log line."""
    used: Usage | None = None
    """Tokens of all attempts, as a durable result tells them."""
    model: str = ""
    request_id: str = ""
    took_s: float = 0.0
    attempts: list[OutcomeObserved] = []
    """In the order of the plan."""
    requests: list[SeenRequest] = []
    """That reached a model server, in order of time."""
    fallbacks: list[tuple[str, str]] = []
    """By the executors' log lines: which model was followed by which."""

    @property
    def outcome(self) -> str:
        """In words, for the table."""
        if self.error is None:
            if self.text == STUTTER:
                return "whole answer, what came twice is in it twice"
            if self.model.endswith(("-first", "-last")):
                return "whole answer"
            return "whole answer by the next model"
        if self.text:
            return "error event after what had come"
        if self.status == 504:
            return "error 504 at the deadline"
        return f"error {ANTHROPIC_STATUSES.get(self.status, self.status)}"


def read_stream(data: bytes) -> list[Any]:
    """Return the objects of a stream; `[DONE]` stands for itself."""
    found = [
        line.removeprefix("data:").strip()
        for line in data.decode().splitlines()
        if line.startswith("data:")
    ]
    return [entry if entry == "[DONE]" else json.loads(entry) for entry in found]


def read_chat(told: list[Any], status: int) -> Seen:
    seen = Seen(status=status)
    for entry in told:
        if entry == "[DONE]":
            seen.is_whole = True
            continue
        if "error" in entry:
            seen.error = entry["error"]
            continue
        for choice in entry["choices"]:
            part = choice.get("message") or choice["delta"]
            seen.text += part.get("content") or ""
            seen.is_whole = seen.is_whole or "message" in choice
            seen.reasons += choice.get("finish_reason") is not None
        if usage := entry.get("usage"):
            seen.usage = (usage["prompt_tokens"], usage["completion_tokens"])
    return seen


def read_message(told: list[Any], status: int) -> Seen:
    seen = Seen(status=status)
    prompt_tokens = 0
    for entry in told:
        match entry["type"]:
            case "error":
                seen.error = entry["error"]
            case "message":
                seen.text = "".join(block["text"] for block in entry["content"])
                usage = entry["usage"]
                seen.usage = (usage["input_tokens"], usage["output_tokens"])
                seen.is_whole = True
                seen.reasons += entry["stop_reason"] is not None
            case "message_start":
                prompt_tokens = entry["message"]["usage"]["input_tokens"]
            case "content_block_delta":
                seen.text += entry["delta"]["text"]
            case "message_delta":
                usage = entry["usage"]
                seen.reasons += entry["delta"]["stop_reason"] is not None
                prompt = usage.get("input_tokens") or prompt_tokens
                seen.usage = (prompt, usage["output_tokens"])
            case "message_stop":
                seen.is_whole = True
    return seen

"""OpenAI's chat request as data, for adapters that have to say it in other words.

Read leniently: members that no adapter translates are ignored, and what has the wrong type is a
refusal that names the field. The text itself never gets into an error.
"""

from typing import Any

import msgspec

from localforge.errors import RequestRefused
from localforge.inference.failures import cannot_say


class ImageUrl(msgspec.Struct, kw_only=True):
    """Where an image is: an address or `data:<type>;base64,<data>`."""

    url: str


class FileData(msgspec.Struct, kw_only=True):
    """A file that travels in the request, as a `data:` URL."""

    file_data: str = ""


class Part(msgspec.Struct, kw_only=True):
    """A part of a message's content; `type` says which members count."""

    type: str
    text: str | None = None
    image_url: ImageUrl | str | None = None
    file: FileData | None = None
    refusal: str | None = None
    cache_control: dict[str, Any] | None = None
    """Passed on to a provider that caches prompts on request."""

    @property
    def image(self) -> str:
        """The image's address; empty where the part is none."""
        found = self.image_url
        return "" if found is None else found if isinstance(found, str) else found.url


class FunctionCall(msgspec.Struct, kw_only=True):
    """A call the model made; `arguments` is JSON in a string."""

    name: str
    arguments: str | None = None


class ToolCall(msgspec.Struct, kw_only=True):
    """A call with the id that its result refers to."""

    function: FunctionCall
    id: str | None = None


class ChatMessage(msgspec.Struct, kw_only=True):
    """One turn."""

    role: str
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[dict[str, Any]] | None = None
    """Signed thoughts as an Anthropic backend gave them, to be handed back unchanged."""

    @property
    def parts(self) -> list[Part]:
        """The content as a list of parts."""
        if isinstance(self.content, str):
            return [Part(type="text", text=self.content)] if self.content else []
        return self.content or []

    @property
    def text(self) -> str:
        """The text of the content."""
        return "".join(part.text or part.refusal or "" for part in self.parts) or self.refusal or ""


class Function(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a tool is called and takes."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, kw_only=True):
    """A tool; only functions can be translated."""

    function: Function | None = None
    type: str = "function"


class JsonSchema(msgspec.Struct, kw_only=True):
    """A named schema of an answer."""

    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """`text`, `json_object`, or `json_schema` with a schema."""

    type: str
    json_schema: JsonSchema | None = None


class ChatRequest(msgspec.Struct, kw_only=True):
    """The body of `POST /v1/chat/completions`."""

    messages: list[ChatMessage]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    n: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    functions: list[Function] | None = None
    """The old form of `tools`, which only OpenAI's own format can carry."""
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    thinking: dict[str, Any] | None = None
    """Anthropic's own word for it, passed on as it is."""
    user: str | None = None
    service_tier: str | None = None

    @property
    def bound(self) -> int:
        """Most completion tokens the request allows; 0 means no bound."""
        return self.max_completion_tokens or self.max_tokens or 0

    @property
    def stops(self) -> list[str]:
        """The stop sequences."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def schema(self) -> dict[str, Any] | None:
        """The schema that the answer must have; None where it asks for none."""
        wanted = self.response_format
        if wanted is None or wanted.type != "json_schema" or wanted.json_schema is None:
            return None
        return wanted.json_schema.schema or {}

    @property
    def offered(self) -> list[Function]:
        """The tools that the model may call.

        Raises:
            BackendUnavailable: One is no function (status 400).
        """
        found = []
        for index, tool in enumerate(self.tools or ()):
            if tool.function is None:
                raise cannot_say(
                    f"`tools[{index}]` is of type {tool.type[:40]!r}; only functions can be passed "
                    "on to this backend",
                    "tools",
                )
            found.append(tool.function)
        return found

    @property
    def chosen_function(self) -> str:
        """The one function that must be called; empty where the choice is the model's."""
        if not isinstance(self.tool_choice, dict):
            return ""
        function = self.tool_choice.get("function")
        return str(function.get("name", "")) if isinstance(function, dict) else ""


_decoder = msgspec.json.Decoder(ChatRequest)
_encoder = msgspec.json.Encoder()


def read_chat(body: bytes) -> ChatRequest:
    """Read a request.

    Raises:
        RequestRefused: It is not JSON, or a field has the wrong type; names the field.
        BackendUnavailable: It has what no other format has words for (status 400).
    """
    try:
        chat = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise RequestRefused(f"the request cannot be passed on to this backend: {exc}") from exc
    except RecursionError as exc:
        raise _too_deep() from exc
    if chat.functions:
        raise cannot_say("`functions` is the old form of `tools`; send `tools`", "functions")
    return chat


def encode(request: Any) -> bytes:
    """Return a translated request as JSON.

    Raises:
        RequestRefused: It is nested too deeply.
    """
    try:
        return _encoder.encode(request)
    except RecursionError as exc:
        raise _too_deep() from exc


def read_arguments(call: FunctionCall) -> Any:
    """Return the arguments of a call as an object.

    Raises:
        RequestRefused: They are not a JSON object, or one that is nested too deeply.
    """
    try:
        found = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    except RecursionError as exc:
        raise _too_deep() from exc
    if not isinstance(found, dict):
        raise RequestRefused(
            "the `arguments` of a tool call in `messages` are not a JSON object", param="messages"
        )
    return found


def _too_deep() -> RequestRefused:
    return RequestRefused("`messages` are nested too deeply to be passed on", param="messages")


def split_data_url(url: str) -> tuple[str, str] | None:
    """Return media type and base64 data of a `data:` URL; None for any other address."""
    if not url[:5].lower().startswith("data:"):
        return None
    head, _, data = url[5:].partition(",")
    media_type, *options = head.split(";")
    if "base64" not in options:
        raise RequestRefused("a `data:` URL in `messages` must be base64", param="messages")
    return media_type, data

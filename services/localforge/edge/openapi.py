"""The OpenAPI 3.1 document: schemas from the structs, paths by hand."""

from typing import Any

import msgspec

from localforge.dialects.completions import CompletionBody
from localforge.dialects.messages_request import CountBody, MessagesBody
from localforge.edge.asgi import ErrorAnswer
from localforge.edge.body import ChatBody, EmbeddingsBody
from localforge.edge.catalogue import ModelList, ModelObject
from localforge.edge.explanation import DecisionExplanation, RouteExplanation
from localforge.edge.feedback import FeedbackAccepted, FeedbackBody
from localforge.edge.health import Liveness, Readiness
from localforge.inference.anthropic_shapes import ErrorBody
from localforge.request.options import LABELS, POLICIES, PREFERENCES

_STRUCTS = (
    ChatBody,
    CompletionBody,
    CountBody,
    DecisionExplanation,
    EmbeddingsBody,
    ErrorAnswer,
    ErrorBody,
    FeedbackAccepted,
    FeedbackBody,
    Liveness,
    MessagesBody,
    ModelList,
    ModelObject,
    Readiness,
    RouteExplanation,
)
_ANSWER_HEADERS = {
    "x-request-id": "Of this request, errors included; the log has the same.",
    "x-localforge-decision": "Id of the decision.",
    "x-localforge-model": "The model that answers.",
    "x-localforge-zone": "Where it runs.",
    "x-localforge-cost-usd": "What all attempts cost; not on a stream that has begun.",
    "x-localforge-overhead-ms": "Time to the first byte that LocalForge spent.",
    "x-localforge-fallbacks": "Models that were tried before and failed.",
}


def document(version: str) -> dict[str, Any]:
    """Return the document for this version of LocalForge."""
    _, schemas = msgspec.json.schema_components(
        _STRUCTS, ref_template="#/components/schemas/{name}"
    )
    # What the edge does not know passes through, and the document must not forbid it.
    for name in ("ChatBody", "EmbeddingsBody"):
        schemas[name]["additionalProperties"] = True
    # The members of a chat request are a base of its struct, not of the request.
    del schemas["EmbeddingsBody"]["properties"]["messages"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LocalForge",
            "version": version,
            "description": "OpenAI's API; `model: auto` lets LocalForge choose the model.",
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        # Empty means that no key is needed, as when none is configured.
        "security": [{}, {"bearer": []}, {"header": []}],
    }


def _paths() -> dict[str, Any]:
    return {
        "/": {"get": _operation("What this is", _json("Name, version, where to look", None))},
        "/v1/chat/completions": {"post": _run("A chat completion", "ChatBody")},
        "/v1/completions": {
            "post": _run("A text completion, answered by a chat model", "CompletionBody")
        },
        "/v1/embeddings": {"post": _embeddings()},
        "/v1/messages": {"post": _messages()},
        "/v1/messages/count_tokens": {"post": _count_tokens()},
        "/v1/route": {"post": _route()},
        "/v1/models": {
            "get": _operation("Names a request may use", _json("All models", "ModelList"))
        },
        "/v1/models/{id}": {
            "get": _operation(
                "One model",
                _json("The model", "ModelObject"),
                errors=("404",),
                parameters=[
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
                ],
            )
        },
        "/v1/feedback": {
            "post": _operation(
                "A verdict on one completion",
                _json("The verdict is stored", "FeedbackAccepted"),
                status="202",
                errors=("400", "413", "503"),
                body="FeedbackBody",
            )
        },
        "/v1/decisions/{id}": {
            "get": _operation(
                "A logged decision, why it came out so, and what would have tipped it",
                _json("The decision", "DecisionExplanation"),
                errors=("404", "503"),
                parameters=[
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
                ],
            )
        },
        "/livez": {"get": _operation("Does the process answer", _json("It does", "Liveness"))},
        "/readyz": {"get": _ready()},
        "/metrics": {"get": _operation("Prometheus metrics", _text("text/plain", "Metrics"))},
        "/openapi.json": {"get": _operation("This document", _json("OpenAPI 3.1", None))},
    }


def _run(
    summary: str,
    body: str,
    errors: tuple[str, ...] = ("400", "404", "413", "415", "429", "502", "503", "504"),
) -> dict[str, Any]:
    answer = _answer("The whole answer, or server-sent events when `stream` is true")
    answer["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return _operation(summary, answer, errors=errors, body=body, parameters=_option_headers())


def _embeddings() -> dict[str, Any]:
    return _operation(
        "Vectors for texts",
        _answer("One vector for each input, as the backend encodes them"),
        errors=("400", "404", "413", "415", "429", "502", "503", "504"),
        body="EmbeddingsBody",
        parameters=_option_headers(),
    )


def _messages() -> dict[str, Any]:
    errors = ("400", "404", "413", "415", "429", "500", "504", "529")
    return _in_anthropics_shape(_run("A message, in Anthropic's words", "MessagesBody", errors))


def _count_tokens() -> dict[str, Any]:
    return _in_anthropics_shape(
        _operation(
            "Tokens of a message, estimated",
            _json("`input_tokens`", None),
            errors=("400", "404", "413", "415", "504", "529"),
            body="CountBody",
        )
    )


def _in_anthropics_shape(operation: dict[str, Any]) -> dict[str, Any]:
    for status, answer in operation["responses"].items():
        if status != "200":
            answer["content"] = _content("ErrorBody")
    return operation


def _answer(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in _ANSWER_HEADERS.items()
        },
        "content": {"application/json": {"schema": {"type": "object"}}},
    }


def _route() -> dict[str, Any]:
    return _operation(
        "What would be chosen and why, without running it",
        _json("The decision", "RouteExplanation"),
        errors=("400", "404", "413", "503", "504"),
        body="ChatBody",
        parameters=_option_headers(),
    )


def _ready() -> dict[str, Any]:
    found = _operation(
        "Can requests be answered", _json("Yes; `degraded` says at what loss", "Readiness")
    )
    found["responses"]["503"] = _json("No", "Readiness")
    return found


def _option_headers() -> list[dict[str, Any]]:
    schemas = {
        "x-localforge-preference": {
            "type": "string",
            "examples": [*PREFERENCES, "cost=40,latency=0.01"],
        },
        "x-localforge-label": {"type": "string", "enum": list(LABELS)},
        "x-localforge-deadline-s": {"type": "number", "exclusiveMinimum": 0},
        "x-localforge-fallback": {"type": "string", "enum": ["yes", "no", "true", "false"]},
        "x-localforge-cascade": {"type": "string", "enum": ["yes", "no", "true", "false"]},
        "x-localforge-max-cost-usd": {"type": "number", "exclusiveMinimum": 0},
        "x-localforge-max-latency-ms": {"type": "number", "exclusiveMinimum": 0},
        "x-localforge-policy": {"type": "string", "enum": list(POLICIES)},
    }
    return [{"name": n, "in": "header", "schema": schema} for n, schema in schemas.items()]


def _operation(
    summary: str,
    answer: dict[str, Any],
    *,
    status: str = "200",
    errors: tuple[str, ...] = (),
    body: str = "",
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": summary, "responses": {status: answer}}
    for error in errors:
        found["responses"][error] = _json("An error", "ErrorAnswer")
    if body:
        found["requestBody"] = {"required": True, "content": _content(body)}
        found["responses"]["401"] = _json("No key or a wrong one", "ErrorAnswer")
    if parameters:
        found["parameters"] = parameters
    return found


def _json(description: str, schema: str | None) -> dict[str, Any]:
    return {"description": description, "content": _content(schema)}


def _content(schema: str | None) -> dict[str, Any]:
    found = {"$ref": f"#/components/schemas/{schema}"} if schema else {"type": "object"}
    return {"application/json": {"schema": found}}


def _text(kind: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": {"type": "string"}}}}

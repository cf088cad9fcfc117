"""What a model server tells besides answers: its models, its health, its load."""

from typing import Any

from localforge.faults.formats.protocol import CREATED, json
from localforge.faults.journal import Journal
from localforge.faults.settings import Settings

JSON = "application/json"
CREATED_AT = "2023-11-14T22:13:20Z"
TEMPLATE_PATH = "/chat_tokenize"
"""TGI's: applies the chat template."""
FAMILY = {"format": "gguf", "family": "llama", "parameter_size": "1B", "quantization_level": "Q4"}


def page(method: str, path: str, settings: Settings, journal: Journal) -> tuple[str, bytes] | None:
    """Return content type and body of a page; None when there is none at this path."""
    models = settings.models
    openai = {"object": "list", "data": [_model(name) for name in models]}
    ollama = {"models": [_ollama_model(name) for name in models]}
    documents: dict[tuple[str, str], Any] = {
        ("GET", "/v1/models"): openai,
        ("GET", "/models"): openai,
        ("GET", "/api/tags"): ollama,
        ("GET", "/api/ps"): ollama,
        ("POST", "/api/show"): _SHOWN,
        ("GET", "/api/version"): {"version": "0.12.0"},
        ("GET", "/info"): _tgi_info(models[0]),
        ("POST", TEMPLATE_PATH): {"tokenize_response": [], "templated_text": ""},
    }
    if (method, path) in documents:
        return JSON, json(documents[method, path])
    if (method, path) == ("GET", "/health"):
        return "text/plain", b""
    if (method, path) == ("GET", "/metrics"):
        return "text/plain; version=0.0.4", _vllm_metrics(models[0], journal)
    return None


def _model(name: str) -> dict[str, Any]:
    """Return an entry that is OpenAI's and Anthropic's at once."""
    return {
        "id": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "faults",
        "type": "model",
        "display_name": name,
        "created_at": CREATED_AT,
    }


def _ollama_model(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "size": 1_000_000,
        "size_vram": 0,
        "digest": "0" * 64,
        "modified_at": CREATED_AT,
        "expires_at": "2100-01-01T00:00:00Z",
        "details": FAMILY,
    }


_SHOWN = {
    "details": FAMILY,
    "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
    "capabilities": ["completion", "tools"],
}


def _tgi_info(model: str) -> dict[str, Any]:
    return {
        "model_id": model,
        "max_concurrent_requests": 128,
        "max_input_tokens": 7168,
        "max_total_tokens": 8192,
        "version": "3.3.0",
    }


def _vllm_metrics(model: str, journal: Journal) -> bytes:
    label = f'{{model_name="{model}"}}'
    lines = (
        "# TYPE vllm:num_requests_running gauge",
        f"vllm:num_requests_running{label} {journal.running:.1f}",
        "# TYPE vllm:num_requests_waiting gauge",
        f"vllm:num_requests_waiting{label} 0.0",
        "# TYPE vllm:kv_cache_usage_perc gauge",
        f"vllm:kv_cache_usage_perc{label} 0.0",
    )
    return "\n".join((*lines, "")).encode()

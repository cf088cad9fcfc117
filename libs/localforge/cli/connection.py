"""Where a running LocalForge is, and how the command line talks to it.

`LOCALFORGE_URL` wins, then what `localforge up` wrote to its data directory, then the configured
host and port. The command line is a plain HTTP client, so it works from anywhere.
"""

import http
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from localforge.config import DEFAULT_FILE, BackendConfig, Config, check_environment, load
from localforge.embedded.state import EFFECTIVE_FILE, Runtime, running_in
from localforge.errors import DependencyUnavailable, RequestRefused

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="LOCALFORGE_CONFIG",
        help=f"Configuration file; ./{DEFAULT_FILE} when it exists.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
TIMEOUT_S = 300


def find_config(path: Path | None) -> Path | None:
    """Return the given file, else ./localforge.toml when there is one, else None."""
    if path is not None:
        return path
    default = Path(DEFAULT_FILE)
    return default if default.exists() else None


def load_config(path: Path | None, overrides: dict[str, Any] | None = None) -> Config:
    """Read the configuration of this command, and check the environment it was started in."""
    config = load(find_config(path), os.environ, overrides)
    check_environment(config, os.environ)
    return config


def is_elsewhere() -> bool:
    """Tell whether the environment names the edge to talk to."""
    return bool(os.environ.get("LOCALFORGE_URL"))


def base_url(config: Config) -> str:
    """Return the base URL of the running edge, without a trailing slash."""
    if url := os.environ.get("LOCALFORGE_URL"):
        return url.rstrip("/").removesuffix("/v1")
    runtime = _running(config)
    return runtime.base_url if runtime else f"http://{config.edge.host}:{config.edge.port}"


def with_servers(config: Config) -> Config:
    """Fill in the broker and the store that a running `localforge up` started.

    Raises:
        DependencyUnavailable: Neither is configured and nothing runs here.
    """
    runtime = _running(config)
    nats, redis = config.nats, config.redis
    if runtime and nats.url in ("", runtime.nats_url) and not nats.credentials:
        nats = msgspec.structs.replace(nats, url=runtime.nats_url, credentials=runtime.credentials)
    if runtime and not redis.url:
        redis = msgspec.structs.replace(redis, url=runtime.redis_url)
    if not nats.url or not redis.url:
        raise DependencyUnavailable(
            f"no LocalForge runs in {config.up.data_dir} and no servers are configured; start it "
            "with `localforge up`, name the data directory of one that runs in "
            "LOCALFORGE_UP__DATA_DIR, or set LOCALFORGE_NATS_URL and LOCALFORGE_REDIS_URL"
        )
    return msgspec.structs.replace(
        config, nats=nats, redis=redis, backends=config.backends or _running_backends(config)
    )


def _running_backends(config: Config) -> tuple[BackendConfig, ...]:
    """The backends that a running `localforge up` has found without a configuration."""
    path = Path(config.up.data_dir) / EFFECTIVE_FILE
    return load(path, {}).backends if path.exists() else ()


def _running(config: Config) -> Runtime | None:
    return running_in(Path(config.up.data_dir))


def call(config: Config, method: str, path: str, body: Any = None) -> Any:
    """Send one request to the edge and return the decoded JSON.

    Raises:
        DependencyUnavailable: Nobody listens there.
        RequestRefused: The edge answered with an error; its message is passed on.
    """
    with _open(config, method, path, body) as response:
        return json.loads(response.read())


def stream(config: Config, path: str, body: Any) -> Iterator[dict[str, Any]]:
    """Send one request and yield the decoded server-sent events."""
    with _open(config, "POST", path, body) as response:
        for line in response:
            text = line.decode().strip()
            if text.startswith("data: ") and text != "data: [DONE]":
                event: dict[str, Any] = json.loads(text[6:])
                if "error" in event:
                    raise RequestRefused(event["error"]["message"])
                yield event


def _open(config: Config, method: str, path: str, body: Any) -> Any:
    url = base_url(config) + path
    if not url.startswith(("http://", "https://")):
        raise RequestRefused(f"LOCALFORGE_URL {url!r} begins with neither http:// nor https://")
    request = urllib.request.Request(  # noqa: S310  # the user's own address
        url,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"content-type": "application/json"},
    )
    if key := os.environ.get("LOCALFORGE_API_KEY"):
        request.add_header("authorization", f"Bearer {key}")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as exc:
        told = _message(exc)
        if exc.code == http.HTTPStatus.UNAUTHORIZED:
            told += "; this command takes it from LOCALFORGE_API_KEY"
        raise RequestRefused(told, status=exc.code) from exc
    except (urllib.error.URLError, OSError) as exc:
        reason = getattr(exc, "reason", exc)
        raise DependencyUnavailable(
            f"LocalForge does not answer at {url} ({reason}); is it running? Start it with "
            "`localforge up`, or set LOCALFORGE_URL"
        ) from exc


def _message(exc: urllib.error.HTTPError) -> str:
    text = exc.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {exc.code}: {text[:200]}"

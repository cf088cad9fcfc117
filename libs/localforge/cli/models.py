"""`localforge models`: what is registered, and changes of it by hand."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from localforge.cli.connection import ConfigOption, JsonOption, load_config, with_servers
from localforge.cli.output import console, errors, print_json, print_table
from localforge.config import Config, ModelConfig
from localforge.contracts.cards import BreakerState, Capability, Health, ModelCard, ReplicaState
from localforge.errors import RequestRefused

if TYPE_CHECKING:
    from localforge.contracts.live import ProbeAnswer

app = typer.Typer(
    invoke_without_command=True,
    help="List, show, add, remove, disable, enable and probe models.",
)

ModelArgument = Annotated[str, typer.Argument(help="Name as `localforge models` lists it.")]


@app.callback()
def list_models(
    context: typer.Context, config: ConfigOption = None, json_: JsonOption = False
) -> None:
    """List the registered models with zone, price, state and learned speed.

    The backend and all else is in `--json` and in `localforge models show NAME`.

    Example: localforge models --json
    """
    if not context.invoked_subcommand:
        _list(config, json_=json_)


@app.command("list")
def list_again(config: ConfigOption = None, json_: JsonOption = False) -> None:
    """List the registered models, as `localforge models` does.

    Example: localforge models list --json
    """
    _list(config, json_=json_)


def _list(config: Path | None, *, json_: bool) -> None:
    entries = asyncio.run(_read(with_servers(load_config(config))))
    if json_:
        print_json(entries)
        return
    columns = ("model", "zone", "$ in", "$ out", "context", "state", "tok/s")
    rows = [
        (
            entry["name"],
            entry["zone"],
            entry["price_in"],
            entry["price_out"],
            entry["context_tokens"],
            entry["state"],
            round(entry["tokens_per_s"]) or None,
        )
        for entry in entries
    ]
    print_table("Models, $ per million tokens", columns, rows, tight=True)


@app.command()
def show(model: ModelArgument, config: ConfigOption = None, json_: JsonOption = False) -> None:
    """Show everything that is known of one model.

    Example: localforge models show smollm2-135m
    """
    entries = asyncio.run(_read(with_servers(load_config(config))))
    entry = next((entry for entry in entries if entry["name"] == model), None)
    if entry is None:
        raise _unknown(model)
    if json_:
        print_json(entry)
        return
    print_table(model, ("what", "value"), [(name, _shown(value)) for name, value in entry.items()])


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


async def _read(config: Config) -> list[dict[str, Any]]:
    from localforge.registry import RegistryStore

    store = RegistryStore(config.redis, config.backends)
    try:
        snapshot, added = await store.read(), await store.added()
    finally:
        await store.close()
    oldest = time.time() - config.router.heartbeat_timeout_s
    alive = [state for state in snapshot.replicas.values() if state.sent_at >= oldest]
    return [
        msgspec.to_builtins(card)
        | {"added": card.name in added}
        | _state(card, [r for r in alive if r.backend == card.backend])
        for card in sorted(snapshot.cards.values(), key=lambda card: (card.zone, card.name))
    ]


def _state(card: ModelCard, replicas: list[ReplicaState]) -> dict[str, Any]:
    best = min(replicas, key=lambda state: list(Health).index(state.health), default=None)
    state = "no replica" if best is None else str(best.health)
    if replicas and all(replica.breaker is BreakerState.OPEN for replica in replicas):
        state = "breaker open"
    servers = [server for replica in replicas for server in replica.servers]
    return {
        "state": state if card.enabled else "disabled",
        "detail": best.detail if best else "",
        "replicas": len(replicas),
        "servers": [
            f"{s.name or card.backend} "
            f"({s.health}, breaker {s.breaker}, {s.in_flight} of {s.slots})"
            for s in servers
        ],
        "first_token_s": best.first_token_s if best else 0.0,
        "tokens_per_s": best.tokens_per_s if best else 0.0,
    }


@app.command()
def add(
    model: Annotated[str, typer.Argument(help="Name to give it; no other model may have it.")],
    *,
    backend: Annotated[str, typer.Option(help="A configured backend, which serves it.")],
    upstream: Annotated[str, typer.Option(help="The backend's own name; else the same.")] = "",
    price_in: Annotated[float | None, typer.Option(help="USD per million prompt tokens.")] = None,
    price_out: Annotated[float | None, typer.Option(help="USD per million answer tokens.")] = None,
    context: Annotated[int, typer.Option(help="Context in tokens; 0: known or 8192.")] = 0,
    capability: Annotated[
        list[Capability] | None, typer.Option(help="What it can do; repeat for more.")
    ] = None,
    quality: Annotated[
        float | None, typer.Option(help="Expected quality before any feedback, 0 to 1.")
    ] = None,
    parameters: Annotated[
        float | None, typer.Option(help="Billions of parameters; else by its name.")
    ] = None,
    config: ConfigOption = None,
    json_: JsonOption = False,
) -> None:
    """Register a model of a configured backend, within a second and until it is removed.

    Also replaces what the configuration or the backend says of a model of that name.

    Example: localforge models add llama3 --backend ollama --upstream llama3:8b
    """
    settings = with_servers(load_config(config))
    given = {
        "name": model,
        "upstream": upstream,
        "price_in": price_in,
        "price_out": price_out,
        "capabilities": capability or [],
        "quality_prior": quality,
        "parameters_b": parameters,
    }
    if context:
        given["context_tokens"] = context
    try:
        entry = msgspec.convert(given, ModelConfig, strict=False)
    except msgspec.ValidationError as exc:
        raise RequestRefused(f"`models add`: {exc}") from exc
    card = asyncio.run(_add(settings, backend, entry))
    if json_:
        print_json(card)
    else:
        console.print(f"{model} is registered at backend {backend}", highlight=False)


async def _add(config: Config, name: str, model: ModelConfig) -> ModelCard:
    from localforge.registry import RegistryStore, cards_of

    if name not in config.names:
        known = ", ".join(sorted(config.names)) or "none"
        raise RequestRefused(f"no backend is called {name!r}; configured: {known}")
    if model.name == "auto" or model.name in config.aliases:
        raise RequestRefused(f"{model.name!r} is `auto` or an alias; choose another name")
    backend = msgspec.structs.replace(config.backend(name), models=(model,), discover=False)
    (card,) = cards_of(backend)
    store = RegistryStore(config.redis, config.backends)
    try:
        other = (await store.read()).cards.get(model.name)
        if other is not None and other.backend != name:
            raise RequestRefused(
                f"{model.name!r} is a model of backend `{other.backend}`; choose another name"
            )
        await store.add(card)
    finally:
        await store.close()
    return card


@app.command()
def remove(model: ModelArgument, config: ConfigOption = None) -> None:
    """Remove a model that was added with `models add`.

    Example: localforge models remove llama3
    """
    asyncio.run(_remove(with_servers(load_config(config)), model))
    console.print(f"{model} is removed", highlight=False)


async def _remove(config: Config, model: str) -> None:
    from localforge.registry import RegistryStore

    store = RegistryStore(config.redis, config.backends)
    try:
        if await store.remove(model):
            return
        card = (await store.read()).cards.get(model)
    finally:
        await store.close()
    if card is None:
        raise _unknown(model)
    raise RequestRefused(
        f"{model!r} comes from backend `{card.backend}`; take it out of the configuration, or "
        f"switch it off with `localforge models disable {model}`"
    )


@app.command()
def probe(
    model: Annotated[str, typer.Argument(help="Get one token from this model.")] = "",
    backend: Annotated[str, typer.Option(help="Only ask this backend how it is.")] = "",
    config: ConfigOption = None,
    json_: JsonOption = False,
) -> None:
    """Ask the executors how their backends are, what they serve, and how fast a model answers.

    Example: localforge models probe smollm2-135m

    Example: localforge models probe --backend ollama --json
    """
    settings = with_servers(load_config(config))
    with errors.status("probing"):
        answers = asyncio.run(_probe(settings, model, backend))
    if json_:
        print_json(answers)
    else:
        columns = ("replica", "zone", "health", "probe ms", "first token ms", "serves", "detail")
        rows = [
            (
                a.replica,
                a.zone,
                str(a.health),
                round(a.probe_s * 1000, 1),
                round(a.answer_s * 1000, 1) if a.answer_s else None,
                ", ".join(a.models),
                a.error or a.detail,
            )
            for a in answers
        ]
        print_table("Executors", columns, rows, tight=True)
    if not answers or any(a.error or a.health is Health.DOWN for a in answers):
        raise typer.Exit(1)


async def _probe(config: Config, model: str, backend: str) -> "list[ProbeAnswer]":
    from localforge.cli.probing import probe_executors
    from localforge.registry import RegistryStore

    store = RegistryStore(config.redis, config.backends)
    try:
        snapshot = await store.read()
    finally:
        await store.close()
    upstream = ""
    if model:
        if model not in snapshot.cards:
            raise _unknown(model)
        backend, upstream = snapshot.cards[model].backend, snapshot.cards[model].upstream_name
    wanted = [b for b in config.backends if not backend or b.name == backend]
    if not wanted:
        raise RequestRefused(f"no backend is called {backend!r}; see `localforge validate`")
    oldest = time.time() - config.router.heartbeat_timeout_s
    alive = [state.backend for state in snapshot.replicas.values() if state.sent_at >= oldest]
    found = await asyncio.gather(
        *(
            probe_executors(config, b.zone, b.name, upstream, alive.count(b.name) or 1)
            for b in wanted
        )
    )
    return [answer for answers in found for answer in answers]


@app.command()
def disable(model: ModelArgument, config: ConfigOption = None) -> None:
    """Take a model out of every decision, within a second and until it is enabled again.

    Example: localforge models disable gpt-4o
    """
    asyncio.run(_switch(with_servers(load_config(config)), model, enabled=False))
    console.print(f"{model} is disabled", highlight=False)


@app.command()
def enable(model: ModelArgument, config: ConfigOption = None) -> None:
    """Let a model be chosen again.

    Example: localforge models enable gpt-4o
    """
    asyncio.run(_switch(with_servers(load_config(config)), model, enabled=True))
    console.print(f"{model} is enabled", highlight=False)


async def _switch(config: Config, model: str, *, enabled: bool) -> None:
    from localforge.registry import RegistryStore

    store = RegistryStore(config.redis, config.backends)
    try:
        known = await store.switch(model, enabled=enabled)
    finally:
        await store.close()
    if not known:
        raise _unknown(model)


def _unknown(model: str) -> RequestRefused:
    return RequestRefused(f"no model is called {model!r}; `localforge models` lists them")

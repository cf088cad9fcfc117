"""`up`, `serve`, `provision`, `validate` and `reload`: run LocalForge."""

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from localforge.cli.children import supervisor
from localforge.cli.connection import (
    ConfigOption,
    JsonOption,
    find_config,
    load_config,
    with_servers,
)
from localforge.cli.output import console, errors, fail, print_json, print_table
from localforge.config import Config, check_secrets

if TYPE_CHECKING:
    from localforge.bus.provision import Change


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(up)
    app.command()(serve)
    app.command()(provision)
    app.command()(validate)
    app.command()(reload)


def up(
    config: ConfigOption = None,
    port: Annotated[int | None, typer.Option(help="HTTP port; 0 takes a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="State and keys.")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Change streams and consumers that differ.")
    ] = False,
) -> None:
    """Start everything on this machine and stop it with Ctrl-C.

    Without a configuration it finds what is there: the embedded model, an Ollama on its usual
    port, provider keys in the environment.

    Example: localforge up --port 9000
    """
    arguments = ["--update"] if update else []
    for option, value in (("--config", find_config(config)), ("--port", port)):
        arguments += [] if value is None else [option, str(value)]
    if data_dir is not None:
        arguments += ["--data-dir", str(data_dir)]
    program, *rest = supervisor(*arguments)
    os.execv(program, [program, *rest])  # noqa: S606  # the same interpreter, and no shell


def serve(
    services: Annotated[
        list[str],
        typer.Argument(
            help="edge, profiler, router, sweeper, evaluator, executor; several share a process"
        ),
    ],
    config: ConfigOption = None,
    backend: Annotated[str, typer.Option(help="The backend an executor serves.")] = "",
) -> None:
    """Run services in this process, in the foreground.

    Between services of one process a hop is a call, not a message.

    Example: localforge serve edge profiler router

    Example: localforge serve executor --backend ollama
    """
    from localforge.lean import import_lean

    import_lean()

    from localforge.cli.serving import serve_services

    serve_services(services, find_config(config), backend)


def provision(
    config: ConfigOption = None,
    update: Annotated[
        bool, typer.Option("--update", help="Change streams and consumers that differ.")
    ] = False,
    seal_keys: Annotated[
        Path | None, typer.Option(help="Also make the seal's key pair here, if there is none.")
    ] = None,
    origin: Annotated[
        Path | None,
        typer.Option(help="Also note here when the feedback stream was made, if it is not noted."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Create the streams, consumers and buckets; refuse to change existing ones silently.

    Example: localforge provision --update
    """
    if seal_keys is not None:
        from localforge.trust.keys import ensure_key_pair

        ensure_key_pair(seal_keys)
    changes = asyncio.run(
        _provision(with_servers(load_config(config)), update=update, origin=origin)
    )
    if json_:
        print_json(changes)
    else:
        print_table(
            "JetStream", ("kind", "name", "action"), [(c.kind, c.name, c.action) for c in changes]
        )


async def _provision(config: Config, *, update: bool, origin: Path | None) -> "list[Change]":
    from localforge.bus.bus import Bus
    from localforge.bus.provision import made_at
    from localforge.bus.provision import provision as make
    from localforge.contracts.subjects import FEEDBACK
    from localforge.embedded.log_origin import note_origin

    bus = Bus(config.nats, "admin")
    await bus.connect()
    try:
        backends = [(b.zone, b.name) for b in config.backends]
        changes = list(await make(bus.client, backends, update=update))
        if origin is not None:
            note_origin(origin, await made_at(bus.client, FEEDBACK))
        return changes
    finally:
        await bus.close()


def validate(config: ConfigOption = None, json_: JsonOption = False) -> None:
    """Check the configuration and show what it means, defaults included.

    Secrets are shown as references, never as values.

    Example: localforge validate --config localforge.toml
    """
    from localforge.registry import cards_of

    path = find_config(config)
    settings = load_config(path)
    check_secrets(settings, os.environ)
    cards = [card for backend in settings.backends for card in cards_of(backend)]
    if json_:
        print_json({"file": path, "config": _without_passwords(settings), "cards": cards})
        return
    console.print(f"{path or 'built-in defaults'}: valid", highlight=False)
    rows = [
        (c.name, c.backend, c.zone, c.price_in, c.price_out, c.context_tokens)
        for c in sorted(cards, key=lambda card: (card.zone, card.name))
    ]
    if not settings.backends:
        console.print(
            "no [[backends]]: `localforge up` takes what it finds; `localforge models` shows that",
            highlight=False,
        )
    columns = ("model", "backend", "zone", "$ in", "$ out", "context")
    print_table("Models, $ per million tokens", columns, rows, tight=True)
    policy = [(label, ", ".join(zones)) for label, zones in settings.policy.zones.items()]
    print_table("Labels", ("label", "may go to zones"), policy)


def _without_passwords(config: Config) -> Config:
    """Hide what stands before the @ of a server's address."""

    def hide(url: str) -> str:
        return re.sub(r"//[^@/]*@", "//***@", url)

    replace = msgspec.structs.replace
    return replace(
        config,
        nats=replace(config.nats, url=hide(config.nats.url)),
        redis=replace(config.redis, url=hide(config.redis.url)),
    )


def reload(config: ConfigOption = None, json_: JsonOption = False) -> None:
    """Make the running `localforge up` of this data directory read its configuration again.

    What cannot be taken over is named, and the exit code is 1; everything else is in force.

    Example: localforge reload
    """
    from localforge.cli.reloading import reload_running

    settings = load_config(config)
    if json_:
        problems = reload_running(settings)
        print_json({"reloaded": not problems, "problems": problems})
    else:
        with errors.status("reloading"):
            problems = reload_running(settings)
        if not problems:
            console.print("reloaded")
    if problems:
        fail("; ".join(problems))

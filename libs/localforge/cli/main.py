"""`localforge`: the entry point."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from localforge.cli import ask, audit, bench, explain, faults, importing, models, operate, router
from localforge.cli.output import fail
from localforge.config import TelemetryConfig
from localforge.errors import LocalforgeError
from localforge.telemetry import log

app = typer.Typer(
    name="localforge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Route every request to the model that fits it, on your own machines, and learn.",
    epilog="Start with: localforge up",
)
operate.add_to(app)
ask.add_to(app)
explain.add_to(app)
app.add_typer(models.app, name="models")
app.add_typer(importing.app, name="import")
app.add_typer(audit.app, name="audit")
app.add_typer(router.app, name="router")
app.add_typer(bench.app, name="bench")
app.add_typer(faults.app, name="faults")


def _tell_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"localforge {version('localforge')}\n")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; errors raised on purpose become one line and exit code 1."""
    # Standard output is for what was asked for.
    log.configure(TelemetryConfig(log_level="warning", log_format="console"), "localforge")
    try:
        app()
    except LocalforgeError as exc:
        fail(exc.message)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

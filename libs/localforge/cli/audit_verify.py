"""`localforge audit verify`: a security officer's proof from the log."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from localforge.cli.connection import ConfigOption, JsonOption, load_config
from localforge.cli.feedback_stream import read_stream
from localforge.cli.output import console, errors, print_json, print_table
from localforge.config import Config

if TYPE_CHECKING:
    from localforge.audit.locality import LocalityReport

PublicKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--public-key",
        help="The profiler's public key; `seal.public_key_file`, or the one of `localforge up`.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the command to `localforge audit`."""
    app.command()(verify)


def verify(
    config: ConfigOption = None, public_key: PublicKeyOption = None, json_: JsonOption = False
) -> None:
    """Prove from the log that no request left the zones its label allows.

    Checks every decision (probabilities, zones against the label's policy) and every attempt (its
    zone, and where it was remote the profiler's signature on its seal). Exit code 1 on any finding;
    that the log was replaced is one.

    Example: localforge audit verify --public-key seal-public.pem --json
    """
    from localforge.audit.locality import LocalityCheck
    from localforge.embedded.log_origin import read_origin
    from localforge.trust import SealVerifier, load_public_key

    read = load_config(config)
    path = public_key or _known_key(read)
    verifier = SealVerifier(load_public_key(path)) if path else None
    running = LocalityCheck(read.policy, verifier)
    made_at = read_stream(read, "verifying", running.feed)
    if noted := read_origin(Path(read.up.data_dir)):
        running.compare_origin(made_at, noted)
    report = running.finish()
    if json_:
        print_json(report)
    else:
        _show(report)
    if not report.clean:
        sys.exit(1)


def _known_key(config: Config) -> Path | None:
    from localforge.trust.keys import PUBLIC_FILE

    if config.seal.public_key_file:
        return Path(config.seal.public_key_file)
    path = Path(config.up.data_dir) / "keys" / PUBLIC_FILE
    return path if path.exists() else None


def _show(report: "LocalityReport") -> None:
    from localforge.audit.locality import RULES

    verdict = "[green]clean[/]" if report.clean else "[bold red]FINDINGS[/]"
    if report.clean and report.seals_unverified:
        verdict = f"[yellow]clean but for {report.seals_unverified} signatures not checked[/]"
    console.print(
        f"{verdict}: {report.decisions} decisions, "
        f"{report.seals_verified} signatures of remote attempts verified · "
        f"{report.messages} messages",
        highlight=False,
    )
    print_table(
        "Attempts by label",
        ("label", "local", "remote", "refused by the executor"),
        [(label, a.local, a.remote, a.refused) for label, a in report.attempts.items()],
    )
    if report.seals_unverified:
        errors.print(
            f"[yellow]note:[/] {report.seals_unverified} seals were read but their signatures not "
            "checked; give --public-key",
            highlight=False,
        )
    if report.counts:
        print_table(
            "Findings",
            ("rule", "count", "meaning"),
            [(rule, count, RULES[rule]) for rule, count in report.counts.items()],
        )
        print_table(
            "First of them",
            ("rule", "sequence", "decision", "detail"),
            [(f.rule, f.sequence, f.decision_id or "-", f.detail) for f in report.findings[:20]],
        )

"""The command line as a whole."""

import subprocess
import sys

COMMAND = """
from localforge.cli import main
from localforge.telemetry import log

def command():
    log.get("bus").info("checkpoint_restored")
    log.get("bus").warning("nats_error", reason="gone")
    print("{}")

main.app = command
main.main()
"""


def test_what_is_logged_does_not_stand_in_what_was_asked_for():
    """In a process of its own: logging is set up once for all."""
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, check=True)

    assert done.stdout == b"{}\n"
    assert b"nats_error" in done.stderr
    assert b"checkpoint_restored" not in done.stderr

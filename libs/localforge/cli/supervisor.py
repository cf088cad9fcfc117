"""What `localforge up` becomes: the same without the command line's libraries, as long as it runs.

Run as `python -m localforge.cli.supervisor [--config FILE] [--port N] [--data-dir DIR] [--update]`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> None:
    """Run until Ctrl-C; an error raised on purpose becomes one line and exit code 1."""
    from localforge.cli.plain import fail
    from localforge.cli.up import run_up
    from localforge.errors import LocalforgeError

    parser = argparse.ArgumentParser(prog="localforge up")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--data-dir")
    parser.add_argument("--update", action="store_true")
    asked = parser.parse_args(arguments)
    overrides: dict[str, dict[str, object]] = {}
    if asked.port is not None:
        overrides["edge"] = {"port": asked.port}
    if asked.data_dir is not None:
        overrides["up"] = {"data_dir": asked.data_dir}
    try:
        run_up(asked.config, overrides, update=asked.update)
    except LocalforgeError as exc:
        fail(exc.message)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)

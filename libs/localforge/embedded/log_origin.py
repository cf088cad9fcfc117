"""When the feedback stream of a data directory was made first.

The stream denies deletion of messages, but who can delete the stream leaves an empty one without a
gap behind. So the time at which it was made is noted outside of the broker, once.
"""

from datetime import datetime
from pathlib import Path

from localforge.embedded.state import write_private
from localforge.errors import ConfigError

ORIGIN_FILE = "feedback-made-at"


def note_origin(folder: Path, made_at: datetime) -> None:
    """Note the time, unless one is noted."""
    path = folder / ORIGIN_FILE
    if not path.exists():
        write_private(path, f"{made_at.isoformat()}\n".encode())


def read_origin(folder: Path) -> datetime | None:
    """Return the time that was noted; None when there is none.

    Raises:
        ConfigError: The file holds something else.
    """
    path = folder / ORIGIN_FILE
    if not path.exists():
        return None
    try:
        return datetime.fromisoformat(path.read_text().strip())
    except ValueError as exc:
        raise ConfigError(f"{path} does not hold a time: {exc}") from exc

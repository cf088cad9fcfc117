"""The note of when the feedback stream was made first."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from localforge.embedded.log_origin import ORIGIN_FILE, note_origin, read_origin
from localforge.errors import ConfigError

FIRST = datetime(2026, 3, 1, 12, 30, 1, 123456, tzinfo=UTC)


def test_the_first_time_is_kept(tmp_path: Path):
    note_origin(tmp_path, FIRST)
    note_origin(tmp_path, FIRST + timedelta(days=1))

    assert read_origin(tmp_path) == FIRST


def test_nothing_is_known_where_nothing_was_noted(tmp_path: Path):
    assert read_origin(tmp_path) is None


def test_a_note_that_is_no_time_is_refused(tmp_path: Path):
    (tmp_path / ORIGIN_FILE).write_text("yesterday")

    with pytest.raises(ConfigError, match="does not hold a time"):
        read_origin(tmp_path)

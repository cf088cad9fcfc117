"""A minute of what `just chaos` does for ten: no promise is broken while parts are away."""

from pathlib import Path

import pytest

from tests.chaos.run import run

SECONDS = 60
SEED = 7


@pytest.mark.timeout(360)
async def test_no_promise_is_broken_while_parts_of_the_system_are_away(tmp_path: Path):
    figures = await run(tmp_path, SECONDS, SEED)

    assert figures.broken == [], figures
    assert figures.faults.keys() == {
        "NATS away for 10 s",
        "Redis away for 5 s",
        "Redis slow, 2 s a command",
        "kill edge",
        "kill profiler",
        "kill router",
        "kill sweeper",
        "kill evaluator",
        "kill executor-one",
        "kill executor-two",
    }

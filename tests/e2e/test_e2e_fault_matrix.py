"""No failure of a model server reaches a client as a short answer, a mixed one, or silence."""

import asyncio
import functools
import itertools
from pathlib import Path

import pytest

from localforge.contracts.chat import Usage
from localforge.faults import Fault
from tests.e2e.fault_answers import Seen
from tests.e2e.fault_cells import (
    CELLS,
    COMEBACK,
    DEADLINE_S,
    HARMLESS,
    MID_STREAM,
    STUTTER,
    SWITCHED,
    TEXT,
    Cell,
)
from tests.e2e.fault_matrix import run_matrix
from tests.e2e.fault_servers import PRICES, matrix_stack
from tests.e2e.fault_table import other_kinds, short_table, table

ROOT = Path(__file__).parents[2]
SECONDS_ASKED_FOR = (Fault.RATE_LIMITED_SECONDS, Fault.RATE_LIMITED_DATE)
TRIED_AGAIN = (
    Fault.REFUSED,
    Fault.CUT,
    Fault.ERROR_IN_200,
    Fault.ERROR_MID_STREAM,
    Fault.RATE_LIMITED,
    *SECONDS_ASKED_FOR,
    Fault.HTTP_500,
    Fault.HTTP_502,
    Fault.HTTP_503,
    Fault.HTTP_504,
)
"""Before content, at the end of a plan."""
NOT_TAKEN = (
    Fault.REFUSED,
    Fault.TLS,
    Fault.RATE_LIMITED,
    *SECONDS_ASKED_FOR,
    Fault.HTTP_500,
    Fault.HTTP_502,
    Fault.HTTP_503,
    Fault.HTTP_504,
)
"""Nothing was done for the request, and nobody bills it."""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(name="matrix", scope="module")
def _matrix(tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, Seen]:
    with matrix_stack(tmp_path_factory.mktemp("faults")) as (stack, servers):
        return asyncio.run(run_matrix(stack, servers))


def _name(cell: Cell) -> str:
    return cell.marker.removeprefix("cell-")


@pytest.mark.parametrize("cell", CELLS, ids=_name)
def test_a_client_gets_one_whole_answer_or_one_explicit_error(matrix: dict[Cell, Seen], cell: Cell):
    seen = matrix[cell]

    if cell.fault in HARMLESS:
        stutters = cell.fault is Fault.DUPLICATED and cell.is_read_as_stream
        assert (seen.status, seen.text, seen.error) == (200, STUTTER if stutters else TEXT, None)
        assert (seen.is_whole, seen.model) == (True, cell.model)
        assert seen.reasons == 1
    elif cell.breaks_in_the_middle:
        assert (seen.status, seen.text, seen.is_whole) == (200, "The sea is", False)
        assert seen.error
        assert seen.error["message"]
    elif cell.place == "first":
        assert (seen.status, seen.text, seen.error) == (200, TEXT, None)
        assert (seen.is_whole, seen.model) == (True, "second")
        assert seen.reasons == 1
    else:
        assert seen.status >= 429
        assert (seen.text, seen.is_whole) == ("", False)
        assert seen.error
        assert seen.error["message"]
    assert seen.took_s < DEADLINE_S


@pytest.mark.parametrize("cell", CELLS, ids=_name)
def test_the_log_has_every_attempt(matrix: dict[Cell, Seen], cell: Cell):
    seen = matrix[cell]
    attempts = [(a.model, a.status) for a in seen.attempts]
    opener = [("opener", "error")] if cell.place == "last" else []
    if cell.fault in HARMLESS:
        faulty = [(cell.model, "ok")]
    elif cell.breaks_in_the_middle:
        faulty = [(cell.model, "error")]
    elif cell.place == "first":
        faulty = [(cell.model, "error"), ("second", "ok")]
    else:
        ended = cell.fault is Fault.ENDED_EARLY and cell.is_read_as_stream
        tries = 2 if cell.fault in TRIED_AGAIN or ended else 1
        faulty = [(cell.model, "error")] * tries

    if cell.api == "durable" and cell.place == "last" and cell.fault not in HARMLESS:
        # It comes again until its deadline, when nobody is asked any more.
        assert attempts[: 1 + len(faulty)] == opener + faulty
        assert seen.attempts[-1].error_code == "deadline_exceeded"
        attempts.pop()
    else:
        assert attempts == opener + faulty
    tried = [model for model, _ in itertools.groupby(model for model, _ in attempts)]
    assert seen.fallbacks == list(itertools.pairwise(tried))
    if cell.fault not in SWITCHED:
        assert len(seen.requests) == len(attempts)


@pytest.mark.parametrize("cell", CELLS, ids=_name)
def test_cost_and_usage_are_those_of_the_attempts(matrix: dict[Cell, Seen], cell: Cell):
    seen = matrix[cell]
    for attempt in seen.attempts:
        tokens = attempt.usage.prompt_tokens + attempt.usage.completion_tokens
        assert attempt.cost_usd == pytest.approx(
            tokens * PRICES[attempt.model.rpartition("-")[2]] / 1e6
        )
    if cell.api == "durable":
        assert seen.cost_usd == pytest.approx(sum(a.cost_usd for a in seen.attempts), abs=1e-12)
        assert seen.used == functools.reduce(Usage.plus, (a.usage for a in seen.attempts))
    else:
        cost_usd = sum(attempt.cost_usd for attempt in seen.attempts)
        assert seen.logged_usd == pytest.approx(cost_usd, abs=1e-12)
        # A stream that has begun cannot say in its headers what it will have cost.
        assert (seen.cost_usd is None) == (cell.stream and seen.status == 200)
        if seen.cost_usd is not None:
            assert seen.cost_usd == pytest.approx(cost_usd, abs=1e-8)
    if seen.error is not None:
        return

    answer = seen.attempts[-1]
    truth = (len(cell.prompt.split()), len(TEXT.split()))
    counted = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    if cell.api != "durable":
        assert seen.usage == counted
    assert answer.usage.estimated == (cell.fault is Fault.NO_USAGE)
    if cell.fault is not Fault.NO_USAGE:
        assert counted == truth


@pytest.mark.parametrize("cell", [c for c in CELLS if c.fault not in HARMLESS], ids=_name)
def test_what_a_server_may_have_worked_on_is_billed(matrix: dict[Cell, Seen], cell: Cell):
    failed = [a for a in matrix[cell].attempts if (a.model, a.status) == (cell.model, "error")]
    if cell.api == "durable" and failed[-1].error_code == "deadline_exceeded":
        failed.pop()  # nobody was asked

    assert failed
    for usage in (attempt.usage for attempt in failed):
        if cell.fault in NOT_TAKEN:
            assert usage == Usage()
            continue
        assert usage.prompt_tokens > 0
        # An empty answer is counted by who gives it.
        assert usage.estimated == (cell.fault is not Fault.EMPTY)
        if cell.fault in MID_STREAM and cell.is_read_as_stream:
            assert usage.completion_tokens > 0


def test_a_durable_result_has_the_cost_of_all_deliveries(matrix: dict[Cell, Seen]):
    seen = matrix[COMEBACK]
    opener, *failed, answered = seen.attempts

    assert (seen.status, seen.text, seen.model) == (200, TEXT, COMEBACK.model)
    assert (opener.model, opener.cost_usd) == ("opener", 0)
    assert [attempt.status for attempt in failed] == ["error", "error"]
    assert len({attempt.outcome_id for attempt in seen.attempts}) == 4
    assert all(attempt.cost_usd > 0 for attempt in failed)
    assert seen.cost_usd == pytest.approx(sum(a.cost_usd for a in seen.attempts))
    assert seen.used == functools.reduce(Usage.plus, (a.usage for a in seen.attempts))
    assert seen.usage == (answered.usage.prompt_tokens, answered.usage.completion_tokens)


@pytest.mark.parametrize(
    "cell", [c for c in CELLS if c.stream and not c.breaks_in_the_middle], ids=_name
)
def test_usage_and_cost_are_the_same_streamed_or_not(matrix: dict[Cell, Seen], cell: Cell):
    streamed, whole = matrix[cell], matrix[cell._replace(stream=False)]
    if streamed.error is None:
        assert streamed.usage == whole.usage
    if cell.fault is Fault.DUPLICATED:
        return  # estimates apart, this one is the only answer with other words
    assert streamed.attempts[-1].usage == whole.attempts[-1].usage
    assert streamed.attempts[-1].cost_usd == whole.attempts[-1].cost_usd


@pytest.mark.parametrize(
    "cell",
    [c for c in CELLS if c.fault in SECONDS_ASKED_FOR and c.place == "last" and c.api != "durable"],
    ids=_name,
)
def test_a_server_is_left_alone_for_as_long_as_it_asked(matrix: dict[Cell, Seen], cell: Cell):
    opener, first, second = matrix[cell].requests

    assert opener.model == "fault-503"
    assert second.at - first.at >= 1.0


def test_the_page_and_the_readme_have_what_was_seen(matrix: dict[Cell, Seen]):
    page, readme = ((ROOT / name).read_text() for name in ("docs/faults.md", "README.md"))

    assert table(matrix) in page
    assert short_table(matrix) in page
    assert other_kinds(matrix) in page
    assert short_table(matrix) in readme

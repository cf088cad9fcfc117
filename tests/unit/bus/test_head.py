"""How far to read a stream: to its end while it is calm, a block behind while it is not."""

import pytest

from localforge.bus.head import BEHIND_BYTES, CALM_BYTES_PER_S, Head, Look
from localforge.contracts.subjects import BLOCK_BYTES

STEP_S = 0.25


def _bounds(head: Head, rates: list[float], *, size: int = 0, at: float = 0.0) -> list[int | None]:
    """Look at a stream that grows by these bytes per second, of 1 KiB messages."""
    bounds = []
    for rate in rates:
        at += STEP_S
        size += int(rate * STEP_S)
        bounds.append(head.note(Look(at, size // 1024, size)))
    return bounds


def test_a_stream_is_first_read_to_its_end():
    assert Head().note(Look(0.0, 10, 50 * BLOCK_BYTES)) is None


def test_a_calm_stream_is_read_to_its_end():
    assert set(_bounds(Head(), [CALM_BYTES_PER_S] * 100)) == {None}


def test_a_busy_stream_is_read_up_to_a_full_block():
    rate = 2 * BLOCK_BYTES
    bounds = _bounds(Head(), [rate] * 40)

    for step, bound in enumerate(bounds[8:], 9):
        assert bound is not None
        behind = step * rate * STEP_S - bound * 1024
        assert BEHIND_BYTES <= behind <= BEHIND_BYTES + rate * STEP_S


@pytest.mark.parametrize("rate", [1.01 * CALM_BYTES_PER_S, 8 * CALM_BYTES_PER_S])
def test_no_reader_is_more_than_five_seconds_and_a_look_behind(rate: float):
    bounds = _bounds(Head(), [rate] * 100)

    for step, bound in enumerate(bounds[40:], 41):
        assert bound is not None
        assert step * STEP_S - bound * 1024 / rate <= 5 + 2 * STEP_S


def test_when_the_rush_is_over_the_rest_is_read():
    bounds = _bounds(Head(), [8 * CALM_BYTES_PER_S] * 40 + [0] * 8)

    assert bounds[39] is not None
    assert bounds[-1] is None


def test_a_rush_after_a_pause_is_held_back_once_it_is_seen():
    head = Head()
    _bounds(head, [0] * 3)
    bounds = _bounds(head, [8 * CALM_BYTES_PER_S] * 8, at=3600.0)

    assert bounds[0] is None
    assert bounds[-1] is not None


def test_bounds_never_go_back():
    head = Head()
    rates = [8 * CALM_BYTES_PER_S, 2 * CALM_BYTES_PER_S, 20 * CALM_BYTES_PER_S] * 20
    bounds = [bound for bound in _bounds(head, rates) if bound is not None]

    assert len(bounds) > 50
    assert bounds == sorted(bounds)


def test_a_stream_made_anew_is_read_to_its_end():
    head = Head()
    _bounds(head, [8 * CALM_BYTES_PER_S] * 40)

    assert head.note(Look(100.0, 3, 3000)) is None


@pytest.mark.parametrize("rate", [0, 100, CALM_BYTES_PER_S, 8 * CALM_BYTES_PER_S])
def test_looks_are_forgotten(rate: float):
    head = Head()
    _bounds(head, [rate] * 10_000)

    assert len(head._looks) < 20


def test_a_rush_after_calm_is_held_back_too():
    bounds = _bounds(Head(), [CALM_BYTES_PER_S / 2] * 40 + [8 * CALM_BYTES_PER_S] * 20)

    assert set(bounds[:40]) == {None}
    assert None not in bounds[44:]
    assert bounds[-1] > bounds[45]

"""Request ids: 26 lower-case characters that sort by the time they were made."""

import os
import time

_ALPHABET = b"0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(chr(high) + chr(low) for high in _ALPHABET for low in _ALPHABET)
_SHIFTS = (40, 30, 20, 10, 0)
_CHARACTER_OF_BYTE = _ALPHABET * 8
"""Each of the 32 characters stands for 8 bytes, so random bytes make random characters."""
_RANDOM_CHARS = 16
_DRAWN_TOGETHER = 64
"""Ids whose random half is got in one system call."""
_random_halves: list[str] = []
# Two processes must not make their ids of the same draw.
os.register_at_fork(after_in_child=_random_halves.clear)


def new_request_id() -> str:
    """Return a new id: a lower-case ULID, 48 bits of milliseconds and 80 of randomness.

    Ids of one millisecond do not sort among themselves. Crockford's base 32, so that the id is one
    NATS subject token in any case. Source: https://github.com/ulid/spec.
    """
    if not _random_halves:
        _draw()
    now = time.time_ns() // 1_000_000
    # Two characters at a time: half the steps of a loop over single ones.
    return "".join([_PAIRS[now >> shift & 1023] for shift in _SHIFTS]) + _random_halves.pop()


def _draw() -> None:
    drawn = os.urandom(_DRAWN_TOGETHER * _RANDOM_CHARS).translate(_CHARACTER_OF_BYTE).decode()
    _random_halves.extend(
        drawn[begin : begin + _RANDOM_CHARS] for begin in range(0, len(drawn), _RANDOM_CHARS)
    )

"""Request ids."""

import os
import re

from localforge.edge import ids


def test_an_id_is_26_lower_case_characters():
    assert re.fullmatch(r"[0-7][0-9a-hjkmnp-tv-z]{25}", ids.new_request_id())


def test_ids_are_unique():
    made = {ids.new_request_id() for _ in range(2000)}

    assert len(made) == 2000


def test_ids_sort_by_the_time_they_were_made(monkeypatch):
    made = []
    for ms in (1_700_000_000_000, 1_700_000_000_001, 1_800_000_000_000, 2_900_000_000_000):
        monkeypatch.setattr(ids.time, "time_ns", lambda ms=ms: ms * 1_000_000)
        made.append(ids.new_request_id())

    assert made == sorted(made)


def test_an_id_is_the_ulid_of_its_bits(monkeypatch):
    """The example of the ULID specification: 01ARZ3NDEKTSV4RRFFQ69G5FAV."""
    five_bits_each = [26, 25, 27, 4, 24, 24, 15, 15, 23, 6, 9, 16, 5, 15, 10, 27]
    monkeypatch.setattr(ids, "_random_halves", [])
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1469922850259 * 1_000_000)
    monkeypatch.setattr(ids.os, "urandom", lambda n: bytes(five_bits_each) * (n // 16))

    assert ids.new_request_id() == "01arz3ndektsv4rrffq69g5fav"


def test_the_random_half_has_each_character_equally_often(monkeypatch):
    monkeypatch.setattr(ids, "_random_halves", [])
    monkeypatch.setattr(ids.os, "urandom", lambda n: bytes(range(256)) * (n // 256))

    halves = "".join(ids.new_request_id()[10:] for _ in range(16))

    assert {halves.count(character) for character in ids._ALPHABET.decode()} == {8}


def test_a_forked_process_makes_its_own_ids():
    ids.new_request_id()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, ids.new_request_id()[10:].encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 16).decode()

    assert theirs not in {ids.new_request_id()[10:] for _ in range(ids._DRAWN_TOGETHER)}

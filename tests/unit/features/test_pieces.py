"""Tokens of pieces are tokens of the whole text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from localforge.features import pieces as pieces_module
from localforge.features.pieces import BLANK, LONGEST_LEARNED, PIECE, PieceTokens
from localforge.features.tokenizer import VOCABULARY, tokenize, tokenizer_file

BITS = (
    "Zug",
    "s",
    " ",
    "  ",
    "\n",
    "7",
    "42",
    ".",
    "();",
    "é",
    "”",
    "日本",
    "\x00",
    BLANK,
    "\t",
    "<",
)


@pytest.fixture(name="original", scope="module")
def _original():
    return Tokenizer.from_file(str(tokenizer_file()))


@pytest.fixture(name="merges", scope="module")
def _merges(original):
    return Tokenizer(original.model)


def test_no_token_reaches_over_the_border_of_a_piece(original):
    special = {"<unk>", "<s>", "</s>"} | {f"<0x{byte:02X}>" for byte in range(256)}
    tokens = original.get_vocab().keys() - special

    cut = [token for token in tokens if len(PIECE.findall(token.replace(BLANK, " "))) != 1]

    assert len(tokens) > 30_000
    assert cut == []


@given(st.lists(st.sampled_from(BITS) | st.text(max_size=3)).map("".join))
def test_tokens_are_those_of_the_whole_text(original, text):
    shipped = original.encode(text, add_special_tokens=False).ids

    # Twice: merged, then remembered.
    for _ in range(2):
        assert tokenize(text).tolist() == [min(token, VOCABULARY - 1) for token in shipped]


def test_no_more_than_the_latest_pieces_are_remembered(merges, monkeypatch):
    monkeypatch.setattr(pieces_module, "MOST_LEARNED", 2)
    known = PieceTokens(merges, VOCABULARY)
    at_start = known.size

    for word in ("qzxv", "vxzq", "xqvz", "z" * (LONGEST_LEARNED + 1)):
        known.ids_of(word)

    assert known.size == at_start + 2
    assert known.words == 2


def test_words_with_numbers_and_addresses_are_not_remembered(merges):
    known = PieceTokens(merges, VOCABULARY)

    first = known.ids_of("card 4111-1111, room 12 hunter2 joe@example.com")

    assert known.ids_of("card 4111-1111, room 12 hunter2 joe@example.com") == first
    assert known.words == 2

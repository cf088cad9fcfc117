"""How text is searched: in chunks, by an index of words, and in linear time."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localforge.trust import detect
from localforge.trust.normal import normalize
from localforge.trust.search import WordIndex, find_all, word_index, words


@pytest.mark.parametrize("shift", range(-6, 7))
def test_a_long_text_is_searched_across_its_chunks(shift):
    pattern = re.compile(r"(?<!b)a{3}(?!a)")
    text = "b" + "-" * ((1 << 20) - 1 + shift) + "aaa" + "-" * 50 + "baaa" + "-" * 50 + "aaa"

    spans = [match.span() for match in find_all(pattern, text)]

    assert spans == [match.span() for match in pattern.finditer(text)]
    assert len(spans) == 2


@pytest.mark.parametrize(
    "hostile",
    [
        "1" * 200_000,
        "1 " * 100_000,
        "password" * 25_000,
        "a@" * 100_000,
        "-----BEGIN " * 20_000,
        "\\" * 8_000,
        "\\x" * 100_000,
        "\\u" * 100_000,
        "://" * 60_000,
        "Confidential " * 15_000,
        "eyJ" * 60_000,
        "AB12" * 50_000,
        "+1 (" * 50_000,
        "\\u005c" * 30_000,
        "4111, " * 8_000,
        "DE89-" * 30_000,
        "password" + " |" * 100_000,
        "password\n" + "-" * 200_000,
        "password |" * 4_000 + "\n" + "---|" * 4_000,
        "password\n--|--\n" * 4_000,
        "<password>" * 5_000,
        "identified by '" * 20_000,
        "basic aaaa" * 20_000,
        "0a 1b " * 8_000,
        "200,12," * 8_000,
        "/sk-a" * 10_000,
        "DE 89 3704 " * 15_000,
        "de 89 0a1b\n" * 15_000,
        "iban" * 40_000,
        "pass=" * 40_000,
        "passport_" * 20_000,
        "do not internal\n" * 10_000,
        "do" * 60_000,
        "classification: " * 12_000,
        "tlp:" * 40_000,
        "---- begin private key" * 8_000,
        "4111\u200b1111\x00" * 20_000,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_text_takes_linear_time(hostile, benchmark_ratio):
    small = msgspec.json.encode({"a": hostile[: len(hostile) // 8]})
    large = msgspec.json.encode({"a": hostile})

    # Eight times the text: linear is 8, quadratic 64.
    assert benchmark_ratio(lambda: detect(large), lambda: detect(small)) < 30


@given(
    st.lists(st.text("abß ", min_size=2, max_size=4), min_size=1, max_size=6, unique=True),
    st.text("abß 😀ж", max_size=40),
)
def test_the_word_index_finds_just_the_words_that_a_text_holds(literals, text):
    held = WordIndex(literals).held_by(text.encode("latin-1", "replace"))

    assert held == {word for word in literals if word in text}


def test_a_word_declared_later_is_known_too():
    before = word_index().held_by(b"a quokka")
    words("quokka")

    assert word_index().held_by(b"a quokka") - before == {"quokka"}


@given(st.text(max_size=200))
def test_text_and_its_lower_case_have_the_same_positions(text):
    content = normalize(msgspec.json.encode(text))

    assert len(content.text) == len(content.lower)


@given(st.text("0123456789 -.ax", max_size=120))
def test_identifiers_are_looked_for_alike_among_few_digits_and_many(text):
    blanks = " " * 200
    # None of these digits has five others within reach.
    lonely = f"{' ' * 30}1" * 80

    few = normalize(f"{text}{blanks}".encode())
    many = normalize(f"{text}{blanks}{lonely}".encode())

    assert few.numeric == many.numeric
    assert few.shape == many.shape

"""Card numbers and other identifiers: found in whatever characters and groups they are written."""

import json

import msgspec
import pytest

from localforge.trust import detect


def codes(body):
    return set(detect(msgspec.json.encode(body)).findings)


@pytest.mark.parametrize(
    "disguised",
    [
        "4111111111111111",  # full-width digits
        "4111\u200b1111\u200b1111\u200b1111",  # zero-width spaces
        "4111\u20111111\u20111111\u20111111",  # non-breaking hyphens
        "٤١١١١١١١١١١١١١١١",  # Arabic digits
        "4111\u00a01111\u00a01111\u00a01111",  # non-breaking spaces
        "𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏",  # mathematical digits outside the basic plane
        "❹❶❶❶❶❶❶❶❶❶❶❶❶❶❶❶",  # dingbats
        "\ufe0f\u20e3".join("4111111111111111"),  # keycaps
        "\U000e0100".join("4111111111111111"),  # variation selectors
        "\u180b".join("4111111111111111"),  # Mongolian ones
        "\u2065".join("4111111111111111"),  # not assigned, and ignored
        "\u0332".join("4111111111111111"),  # underlines
        "\x00".join("4111111111111111"),
        "\x08".join("4111111111111111"),
        "\x7f".join("4111111111111111"),
        "\x9c".join("4111111111111111"),
        "4111\u20281111\u20281111\u20281111",  # line separators
        "4111\u28001111\u28001111\u28001111",  # Braille without a dot
    ],
)
def test_a_card_in_other_characters_is_found(disguised):
    assert "payment_card" in codes({"a": disguised})
    # json.dumps escapes; the last one becomes surrogate pairs.
    assert "payment_card" in detect(json.dumps({"a": disguised}).encode()).findings


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("payment_card", "4111  1111  1111  1111"),
        ("payment_card", "card\n4111\n1111\n1111\n1111\nvalid to 12/27"),
        ("payment_card", "4111 - 1111 - 1111 - 1111"),
        ("payment_card", "4111 1111\n1111 1111"),
        ("payment_card", "4111_1111_1111_1111"),
        ("payment_card", "4111·1111·1111·1111"),
        ("payment_card", "4111/1111/1111/1111"),
        ("payment_card", '["4111", "1111", "1111", "1111"]'),
        ("payment_card", "[4111,1111,1111,1111]"),
        ("payment_card", "3782, 822463, 10005"),
        ("iban", "DE89-3704-0044-0532-0130-00"),
        ("iban", "DE89.3704.0044.0532.0130.00"),
        ("iban", "DE89\n3704\n0044\n0532\n0130\n00"),
        ("iban", '"DE89", "3704", "0044", "0532", "0130", "00"'),
    ],
)
def test_a_number_in_groups_is_found_whatever_is_between_them(code, written):
    assert code in codes({"a": written})
    assert code in codes({"a": json.dumps({"text": written})})


def test_a_card_in_a_list_of_strings_or_numbers_is_found():
    assert "payment_card" in codes({"card": ["4111", "1111", "1111", "1111"]})
    assert "payment_card" in codes({"card": [4111, 1111, 1111, 1111]})


@pytest.mark.parametrize(
    "table",
    [
        "4111, 1111, 1111, 1111, 1111, 1111",
        "1990, 4111, 1111, 1111, 1111",
        "4111\n1111\n1111\n1111\n1112",
        "| 4111 | 1111 | 1111 | 1111 |",
        "4111,1111,1111,1111\n4111,1111,1111,1111",
        "411, 1111, 1111, 11111",
    ],
)
def test_numbers_of_four_digits_in_a_table_are_no_card(table):
    assert codes({"a": table}) == set()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_escape_that_is_itself_escaped_is_resolved(depth):
    written = "".join(f"\\u{ord(char):04x}" for char in "4111111111111111")
    for _ in range(depth):
        written = written.replace("\\", "\\u005c")

    assert "payment_card" in detect(f'{{"a": "{written}"}}'.encode()).findings


def test_a_number_in_json_is_inspected():
    assert "payment_card" in codes({"tool": {"card": 4111111111111111}})


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("api_key", "key\u200bAKIAIOSFODNN7EXAMPLE"),
        ("api_key", "key\x00AKIAIOSFODNN7EXAMPLE\x00key"),
        ("payment_card", "17\x004111111111111111"),
        ("payment_card", "17\x7f4111111111111111"),
        ("payment_card", "17\x084111111111111111"),
        ("payment_card", "4111111111111111\u200b5555555555554444"),
        ("iban", "IBAN\u200eDE89370400440532013000"),
        ("iban", "me\u00adDE89370400440532013000"),
    ],
)
def test_an_invisible_character_may_part_words_too(code, written):
    assert code in codes({"a": written})
    assert code in detect(json.dumps({"a": written}).encode()).findings


@pytest.mark.parametrize("invisible", ["\u200b", "\u00ad", "\ufe0f", "\x00"])
def test_harmless_text_with_invisible_characters_is_left_alone(invisible):
    text = "The team met in 2024, read 1234 5678 pages and spoke of passwords and tokens. "

    assert codes({"a": text.replace(" ", f"{invisible} ") * 20}) == set()
    assert codes({"a": invisible.join(text)}) == set()

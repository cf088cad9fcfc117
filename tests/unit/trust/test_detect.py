"""Detectors: what they find, where, and what they leave alone."""

import json
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localforge.contracts.trust import Label
from localforge.trust import RULES, detect

PLANTED = [
    ("private_key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk"),
    ("api_key", "my key is sk-proj-abcDEF1234567890abcd"),
    ("api_key", "AKIAIOSFODNN7EXAMPLE"),
    ("api_key", "Authorization: Bearer abcdef0123456789abcdef"),
    ("api_key", "client_secret=9f8e7d6c5b4a39281706"),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9"),
    ("password", "password: hunter2"),
    ("password", "das Passwort lautet Geheim!99"),
    ("password", "postgres://app:s3cr3t@db:5432/x"),
    ("payment_card", "4111 1111 1111 1111"),
    ("payment_card", "5555-5555-5555-4444"),
    ("payment_card", "378282246310005"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "pay to gb82west12345698765432 please"),
    ("national_id", "078-05-1120"),
    ("national_id", "my SSN is 078051120"),
    ("national_id", "AB 12 34 56 C"),
    ("national_id", "756.9217.0769.85"),
    ("national_id", "529.982.247-25"),
    ("national_id", "12345678Z"),
    ("national_id", "RSSMRA85T10A562S"),
    ("national_id", "passport number: C01X00T47"),
    ("email", "write to bob.miller@acme.io"),
    ("phone", "call +49 170 1234567"),
    ("phone", "(415) 555-2671"),
    ("birth_date", "DOB: 03/04/1981"),
    ("medical_record", "MRN: 00482913"),
    ("medical_record", "Patient: Jane Roe, diagnosis: influenza"),
    ("postal_address", "address: 12 Main Street"),
    ("marked_restricted", "Streng vertraulich"),
    ("marked_confidential", "CONFIDENTIAL\nplan for the third quarter"),
    ("marked_confidential", "for internal use only"),
]


FIELDS = {
    "system": lambda s: {"messages": [{"role": "system", "content": s}]},
    "earlier turn": lambda s: {
        "messages": [{"role": "user", "content": s}, {"role": "user", "content": "and now?"}]
    },
    "content part": lambda s: {
        "messages": [{"role": "user", "content": [{"type": "text", "text": s}]}]
    },
    "tool arguments": lambda s: {
        "messages": [
            {
                "role": "assistant",
                "tool_calls": [{"function": {"name": "f", "arguments": json.dumps({"x": s})}}],
            }
        ]
    },
    "tool result": lambda s: {"messages": [{"role": "tool", "content": json.dumps([s])}]},
    "tool schema": lambda s: {"tools": [{"function": {"name": "f", "description": s}}]},
    "name": lambda s: {"messages": [{"role": "user", "name": s, "content": "hi"}]},
    "response format": lambda s: {"response_format": {"json_schema": {"description": s}}},
    "unknown field": lambda s: {"x_vendor": [{"deep": {"deeper": [1, s]}}]},
    "key": lambda s: {"metadata": {s: 1}},
}


def codes(body):
    return set(detect(msgspec.json.encode(body)).findings)


@pytest.mark.parametrize(("code", "secret"), PLANTED)
@pytest.mark.parametrize("field", FIELDS)
def test_a_planted_secret_is_found_in_every_field(field, code, secret):
    assert code in codes(FIELDS[field](secret))


@pytest.mark.parametrize(("code", "secret"), PLANTED)
def test_a_secret_with_every_character_escaped_is_found(code, secret):
    escaped = "".join(f"\\u{ord(char):04x}" for char in secret)

    assert code in detect(f'{{"a": "{escaped}"}}'.encode()).findings


def test_the_first_of_two_equal_keys_is_inspected():
    body = b'{"messages":[{"role":"user","content":"password: hunter2","content":"hi"}]}'

    assert detect(body).label is Label.RESTRICTED


@pytest.mark.parametrize(
    "harmless",
    [
        "the password field must not be empty",
        'password = os.environ["DB_PASSWORD"]',
        "password: <your password>",
        '{"password": {"type": "string"}}',
        '{"max_tokens": 1000, "token": "abc"}',
        "Explain why the conversation was confidential",
        "1234 5678 9012 3456",
        "4111 1111 1111 1112",
        "pi is 3.14159265358979323846",
        "DE00 3704 0044 0532 0130 00",
        "000-12-3456",
        "12345678A",
        "version 1.2.3-4567, build 20240131",
        "mail someone@example.com",
        "decorate with @dataclass",
        "A patient presents with chest pain. What is your differential diagnosis?",
        "the address of the function is 0x7fff",
        "between 100 200 3000 and 400",
        "SELECT * FROM users WHERE id = 4711",
    ],
)
def test_harmless_text_is_left_alone(harmless):
    assert codes({"messages": [{"role": "user", "content": harmless}]}) == set()


def test_ordinary_chat_prompts_have_no_findings():
    file = Path(__file__).parents[3] / "deploy/train/chat_prompts.toml"
    prompts = [p for group in tomllib.loads(file.read_text()).values() for p in group]

    found = {prompt: codes({"content": prompt}) for prompt in prompts}

    assert {prompt: c for prompt, c in found.items() if c} == {}
    assert len(prompts) > 300


def test_a_detector_that_raises_makes_the_request_restricted():
    def broken(content):
        raise ZeroDivisionError
        yield

    detection = detect(b"{}", rules=(*RULES, broken))

    assert detection.label is Label.RESTRICTED
    assert detection.findings == ("detector_failed",)


@given(st.binary(max_size=400))
def test_any_bytes_are_judged(body):
    assert detect(body).label in Label


@settings(max_examples=60)
@given(
    st.sampled_from(PLANTED),
    st.dictionaries(st.text(max_size=8), st.text(max_size=40), max_size=4),
    st.dictionaries(st.text(max_size=8), st.text(max_size=40), max_size=4),
)
def test_fields_added_around_a_secret_never_lower_the_label(planted, before, after):
    _, secret = planted
    alone = detect(msgspec.json.encode([{}, {"x": secret}, {}]))
    together = detect(msgspec.json.encode([before, {"x": secret}, after]))

    assert together.label.rank >= alone.label.rank
    assert set(alone.findings) <= set(together.findings)


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x1e", "\x1f"])
def test_what_separates_fields_separates_words(separator):
    found = detect(json.dumps({"a": f"Street{separator}ssn 123-45-6789"}).encode())

    assert "national_id" in found.findings

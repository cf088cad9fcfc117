"""The same secrets as they stand in programs, forms and headings."""

import json

import msgspec
import pytest

from localforge.trust import detect
from localforge.trust.identifiers import _IBAN_LENGTHS


def codes(body):
    return set(detect(msgspec.json.encode(body)).findings)


def iban(country, length):
    """Return a number of a country's length, with digits that check."""
    account = "0123456789" * 4
    account = account[: length - 4]
    letters = "".join(str(int(char, 36)) for char in f"{country}00".lower())
    return f"{country}{98 - int(account + letters) % 97:02d}{account}"


@pytest.mark.parametrize(
    "written",
    [
        "passport_number: C01X00T47",
        '{"passport_number" : "C01X00T47"}',
        "Passport\nNo: C01X00T47",
        "passportNumber=C01X00T47",
        "social_security_number: 078051120",
        "social\nsecurity number 078051120",
        "tax_id = 123456789",
        "tax-id: 123456789",
        "national_id: 19850101123",
        "National ID: 850101123",
        "driver_license: 12345678",
    ],
)
def test_a_number_is_found_behind_its_name_however_that_is_spelt(written):
    assert codes({"a": written}) == {"national_id"}


@pytest.mark.parametrize(
    "written",
    [
        "DE89 3704 0044\n0532 0130 00",
        "DE89 3704 0044 -\n 0532 0130 00",
        "DE89 3704-0044.0532 0130 00",
        "DE8937040044\n0532013000",
        "DE 89 3704 0044 0532 0130 00",
        "DE 89370400440532013000",
        "IBANDE89370400440532013000",
        "IBANDE89 3704 0044 0532 0130 00",
    ],
)
def test_an_iban_is_found_with_any_separators(written):
    assert "iban" in codes({"a": f"pay {written} please"})


@pytest.mark.parametrize(
    ("country", "length"),
    [
        ("GE", 22), ("KW", 30), ("QA", 29), ("ME", 22), ("PK", 24), ("LC", 32), ("BY", 28),
        ("RU", 33),
    ],
)  # fmt: skip
def test_an_iban_of_any_country_is_found(country, length):
    assert _IBAN_LENGTHS[country.lower()] == length
    assert "iban" in codes({"a": iban(country, length)})


@pytest.mark.parametrize(
    "key",
    [
        f"gsk_{'aB3d' * 13}",
        f"xai-{'aB3d' * 20}",
        f"fw_{'aB3d' * 6}",
        f"tgp_v1_{'aB3_' * 10}",
        f"sk_test_{'aB3d' * 6}",
        f"whsec_{'aB3d' * 8}",
        f"GOCSPX-{'aB3-' * 7}",
        f"hvs.{'aB3d' * 8}",
        f"shpat_{'a1b2' * 8}",
        f"ghr_{'aB3d' * 9}",
        "xapp-1-A0123456789-1234567890-abcdef0123456789",
        f"dckr_pat_{'aB3-' * 7}",
        f"r8_{'aB3d' * 9}",
        f"nvapi-{'aB3-' * 16}",
        f"pplx-{'aB3d' * 12}",
        f"AGE-SECRET-KEY-1{'QZ7D' * 14}QZ",
    ],
    ids=lambda key: key[:8],
)
def test_a_key_is_known_by_how_it_begins(key):
    assert codes({"a": f"use {key} for it"}) == {"api_key"}


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("password", "DB_PASS=hunter22"),
        ("password", "SMTP_PASS: hunter22"),
        ("password", "dbpass = 'hunter22'"),
        ("password", '{"user": "bob", "pass": "hunter22"}'),
        ("password", "https://host/login?user=bob&pass=hunter22"),
        ("password", "mail-pass = hunter22"),
        ("password", "passcode: 4711"),
        ("password", "mot de passe : hunter22"),
        ("password", "Le mot de passe est hunter22"),
        ("api_key", "ENCRYPTION_KEY=9f8e7d6c5b4a39281706"),
        ("api_key", 'signing_key: "9f8e7d6c5b4a39281706"'),
        ("api_key", '{"encryptionKey": "9f8e7d6c5b4a39281706"}'),
        ("private_key", "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56wAAA"),
        ("private_key", "-----begin rsa private key-----\nmiicxaibaakbg"),
    ],
)
def test_a_secret_is_found_in_an_assignment(code, written):
    assert codes({"a": written}) == {code}
    assert codes({"a": json.dumps({"text": written})}) == {code}


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("marked_restricted", "STRICTLY\nCONFIDENTIAL"),
        ("marked_restricted", "strictly-confidential"),
        ("marked_restricted", "strictly_confidential_report.pdf"),
        ("marked_restricted", "Streng  vertraulich"),
        ("marked_restricted", '{"classification":"restricted"}'),
        ("marked_restricted", "Classification: TOP SECRET"),
        ("marked_restricted", "**Classification:** Secret"),
        ("marked_restricted", "TLP:RED"),
        ("marked_restricted", "TLP: Red"),
        ("marked_confidential", "internal  use only"),
        ("marked_confidential", "internal-use-only"),
        ("marked_confidential", "for internal\nuse only"),
        ("marked_confidential", "do  not\n  distribute"),
        ("marked_confidential", "NOT\nFOR DISTRIBUTION"),
        ("marked_confidential", "nur für den\ninternen Gebrauch"),
        ("marked_confidential", "firmenvertraulich"),
        ("marked_confidential", '{"data_classification": "internal"}'),
        ("marked_confidential", "TLP:AMBER+STRICT"),
    ],
)
def test_a_marking_is_found_however_its_words_are_parted(code, written):
    assert code in codes({"a": written})


@pytest.mark.parametrize(
    "harmless",
    [
        "passport control in 2024, gate 12",
        "the passport\nnumber is on page 3",
        "be 16 from this date or more than that",
        "at 20 people sat down with them each time",
        "no 15 1990 2000 2010 2020",
        "me 22 days 2024 2025 2026 2027 2028",
        "in file_fw_1234 and fw_update_all_the_devices",
        "sonar model: pplx-7b-online, xai-grok-beta, nvapi-url",
        "tests: pass: 1234, fail: 12",
        "pass=True, fail=2, low_pass=10.5khz, first_pass=done",
        '{"pass": "always", "bypass": "rule-1"}',
        "pass: the first; pass the salt2go",
        "the signing key is rotated every 90 days",
        "encryption_key = os.environ['ENCRYPTION_KEY']",
        "set internal_only=True in this internal-only module",
        "The change is internal. Only the API moves.",
        "a classification: cats or dogs",
        '{"classification": {"type": "string"}}',
        "tlp: reduced power",
        "understand arrays under\nndarray",
        "the private key begins with -----BEGIN",
    ],
)
def test_what_looks_alike_is_left_alone(harmless):
    assert codes({"messages": [{"role": "user", "content": harmless}]}) == set()

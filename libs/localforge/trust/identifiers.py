"""Detect numbers that identify a person or an account: cards, IBANs, national ids.

Numbers with a check digit are verified, so that ordinary numbers pass. All are `restricted`.
"""

import re
from collections.abc import Callable, Iterator

from localforge.contracts.trust import Label
from localforge.trust.findings import Finding
from localforge.trust.normal import Content
from localforge.trust.search import after, find_all, words

PAYMENT_CARD = Finding("payment_card", Label.RESTRICTED)
IBAN = Finding("iban", Label.RESTRICTED)
NATIONAL_ID = Finding("national_id", Label.RESTRICTED)

# Every pattern starts with a digit or letter class and looks back only after it: `re` then skips
# to candidates with its fast prefix scan. The lookahead lets candidates overlap.
_CARD = re.compile(
    r"\d(?<!\d\d)(?=(\d{12,18}(?!\d)"
    r"|\d{3}([ .-])\d{4}\2\d{4}\2\d{4}(?:\2\d{1,3})?(?!\d)"
    r"|\d{3}([ .-])\d{6}\3\d{4,5}(?!\d)))"
)
_CARD_GROUPS = re.compile(
    r"\d(?<!\d\d)(?<!\d{4}[\W_]\d)(?<!\d{4}[\W_]{2}\d)(?<!\d{4}[\W_]{3}\d)(?<!\d{4}[\W_]{4}\d)"
    # Blanks, line breaks and dashes may change from group to group, anything else may not.
    r"(?=(\d{3}(?:(?:[\s.-]{1,3}\d{4}){3}(?:[\s.-]{1,3}\d{1,3})?"
    r"|([^\w|]{1,4}|_)\d{4}\2\d{4}\2\d{4}(?:\2\d{1,3})?"
    r"|([^\w|]{1,4}|_)\d{6}\3\d{4,5})(?!\d|[\W_]{1,4}\d{4}\b)))"
)
"""A card in groups, such as the strings of a list or the lines of a form. Next to another number of
four digits, or between the bars of a table, they are taken for ordinary numbers."""
_CARD_NETWORK = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11,16}"
    r"|35\d{14,17}|(?:5[06-8]|6\d)\d{11,17}"
)
_IBAN = re.compile(r"\d(?<=[a-z]{2}\d)(?<![a-z0-9][a-z]{2}\d)\d\s?[a-z0-9]{4}[a-z0-9\s]{5,36}")
_GROUPS = r"\d[\W_]{1,4}(?:[a-z0-9]{4}[\W_]{1,4}){2,7}[a-z0-9]{1,4}(?![a-z0-9])"
_IBAN_GROUPS = re.compile(rf"\d(?<=[a-z]{{2}}\d)(?<![a-z0-9][a-z]{{2}}\d){_GROUPS}")
_IBAN_APART = re.compile(
    r"\d(?<=[a-z]{2}[\W_]\d)(?<![a-z0-9][a-z]{2}[\W_]\d)"
    rf"(?:{_GROUPS}|\d[a-z0-9]{{11,30}}(?![a-z0-9]))"
)
"""With something between the country and the check digits."""
_LEAST_IBAN_DIGITS = 8
"""Of one in groups: words of four letters may stand behind "is 26"."""
_IBAN_LENGTHS = {
    "ad": 24, "ae": 23, "al": 28, "at": 20, "az": 28, "ba": 20, "be": 16, "bg": 22, "bh": 22,
    "bi": 27, "br": 29, "by": 28, "ch": 21, "cr": 22, "cy": 28, "cz": 24, "de": 22, "dj": 27,
    "dk": 18, "do": 28, "ee": 20, "eg": 29, "es": 24, "fi": 18, "fk": 18, "fo": 18, "fr": 27,
    "gb": 22, "ge": 22, "gi": 23, "gl": 18, "gr": 27, "gt": 28, "hn": 28, "hr": 21, "hu": 28,
    "ie": 22, "il": 23, "iq": 23, "is": 26, "it": 27, "jo": 30, "kw": 30, "kz": 20, "lb": 28,
    "lc": 32, "li": 21, "lt": 20, "lu": 20, "lv": 21, "ly": 25, "mc": 27, "md": 24, "me": 22,
    "mk": 19, "mn": 20, "mr": 27, "mt": 31, "mu": 30, "ni": 28, "nl": 18, "no": 15, "om": 23,
    "pk": 24, "pl": 28, "ps": 29, "pt": 25, "qa": 29, "ro": 24, "rs": 22, "ru": 33, "sa": 24,
    "sc": 31, "sd": 18, "se": 24, "si": 19, "sk": 24, "sm": 27, "so": 23, "st": 25, "sv": 28,
    "tl": 23, "tn": 24, "tr": 26, "ua": 29, "va": 22, "vg": 24, "xk": 20, "ye": 30,
}  # fmt: skip
_US_SSN = re.compile(r"(\d(?<![\d.-]\d)\d\d)-(\d\d)-(\d{4})(?![\d-]|\.\d)")
_NAMED = re.compile(
    r"[a-z]{0,9}(?:[\s_-]{0,2}(?:number|num|no|nr|nummer|card|id)\b\.?)?"
    r"(?:\W{0,5}|\W{1,2}(?:is|ist)\W{1,3})"
    r"([a-z]{0,3} ?\d[\d .-]{4,16}\d\b|[a-z0-9]{8,10}\b)"
)
_NAMES = words(
    "ssn", "steuer-id", "steuer_id", "steueridentifikationsnummer", "steuernummer", "passport",
    "reisepass", "personalausweis", "aadhaar", "bsn", "führerschein",
    *(
        name.replace(" ", separator)
        for name in (
            "social security", "tax id", "national id", "national identity", "national insurance",
            "driver's licen", "drivers licen", "driver licen", "driving licen",
        )
        for separator in ("", " ", "_", "-", "\n")
    ),
)  # fmt: skip
_UK_NINO = re.compile(r"\d(?<!\d\d)\d ?\d\d ?\d\d ?[a-d](?![a-z0-9])")
_NINO_PREFIX = re.compile(
    r"(?:^|[^a-z0-9])(?!bg|gb|kn|nk|nt|tn|zz)(?![dfiquv])[a-z](?![dfiquvo])[a-z] ?"
)
_CH_AHV = re.compile(r"756\.?\d{4}\.?\d{4}\.?\d{2}(?!\d)")
_BR_CPF = re.compile(r"\d(?<![\d.-]\d)\d\d\.\d{3}\.\d{3}-\d\d(?!\d)")
_ES_DNI = re.compile(r"\d(?<![a-z0-9]\d)\d{7}-?[a-hj-np-tv-z](?![a-z0-9])")
_IT_CODE = re.compile(
    r"\d(?<=[a-z]{6}\d)(?<![a-z0-9][a-z]{6}\d)\d[a-ehlmprst]\d\d[a-z]\d{3}[a-z](?![a-z0-9])"
)
_FR_NIR = re.compile(r"[12](?<!\d\d) ?\d\d ?[0-1]\d ?\d\d ?\d{3} ?\d{3} ?\d\d(?!\d)")


def find_identifiers(content: Content) -> Iterator[Finding]:
    """Yield cards, IBANs and national ids whose check digits are right."""
    numbers, shape = content.numeric, content.shape
    if shape:
        if _has_card(numbers, shape):
            yield PAYMENT_CARD
        if _IBAN_SHAPE in shape and _has_iban(numbers):
            yield IBAN
        for needed, check in _NATIONAL:
            if needed in shape and check(numbers):
                yield NATIONAL_ID
    if (found := content.words & _NAMES) and any(
        _count_digits(m[1]) >= 6 for m in after(content.lower, found, _NAMED)
    ):
        yield NATIONAL_ID


def passes_luhn(digits: str) -> bool:
    """Verify the check digit of a payment card number (ISO/IEC 7812)."""
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def _is_card(candidate: str) -> bool:
    digits = _digits(candidate)
    return (
        _CARD_NETWORK.fullmatch(digits) is not None and len(set(digits)) > 1 and passes_luhn(digits)
    )


def _is_iban(candidate: str) -> bool:
    """Verify length by country and the mod-97 checksum (ISO 13616)."""
    compact = "".join(char for char in candidate if char.isalnum())
    length = _IBAN_LENGTHS.get(compact[:2], 0)
    if not length or len(compact) < length:
        return False
    account = compact[:length]
    return int("".join(str(int(c, 36)) for c in account[4:] + account[:4])) % 97 == 1


def _has_card(numbers: str, shape: bytes) -> bool:
    return (
        _CARD_SHAPE in shape and any(_is_card(m[0] + m[1]) for m in find_all(_CARD, numbers))
    ) or (
        _CARD_SHAPE in shape.translate(None, _SEPARATORS)
        and any(_is_card(m[0] + m[1]) for m in find_all(_CARD_GROUPS, numbers))
    )


def _has_iban(numbers: str) -> bool:
    if "iban" in numbers:
        # It is written without a blank, too.
        numbers = numbers.replace("iban", "iban ")
    return any(_is_iban(numbers[m.start() - 2 : m.end()]) for m in find_all(_IBAN, numbers)) or any(
        _count_digits(m[0]) >= _LEAST_IBAN_DIGITS
        and _is_iban(numbers[m.start() - before : m.end()])
        for pattern, before in ((_IBAN_GROUPS, 2), (_IBAN_APART, 3))
        for m in find_all(pattern, numbers)
    )


def _has_us_ssn(numbers: str) -> bool:
    # A blank as separator is too common in tables of numbers.
    return any(
        m[1] not in ("000", "666") and m[1] < "900" and m[2] != "00" and m[3] != "0000"
        for m in find_all(_US_SSN, numbers)
    )


def _has_uk_nino(numbers: str) -> bool:
    return any(
        _NINO_PREFIX.fullmatch(numbers, max(m.start() - 4, 0), m.start())
        or _NINO_PREFIX.fullmatch(numbers, max(m.start() - 3, 0), m.start())
        for m in find_all(_UK_NINO, numbers)
    )


def _has_ch_ahv(numbers: str) -> bool:
    def is_valid(digits: str) -> bool:
        weighted = sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(digits[:12]))
        return (10 - weighted % 10) % 10 == int(digits[12])

    return "756" in numbers and any(is_valid(_digits(m[0])) for m in find_all(_CH_AHV, numbers))


def _has_br_cpf(numbers: str) -> bool:
    def is_valid(digits: str) -> bool:
        for length in (9, 10):
            total = sum(int(d) * (length + 1 - i) for i, d in enumerate(digits[:length]))
            if total * 10 % 11 % 10 != int(digits[length]):
                return False
        return len(set(digits)) > 1

    return any(is_valid(_digits(m[0])) for m in find_all(_BR_CPF, numbers))


def _has_es_dni(numbers: str) -> bool:
    return any(
        "trwagmyfpdxbnjzsqvhlcke"[int(m[0][:8]) % 23] == m[0][-1]
        for m in find_all(_ES_DNI, numbers)
    )


def _has_it_code(numbers: str) -> bool:
    return any(find_all(_IT_CODE, numbers))


def _has_fr_nir(numbers: str) -> bool:
    return any(
        97 - int(digits[:13]) % 97 == int(digits[13:])
        for digits in (_digits(m[0]) for m in find_all(_FR_NIR, numbers))
    )


_CARD_SHAPE, _IBAN_SHAPE = b"0" * 13, b"aa00"
_SEPARATORS = bytes(byte for byte in range(256) if not chr(byte).isalnum())
_NATIONAL: tuple[tuple[bytes, Callable[[str], bool]], ...] = (
    (b"0" * 9, _has_us_ssn),
    (b"aa000000a", _has_uk_nino),
    (b"0" * 13, _has_ch_ahv),
    (b"0" * 11, _has_br_cpf),
    (b"00000000a", _has_es_dni),
    (b"aaaaaa00a00a000a", _has_it_code),
    (b"0" * 15, _has_fr_nir),
)
"""What `Content.shape` must have for each: a part of the shape of whatever its pattern matches."""


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


def _count_digits(text: str) -> int:
    return sum(char.isdigit() for char in text)

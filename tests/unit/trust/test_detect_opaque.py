"""Encoded media, which nobody can look into: found in whatever way it is written."""

import base64
import hashlib
import json
import random
import uuid

import msgspec
import pytest

from localforge.contracts.trust import Label
from localforge.trust import detect


def codes(body):
    return set(detect(msgspec.json.encode(body)).findings)


def test_encoded_media_is_confidential_because_nobody_looked_into_it():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * 200}}

    detection = detect(msgspec.json.encode({"messages": [{"role": "user", "content": [image]}]}))

    assert detection.findings == ("opaque_content",)
    assert detection.label is Label.CONFIDENTIAL


BYTES = random.Random(7).randbytes(1_000)


IMAGE = base64.b64encode(random.Random(7).randbytes(6_000)).decode()


WRAPPED = "\n".join(IMAGE[at : at + 76] for at in range(0, len(IMAGE), 76))


@pytest.mark.parametrize(
    "written",
    [
        IMAGE,
        IMAGE.replace("/", "\\/"),
        IMAGE.replace("/", "\\u002f").replace("+", "\\u002B"),
        IMAGE.replace("/", "\\\\/"),
        WRAPPED.replace("\n", "\\n"),
        WRAPPED.replace("\n", "\\r\\n").replace("/", "\\/"),
        WRAPPED.replace("\n", "\\u000a"),
        IMAGE.replace("+", " "),
        IMAGE.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "\\u200b".join(IMAGE[at : at + 12] for at in range(0, len(IMAGE), 12)),
        json.dumps(WRAPPED.split("\n"))[2:-2],
        json.dumps(json.dumps(WRAPPED.split("\n")))[1:-1],
        "> " + WRAPPED.replace("\n", "\\n> "),
        ", ".join(map(str, BYTES)),
        json.dumps(json.dumps(list(BYTES), indent=2))[1:-1],
        BYTES.hex(" "),
        ", ".join(f"0x{byte:02x}" for byte in BYTES),
        "\\n".join(
            f"{at:08x}: {BYTES[at : at + 16].hex(' ', 2)}  ................"
            for at in range(0, len(BYTES), 16)
        ),
        base64.b85encode(BYTES).decode(),
        json.dumps(base64.a85encode(BYTES, wrapcol=76).decode())[1:-1],
    ],
    ids=[
        "plain", "slash", "code", "twice", "newline", "crlf", "code newline", "blank", "percent",
        "invisible", "list", "list in a string", "quoted mail", "numbers", "numbers by line",
        "hexadecimal", "C", "dump", "base85", "ascii85",
    ],
)  # fmt: skip
def test_encoded_media_is_found_however_it_is_written(written):
    detection = detect(f'{{"a": "{written}"}}'.encode())

    assert "opaque_content" in detection.findings
    assert detection.label.rank >= Label.CONFIDENTIAL.rank


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,iVBORw0K",
        "data:image\\/png;base64,iVBORw0K",
        "DATA:image/svg+xml,%3Csvg%3E",
        "\\u0064ata:;base64,aGk=",
        "data%3Aimage%2Fpng%3Bbase64%2CiVBORw0K",
    ],
)
def test_a_data_url_is_opaque_however_short_and_wherever_it_is(url):
    assert detect(f'{{"x": ["see {url} there"]}}'.encode()).findings == ("opaque_content",)


@pytest.mark.parametrize(
    "text",
    [
        "a description without any punctuation goes on and on " * 60,
        "    def run(self, data: list[int]) -> None:\n        return self.items[0]\n" * 60,
        "id,name,amount\n17,monitor,249\n" * 100,
        "The data: images, numbers and text. " * 40,
        '{"data":{"kind":"text"},"items":[1,2,3]}' * 60,
        '{"orderId":"AB-12/X","STATUS":"OPEN","items":[{"SKU":"Q7$","n":2}]},' * 60,
        "function f(a,b){return a&&b?a.Value+b.Value:G.Error('X')};" * 60,
        ", ".join(f'"{uuid.UUID(int=n * 7**40 % 2**128)}"' for n in range(1, 200)),
        ", ".join(f'"{hashlib.sha1(bytes([n])).hexdigest()}"' for n in range(200)),
        "src/components/user_profile/index, " * 60,
        ", ".join(str(n * 37 % 100_000) for n in range(1_000)),
        ", ".join(str(n * 37 % 10) for n in range(2_000)),
        "\n".join(" ".join(str(n * m % 100) for m in range(12)) for n in range(100)),
    ],
    ids=lambda text: text[:12],
)
def test_long_prose_code_and_tables_are_not_encoded_media(text):
    assert codes({"content": text}) == set()


def test_a_secret_between_the_lines_of_wrapped_media_is_found():
    body = {"a": f"{WRAPPED}\nAKIAIOSFODNN7EXAMPLE\n{WRAPPED}"}

    assert codes(body) >= {"opaque_content", "api_key"}


def test_a_key_inside_an_unbroken_run_is_found():
    key = "sk-ant-api03-abcdefghijklmnopqrstuv"

    assert codes({"a": "a" * 1100 + "-" + key + "a" * 200}) == {"opaque_content", "api_key"}
    assert codes({"a": "a" * 1100 + "/AKIAIOSFODNN7EXAMPLE/" + "a" * 200}) >= {"api_key"}


def test_text_beside_encoded_media_is_inspected():
    body = {"a": "A" * 5000, "b": "password: hunter2", "c": "B" * 5000}

    assert codes(body) == {"opaque_content", "password"}

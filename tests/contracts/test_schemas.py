"""The checked-in schemas are the code's, and the schemas describe what the code encodes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from localforge.contracts import schema, subjects
from localforge.contracts.base import PublicContract
from tests.contracts.examples import EXAMPLES

FOLDER = Path(__file__).parents[2] / "contracts" / "schemas"


def test_checked_in_schemas_are_what_the_code_says() -> None:
    wanted = {**schema.json_schemas(), "asyncapi": schema.asyncapi()}

    assert {path.stem for path in FOLDER.glob("*.json")} == set(wanted)
    for name, document in wanted.items():
        assert (FOLDER / f"{name}.json").read_bytes() == schema.render(document), (
            f"{name}.json is stale; run `just schemas`"
        )


@pytest.mark.parametrize("message", EXAMPLES, ids=schema.tag_of)
def test_an_encoded_json_message_fits_its_schema(message: type) -> None:
    if not issubclass(message, PublicContract):
        pytest.skip("MessagePack carries raw bytes, which JSON Schema cannot describe")
    document = schema.json_schemas()[schema.tag_of(message)]

    jsonschema.validate(msgspec.json.decode(EXAMPLES[message].encode()), document)


def test_every_subject_of_the_code_is_a_channel() -> None:
    constants = {
        value
        for name, value in vars(subjects).items()
        if isinstance(value, str) and value.startswith("lf.") and not name.endswith("_PREFIX")
    }
    addresses = {address for address, _, _ in schema.CHANNELS.values()}

    assert constants <= addresses


def test_the_asyncapi_document_is_of_version_3_with_what_that_requires() -> None:
    """Required: https://www.asyncapi.com/docs/reference/specification/v3.0.0#A2SObject."""
    document = _asyncapi()

    assert re.fullmatch(r"3\.\d+\.\d+", document["asyncapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    assert document["channels"]


def test_every_reference_of_every_document_leads_somewhere() -> None:
    documents = {file.name: json.loads(file.read_bytes()) for file in FOLDER.glob("*.json")}
    references = {name: set(_references(documents[name])) for name in documents}

    astray = {n: {r for r in references[n] if not _is_there(documents[n], r)} for n in documents}
    assert astray == {name: set() for name in documents}
    # Into its own parts, and to the schema of each message in the file beside it.
    kinds = {reference.rpartition("/")[0] for reference in references["asyncapi.json"]}
    assert kinds == {"#/components/messages", "."}


def test_every_channel_declares_the_parameters_of_its_address() -> None:
    channels = _asyncapi()["channels"]
    named = {c: set(re.findall(r"\{([^{}]*)\}", channels[c]["address"])) for c in channels}
    declared = {c: set(channels[c].get("parameters", {})) for c in channels}

    assert declared == named
    assert any(named.values())
    for parameters in named.values():
        # What a key of the parameters object may look like.
        assert all(re.fullmatch(r"[A-Za-z0-9_-]+", parameter) for parameter in parameters)


def _asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / "asyncapi.json").read_bytes())
    return document


def _references(node: Any) -> Iterator[str]:
    """Yield every `$ref` at and below a node."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _is_there(document: dict[str, Any], reference: str) -> bool:
    """Follow a reference: a JSON pointer into the document, or a file beside it."""
    file, _, pointer = reference.partition("#")
    if file:
        return (FOLDER / file).is_file() and not pointer
    node: Any = document
    for key in pointer.removeprefix("/").split("/"):
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def test_every_message_has_a_version_tag() -> None:
    for message in schema.MESSAGES:
        # Advisories of the broker bring the tag of NATS's own schema.
        assert re.fullmatch(
            r"[a-z_]+\.v\d+|io\.nats\.jetstream\.advisory\.v1\.[a-z_]+", schema.tag_of(message)
        )

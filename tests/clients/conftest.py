"""A running LocalForge in front of fake providers, for other people's clients."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.stack import Provider, Reply, Stack, running
from tests.fakes.openai_server import Behaviour

KEY = "client-secret"
IBAN = "Please pay to DE89 3704 0044 0532 0130 00 by Friday"
THOUGHTS = ["First", " the sea,", " then the sky."]
CONFIG = """\
[[keys]]
id = "clients"
secret = "env:CLIENT_KEY"

[[backends]]
name = "here"
kind = "openai"
url = "{local}"
[[backends.models]]
name = "talker"
context_tokens = 32768
capabilities = ["tools", "json_object", "json_schema", "logprobs", "n"]
quality_prior = 0.5
[[backends.models]]
name = "listener"
context_tokens = 32768
capabilities = ["audio"]
quality_prior = 0.5
[[backends.models]]
name = "thinker"
context_tokens = 32768
capabilities = ["logprobs", "reasoning"]
quality_prior = 0.5
[[backends.models]]
name = "vectors"
capabilities = ["embeddings"]

# The same embedding model at another place.
[[backends]]
name = "there"
kind = "openai"
url = "{cloud}"
[[backends.models]]
name = "vectors-too"
upstream = "vectors"
capabilities = ["embeddings"]

[[backends]]
name = "cloud"
kind = "openai"
zone = "cloud"
url = "{cloud}"
[[backends.models]]
name = "cloud-seer"
capabilities = ["vision", "audio"]
price_in = 1.0
price_out = 2.0
[[backends.models]]
name = "cloud-vectors"
upstream = "vectors-large"
capabilities = ["embeddings"]
price_in = 1.0
price_out = 0.0
"""


@pytest.fixture(name="local", scope="session")
def _local() -> Iterator[Provider]:
    provider = Provider()
    thinker = Behaviour(thoughts=THOUGHTS)
    with provider.behaving(talker=Behaviour(echo_tools=True), thinker=thinker):
        yield provider
    provider.close()


@pytest.fixture(name="cloud", scope="session")
def _cloud() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


@pytest.fixture(name="stack", scope="session")
def _stack(
    tmp_path_factory: pytest.TempPathFactory, local: Provider, cloud: Provider
) -> Iterator[Stack]:
    config = CONFIG.format(local=local.url, cloud=cloud.url)
    folder = tmp_path_factory.mktemp("clients")
    with running(Stack(folder, config, {"CLIENT_KEY": KEY})) as stack:
        yield stack


def post(stack: Stack, path: str, body: dict[str, Any]) -> Reply:
    """Send a request with the key."""
    return stack.http("POST", path, body, {"authorization": f"Bearer {KEY}"})

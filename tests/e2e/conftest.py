"""The running stack that most end-to-end tests share."""

import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.e2e.stack import Provider, Stack, running
from tests.support import Lateness

CONFIG = """\
[aliases]
anything = "auto"
first = "fake-a"

[edge]
max_body_mb = 2

# Far above what the fake cloud can cost.
[router.goal]
spend_usd = 1000

[router.shadow]
enabled = true
gamma = 1000

# For requests that name the policy `static` or `rules`.
[router.static]
fake-b = 1.0
[[router.rules]]
name = "pictures"
needs = ["vision"]
models = {{ right = 1.0 }}
[[router.rules]]
name = "the rest"
models = {{ fake-a = 1.0 }}

[[backends]]
name = "embedded"
kind = "embedded"
slots = 1
[[backends.models]]
name = "smollm2-135m"
context_tokens = 8192
capabilities = ["json_object", "json_schema"]
quality_prior = 0.25

[[backends]]
name = "fake"
kind = "openai"
url = "{local}"
# What fails in one test shall be asked in the next.
breaker_failures = 1000
[[backends.models]]
name = "fake-a"
context_tokens = 32768
quality_prior = 0.5
[[backends.models]]
name = "fake-b"
context_tokens = 32768
quality_prior = 0.5

# Requests with a picture have these two to choose from and no other.
[[backends.models]]
name = "left"
capabilities = ["vision"]
quality_prior = 0.5
[[backends.models]]
name = "right"
capabilities = ["vision"]
quality_prior = 0.5

[[backends]]
name = "cloud"
kind = "openai"
zone = "cloud"
url = "{cloud}"
breaker_failures = 1000
[[backends.models]]
name = "cloud-model"
context_tokens = 32768
price_in = 1.0
price_out = 2.0
quality_prior = 0.9
"""


@pytest.fixture(name="local", scope="session")
def _local() -> Iterator[Provider]:
    provider = Provider()
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
    with running(Stack(tmp_path_factory.mktemp("stack"), config)) as stack:
        yield stack


@pytest.fixture(name="rng")
def _rng() -> random.Random:
    seed = random.randrange(2**32)
    print(f"random moments with the seed {seed}")  # pytest shows it beside a failure
    return random.Random(seed)


@pytest.fixture(name="late")
async def _late() -> AsyncIterator[Lateness]:
    async with Lateness() as late:
        yield late


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the end of the stack's log beside a failure."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Stack) and value.log.exists():
                report.sections.append((f"log of {name}", value.tail()))

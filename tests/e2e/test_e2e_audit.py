"""`localforge audit` and `localforge router` beside a running system, on the log it has written."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from localforge.bus.permissions import ROUTER
from localforge.contracts import subjects
from localforge.contracts.facts import DecisionMade
from localforge.trust import ensure_key_pair
from tests.e2e.stack import Provider, Stack, running
from tests.support import wait_until

CONFIG = """
[router]
policy = "igw"
gamma = 1.0
[[backends]]
name = "near"
kind = "openai"
url = "{url}"
[[backends.models]]
name = "near-model"
quality_prior = 0.5
[[backends]]
name = "far"
kind = "openai"
zone = "cloud"
url = "{url}"
[[backends.models]]
name = "far-model"
quality_prior = 0.5
price_in = 0.5
price_out = 1.0
"""
REQUESTS = 140


@pytest.fixture(name="audited", scope="module")
def _audited(tmp_path_factory: pytest.TempPathFactory, local: Provider) -> Iterator[Stack]:
    """A stack with a local and a remote model, and a log of requests that either answered."""
    stack = Stack(tmp_path_factory.mktemp("audited"), CONFIG.format(url=local.url))
    with running(stack):
        for index in range(REQUESTS):
            body = {"model": "auto", "messages": [{"role": "user", "content": f"word {index}"}]}
            assert stack.chat(body).status == 200
        secret = "my api key is sk-abcdefghijklmnopqrstuvwxyz123456"
        body = {"model": "auto", "messages": [{"role": "user", "content": secret}]}
        assert stack.chat(body).status == 200
        yield stack


def _told(done: "subprocess.CompletedProcess[str]", code: int = 0) -> Any:
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(name="verified", scope="module")
def _verified(audited: Stack) -> dict[str, Any]:
    """What `audit verify` says once all facts, which are written behind the answer, are there."""
    told: dict[str, Any] = {}
    for _ in range(30):
        told = _told(audited.cli("audit", "verify", "--json"))
        attempts = sum(a["local"] + a["remote"] for a in told["attempts"].values())
        if (told["decisions"], attempts) == (REQUESTS + 1, REQUESTS + 1):
            return told
    pytest.fail(f"not all facts are in the log: {told}")


def test_verify_proves_from_signatures_that_nothing_sensitive_left(
    audited: Stack, verified: dict[str, Any]
):
    told = verified
    said = audited.cli("audit", "verify")

    assert told["counts"] == {}
    assert told["attempts"]["restricted"] == {"local": 1, "remote": 0, "refused": 0}
    assert told["seals_verified"] == told["attempts"]["internal"]["remote"] > 0
    assert said.stdout.startswith("clean: ")


def test_verify_finds_that_the_log_was_replaced(audited: Stack, verified: dict[str, Any]):
    """The stream was made later than what `localforge up` noted at its first start."""
    note = audited.data / "feedback-made-at"
    kept = note.read_text()
    note.write_text("2020-01-01T00:00:00+00:00\n")
    try:
        told = _told(audited.cli("audit", "verify", "--json"), code=1)
    finally:
        note.write_text(kept)

    assert verified["counts"] == {}
    assert told["counts"] == {"log_replaced": 1}


def test_verify_with_another_public_key_finds_every_remote_attempt(
    audited: Stack, verified: dict[str, Any], tmp_path: Path
):
    remote = verified["attempts"]["internal"]["remote"]
    _, other = ensure_key_pair(tmp_path)

    told = _told(audited.cli("audit", "verify", "--public-key", str(other), "--json"), code=1)

    assert told["counts"] == {"seal_signature": remote}


@pytest.mark.usefixtures("verified")
def test_counterfactual_estimates_another_price_and_names_the_decisions(
    audited: Stack, tmp_path: Path
):
    # So dear that of this many decisions some are sure to fall the other way.
    new = tmp_path / "new.toml"
    new.write_text(audited.config.read_text().replace("price_out = 1.0", "price_out = 3000.0"))

    told = _told(
        audited.cli("audit", "counterfactual", "--policy", str(new), "--since", "1h", "--json")
    )
    shown = audited.cli("audit", "counterfactual", "--policy", str(new))

    metrics = {metric["name"]: metric for metric in told["metrics"]}
    assert (told["decisions"], told["not_judged"]) == (REQUESTS + 1, {})
    assert told["shares"]["far-model"][1] < told["shares"]["far-model"][0]
    assert 0 < len(told["examples"]) <= told["differ"]
    assert metrics["latency_s"]["dr"]["low"] < metrics["latency_s"]["dr"]["high"]
    assert "Decisions that would differ" in shown.stdout
    assert "doubly robust" in shown.stdout


@pytest.mark.usefixtures("verified")
def test_counterfactual_refuses_what_the_log_cannot_answer(audited: Stack, tmp_path: Path):
    new = tmp_path / "new.toml"
    new.write_text(audited.config.read_text())

    told = _told(
        audited.cli("audit", "counterfactual", "--policy", str(new), "--until", "1h", "--json"),
        code=1,
    )

    assert told["judged"] == 0
    assert {metric["refused"] for metric in told["metrics"]} == {"no decision could be judged"}


@pytest.mark.usefixtures("verified")
async def test_a_trained_router_is_exported_and_imported_and_replay_stays_exact(
    audited: Stack, tmp_path: Path
):
    file = tmp_path / "trained"
    told = audited.chat(
        {"model": "auto", "messages": [{"role": "user", "content": "to be judged"}]}
    ).json
    _told(audited.cli("feedback", told["id"], "--score", "1", "--json"))
    exported: dict[str, Any] = {"scores": 0}

    def was_judged() -> bool:
        exported.update(_told(audited.cli("router", "export", str(file), "--json")))
        return bool(exported["scores"] > 0)

    await wait_until(was_judged, timeout=30, description="the verdict is learned from")
    unasked = audited.cli("router", "import", str(file))
    imported = _told(audited.cli("router", "import", str(file), "--yes", "--json"))
    await wait_until(
        lambda: "router_imported" in audited.log.read_text(),
        timeout=30,
        description="the running router takes it",
    )
    body = {"model": "auto", "messages": [{"role": "user", "content": "after"}]}
    assert audited.chat(body).status == 200
    replayed: dict[str, Any] = {}

    def decided_after() -> bool:
        replayed.update(_told(audited.cli("audit", "replay", "--json")))
        return bool(replayed["decisions"] > REQUESTS + 2)

    await wait_until(decided_after, timeout=30, description="the decision after the import")

    assert "say --yes" in unasked.stderr
    assert exported["scores"] > 0
    assert imported["state_hash"] == exported["state_hash"]
    assert replayed["mismatched"] == 0
    assert replayed["facts"]["imported"] == 1
    # The first answers that this stack gave were not learnt by the router when it decided.
    assert replayed["reproduced"] == replayed["decisions"]


def test_a_router_of_somebody_else_is_refused(audited: Stack, tmp_path: Path):
    file, changed = tmp_path / "trained", tmp_path / "changed"
    key, _ = ensure_key_pair(tmp_path)
    _told(audited.cli("router", "export", str(file), "--key", str(key), "--json"))
    shutil.copy(file, changed)
    changed.write_bytes(changed.read_bytes()[:-200] + bytes(200))

    other = audited.cli("router", "import", str(file), "--yes")
    damaged = audited.cli("router", "import", str(changed), "--yes")

    assert "you trust key" in other.stderr
    assert "router file" in damaged.stderr
    assert (other.returncode, damaged.returncode) == (1, 1)


async def test_replay_names_a_decision_that_was_not_made_as_logged(audited: Stack):
    """The last test: its log is no longer one that a router has written."""
    async with audited.nats("admin") as admin:
        last = await admin.jetstream().get_last_msg(subjects.FEEDBACK.name, subjects.decision("*"))
    changed = msgspec.structs.replace(
        DecisionMade.decode(last.data or b""),
        decision_id="01hqforged0000000000000000",
        propensity=0.123,
    )
    async with audited.nats(ROUTER) as router:
        await router.jetstream().publish(
            subjects.decision(changed.decision_id), changed.encode(), timeout=20
        )

    told = _told(audited.cli("audit", "replay", "--json"), code=1)
    shown = audited.cli("audit", "replay")

    assert (told["mismatched"], shown.returncode) == (1, 1)
    assert [m["decision_id"] for m in told["mismatches"]] == [changed.decision_id]
    assert shown.stdout.startswith("MISMATCH")
    assert changed.decision_id in shown.stdout

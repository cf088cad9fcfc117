"""`localforge` from the user's other terminal, beside a running `localforge up`."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.stack import EDGE, Provider, Stack, running
from tests.fakes.openai_server import WORDS
from tests.support import Lateness, wait_until

BACKEND = """
[[backends]]
name = "{name}"
kind = "openai"
zone = "{zone}"
url = "{url}"
[[backends.models]]
name = "{name}-model"
price_in = 0.5
price_out = 1.0
"""
SECRET = "sk-local-4f1d"


@pytest.fixture(name="small", scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory, local: Provider) -> Iterator[Stack]:
    """A stack without the embedded model, with keys, whose configuration tests may change."""
    config = (
        '[[keys]]\nid = "web"\nsecret = "env:WEB_KEY"\nminimum_label = "confidential"\n'
        + BACKEND.format(name="near", zone="local", url=local.url)
        + BACKEND.format(name="far", zone="cloud", url=local.url)
    )
    stack = Stack(tmp_path_factory.mktemp("small"), config, {"WEB_KEY": SECRET})
    with running(stack):
        stack.environment["LOCALFORGE_API_KEY"] = SECRET
        yield stack


def _fine(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _refused(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the one line in which the command says why it failed."""
    assert (done.returncode, done.stdout) == (1, ""), done.stdout
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


def _ask(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


def test_chat_streams_the_answer_and_says_how_to_rate_it(stack: Stack):
    said = _fine(stack.cli("chat", "hello", "--model", "fake-a"))
    piped = json.loads(_fine(stack.cli("chat", "-", "-m", "fake-a", "--json", stdin="hello")))

    answer, by, hint = said.strip().splitlines()
    assert answer == " ".join(WORDS) == piped["choices"][0]["message"]["content"]
    assert by.startswith("answered by fake-a")
    assert hint.startswith("localforge feedback chatcmpl-")


def test_feedback_is_accepted_for_the_completion_that_chat_named(stack: Stack):
    completion = json.loads(_fine(stack.cli("chat", "hello", "-m", "fake-a", "--json")))["id"]

    said = _fine(stack.cli("feedback", completion, "--score", "1"))
    refused = stack.cli("feedback", "no-completion", "--score", "1")

    assert "thank you" in said
    assert "completion_id" in _refused(refused)


def test_route_explains_the_choice_and_the_exclusions(stack: Stack):
    said = _fine(stack.cli("route", "--explain", "What is love?", "--label", "confidential"))
    told = json.loads(_fine(stack.cli("route", "What is love?", "--json")))

    assert "label confidential → zones local" in said
    assert "Eligible" in said
    assert "Excluded" in said
    assert "in zone cloud; label confidential allows local" in said
    assert sum(c["probability"] for c in told["decision"]["candidates"]) == pytest.approx(1)


async def test_a_model_is_disabled_and_enabled_within_two_seconds(stack: Stack, late: Lateness):
    def excluded() -> dict[str, str]:
        decision = stack.route(_ask("auto"))
        return {e["model"]: e["reason"] for e in decision["exclusions"]}

    async def switch(how: str, reason: str | None) -> float:
        """Return the seconds until the router knows."""
        _fine(await asyncio.to_thread(stack.cli, "models", how, "fake-b"))
        switched_at = time.monotonic()
        await wait_until(
            lambda: asyncio.to_thread(lambda: excluded().get("fake-b") == reason),
            description=f"the model is switched: {how}",
        )
        return time.monotonic() - switched_at

    assert "fake-b" not in excluded()

    seconds = []
    try:
        seconds.append(await switch("disable", "disabled"))
        by_name = await asyncio.to_thread(stack.chat, _ask("fake-b"))
    finally:
        seconds.append(await switch("enable", None))

    assert max(seconds) < late.allowed(2, at_most=5), (seconds, late.worst_s)
    assert by_name.status == 503
    assert "switched off" in by_name.json["error"]["message"]
    assert stack.chat(_ask("fake-b")).status == 200
    assert "no model is called 'fake-x'" in _refused(stack.cli("models", "disable", "fake-x"))


def test_models_are_listed_with_zone_and_price(stack: Stack):
    said = _fine(stack.cli("models"))
    listed = {m["name"]: m for m in json.loads(_fine(stack.cli("models", "--json")))}

    (line,) = [line for line in said.splitlines() if "cloud-model" in line]
    assert "cloud" in line
    assert (listed["cloud-model"]["zone"], listed["cloud-model"]["price_out"]) == ("cloud", 2.0)
    assert listed["cloud-model"]["state"] == "up"


def test_the_replay_is_shown_to_people_too(stack: Stack):
    said = _fine(stack.cli("audit", "replay"))

    assert said.startswith("clean: ")
    assert "0 mismatched" in said


def test_without_the_key_nothing_is_answered(small: Stack):
    without = small.http("POST", "/v1/chat/completions", _ask("near-model"))
    wrong = small.http(
        "POST", "/v1/chat/completions", _ask("near-model"), {"authorization": "Bearer sk-wrong"}
    )
    right = small.http(
        "POST", "/v1/chat/completions", _ask("near-model"), {"authorization": f"Bearer {SECRET}"}
    )

    assert (without.status, without.json["error"]["code"]) == (401, "missing_api_key")
    assert (wrong.status, wrong.json["error"]["code"]) == (401, "invalid_api_key")
    assert right.status == 200
    assert small.http("GET", "/readyz").status == 200


def test_a_keys_policy_holds_for_all_its_requests(small: Stack):
    told = json.loads(_fine(small.cli("route", "hello", "--json", "--label", "public")))

    assert (told["decision"]["label"], told["decision"]["zones"]) == ("confidential", ["local"])


def test_no_secret_is_in_the_log_or_in_another_childs_environment(small: Stack):
    assert SECRET not in small.log.read_text()
    holders = {
        name
        for name in small.runtime["children"]
        if SECRET in psutil.Process(small.pid(name)).environ().values()
    }
    assert holders == {EDGE}


@contextmanager
def _changed(stack: Stack, text: str) -> Iterator[None]:
    """Have the running stack take another configuration, and the old one again."""
    old = stack.config.read_text()
    stack.config.write_text(text)
    try:
        _fine(stack.cli("reload"))
        yield
    finally:
        stack.config.write_text(old)
        _fine(stack.cli("reload"))


def _models(stack: Stack) -> dict[str, dict[str, Any]]:
    reply = stack.http("GET", "/v1/models", headers={"authorization": f"Bearer {SECRET}"})
    return {model["id"]: model.get("localforge", {}) for model in reply.json["data"]}


@pytest.mark.timeout(120)
async def test_a_backend_comes_and_goes_without_a_restart(small: Stack, local: Provider):
    before = {name: small.pid(name) for name in small.runtime["children"]}
    new = BACKEND.format(name="new", zone="local", url=local.url) + '[aliases]\nshort = "new-model"'

    with _changed(small, small.config.read_text() + new):
        await wait_until(
            lambda: {"new-model", "short"} <= _models(small).keys(),
            timeout=30,
            description="it is there",
        )
        answer = json.loads(_fine(small.cli("chat", "hello", "-m", "short", "--json")))
        during = set(small.runtime["children"])
    await wait_until(
        lambda: not {"new-model", "short"} & _models(small).keys(),
        timeout=30,
        description="it is gone",
    )

    assert answer["model"] == "new-model"
    assert during == {*before, "executor-new"}
    assert {name: small.pid(name) for name in small.runtime["children"]} == before


@pytest.mark.timeout(120)
async def test_a_models_price_is_changed_without_a_restart(small: Stack):
    def price() -> float:
        return float(_models(small)["far-model"]["price_in"])

    executor = small.pid("executor-far")
    with _changed(small, small.config.read_text().replace("price_in = 0.5", "price_in = 7.5")):
        await wait_until(lambda: price() == 7.5, timeout=20, description="the new price")
    await wait_until(lambda: price() == 0.5, timeout=20, description="the old price")

    assert small.pid("executor-far") == executor


KEY = """
[[keys]]
id = "{id}"
secret = "{secret}"
"""


def test_one_key_that_cannot_be_resolved_keeps_no_other_change_from_its_place(
    small: Stack, tmp_path: Path
):
    (tmp_path / "extra").write_text("the-extra-secret")
    config = small.config.read_text()
    extra = KEY.format(id="extra", secret=f"file:{tmp_path / 'extra'}")
    broken = KEY.format(id="broken", secret="env:NOWHERE_TO_BE_FOUND")

    def status(key: str) -> int:
        return small.http("GET", "/v1/models", headers={"x-api-key": key}).status

    with _changed(small, config + extra):
        with_extra = status("the-extra-secret")
        small.config.write_text(config + broken)
        line = _refused(small.cli("reload"))
        without = status("the-extra-secret"), status(SECRET)

    assert (with_extra, without) == (200, (401, 200))
    assert "key `broken`" in line
    assert "NOWHERE_TO_BE_FOUND is not set" in line


def test_what_needs_a_restart_is_named_and_ends_nothing(small: Stack):
    before, config = small.runtime["children"], small.config.read_text()
    small.config.write_text(
        config.replace("[up]", "[up]\ntogether = []", 1)
        if "[up]" in config
        else config + "\n[up]\ntogether = []\n"
    )
    try:
        line = _refused(small.cli("reload"))
    finally:
        small.config.write_text(config)
        _fine(small.cli("reload"))

    assert "`up.together` is read at the start only" in line
    assert small.runtime["children"] == before


async def test_a_wrong_configuration_is_not_taken(small: Stack):
    before, config = small.runtime["children"], small.config.read_text()
    small.config.write_text(config + "\n[nonsense]\n")
    try:
        line = _refused(small.cli("reload"))
        # Not everybody asks by the command.
        os.kill(small.runtime["process"]["pid"], signal.SIGHUP)
        await wait_until(
            lambda: "reload refused, nothing changed" in small.log.read_text(),
            description="the refusal",
        )
    finally:
        small.config.write_text(config)
    answer = _fine(small.cli("chat", "hello", "-m", "near-model"))

    assert "`nonsense`: there is no such key" in line
    assert answer.startswith(" ".join(WORDS))
    assert small.runtime["children"] == before


def test_a_backend_that_does_not_start_leaves_the_others_alone(small: Stack, local: Provider):
    broken = BACKEND.format(name="broken", zone="local", url=local.url).replace(
        'kind = "openai"', 'kind = "openai"\napi_key = "env:NOT_SET"'
    )

    config = small.config.read_text()
    small.config.write_text(config + broken)
    try:
        told = small.cli("reload")
        answer = _fine(small.cli("chat", "hello", "-m", "near-model"))
    finally:
        small.config.write_text(config)
        _fine(small.cli("reload"))

    assert answer.startswith(" ".join(WORDS))
    assert told.returncode == 1
    assert "backend `broken` is left out" in told.stderr
    assert "NOT_SET is not set" in told.stderr


def test_a_second_up_on_the_same_data_is_refused(small: Stack):
    line = _refused(small.cli("up", "--port", "0"))

    assert f"in use by another `localforge up` (pid {small.runtime['process']['pid']})" in line


def test_a_port_in_use_is_named(small: Stack, tmp_path: Path):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        line = _refused(small.cli("up", "--port", str(port), "--data-dir", str(tmp_path / "d")))

    assert f"port {port} on 127.0.0.1 is in use" in line
    assert "--port" in line


def test_validate_shows_what_a_configuration_means(small: Stack):
    said = _fine(small.cli("validate"))
    told = json.loads(_fine(small.cli("validate", "--json")))

    assert "localforge.toml: valid" in said.replace("\n", "")
    assert {card["name"] for card in told["cards"]} == {"near-model", "far-model"}
    assert SECRET not in json.dumps(told)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[edge]\nprot = 1", "`edge.prot`: there is no such key; did you mean `port`?"),
        ('[edge]\nport = "x"', "`edge.port`: expected a whole number, got text of 1"),
        ("[edge", "not valid TOML"),
        (
            BACKEND.format(name="x", zone="local", url="http://x/v1") + '[aliases]\na = "b"',
            "alias `a` points at `b`, which no backend has",
        ),
        (
            BACKEND.format(name="x", zone="local", url="nowhere"),
            "it begins with neither http",
        ),
    ],
)
def test_validate_names_what_is_wrong(small: Stack, tmp_path: Path, text: str, said: str):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text)

    line = _refused(small.cli("validate", "--config", str(wrong)))

    assert str(wrong) in line
    assert said in line


def test_without_a_running_system_the_commands_say_so(small: Stack, tmp_path: Path):
    missing = tmp_path / "other.toml"
    missing.write_text('[up]\ndata_dir = "nowhere"\n[edge]\nport = 9\n')
    environment = {k: v for k, v in small.environment.items() if k != "LOCALFORGE_API_KEY"}
    elsewhere = Stack(tmp_path, missing.read_text(), environment)

    for command in (("models",), ("chat", "hi"), ("audit", "replay"), ("reload",)):
        assert "localforge up" in _refused(elsewhere.cli(*command))

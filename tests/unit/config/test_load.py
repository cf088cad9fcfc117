"""Where settings come from, which one wins, and what is said about wrong ones."""

from pathlib import Path
from typing import Any

import pytest

from localforge.config import BackendConfig, Config, KeyConfig, check_secrets, load, resolve_secret
from localforge.contracts.trust import Label
from localforge.errors import ConfigError

BACKEND = """
[[backends]]
name = "near"
kind = "openai"
url = "http://localhost:9/v1"
[[backends.models]]
name = "m1"
"""


RULE = "[[router.rules]]\nname = 'a'\nmodels = {m1 = 1}\n"


def _load(folder: Path, text: str, environment: dict[str, str] | None = None, **sections: Any):
    path = folder / "localforge.toml"
    path.write_text(text)
    return load(path, environment or {}, sections)


def _refused(folder: Path, text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, environment)
    return caught.value.message


def test_without_anything_the_defaults_hold():
    assert load(None, {}) == Config()


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path):
    file = "[edge]\nport = 1\nhost = 'a'\nprogress_s = 3\n"
    environment = {"LOCALFORGE_EDGE__PORT": "2", "LOCALFORGE_EDGE__HOST": "b"}

    config = _load(tmp_path, file, environment, edge={"port": 4})

    assert (config.edge.port, config.edge.host, config.edge.progress_s) == (4, "b", 3)


def test_short_names_say_where_your_own_servers_are():
    config = load(
        None, {"LOCALFORGE_NATS_URL": "nats://n:4222", "LOCALFORGE_REDIS_URL": "redis://r:6379"}
    )

    assert (config.nats.url, config.redis.url) == ("nats://n:4222", "redis://r:6379")


def test_lists_and_tables_come_from_the_environment_as_json():
    config = load(
        None,
        {
            "LOCALFORGE_UP__TOGETHER": '["edge"]',
            "LOCALFORGE_POLICY__ZONES": '{"public": ["*"], "internal": ["local"]}',
        },
    )

    assert config.up.together == ("edge",)
    assert config.policy.zones == {Label.PUBLIC: ("*",), Label.INTERNAL: ("local",)}


def test_variables_that_are_not_settings_are_left_alone():
    environment = {"LOCALFORGE_URL": "x", "LOCALFORGE_API_KEY": "y", "LOCALFORGE_CONFIG": "z"}

    assert load(None, environment | {"PATH": "/bin", "OTHER__KEY": "1"}) == Config()


def test_a_json_file_is_read_too(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text('{"edge": {"port": 81}}')

    assert load(path, {}).edge.port == 81


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[edge]\nprot = 1", "`edge.prot`: there is no such key; did you mean `port`?"),
        ("[egde]\nport = 1", "`egde`: there is no such key; did you mean `edge`?"),
        ("[up]\nzzz = 1", "`up.zzz`: there is no such key; known: data_dir, together, discover"),
        ("[edge]\nport = 70000", "`edge.port`: expected a whole number <= 65535, got 70000"),
        ("[edge]\nprogress_s = 0", "`edge.progress_s`: expected a number > 0.0, got 0"),
        ("[edge]\nprogress_s = nan", "`edge.progress_s`: expected a number > 0.0, got nan"),
        (
            "[router]\npreference = 'chaep'",
            "cheap, fast, got 'chaep'; did you mean `cheap`?",
        ),
        (
            "[router]\ncascade = ['best']",
            "`router.cascade[0]`: expected one of quality, balanced, cheap, fast, got text",
        ),
        (
            "[policy.zones]\nsecret = []",
            "`policy.zones.secret`: expected one of public, internal, confidential, restricted,",
        ),
        ("[[keys]]\nid = 'a b'\nsecret = ''", "`keys[0].id`: expected text of letters, digits,"),
        ('[[keys]]\nid = "a\\n"\nsecret = ""', "`keys[0].id`: expected text of letters, digits,"),
        (
            '[[keys]]\nid = "a"\nsecret = "env:K\\n"',
            "`keys[0].secret`: expected text as env:NAME or file:/path",
        ),
        (BACKEND.replace('"m1"', '"m1\\n"'), "`backends[0].models[0].name`: expected text of"),
        (
            '[[keys]]\nid = "a"\nsecret = "env:K"\npreference = "cheap\\n"',
            "`keys[0].preference`: expected text as quality, balanced",
        ),
        ("[[keys]]\nid = 'a'", "`keys[0].secret`: it is missing"),
        ("edge = 5", "`edge`: expected a table, got a number"),
        ("[edge", "not valid TOML"),
        (BACKEND + BACKEND.replace("m1", "m2"), "`backends`: two are named `near`"),
        (BACKEND + BACKEND.replace("near", "far"), "`models`: two are named `m1`"),
        (
            BACKEND.replace("http:", "ftp:"),
            "`url` must be http(s)://host[:port]/v1; it begins with neither http:// nor https://",
        ),
        (BACKEND.replace("localhost:9", ""), "`url` must be http(s)://host[:port]/v1; it names no"),
        (BACKEND.replace("localhost:9", "[x"), "its host or its port cannot be read"),
        (BACKEND.replace("localhost:9", "localhost:x"), "its host or its port cannot be read"),
        (BACKEND.replace('"near"', '"a.b"'), "`backends[0].name`: expected text of letters"),
        (BACKEND.replace('"m1"', '"auto"'), "`auto` is not a model's name"),
        (BACKEND.partition("[[backends.models]]")[0], "at least one [[backends.models]]"),
        (
            BACKEND + '[aliases]\na = "m9"',
            "alias `a` points at `m9`, which no backend has; known: m1",
        ),
        (
            BACKEND + '[aliases]\ngpt-3.5 = "auto"',
            "`aliases.gpt-3`: expected text, got a table; write a name with a dot in quotes",
        ),
        (BACKEND + '[aliases]\nm1 = "auto"', "alias `m1` is also the name of a model"),
        (BACKEND + '[aliases]\nauto = "m1"', "alias `auto` is also the name of a model"),
        ("[router]\npolicy = 'static'", 'is "static", but `router.static` names no model'),
        ("[router]\npolicy = 'rules'", 'is "rules", but `router.rules` names no model'),
        (
            "[[keys]]\nid = 'k'\nsecret = 'env:K'\npolicy = 'static'",
            'key `k`: `policy` is "static", but `router.static` names no model',
        ),
        ("[router.static]\nm1 = 0", "`router.static.m1`: expected a number > 0.0, got 0"),
        (
            BACKEND + "[router.static]\nm9 = 1",
            "`router.static` names `m9`, which no backend has; known: m1",
        ),
        (BACKEND + RULE.replace("m1", "m9"), "rule `a`: `models` names `m9`, which no backend has"),
        ("[up]\ntogether = ['rooter']", "got 'rooter'; did you mean `router`?"),
        ("[[router.rules]]\nname = 'a'\nmodels = {}", "rule `a`: `models` names no model"),
        (
            RULE + "min_complexity = 0.5\nmax_complexity = 0.4",
            "rule `a`: `min_complexity` 0.5 is above `max_complexity` 0.4",
        ),
        (
            RULE + "min_prompt_tokens = 9\nmax_prompt_tokens = 8",
            "rule `a`: `min_prompt_tokens` 9 is above `max_prompt_tokens` 8",
        ),
        (RULE + "domains = ['cooking']", "science, writing, got text of 7"),
        (RULE + "needs = ['tols']", "got 'tols'; did you mean `tools`?"),
        (RULE + "domain = 'code'", "`router.rules[0].domain`: there is no such key; did you mean"),
        (RULE + RULE.replace("'a'", "'b'"), "rule `a`: it holds for every request"),
        (RULE + "domains = ['code']\n" + RULE, "`router.rules`: two are named `a`"),
        (
            "[[keys]]\nid='a'\nsecret='env:A'\n[[keys]]\nid='a'\nsecret='env:B'",
            "two have the id `a`",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str):
    message = _refused(tmp_path, text)

    assert message.startswith(str(tmp_path / "localforge.toml"))
    assert said in message


def test_every_mistake_is_told_at_once_each_with_where_it_comes_from(tmp_path: Path):
    text = "[edge]\nprot = 1\n[router]\npolicy = 'greed'\n[nonsense]\n"
    file = tmp_path / "localforge.toml"

    told = _refused(tmp_path, text, {"LOCALFORGE_ROUTER__GAMMA": "-1"}).splitlines()

    assert [line.partition(": expected one of")[0] for line in told] == [
        f"{file}: `edge.prot`: there is no such key; did you mean `port`?",
        f"{file}: `router.policy`",
        "environment LOCALFORGE_ROUTER__GAMMA: `router.gamma`: expected a number > 0.0, got '-1'",
        f"{file}: `nonsense`: there is no such key; known: {', '.join(Config.__struct_fields__)}",
    ]
    assert told[1].endswith("got 'greed'; did you mean `greedy`?")


@pytest.mark.parametrize(
    "text",
    [
        "[[keys]]\nid = 'a'\nsecret = 'hunter2'",
        BACKEND + "[[backends]]\nname = 'b'\nkind = 'openai'\napi_key = 'hunter2'",
        BACKEND + "[[backends]]\nname = 'b'\nkind = 'openai'\nurls = ['http://u:hunter2@x', 5]",
        "[nats]\nurl = ['nats://u:hunter2@x']",
        "[nats]\npassword = 'hunter2'",
    ],
)
def test_what_may_be_a_secret_is_not_repeated(tmp_path: Path, text: str):
    assert "hunter2" not in _refused(tmp_path, text)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"LOCALFORGE_EDGE__PORT": "x"},
            "environment LOCALFORGE_EDGE__PORT: `edge.port`: expected a whole number, got text",
        ),
        ({"LOCALFORGE_EDGE__PROT": "1"}, "environment LOCALFORGE_EDGE__PROT: `edge.prot`: there"),
        (
            {"LOCALFORGE_UP__TOGETHER": "[edge]"},
            "environment LOCALFORGE_UP__TOGETHER: not valid JSON",
        ),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, environment: dict[str, str], said: str):
    assert _refused(tmp_path, "", environment).startswith(said)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot read .* No such file"):
        load(tmp_path / "missing.toml", {})


def test_an_alias_may_stand_for_auto(tmp_path: Path):
    assert _load(tmp_path, BACKEND + '[aliases]\ngpt = "auto"').aliases == {"gpt": "auto"}


def test_a_preference_given_replaces_the_built_in_one_and_leaves_the_others(tmp_path: Path):
    config = _load(tmp_path, "[router.preferences]\ncheap = { cost = 1, latency = 2 }")

    assert (config.router.weights("cheap").cost, config.router.weights("cheap").latency) == (1, 2)
    assert config.router.weights("fast") == Config().router.weights("fast")


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path):
    path = tmp_path / "secret"
    path.write_text("sk-1\n")

    assert resolve_secret("env:KEY", {"KEY": "sk-2"}) == "sk-2"
    assert resolve_secret(f"file:{path}", {}) == "sk-1"
    assert resolve_secret("", {}) == ""


def test_all_secrets_that_are_missing_are_told_at_once():
    config = Config(
        backends=(BackendConfig(name="far", kind="anthropic", api_key="env:FAR"),),
        keys=(
            KeyConfig(id="web", secret="env:WEB"),
            KeyConfig(id="one", secret="env:ONE"),
            KeyConfig(id="two", secret="env:TWO"),
        ),
    )

    with pytest.raises(ConfigError) as caught:
        check_secrets(config, {"ONE": "hunter2", "TWO": "hunter2"})

    assert caught.value.message.splitlines() == [
        "backend `far`: secret `env:FAR`: the environment variable FAR is not set",
        "key `web`: secret `env:WEB`: the environment variable WEB is not set",
        "key `two`: it has the same secret as key `one`",
    ]
    check_secrets(config, {"FAR": "a", "WEB": "b", "ONE": "c", "TWO": "d"})


@pytest.mark.parametrize("environment", [{}, {"KEY": ""}])
def test_a_secret_that_is_not_set_is_named(environment: dict[str, str]):
    with pytest.raises(ConfigError, match="environment variable KEY is not set"):
        resolve_secret("env:KEY", environment)


def test_a_secret_file_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="`file:/nowhere`: cannot read the file: No such file"):
        resolve_secret("file:/nowhere", {})

"""How a command finds the running system."""

import os
from pathlib import Path

import pytest

from localforge.cli.connection import base_url, find_config, with_servers
from localforge.config import Config, EdgeConfig, NatsConfig, RedisConfig, UpConfig
from localforge.embedded.process import ProcessId
from localforge.embedded.state import DataDir, Runtime
from localforge.errors import DependencyUnavailable

RUNTIME = {
    "base_url": "http://127.0.0.1:4444",
    "nats_url": "nats://127.0.0.1:1",
    "redis_url": "redis://:p@127.0.0.1:2/0",
    "credentials": "/data/credentials.json",
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCALFORGE_URL", raising=False)


def _config(folder: Path, *, runs: bool, pid: int = os.getpid()) -> Config:
    if runs:
        DataDir(folder).write_runtime(Runtime(process=ProcessId.of(pid), **RUNTIME))
    return Config(edge=EdgeConfig(port=81), up=UpConfig(data_dir=str(folder)))


def test_the_variable_wins_over_what_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = _config(tmp_path, runs=True)
    for given in ("http://there", "http://there/", "http://there/v1", "http://there/v1/"):
        monkeypatch.setenv("LOCALFORGE_URL", given)

        assert base_url(config) == "http://there"


def test_what_runs_here_wins_over_the_configured_port(tmp_path: Path):
    assert base_url(_config(tmp_path, runs=True)) == "http://127.0.0.1:4444"


def test_what_ran_here_and_was_killed_is_as_good_as_nothing(tmp_path: Path):
    config = _config(tmp_path, runs=True, pid=2**22 + 1)

    assert base_url(config) == "http://127.0.0.1:81"
    with pytest.raises(DependencyUnavailable, match="no LocalForge runs in"):
        with_servers(config)


def test_without_either_the_configured_port_is_tried(tmp_path: Path):
    assert base_url(_config(tmp_path, runs=False)) == "http://127.0.0.1:81"


def test_a_damaged_runtime_file_is_as_good_as_none(tmp_path: Path):
    config = _config(tmp_path, runs=False)
    (tmp_path / "runtime.json").write_text("{half")

    assert base_url(config) == "http://127.0.0.1:81"


def test_the_servers_of_a_running_system_are_filled_in(tmp_path: Path):
    config = with_servers(_config(tmp_path, runs=True))

    assert config.nats == NatsConfig(url=RUNTIME["nats_url"], credentials=RUNTIME["credentials"])
    assert config.redis == RedisConfig(url=RUNTIME["redis_url"])


def test_configured_servers_stay(tmp_path: Path):
    own = Config(
        nats=NatsConfig(url="nats://own"),
        redis=RedisConfig(url="redis://own"),
        up=UpConfig(data_dir=str(tmp_path)),
    )

    assert with_servers(own) == own


def test_without_servers_the_error_says_how_to_get_some(tmp_path: Path):
    with pytest.raises(
        DependencyUnavailable, match=r"start it with `localforge up`, .*or set LOCAL"
    ):
        with_servers(_config(tmp_path, runs=False))


def test_a_file_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    without = find_config(None)
    (tmp_path / "localforge.toml").write_text("")

    assert without is None
    assert find_config(None) == Path("localforge.toml")
    assert find_config(Path("given.toml")) == Path("given.toml")

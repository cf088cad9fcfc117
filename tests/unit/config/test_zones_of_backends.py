"""A backend elsewhere is never taken for a local one because a line was forgotten."""

from pathlib import Path

import pytest

from localforge.config import load
from localforge.errors import ConfigError

BACKEND = """
[[backends]]
name = "x"
kind = "openai"
url = "{url}"
{zone}
[[backends.models]]
name = "m"
price_in = 1
price_out = 1
"""


def _load(folder: Path, url: str, zone: str = "") -> str:
    path = folder / "localforge.toml"
    path.write_text(BACKEND.format(url=url, zone=zone))
    return load(path, {}).backends[0].zone


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost", "[::1]:80", "10.1.2.3", "192.168.0.9", "vllm", "gpu.lan"],
)
def test_a_host_on_this_site_is_local_without_a_word(host: str, tmp_path: Path) -> None:
    assert _load(tmp_path, f"http://{host}/v1") == "local"


@pytest.mark.parametrize("host", ["api.openai.com", "8.8.8.8", "[2606:4700::1]", "a.example"])
def test_a_host_elsewhere_needs_a_zone(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`zone` is missing") as caught:
        _load(tmp_path, f"https://{host}/v1")

    assert 'zone = "cloud"' in caught.value.message
    assert _load(tmp_path, f"https://{host}/v1", 'zone = "cloud"') == "cloud"
    assert _load(tmp_path, f"https://{host}/v1", 'zone = "local"') == "local"


def test_one_of_several_servers_elsewhere_is_enough_to_need_a_zone(tmp_path: Path) -> None:
    path = tmp_path / "localforge.toml"
    text = BACKEND.replace('url = "{url}"', 'urls = ["http://vllm/v1", "https://a.example/v1"]')
    path.write_text(text.format(zone=""))

    with pytest.raises(ConfigError, match=r"`zone` is missing and the host `a\.example`"):
        load(path, {})


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('urls = ["http://a/v1"]\nurl = "http://b/v1"', "stands in place of `url`"),
        ('urls = ["http://a/v1", "nonsense"]', "`urls` must be http"),
        ('urls = ["http://a/v1", "http://a/v1"]', "`urls`: two are the same"),
    ],
)
def test_several_servers_are_checked_one_by_one(tmp_path: Path, lines: str, problem: str) -> None:
    path = tmp_path / "localforge.toml"
    path.write_text(BACKEND.replace('url = "{url}"', lines).format(zone=""))

    with pytest.raises(ConfigError, match=problem):
        load(path, {})

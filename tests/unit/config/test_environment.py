"""Variables with our prefix mean something, or are refused by name."""

import pytest

from localforge.config import Config, KeyConfig, check_environment, load
from localforge.errors import ConfigError


def test_what_is_read_somewhere_passes():
    config = Config(keys=(KeyConfig(id="web", secret="env:LOCALFORGE_KEY_WEB"),))

    check_environment(
        config,
        {
            "LOCALFORGE_EDGE__PORT": "1",
            "LOCALFORGE_NATS_URL": "nats://x",
            "LOCALFORGE_CONFIG": "x.toml",
            "LOCALFORGE_KEY_WEB": "secret",
            "HOME": "/",
        },
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("LOCALFORGE_EDGE_PORT", "did you mean LOCALFORGE_EDGE__PORT?"),
        ("LOCALFORGE_NATS_URI", "did you mean LOCALFORGE_NATS_URL?"),
        ("LOCALFORGE_KEY_WEB", "unset it"),
    ],
)
def test_what_nothing_reads_is_named(name: str, hint: str):
    with pytest.raises(ConfigError) as refused:
        check_environment(Config(), {name: "secret"})

    assert name in refused.value.message
    assert hint in refused.value.message or hint == "unset it"
    assert "secret" not in refused.value.message


def test_a_zone_without_a_backend_in_the_policy_is_named(tmp_path):
    path = tmp_path / "localforge.toml"
    path.write_text(
        '[policy.zones]\npublic = ["clod"]\n'
        '[[backends]]\nname = "b"\nkind = "openai"\nurl = "http://localhost/v1"\n'
        '[[backends.models]]\nname = "m"\n'
    )

    with pytest.raises(ConfigError, match=r"`policy.zones.public`: no backend is in zone `clod`"):
        load(path, {})

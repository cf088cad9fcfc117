"""Configuration: `sections` has every key, `load` reads and checks it."""

from localforge.config.environment import check_environment
from localforge.config.load import DEFAULT_FILE, check_secrets, is_on_site, load, resolve_secret
from localforge.config.sections import (
    BackendConfig,
    Config,
    EdgeConfig,
    KeyConfig,
    ModelConfig,
    NatsConfig,
    PolicyConfig,
    RedisConfig,
    RouterConfig,
    SealConfig,
    TelemetryConfig,
    UpConfig,
    Weights,
)
from localforge.config.vendors import GENERIC, VENDORS, Vendor, find_vendor

__all__ = [
    "DEFAULT_FILE",
    "GENERIC",
    "VENDORS",
    "BackendConfig",
    "Config",
    "EdgeConfig",
    "KeyConfig",
    "ModelConfig",
    "NatsConfig",
    "PolicyConfig",
    "RedisConfig",
    "RouterConfig",
    "SealConfig",
    "TelemetryConfig",
    "UpConfig",
    "Vendor",
    "Weights",
    "check_environment",
    "check_secrets",
    "find_vendor",
    "is_on_site",
    "load",
    "resolve_secret",
]

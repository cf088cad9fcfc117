"""Read the configuration: defaults < file (TOML, or JSON) < environment < command line.

The environment is read once, here. `LOCALFORGE_NATS_URL` and `LOCALFORGE_REDIS_URL` name your own
servers; any other scalar key is `LOCALFORGE_<SECTION>__<KEY>`, lists and tables as JSON.
"""

import ipaddress
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from localforge.config.disclosure import is_plain_name, listed, named
from localforge.config.mistakes import Place, find_mistakes
from localforge.config.sections import (
    DISCOVERING,
    BackendConfig,
    Config,
    KeyConfig,
    RouterConfig,
)
from localforge.config.vendors import VENDORS
from localforge.contracts.cards import Capability
from localforge.contracts.trust import LOCAL_ZONE
from localforge.errors import ConfigError

PREFIX = "LOCALFORGE_"
SHORT_NAMES = {"LOCALFORGE_NATS_URL": ("nats", "url"), "LOCALFORGE_REDIS_URL": ("redis", "url")}
OTHER_NAMES = frozenset(
    {
        "LOCALFORGE_CONFIG",
        "LOCALFORGE_URL",
        "LOCALFORGE_API_KEY",
        # Between `localforge up` and its children.
        "LOCALFORGE_LISTEN_FD",
        "LOCALFORGE_READY_FD",
        "LOCALFORGE_RELOAD_REPORT",
        # Of docker-compose.yml.
        "LOCALFORGE_UID",
        "LOCALFORGE_GID",
    }
)
"""Read by somebody else, not part of the configuration."""
DEFAULT_FILE = "localforge.toml"
SITE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")

ANTHROPIC_URL = "https://api.anthropic.com"
"""Where a backend of kind `anthropic` is that names no `url`."""
NEEDS_URL = frozenset({"openai", "vllm", "tgi"})
MAY_HAVE_URL = frozenset({"ollama", "anthropic"})
EMBEDDING_KINDS = ("ollama", "openai", "vllm")
"""Kinds of backends that can turn texts into vectors."""
WITH_VERSION = frozenset({"openai", "vllm"})

_QUOTED = re.compile(r"""\(?(['"]).{3,}\1,?\)?""", re.DOTALL)


def load(
    path: Path | None, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Config:
    """Return the checked configuration.

    Args:
        path: The file; None means defaults.
        environment: Usually `os.environ`.
        overrides: From the command line, `{"edge": {"port": 9000}}`.

    Raises:
        ConfigError: Says of each mistake key, value, source and what is allowed.
    """
    data: dict[str, Any] = _read_file(path) if path else {}
    source = str(path) if path else "configuration"
    from_environment, variables = _read_environment(environment)
    for section, values in (*from_environment.items(), *(overrides or {}).items()):
        target = data.setdefault(section, {})
        if isinstance(target, dict) and isinstance(values, Mapping):
            target.update(values)
        else:
            data[section] = values
    _demand_zones(data, source)
    try:
        config = msgspec.convert(data, Config, strict=False)
    except msgspec.ValidationError:
        told = [
            f"{_origin(mistake.place, variables, source)}: {mistake}"
            for mistake in find_mistakes(data, Config)
        ]
        # The decoder's own message repeats keys and values.
        raise ConfigError("\n".join(told)) from None
    _check(config, source)
    return config


def resolve_secret(reference: str, environment: Mapping[str, str]) -> str:
    """Return the secret behind `env:NAME` or `file:/path`; empty for an empty reference.

    Raises:
        ConfigError: The variable is not set or the file cannot be read.
    """
    if not reference:
        return ""
    kind, _, where = reference.partition(":")
    if kind == "env":
        value = environment.get(where, "")
        if not value:
            name = where if is_plain_name(where) else "that it names"
            raise ConfigError(
                f"secret {named(reference)}: the environment variable {name} is not set"
            )
        return value
    try:
        return Path(where).read_text().strip()
    except OSError as exc:
        raise ConfigError(f"secret `{reference}`: cannot read the file: {exc.strerror}") from exc


def check_secrets(config: Config, environment: Mapping[str, str]) -> None:
    """Look whether every secret that the configuration names is there, and no key has another's.

    Raises:
        ConfigError: Tells all that are missing, a line each.
    """
    problems = []
    owners: dict[str, str] = {}
    references = [(f"backend {named(b.name)}", b.api_key) for b in config.backends]
    keys = {f"key {named(key.id)}": key.secret for key in config.keys}
    for where, reference in (*references, *keys.items()):
        try:
            secret = resolve_secret(reference, environment)
        except ConfigError as exc:
            problems.append(f"{where}: {exc.message}")
            continue
        if where in keys and secret and (other := owners.setdefault(secret, where)) != where:
            problems.append(f"{where}: it has the same secret as {other}")
    if problems:
        raise ConfigError("\n".join(problems))


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        if path.suffix == ".json":
            return msgspec.json.decode(text, type=dict[str, Any])
        return tomllib.loads(text)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot read the configuration: {exc.strerror}") from exc
    except tomllib.TOMLDecodeError as exc:
        # It names keys that stand twice, and one of them may be a secret in the wrong place.
        raise ConfigError(f"{path}: not valid TOML: {_QUOTED.sub('…', str(exc))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"{path}: not valid {kind}: {exc}") from exc


def _read_environment(
    environment: Mapping[str, str],
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return section -> key -> value, and which variable the value at a path comes from."""
    found: dict[str, dict[str, Any]] = {}
    variables: dict[str, str] = {}
    for name, value in sorted(environment.items()):
        if name in SHORT_NAMES:
            section, key = SHORT_NAMES[name]
        elif name.startswith(PREFIX) and "__" in name and name not in OTHER_NAMES:
            section, key = name[len(PREFIX) :].lower().split("__", 1)
        else:
            continue
        found.setdefault(section, {})[key] = _parse_value(name, value)
        variables[f"{section}.{key}"] = name
    return found, variables


def _origin(place: Place, variables: Mapping[str, str], source: str) -> str:
    """Return where the value at a place comes from."""
    name = variables.get(".".join(place.keys[:2]))
    return f"environment {name}" if name else source


def _parse_value(name: str, value: str) -> Any:
    if value[:1] in ("[", "{"):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError as exc:
            raise ConfigError(f"environment {name}: not valid JSON: {exc}") from exc
    return value


def is_on_site(host: str) -> bool:
    """Tell whether a host is taken to be on this site: loopback, private, or a bare name."""
    if host == "localhost" or host.endswith(SITE_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host
    return address.is_loopback or address.is_private or address.is_link_local


def _host(address: str) -> str:
    """Return the host of an address; empty where none can be read, which is refused later."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _flaw(address: str) -> str:
    """Return what keeps an address from being a URL of a server, without any part of it."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return "its host or its port cannot be read"
    if parts.scheme not in ("http", "https"):
        return "it begins with neither http:// nor https://"
    return "" if parts.hostname else "it names no host"


def _demand_zones(data: Mapping[str, Any], source: str) -> None:
    """Refuse a backend elsewhere that would be taken for a local one because nobody said so."""
    backends = data.get("backends", ())
    for backend in backends if isinstance(backends, list) else ():
        if not isinstance(backend, Mapping) or "zone" in backend:
            continue
        kind = backend.get("kind")
        urls = backend.get("urls")
        addresses = [backend.get("url") or (ANTHROPIC_URL if kind == "anthropic" else "")]
        addresses = urls if isinstance(urls, list) and urls else addresses
        hosts = {_host(str(address)): str(address) for address in addresses}
        if host := next((host for host in hosts if host and not is_on_site(host)), ""):
            # Where a password has a slash in it, what is read as the host is part of it.
            told = "its host" if "@" in hosts[host] else f"the host {named(host)}"
            raise ConfigError(
                f"{source}: backend {named(str(backend.get('name', '')))}: `zone` is missing and "
                f"{told} is not "
                'known to be on this site; name its zone, for example zone = "cloud", or say '
                'zone = "local" if confidential requests may go there'
            )


def _check(config: Config, source: str) -> None:
    _unique((b.name for b in config.backends), f"{source}: `backends`: two are named")
    _unique(
        (m.name for b in config.backends for m in b.models), f"{source}: `models`: two are named"
    )
    _unique((k.id for k in config.keys), f"{source}: `keys`: two have the id")
    models = {m.name for b in config.backends for m in b.models}
    if "auto" in models:
        raise ConfigError(f"{source}: `auto` is not a model's name: it asks for any of them")
    for backend in config.backends:
        where = f"{source}: backend {named(backend.name)}"
        _check_kind(backend, where)
        _check_embeddings(backend, where)
    _check_zones(config, source)
    if len(figures := config.router.goal.figures) > 1:
        raise ConfigError(
            f"{source}: `router.goal`: {' and '.join(figures)} are set; set one of them"
        )
    _check_rules(config.router, config.keys, source)
    finds_more = any(backend.discovers for backend in config.backends) or (
        config.up.discover and not config.backends
    )
    if not finds_more:
        _check_weights(config.router, models, source)
    for alias, model in config.aliases.items():
        if model != "auto" and model not in models and not finds_more:
            raise ConfigError(
                f"{source}: alias {named(alias)} points at {named(model)}, which no backend has; "
                f"known: {listed(sorted(models)) or 'none'}"
            )
        if alias in models or alias == "auto":
            raise ConfigError(f"{source}: alias {named(alias)} is also the name of a model")


def _check_rules(router: RouterConfig, keys: Iterable[KeyConfig], source: str) -> None:
    asked = [("`router.policy`", router.policy)]
    asked += [(f"key {named(key.id)}: `policy`", key.policy) for key in keys if key.policy]
    for where, policy in asked:
        if (policy == "static" and not router.static) or (policy == "rules" and not router.rules):
            raise ConfigError(
                f'{source}: {where} is "{policy}", but `router.{policy}` names no model'
            )
    _unique((rule.name for rule in router.rules), f"{source}: `router.rules`: two are named")
    for number, rule in enumerate(router.rules, start=1):
        where = f"{source}: rule {named(rule.name)}"
        if not rule.models:
            raise ConfigError(f"{where}: `models` names no model")
        if rule.min_complexity > rule.max_complexity:
            raise ConfigError(
                f"{where}: `min_complexity` {rule.min_complexity:g} is above `max_complexity` "
                f"{rule.max_complexity:g}"
            )
        if 0 < rule.max_prompt_tokens < rule.min_prompt_tokens:
            raise ConfigError(
                f"{where}: `min_prompt_tokens` {rule.min_prompt_tokens} is above "
                f"`max_prompt_tokens` {rule.max_prompt_tokens}"
            )
        if not rule.is_conditional and number < len(router.rules):
            raise ConfigError(
                f"{where}: it holds for every request, so the rules behind it never do; put it last"
            )


def _check_weights(router: RouterConfig, models: Collection[str], source: str) -> None:
    weights = {"`router.static`": router.static}
    weights |= {f"rule {named(rule.name)}: `models`": rule.models for rule in router.rules}
    for where, drawn in weights.items():
        for model in drawn:
            if model not in models:
                raise ConfigError(
                    f"{source}: {where} names {named(model)}, which no backend has; "
                    f"known: {listed(sorted(models)) or 'none'}"
                )


def _check_zones(config: Config, source: str) -> None:
    if not config.backends:
        # They will be looked for, and bring their zones.
        return
    known = {"*", LOCAL_ZONE, *(backend.zone for backend in config.backends)}
    for label, zones in config.policy.zones.items():
        for zone in zones:
            if zone not in known:
                raise ConfigError(
                    f"{source}: `policy.zones.{label}`: no backend is in zone {named(zone)}; "
                    f"known: {listed(sorted(known))}"
                )


def _check_kind(backend: BackendConfig, where: str) -> None:
    _check_addresses(backend, where)
    if backend.vendor and backend.vendor not in VENDORS:
        raise ConfigError(
            f"{where}: there is no vendor {named(backend.vendor)}; "
            f"known: {', '.join(sorted(VENDORS))}"
        )
    if backend.kind == "recorded" and not backend.data_file:
        raise ConfigError(f"{where}: `data_file` must name a parquet file of outcomes")
    if backend.discovers and backend.kind not in DISCOVERING:
        raise ConfigError(
            f"{where}: `discover` is for the kinds {', '.join(sorted(DISCOVERING))}; list the "
            "models of this one"
        )
    if not backend.models and not backend.discovers:
        raise ConfigError(f"{where}: list at least one [[backends.models]] with a `name`")
    if backend.watts and not backend.usd_per_kwh:
        raise ConfigError(f"{where}: `watts` needs `usd_per_kwh`")


def _check_addresses(backend: BackendConfig, where: str) -> None:
    if backend.urls and (backend.url or backend.kind not in NEEDS_URL | MAY_HAVE_URL):
        raise ConfigError(f"{where}: `urls` stands in place of `url`, where a `url` may stand")
    if len(set(backend.urls)) < len(backend.urls):
        raise ConfigError(f"{where}: `urls`: two are the same")
    if backend.kind in NEEDS_URL or (any(backend.addresses) and backend.kind in MAY_HAVE_URL):
        key = "urls" if backend.urls else "url"
        for address in backend.addresses:
            if flaw := _flaw(address):
                shape = "http(s)://host[:port]" + ("/v1" if backend.kind in WITH_VERSION else "")
                raise ConfigError(f"{where}: `{key}` must be {shape}; {flaw}")


def _check_embeddings(backend: BackendConfig, where: str) -> None:
    for model in backend.models:
        if Capability.EMBEDDINGS in model.capabilities and backend.kind not in EMBEDDING_KINDS:
            raise ConfigError(
                f"{where}: model {named(model.name)}: `embeddings` is a capability of the kinds "
                f"{', '.join(EMBEDDING_KINDS)} only"
            )


def _unique(names: Iterable[str], problem: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"{problem} {named(name)}")
        seen.add(name)

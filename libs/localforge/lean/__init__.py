"""Keep processes small: a stack has one for each service, and pays for all that none of them uses.

Some libraries import another package whenever it happens to be installed, for a feature that
LocalForge has no use for. Here they are imported as they would be where that package is missing;
others can import it afterwards.
"""

import ctypes
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_UNUSED = {
    # WebSockets; `nats.url` is TCP or TLS.
    "nats": ("aiohttp",),
    # Metrics of the Redis client, with OpenTelemetry's SDK behind them.
    "redis": ("opentelemetry.metrics", "opentelemetry.sdk"),
    # Coloured tracebacks in a log for people.
    "structlog": ("rich",),
    # Documentation and health pages over HTTP.
    "faststream": ("uvicorn",),
    "faststream.nats": ("uvicorn",),
}
"""Module -> packages it does without."""


class _LeanFinder(MetaPathFinder):
    """Finds the libraries above as the standard one does, and has them loaded leanly."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        unused = _UNUSED.get(name)
        spec = PathFinder.find_spec(name, path, target) if unused else None
        if spec is not None and spec.loader is not None:
            spec.loader = _LeanLoader(spec.loader, unused or ())
        return spec


class _LeanLoader(Loader):
    """Loads a module while what it does without cannot be imported."""

    def __init__(self, loader: Loader, unused: Sequence[str]) -> None:
        self._loader = loader
        self._unused = unused

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module shall look as if nobody had come between.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        with _absent(self._unused):
            self._loader.exec_module(module)


def import_lean() -> None:
    """From now on import these libraries without what we do not use of them.

    One that is imported already stays as it is.
    """
    if not any(isinstance(finder, _LeanFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LeanFinder())


def settle_memory() -> None:
    """After the start: what the imports made is never garbage, and what they freed goes back."""
    gc.collect()
    gc.freeze()
    trim_memory()


def trim_memory() -> None:
    """Give freed memory back to the system, after something large has come and gone; about 1 ms."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


@contextmanager
def _absent(packages: Sequence[str]) -> Iterator[None]:
    """Make importing these packages fail, except where one is imported already."""
    hidden = [package for package in packages if package not in sys.modules]
    # To the import system None means that there is no such module.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]

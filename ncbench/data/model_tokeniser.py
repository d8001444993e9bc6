"""Tokens of a `tokenizer.json`, as models of transformers have, for languages in which spaces do not separate words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ncbench.data.stand_ins import check_data_file
from ncbench.data.tokenise import Tokeniser
from ncbench.data.vocabulary import UNKNOWN
from ncbench.errors import UserError

FILE = "tokenizer.json"
MAX_BYTES = 2**26
"""Bytes of the largest file of a tokenizer; those of multilingual models have about 20 million."""


class ModelTokeniser(Tokeniser):
    """Splits captions into the tokens of a tokenizer, without its special tokens; `digest` is that of its file.

    `name` is a file, a folder with a file FILE, or the name of a model on the hub.
    """

    def __init__(self, name: str) -> None:
        """Raises UserError for a file that is missing or malformed, and without the library `tokenizers`."""
        super().__init__()
        content = _content(name)
        self.digest = hashlib.sha256(content).hexdigest()
        self._tokens = _loaded(content, name)

    def __call__(self, caption: str) -> list[str]:
        """Return the tokens of `caption`."""
        self.seen += 1
        return self._tokens(caption)

    @property
    def trained(self) -> bool:
        """True: NLTK and its data are not used."""
        return True


def tokenizer_file(name: str) -> Path | None:
    """Return the local file of a tokenizer; None if `name` is one on the hub. Raises UserError."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / FILE).is_file():
            raise UserError(f"{path}: has no {FILE}; expected the folder of a fast tokenizer, or its file")
        return path / FILE
    if path.exists():
        return path
    if path.suffix == ".json" or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise UserError(f"{name}: no such file or folder; expected a {FILE}, its folder, or a name on the hub")
    return None


def _content(name: str) -> bytes:
    path = tokenizer_file(name)
    if path is None:
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(name, FILE))
        except Exception as error:  # from the network, or the hub client
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"tokenizer {name!r}: no such file or folder, and its {FILE} cannot be loaded from the hub ({reason})"
            ) from error
    check_data_file(path, MAX_BYTES)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a {FILE}") from error


def _loaded(content: bytes, name: str) -> Callable[[str], list[str]]:
    """Return a function from a text to its tokens; unknown ones become UNKNOWN."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UserError(
            f"tokenizer {name!r} needs the library tokenizers; run `pip install 'ncbench[tokenizers]'`"
        ) from error
    try:
        tokenizer: Any = Tokenizer.from_buffer(content)
        tokenizer.no_truncation()  # settings of the file that depend on the use of the model
        tokenizer.no_padding()
    except BaseException as error:  # a panic of the library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"tokenizer {name!r}: cannot be read ({reason}); expected a {FILE}") from error
    unknown = getattr(tokenizer.model, "unk_token", None)

    def tokens(text: str) -> list[str]:
        return [
            UNKNOWN if token == unknown else token for token in tokenizer.encode(text, add_special_tokens=False).tokens
        ]

    return tokens

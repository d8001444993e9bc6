"""Files in place of data, byte-order marks, headers and carriage returns."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncbench.data.captions_file import read_captions
from ncbench.data.imported.tables import Files
from ncbench.data.precomp import open_features
from ncbench.data.vocabulary import Vocabulary
from ncbench.errors import UserError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFS, "x: is a Git LFS pointer"),
        (b"\xef\xbb\xbf \n<!DOCTYPE HTML><p>", "is a web page"),
        (b"<html>", "web page"),
    ],
)
def test_stand_ins_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    for read in (lambda p: read_captions(p, False), open_features, Vocabulary.read, lambda p: Files([p])):
        with pytest.raises(UserError, match=message):
            read(path)


def test_text_files(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfa dog\r\na <html> cat\n")
    assert read_captions(path, tabbed=False) == ["a dog", "a <html> cat"]
    path.write_bytes(b"id\tcaption\n1\ta dog\n")
    assert read_captions(path, tabbed=True) == ["a dog"]
    path.write_bytes(b"1\tid\n2\tcaption\n")
    assert read_captions(path, tabbed=True) == ["id", "caption"]
    path.write_bytes(b"a dog\nA\rcat\n")
    with pytest.raises(UserError, match="x:2: a carriage return inside a line"):
        read_captions(path, tabbed=False)

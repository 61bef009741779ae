"""Every input that fuzzing has kept, once more: refused in one line or read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fuzz.readers import READERS, corpus_folder, read_hostile
from vc.errors import VCError

MOST_BYTES = 1_000_000


@pytest.mark.parametrize("name", READERS)
def test_hostile_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    inputs = list(READERS[name].seeds(tmp_path))
    inputs += [file.read_bytes() for file in sorted(corpus_folder(name).glob("*"))]
    accepted = 0
    for data in inputs:
        try:
            read_hostile(name, data, tmp_path)
            accepted += 1
        except VCError as error:
            assert len(str(error).splitlines()) == 1
    assert accepted or name == "batch ledger"


def test_the_corpus_stays_small() -> None:
    files = [file for name in READERS for file in corpus_folder(name).glob("*")]
    assert sum(file.stat().st_size for file in files) < MOST_BYTES

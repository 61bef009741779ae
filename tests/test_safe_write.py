from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vc.errors import DataError
from vc.safe_write import write_bytes


def test_what_a_killed_writer_leaves_is_gone_after_the_next(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")
    killed = (  # a moment before the file is moved
        "import os, pathlib, signal, sys, vc.safe_write\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "vc.safe_write.write_bytes(pathlib.Path(sys.argv[1]), b'new')"
    )
    process = subprocess.run([sys.executable, "-c", killed, str(path)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    write_bytes(path, b"newer")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"newer"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing/file\.bin: cannot be written"):
        write_bytes(tmp_path / "missing" / "file.bin", b"")

"""`vc demo` as a process: where it listens, what it leaves."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from demo.clips import MAX_REFERENCES
from demo.live_streams import LONGEST_S
from demo.server import demo_folder
from demo.settings import DemoSettings
from demo.studio import MAX_BATCH
from vc.cli import main
from vc.errors import VCError


def test_it_serves_on_loopback_and_leaves_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo", "--no-browser", "--checkpoint", str(tiny_checkpoint)]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line
        with urllib.request.urlopen(found[0]) as page:
            assert b"Voice converter" in page.read()
        assert list(tmp_path.glob("vc-demo-*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert not list(tmp_path.glob("vc-demo-*"))


def test_files_of_a_server_that_was_killed_go_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    orphan, alive = tmp_path / f"vc-demo-{dead.pid}-x", tmp_path / f"vc-demo-{os.getppid()}-x"
    for folder in (orphan, alive):
        folder.mkdir()
        (folder / "clip.wav").write_text("x")
    with demo_folder(DemoSettings()) as folder:
        assert folder.is_dir() and not orphan.exists() and alive.exists()
    assert not folder.exists()


def test_what_is_kept_lies_in_a_new_folder_within_the_one_that_is_named(tmp_path: Path) -> None:
    settings = DemoSettings(keep_uploads=tmp_path / "kept")
    for runs in (1, 2):
        with demo_folder(settings) as folder:
            (folder / "clip.wav").write_text("x")
        assert folder.parent == (tmp_path / "kept").resolve()
        assert len(list((tmp_path / "kept").glob("*/clip.wav"))) == runs
    (tmp_path / "file").write_text("x")
    for name in ("file", "file/within"):
        wrong = DemoSettings(keep_uploads=tmp_path / name)
        with pytest.raises(VCError, match="no folder can be made there"), demo_folder(wrong):
            pass


def test_its_help_says_all_limits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    settings = DemoSettings()
    for limit in (
        f"{settings.max_minutes:g} minutes by default",
        f"{settings.max_mb:g} MB by default",
        f"{MAX_REFERENCES} reference clips",
        f"{MAX_BATCH} clips in a batch",
        f"{LONGEST_S / 60:g} minutes live",
    ):
        assert limit in told


def test_what_is_wrong_with_the_options_is_said_in_one_line(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["demo", "--no-browser", "--checkpoint", str(tiny_checkpoint)]
    assert main([*arguments, "--user", "ann"]) == 2
    assert "--password" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main([*arguments, "--port", str(port)]) == 2
        assert f"port {port}" in capsys.readouterr().err
        monkeypatch.setenv("VC_DEMO_PASSWORD", "secret")  # which without a user guards nothing
        assert main([*arguments, "--port", str(port)]) == 2
        assert "--user" in capsys.readouterr().err
        monkeypatch.setenv("VC_DEMO_PASSWORD", "")
        assert main([*arguments, "--port", str(port)]) == 2
        assert f"port {port}" in capsys.readouterr().err
    for host in ("192.0.2.1", "a" * 300):  # of documentation; no name
        assert main([*arguments, "--host", host]) == 2
        assert "no address of this computer" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "--max-minutes", "0"])
    with pytest.raises(SystemExit):
        main(["demo", "--port", "99999"])

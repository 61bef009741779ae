"""Kill preparing, training and batch conversion at random moments; compare what they leave.

    python -m benchmarks.killed [--times 20] [--seed 0]

Each command is run once undisturbed. Then it is started again and again and killed (SIGKILL, with
all its children) after a random time, as often as asked for, and at last let run to its end. Every
file must be the same, byte for byte; reports, which tell of the last start alone, are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recipes.toy.make_corpus import make_corpus
from vc.batch import LEDGER, REPORT

_IGNORED = (LEDGER, REPORT, "report.html")


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder but for reports."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in _IGNORED)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def start(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    """A `vc` command that writes to `output`, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "vc", *command, "-o", str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def differing(status: int, folder: Path) -> str:
    """What is wrong with a run that came to its end after it was killed; empty if nothing is."""
    whole, left = contents(folder / "whole"), contents(folder / "killed")
    others = sorted(name for name in {*whole, *left} if whole.get(name) != left.get(name))
    return f"status {status}, {len(others)} files differ: {others[:3]}" if status or others else ""


def torment(command: list[str], folder: Path, times: int, chance: random.Random) -> str:
    """Kill a command so often, let it end, and say how it compares with an undisturbed run."""
    started = time.monotonic()
    if start(command, folder / "whole").wait():
        raise SystemExit(f"vc {' '.join(command)} failed undisturbed")
    whole_s = time.monotonic() - started
    killed, ended = 0, []
    while killed < times:
        process = start(command, folder / "killed")
        time.sleep(chance.uniform(0.1, 1.0) * whole_s)
        if process.poll() is None:
            killed += 1
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:  # it came to its end between two kills: once more from the beginning
            ended.append(differing(process.returncode, folder))
            shutil.rmtree(folder / "killed")
    ended.append(differing(start(command, folder / "killed").wait(), folder))
    verdict = "; ".join(filter(None, ended)) or "the same files each time"
    return f"killed {killed} times ({whole_s:.0f} s undisturbed), ended {len(ended)}: {verdict}"


def main() -> None:
    """Torment each command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        corpus = place / "corpus"
        make_corpus(corpus, speakers=30, clips=8, seconds=3.0)
        cache = place / "prepare" / "whole"
        reference = str(next(corpus.glob("*/*.wav")))
        settings = ["run.steps=60", "run.checkpoint_every=3", "run.log_every=3"]
        changes = [part for change in settings for part in ("--set", change)]
        commands = {
            "prepare": ["prepare", str(corpus)],
            "train": ["train", "tiny", "--cache", str(cache), "--device", "cpu", *changes],
            "batch": ["batch", str(corpus), "--reference", reference, "--quiet"],
        }
        for kind, command in commands.items():
            folder = place / kind
            folder.mkdir()
            print(f"{kind}: {torment(command, folder, options.times, chance)}", flush=True)


if __name__ == "__main__":
    main()

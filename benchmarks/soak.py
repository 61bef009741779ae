"""Run the demo's server and a long batch, and see whether memory grows or anything fails.

    python -m benchmarks.soak [--minutes 10] [--files 2000] [--only server|batch]

The server converts made voices of 1 to 4 s, each of a length of its own, asked through its API by
one visitor after the other (each makes 25 conversions and leaves). The batch converts made voices
of 0.6 to 1 s with one worker; then every result is read and compared in length with its source.
Memory is the resident set that the system reports; its slope is that of a straight line through all
samples after the first fifth, which is warming up.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.demo import EXAMPLES, free_port
from recipes.toy.make_corpus import SAMPLE_RATE, make_voice
from vc.audio import Audio, read_audio, write_audio
from vc.errors import VCError

_STAY = 25  # conversions of a visitor
_GOLDEN = 0.618  # share: its multiples fill an interval evenly
_WARM_UP = 0.2  # share of the samples
_PATIENCE_S = 120.0
_MB = 1024**2


def resident_mb(process: int) -> float:
    """Memory of a process in MB; nan once it has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / _MB


def children(process: int) -> list[int]:
    """Processes that a process has started and that still run."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def tell_memory(name: str, done: list[int], memory: list[float]) -> None:
    """Print where memory began and ended after the warm-up, and how fast it grew."""
    kept = np.isfinite(np.array(memory, float))
    if not kept.any():
        print(f"{name}: too short to tell", flush=True)
        return
    x, y = np.array(done, float)[kept], np.array(memory)[kept]
    start = int(_WARM_UP * len(x))
    x, y = x[start:], y[start:]
    slope = np.polyfit(x, y, 1)[0] * 1_000 if len(x) > 2 and np.ptp(x) > 0 else float("nan")
    print(
        f"{name}: {y[0]:.0f} MB after {x[0]:.0f}, {y[-1]:.0f} MB after {x[-1]:.0f}, "
        f"most {y.max():.0f} MB; {slope:+.1f} MB per 1,000 conversions",
        flush=True,
    )


def soak_server(minutes: float, folder: Path) -> int:
    """Convert through the server's API for so long; how much failed."""
    from gradio_client import Client, handle_file

    port, failures = free_port(), 0
    command = [sys.executable, "-m", "vc", "demo", "--no-browser", "--port", str(port)]
    environment = os.environ | {"TMPDIR": str(folder)}
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    done: list[int] = []
    memory: list[float] = []
    files: list[int] = []
    try:
        started = time.monotonic()
        client = None
        while client is None:
            try:
                client = Client(f"http://127.0.0.1:{port}", verbose=False)
            except Exception:
                if time.monotonic() - started > _PATIENCE_S:
                    raise
                time.sleep(0.5)
        count, end = 0, time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            if count % _STAY == 0 and count:
                client.close()
                client = Client(f"http://127.0.0.1:{port}", verbose=False)
            clip = folder / f"clip{count}.wav"
            seconds = 1 + 3 * (count * _GOLDEN % 1)
            waveform = make_voice(90 + 8 * (count % 20), seconds=seconds, seed=count)
            write_audio(clip, Audio(waveform, SAMPLE_RATE))
            clips = handle_file(clip), [handle_file(EXAMPLES / "reference.flac")]
            strength = 100 - 10 * (count % 3)
            arguments = (*clips, "Match the reference", 0, strength, False, True)
            try:
                result = client.predict(*arguments, api_name="/convert")
                result = result[0] if isinstance(result, (list, tuple)) else result
                Path(result).unlink()
            except Exception as error:  # noqa: BLE001 - it is counted
                failures += 1
                print(f"failed: {error!r}", flush=True)
            clip.unlink()
            count += 1
            done.append(count)
            memory.append(resident_mb(server.pid))
            files.append(
                sum(
                    len(names) for place in folder.glob("vc-demo-*") for *_, names in os.walk(place)
                )
            )
        client.close()
    finally:
        server.terminate()
        server.wait()
        log.close()
    tracebacks = (folder / "server.log").read_text(errors="replace").count("Traceback")
    print(f"server: {count} conversions in {minutes:g} minutes, {failures} failed")
    tell_memory("server", done, memory)
    deciles = np.array(memory)[np.linspace(0, len(memory) - 1, 11).astype(int)].round()
    print(f"server: MB after each tenth of it: {' '.join(f'{mb:.0f}' for mb in deciles)}")
    print(f"server: most files at once {max(files)}, at the end {files[-1]}")
    print(f"server: {tracebacks} tracebacks in its log", flush=True)
    return failures + tracebacks


def soak_batch(count: int, folder: Path) -> int:
    """Convert so many clips; how many are missing, or not as long as their source."""
    sources, output = folder / "sources", folder / "output"
    for number in range(count):
        clip = sources / f"voice{number % 20}" / f"clip{number}.wav"
        clip.parent.mkdir(parents=True, exist_ok=True)
        seconds = 0.6 + 0.4 * (number % 11) / 10
        waveform = make_voice(90 + 8 * (number % 20), seconds=seconds, seed=number)
        write_audio(clip, Audio(waveform, SAMPLE_RATE))
    command = [sys.executable, "-m", "vc", "batch", str(sources), "--workers", "1", "--quiet"]
    command += ["--reference", str(EXAMPLES / "reference.flac"), "-o", str(output)]
    started = time.monotonic()
    batch = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    done: list[int] = []
    parent: list[float] = []
    worker: list[float] = []
    while batch.poll() is None:
        time.sleep(1.0)
        finished = sum(1 for _ in output.glob("*/[!.]*.wav"))
        loads = [resident_mb(child) for child in children(batch.pid)]
        if finished and loads:
            done.append(finished)
            parent.append(resident_mb(batch.pid))
            worker.append(max(loads))
    took_s = time.monotonic() - started
    assert batch.stderr is not None
    error = batch.stderr.read()
    lost = 0
    for clip in sources.rglob("*.wav"):
        try:
            result = read_audio(output / clip.relative_to(sources))
            lost += len(result.waveform) != len(read_audio(clip).waveform)
        except VCError:
            lost += 1
    print(
        f"batch: {count} files in {took_s:.0f} s, exit status {batch.returncode}, {lost} lost, "
        f"{error.count('Traceback')} tracebacks"
    )
    tell_memory("batch, parent", done, parent)
    tell_memory("batch, worker", done, worker)
    return lost + (batch.returncode != 0)


def main() -> int:
    """Run both and print what they show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="of the server (10)")
    parser.add_argument("--files", type=int, default=2_000, help="of the batch (2000)")
    parser.add_argument("--only", choices=["server", "batch"])
    options = parser.parse_args()
    bad = 0
    for kind in ("server", "batch"):
        if options.only in (None, kind):
            with tempfile.TemporaryDirectory() as name:
                place = Path(name)
                bad += (
                    soak_server(options.minutes, place)
                    if kind == "server"
                    else soak_batch(options.files, place)
                )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

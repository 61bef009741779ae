"""Fuzz every reader, guided by the coverage of `vc`, and count what happens.

    python -m benchmarks.fuzz [READER ...] [--seconds 60] [--keep]

Needs the extra `fuzz` (atheris). Each reader runs in a process of its own, from the kept corpus in
`benchmarks/fuzz/corpus/` or, where there is none, from seeds that are made here. A reader may raise
`VCError` and nothing else: other exceptions are findings, whose inputs go to `--findings`, and the
exit status is 1. `--keep` makes the corpus anew from what the run has found: the smallest
of the inputs that each reached something new.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vc"], enable_loader_override=False):
    from benchmarks.fuzz.readers import READERS, corpus_folder, read_hostile
    from vc.errors import VCError

_RSS_LIMIT_MB = 2_000
_SLOW_S = 20  # for one input: libFuzzer calls it a hang
_MAX_BYTES = 60_000
_KEPT_FILES, _KEPT_BYTES = 30, 60_000  # of each reader's corpus


@dataclass
class Counts:
    """What happened to a reader."""

    executions: int = 0
    accepted: int = 0
    refused: int = 0
    longest_s: float = 0.0
    findings: dict[str, str] = field(default_factory=dict)  # where -> what


def place_of(error: BaseException) -> str:
    """Kind of error and the line of ours that it came from: what tells findings apart."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/vc/" in f.filename]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def fuzz_one(name: str, work: Path, arguments: list[str], results: Path, findings: Path) -> None:
    """Fuzz in this process until libFuzzer ends it; counts are written as they grow."""
    counts, written = Counts(), 0.0

    def test_one(data: bytes) -> None:
        nonlocal written
        started = time.monotonic()
        counts.executions += 1
        try:
            read_hostile(name, data, work)
            counts.accepted += 1
        except VCError as error:
            counts.refused += 1
            if len(str(error).splitlines()) != 1:
                _note(counts, f"several lines: {type(error).__name__}", repr(error), data, findings)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            _note(counts, place_of(error), repr(error), data, findings)
        now = time.monotonic()
        counts.longest_s = max(counts.longest_s, now - started)
        if now - written > 0.5:
            written = now
            results.write_text(json.dumps(asdict(counts)))

    atheris.Setup([sys.argv[0], *arguments], test_one)
    atheris.Fuzz()


def _note(counts: Counts, place: str, what: str, data: bytes, findings: Path) -> None:
    if place not in counts.findings:
        counts.findings[place] = what[:200]
        findings.mkdir(parents=True, exist_ok=True)
        (findings / "".join(c if c.isalnum() else "-" for c in place)).write_bytes(data)


def run(name: str, seconds: float, keep: bool, findings: Path) -> tuple[Counts, str]:
    """Fuzz one reader in a process of its own; its counts, and what ended it if not the clock."""
    with tempfile.TemporaryDirectory(dir=_fast_folder()) as folder:
        work, corpus = Path(folder) / "work", Path(folder) / "corpus"
        work.mkdir()
        kept = corpus_folder(name)
        if kept.is_dir():
            shutil.copytree(kept, corpus)
        else:
            corpus.mkdir()
            for number, data in enumerate(READERS[name].seeds(work)):
                (corpus / f"seed{number}").write_bytes(data)
        words = Path(folder) / "words"
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in READERS[name].words))
        limits = [f"-rss_limit_mb={_RSS_LIMIT_MB}", f"-timeout={_SLOW_S}", f"-max_len={_MAX_BYTES}"]
        options = [*limits, f"-max_total_time={int(seconds)}", f"-dict={words}", "-seed=1"]
        options += [f"-artifact_prefix={findings / name.replace(' ', '-')}-", "-verbosity=0"]
        results = Path(folder) / "counts.json"
        ended = _child(name, work, results, findings, [*options, str(corpus)])
        counts = Counts(**json.loads(results.read_text())) if results.exists() else Counts()
        if keep and not ended:
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True)
            left = _KEPT_BYTES
            for number, file in enumerate(sorted(corpus.iterdir(), key=_size)[:_KEPT_FILES]):
                left -= _size(file)
                if left > 0:
                    shutil.copyfile(file, kept / f"{number:02d}")
        return counts, ended


def _size(file: Path) -> int:
    return file.stat().st_size


def _child(name: str, work: Path, results: Path, findings: Path, arguments: list[str]) -> str:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--child", name, str(work), str(results)]
    command += [str(findings), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode == 0:
        return ""
    lines = [line for line in ended.stderr.splitlines() if "ERROR" in line or "Error" in line]
    return f"ended with status {ended.returncode}: {(lines or ended.stderr.splitlines())[-1:]}"


def _escaped(word: str) -> str:
    return "".join(c if c.isalnum() else f"\\x{ord(c):02x}" for c in word)


def _fast_folder() -> str | None:
    """Files are written once an execution: in memory, where the system has such a folder."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def main() -> int:
    """Fuzz, and print a table."""
    if sys.argv[1:2] == ["--child"]:
        name, work, results, findings, *arguments = sys.argv[2:]
        fuzz_one(name, Path(work), arguments, Path(results), Path(findings))
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(READERS))
    parser.add_argument("--seconds", type=float, default=60, help="for each reader (60)")
    parser.add_argument("--keep", action="store_true", help="make the kept corpus anew")
    parser.add_argument("--findings", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args()
    options.findings.mkdir(parents=True, exist_ok=True)
    total, bad = Counts(), 0
    print(
        f"{'reader':24s}{'executions':>11s}{'accepted':>10s}{'refused':>10s}{'longest':>9s}  found"
    )
    for name in options.readers or READERS:
        counts, ended = run(name, options.seconds, options.keep, options.findings)
        total.executions += counts.executions
        total.accepted += counts.accepted
        total.refused += counts.refused
        bad += len(counts.findings) + bool(ended)
        print(
            f"{name:24s}{counts.executions:11,d}{counts.accepted:10,d}{counts.refused:10,d}"
            f"{counts.longest_s:7.2f} s  {len(counts.findings)} {ended}",
            flush=True,
        )
        for place, what in counts.findings.items():
            print(f"    {place}: {what}", flush=True)
    print(
        f"{'all':24s}{total.executions:11,d}{total.accepted:10,d}{total.refused:10,d}{'':9s}  {bad}"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

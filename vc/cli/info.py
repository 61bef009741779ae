"""`vc info`: what a model or an audio file is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import vc
from vc.cli.arguments import EXIT_SOME_FAILED, EXIT_USER_ERROR, Commands, add_checkpoint
from vc.errors import AudioError


def add_info(commands: Commands) -> None:
    """Describe `vc info`."""
    info = commands.add_parser("info", help="describe the model, or an audio file")
    info.add_argument("clips", type=Path, nargs="*", help="audio files to describe")
    add_checkpoint(info)
    info.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    if options.clips:
        return _describe_clips(options.clips)
    from vc.checkpoint import inspect_checkpoint
    from vc.config import SHIPPED

    folder = options.checkpoint or SHIPPED
    print(f"vc {vc.__version__}\nmodel {folder}")
    for part in ("autoencoder", "vocoder"):
        if not (folder / part).is_dir() and part == "vocoder":
            print("\nvocoder: the one that ships with vc")
            continue
        info = inspect_checkpoint(folder / part)
        size = (info.folder / "model.safetensors").stat().st_size / 1e6
        print(f"\n{part}: {size:.1f} MB, {info.step} steps, sha256 {info.sha256[:12]}")
        for name, value in sorted(info.metrics.items()):
            print(f"  held-out {name}: {value:.3f}")
        for name, value in info.model.items():
            print(f"  {name} = {value}")
    rate = info.features.sample_rate
    print(f"\nfeatures: {rate} Hz, hop {info.features.hop_length}, {info.features.n_mels} mels")
    return 0


def _describe_clips(clips: Sequence[Path]) -> int:
    """A line for each; what cannot be read stops nothing."""
    failed = 0
    for clip in clips:
        try:
            print(f"{clip}: {_describe(clip)}")
        except AudioError as error:
            failed += 1
            print(f"vc info: {error}", file=sys.stderr)
    if failed == len(clips):
        return EXIT_USER_ERROR
    return EXIT_SOME_FAILED if failed else 0


def _describe(clip: Path) -> str:
    """Of a clip of any length: block by block, but for one frame between two of them."""
    import numpy as np

    from vc.audio import frame_levels_db, gated_level_db, read_blocks

    samples, levels = 0, []
    for block in read_blocks(clip):
        samples += len(block.waveform)
        levels.append(frame_levels_db(block.waveform, block.sample_rate))
    level = gated_level_db(np.concatenate(levels))
    rate = block.sample_rate
    return f"{samples / rate:.2f} s, {rate} Hz, speech at {level:.1f} dBFS"

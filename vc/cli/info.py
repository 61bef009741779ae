"""`vc info`: what a model or an audio file is."""

from __future__ import annotations

import argparse
from pathlib import Path

import vc
from vc.cli.arguments import Commands, add_checkpoint


def add_info(commands: Commands) -> None:
    """Describe `vc info`."""
    info = commands.add_parser("info", help="describe the model, or an audio file")
    info.add_argument("clips", type=Path, nargs="*", help="audio files to describe")
    add_checkpoint(info)
    info.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> None:
    if options.clips:
        from vc.audio import active_level_db, read_audio

        for clip in options.clips:
            audio = read_audio(clip)
            level = active_level_db(audio.waveform, audio.sample_rate)
            duration, rate = audio.duration_s, audio.sample_rate
            print(f"{clip}: {duration:.2f} s, {rate} Hz, speech at {level:.1f} dBFS")
        return
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

"""How small can a latent be? Plain autoencoders of many sizes beside PCA of the same sizes.

    python -m recipes.bottleneck.sweep CACHE -o runs/bottleneck --picture docs/bottleneck.png

CACHE is what `vc prepare` wrote. Every size is trained for the same number of steps on the same
part of its training clips, and rebuilds its validation clips, whose speakers nothing was fitted on.
Needs the extra `eval`. What is trained is not trained again: it can be interrupted at any moment,
and goes on when called again. One thread is enough.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from recipes.bottleneck.pca import LEVELS, Mel, Pca, round_to_levels
from recipes.bottleneck.report import LONG, picture, table
from recipes.bottleneck.sizes import SIZES, Errors, Row, Size
from vc.checkpoint import inspect_checkpoint, load_autoencoder
from vc.config import DataConfig, FeatureConfig, apply_overrides, from_dict, read_recipe, to_dict
from vc.corpus import FEATURES_FILE, MANIFEST, read_features, read_manifest
from vc.errors import DataError, VCError
from vc.evaluation.judges import require
from vc.model.autoencoder import Autoencoder, Latent
from vc.safe_write import make_folder, write_bytes, write_text
from vc.training.autoencoder import AutoencoderRecipe
from vc.training.data import SpeechData
from vc.training.run import pick_device, train

RECIPE = Path(__file__).with_name("plain.toml")
PLAN = "sweep.json"  # what all sizes in an output folder share
DB = 20 / math.log(10)  # log-mels are natural logarithms of magnitudes


@torch.no_grad()
def rebuild(model: Autoencoder, mel: Mel, rounded: bool = False) -> Mel:
    """A clip from its own latent, content `rounded` to `LEVELS` a number if wanted."""
    mean, scale = model.get_buffer("mel_mean")[:, None], model.get_buffer("mel_scale")[:, None]
    log_mel = torch.from_numpy(mel)[None] * scale + mean
    content, speaker = model.encode(log_mel)
    if rounded:
        content = round_to_levels(content)
    no_pitch = torch.zeros(1, mel.shape[1])  # the recipe's decoder does not look at it
    decoded = model.decode(Latent(content, speaker), no_pitch, no_pitch)
    rebuilt: Mel = model.normalize(decoded)[0].numpy()
    return rebuilt


def clip_errors(mels: list[Mel], rebuilt: list[Mel], scale: Mel) -> Errors:
    """How far clips are from what they were rebuilt as; `scale` `(n_mels, 1)` undoes the norm."""
    differences = [b - a for a, b in zip(mels, rebuilt, strict=True)]
    return Errors(
        np.array([np.abs(d).mean() for d in differences], np.float64),
        np.array(
            [DB * np.sqrt(np.square(d * scale).mean(axis=0)).mean() for d in differences],
            np.float64,
        ),
    )


def take_part(cache: Path, folder: Path, clips: int) -> Path:
    """A cache of about `clips` training clips of another, and of all its validation clips.

    Features are linked to, not copied. Reading all of a large cache once more for every size would
    take longer than training it.
    """
    utterances = read_manifest(cache)
    training = [u for u in utterances if u.split == "train"]
    chosen = training[:: max(1, len(training) // clips)]
    chosen += [u for u in utterances if u.split == "validation"]
    link = folder / "features"
    if link.is_symlink() and link.resolve() != (cache / "features").resolve():
        raise DataError(f"{folder}: belongs to another cache; choose another output folder")
    make_folder(folder)
    write_text(folder / FEATURES_FILE, json.dumps(to_dict(read_features(cache))))
    write_text(folder / MANIFEST, "".join(json.dumps(asdict(u)) + "\n" for u in chosen))
    if not link.is_symlink():
        link.symlink_to((cache / "features").resolve(), target_is_directory=True)
    return folder


def read_size(size: Size, settings: list[str]) -> AutoencoderRecipe:
    """The whole recipe of one size.

    Raises:
        ConfigError: a setting that the recipe does not know.
    """
    values = apply_overrides(read_recipe(RECIPE), [*size.overrides, *settings])
    values.pop("kind")
    return from_dict(AutoencoderRecipe, values)


def claim(output: Path, plan: dict[str, Any]) -> None:
    """Sizes that were trained under another plan must not stand in the same table.

    Raises:
        DataError: the folder holds such.
    """
    make_folder(output)
    file, text = output / PLAN, json.dumps(plan, indent=2)
    if file.exists() and file.read_text("utf-8") != text:
        raise DataError(f"{file}: other steps, clips or settings; choose another output folder")
    write_text(file, text)


def train_size(size: Size, part: Path, folder: Path, steps: int, settings: list[str]) -> None:
    """Train one size, unless it was trained for so many steps already."""
    if (folder / "config.json").is_file() and inspect_checkpoint(folder).step >= steps:
        return
    schedule = [f"run.{key}={steps}" for key in ("steps", "validate_every")]
    overrides = [*size.overrides, *schedule, *settings]
    train(RECIPE, part, folder, overrides, pick_device("cpu"), lambda said: None)


def normalized_mels(data: SpeechData, mean: Mel, scale: Mel) -> list[Mel]:
    """Every clip of a split, `(n_mels, frames)` each."""
    clips = (data.whole(clip).log_mel[0].numpy() for clip in range(len(data.utterances)))
    return [(mel - mean) / scale for mel in clips]


class Judge:
    """The validation clips of a cache, and PCA that was fitted on its training clips.

    Args:
        part: the cache.
        strides: that sizes may have.
    """

    def __init__(self, part: Path, strides: set[int]) -> None:
        features, data = FeatureConfig(), DataConfig()
        training = SpeechData(part, "train", features, data)
        mean = training.log_mel.float().mean(0).numpy()[:, None]
        self.scale: Mel = training.log_mel.float().std(0).numpy()[:, None]
        fitted_on = normalized_mels(training, mean, self.scale)
        validation = SpeechData(part, "validation", features, data)
        self.mels = normalized_mels(validation, mean, self.scale)
        kinds = sorted((stack, centred) for stack in {LONG, *strides} for centred in (False, True))
        bar = tqdm(kinds, "fitting PCA", leave=False)
        self.pca = {kind: Pca(fitted_on, *kind) for kind in bar}

    def score(self, size: Size, model: Autoencoder) -> Row:
        """An autoencoder, and PCA of its size; of symbols, PCA of as many bits."""
        numbers = round(size.bits_a_frame / math.log2(LEVELS))
        baselines = {
            "PCA": (self.pca[size.stride, False], numbers),
            "PCA + mean": (self.pca[size.stride, True], numbers),
            f"PCA of {LONG} + mean": (self.pca[LONG, True], numbers * LONG // size.stride),
        }
        rebuilt = {}
        for suffix, rounded in (("", False), (", in bits", True)):
            as_bits = rounded and size.kind == "narrow"  # symbols are bits already
            rebuilt[f"autoencoder{suffix}"] = [rebuild(model, mel, as_bits) for mel in self.mels]
            for name, (pca, count) in baselines.items():
                rebuilt[f"{name}{suffix}"] = [pca.rebuild(m, count, rounded) for m in self.mels]
        errors = {k: clip_errors(self.mels, clips, self.scale) for k, clips in rebuilt.items()}
        return Row(size, errors)


def sweep(
    cache: Path, output: Path, sizes: tuple[Size, ...], steps: int, clips: int, settings: list[str]
) -> list[Row]:
    """Train all sizes, fit PCA of the same sizes, and measure all on the validation clips."""
    for size in sizes:
        read_size(size, settings)  # before anything is written
    claim(output, {"steps": steps, "clips": clips, "settings": settings})
    part = take_part(cache, output / "cache", clips)
    for number, size in enumerate(sizes, 1):
        print(f"{number} of {len(sizes)}: {size.name}", flush=True)
        train_size(size, part, output / size.folder, steps, settings)

    judge = Judge(part, {size.stride for size in sizes})
    bar = tqdm(sizes, "scoring", unit="size", leave=False)
    return [judge.score(size, load_autoencoder(output / size.folder)) for size in bar]


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cache", type=Path, help="what `vc prepare` wrote")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--picture", type=Path, help="PNG to write")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--clips", type=int, default=1_200, help="to train on, about")
    parser.add_argument("--only", nargs="+", choices=[s.name for s in SIZES], metavar="SIZE")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        if options.picture:
            require("matplotlib")
        sizes = tuple(s for s in SIZES if not options.only or s.name in options.only)
        rows = sweep(
            options.cache, options.output, sizes, options.steps, options.clips, options.set
        )
        frame_rate = FeatureConfig().frame_rate
        shown = table(rows, frame_rate)
        write_text(options.output / "table.md", shown + "\n")
        if options.picture:
            write_bytes(options.picture, picture(rows, frame_rate))
    except VCError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sweep: interrupted; run it again to go on", file=sys.stderr)
        return 130
    print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())

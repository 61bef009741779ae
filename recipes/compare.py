"""Train recipes for the same number of steps, score them on the same pairs, lay them side by side.

    python recipes/compare.py recipes/shipped/autoencoder.toml recipes/ablations recipes/baselines \
        --cache cache --pairs recipes/shipped/development_pairs.tsv --root CORPORA --steps 3000 \
        -o runs/compared

All start from random weights and share the shipped vocoder. What is trained or scored already is
not done again, so it can be interrupted at any moment.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from vc.config import SHIPPED
from vc.errors import VCError
from vc.evaluation.results import compare
from vc.evaluation.run import SCORES_FILE, evaluate
from vc.training.run import pick_device, train

ABSTRACT = {"plain.toml"}  # a base of others, not a system


def find_recipes(places: list[Path]) -> dict[str, Path]:
    """Recipe files by name; folders stand for all that is in them."""
    files = [file for p in places for file in (sorted(p.glob("*.toml")) if p.is_dir() else [p])]
    recipes = {file.stem: file for file in files if file.name not in ABSTRACT}
    if not recipes:
        raise VCError("no recipes given; name TOML files or folders of them")
    return recipes


def train_and_score(name: str, recipe: Path, options: argparse.Namespace) -> Path:
    """One recipe from start to figures; returns its `scores.json`."""
    folder = options.output / name
    overrides = [f"run.steps={options.steps}", "run.initial=", *options.set]
    device = pick_device(options.device)
    train(recipe, options.cache, folder / "autoencoder", overrides, device, print)
    shutil.copytree(options.vocoder, folder / "vocoder", dirs_exist_ok=True)
    evaluate(options.pairs, options.root, folder, folder / "scores", name=name)
    return folder / "scores" / SCORES_FILE


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipes", type=Path, nargs="+", help="recipes, or folders of them")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True, help="where the pairs' paths start")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--vocoder", type=Path, default=SHIPPED / "vocoder")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        recipes = find_recipes(options.recipes)
        scores = []
        for number, (name, recipe) in enumerate(recipes.items(), 1):
            print(f"{number} of {len(recipes)}: {name}")
            scores.append(train_and_score(name, recipe, options))
        table = compare(scores)
    except VCError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print(table)
    (options.output / "table.txt").write_text(table + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

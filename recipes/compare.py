"""Train recipes for the same number of steps, score them on the same pairs, lay them side by side.

    python recipes/compare.py recipes/shipped/autoencoder.toml recipes/ablations recipes/baselines \
        --cache cache --pairs recipes/shipped/development_pairs.tsv --root CORPORA --steps 3000 \
        -o runs/compared

All start from random weights and share the shipped vocoder, so of folders only the autoencoders'
recipes are taken. What is trained or scored already is not done again, so it can be interrupted at
any moment. A system that fails (`with_phones.toml` needs labels) is told of and left out.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from vc.config import SHIPPED, read_recipe
from vc.errors import VCError
from vc.evaluation.results import compare
from vc.evaluation.run import SCORES_FILE, evaluate
from vc.safe_write import write_text
from vc.training.run import pick_device, train

ABSTRACT = {"plain.toml"}  # a base of others, not a system


def find_recipes(places: list[Path]) -> dict[str, Path]:
    """Recipe files of autoencoders by name; folders stand for all of these in them."""
    files = [file for p in places for file in (sorted(p.glob("*.toml")) if p.is_dir() else [p])]
    files = [file for file in files if file.name not in ABSTRACT]
    recipes = {f.stem: f for f in files if read_recipe(f).get("kind") == "autoencoder"}
    if not recipes:
        raise VCError("no recipes of autoencoders given; name TOML files or folders of them")
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
    scores, failed = [], []
    try:
        recipes = find_recipes(options.recipes)
        for number, (name, recipe) in enumerate(recipes.items(), 1):
            print(f"{number} of {len(recipes)}: {name}")
            try:
                scores.append(train_and_score(name, recipe, options))
            except VCError as error:
                failed.append(name)
                print(f"compare: {name}: {error}", file=sys.stderr)
        if not scores:
            raise VCError("no system was scored")
        table = compare(scores)
        write_text(options.output / "table.txt", table + "\n")
    except VCError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare: interrupted; run it again to go on", file=sys.stderr)
        return 130
    print(table)
    if failed:
        print(f"compare: left out, since they failed: {', '.join(failed)}", file=sys.stderr)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

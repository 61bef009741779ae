"""Scores on disk and as text.

`scores.json` is one object:

* `format_version`: 2;
* `system`: what was scored. `name`; for a model also `autoencoder` and `vocoder`, the SHA-256 of
  their weights, and `vc`, the version of this program;
* `judges`: installed version of each judge's package;
* `pairs`: one object for each pair, in the table's order, with `name` (that of the converted clip),
  `group` (the set) and every field of `vc.evaluation.score.PairScore`: numbers, null where a
  measure does not apply, and two lists of numbers, the speaker cosines of the pair's genuine and
  converted trials (see `vc.evaluation.verification`);
* `summary`: for each set, and for "all, one reference" if there are several sets, an object of
  measures, each with `mean`, `low` and `high` (95 % bootstrap interval) and `count` (pairs in it).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vc.errors import DataError
from vc.evaluation.bootstrap import Summary, summarize_values
from vc.evaluation.score import MEASURES, PairScore, summarize
from vc.json_text import parse_json
from vc.safe_write import write_text

FORMAT_VERSION = 2
SEVERAL_REFERENCES = "five-references"  # kept apart from the figures for one reference
ALL = "all, one reference"


@dataclass(frozen=True)
class Results:
    """Everything that one evaluation found."""

    system: dict[str, str]
    judges: dict[str, str]
    scores: list[PairScore]

    @property
    def name(self) -> str:
        """What the system is called."""
        return self.system["name"]

    @property
    def groups(self) -> dict[str, list[PairScore]]:
        """The sets in their order, then all pairs with one reference if there are several sets."""
        names = dict.fromkeys(score.group for score in self.scores)
        groups = {name: [s for s in self.scores if s.group == name] for name in names}
        single = [s for s in self.scores if s.group != SEVERAL_REFERENCES]
        return {**groups, ALL: single} if len(groups) > 1 and single else groups


def write_results(path: Path, results: Results) -> None:
    """Write `scores.json`, whole or not at all."""
    summary = {
        name: {measure: asdict(value) for measure, value in summarize(group).items()}
        for name, group in results.groups.items()
    }
    content = {
        "format_version": FORMAT_VERSION,
        "system": results.system,
        "judges": results.judges,
        "pairs": [as_row(score) for score in results.scores],
        "summary": summary,
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_results(path: Path) -> Results:
    """Read `scores.json`.

    Raises:
        DataError: it is missing, or not such a file.
    """
    try:
        content = parse_json(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON; name a scores.json of `vc evaluate`") from error
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise DataError(f"{path}: not scores of this version; run `vc evaluate` again")
    try:
        scores = [from_row(row) for row in content["pairs"]]
        results = Results(dict(content["system"]), dict(content["judges"]), scores)
        str(results.name)
        return results
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: damaged ({error}); run `vc evaluate` again") from error


def as_row(score: Any) -> dict[str, Any]:
    """The dataclass of a score as a plain object for JSON, in which nan is null."""
    row = asdict(score)
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}


def from_row(row: Mapping[str, Any]) -> PairScore:
    """Back from `as_row` of a `PairScore`.

    Raises:
        KeyError: a field is missing.
        TypeError, ValueError: a field is of the wrong type.
    """
    values: dict[str, Any] = {}
    for field in fields(PairScore):
        value = row[field.name]
        if field.type == "float":
            value = float("nan") if value is None else float(value)
        elif field.type != "str":
            value = tuple(float(v) for v in value)
        values[field.name] = value
    return PairScore(**values)


def format_results(results: Results) -> str:
    """Every set's figures, a measure a line."""
    return "\n\n".join(_format_group(name, group) for name, group in results.groups.items())


def _format_group(name: str, scores: Sequence[PairScore]) -> str:
    return format_summaries(f"{name} ({len(scores)} pairs)", summarize(scores))


def format_summaries(title: str, summaries: Mapping[str, Summary]) -> str:
    """A title and a measure a line."""
    lines = [
        f"  {measure:22s} {s.mean:7.3f}  [{s.low:.3f}, {s.high:.3f}]  n={s.count}"
        for measure, s in summaries.items()
    ]
    return "\n".join([title, *lines])


def compare(paths: Sequence[Path]) -> str:
    """Several systems side by side, on the pairs that all of them have been scored on.

    Args:
        paths: their `scores.json`; differences are to the first.

    Returns:
        A table: for each set and measure a line for each system with mean and 95 % interval, and
        from the second system on the mean paired difference to the first with its interval, marked
        by a star where that leaves zero out. The equal error rate belongs to a set, not to a pair,
        and so has no paired difference.

    Raises:
        DataError: a file cannot be read, or there is no pair that all have in common.
    """
    systems = [read_results(path) for path in paths]
    common = set.intersection(*({s.name for s in system.scores} for system in systems))
    if not common:
        raise DataError("the files have no pair in common; score the systems on one table")
    kept = [
        Results(r.system, r.judges, sorted((s for s in r.scores if s.name in common), key=_order))
        for r in systems
    ]
    names = _distinct_names(systems, paths)
    blocks = []
    for group in kept[0].groups:
        scores = [system.groups[group] for system in kept]
        blocks.append(f"{group} ({len(scores[0])} pairs)\n" + _compare_group(names, scores))
    left_out = max(len(system.scores) for system in systems) - len(common)
    if left_out:
        blocks.append(f"left out: up to {left_out} pairs that not all files have")
    judges = {json.dumps(system.judges, sort_keys=True) for system in systems}
    if len(judges) > 1:
        blocks.append("careful: the files were made with different versions of the judges")
    return "\n\n".join(blocks)


def _order(score: PairScore) -> tuple[str, str]:
    return score.group, score.name


def _distinct_names(systems: Sequence[Results], paths: Sequence[Path]) -> list[str]:
    names = [system.name for system in systems]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _compare_group(names: Sequence[str], scores: Sequence[Sequence[PairScore]]) -> str:
    width = max(map(len, names))
    summaries = [summarize(group) for group in scores]
    lines = []
    for measure in dict.fromkeys(m for summary in summaries for m in summary):
        for number, (name, summary) in enumerate(zip(names, summaries, strict=True)):
            label = "" if number else measure
            s = summary.get(measure)
            figure = f"{s.mean:7.3f}  [{s.low:.3f}, {s.high:.3f}]" if s else "      -"
            line = f"  {label:22s}  {name:{width}s} {figure:25s}"
            if number and measure in MEASURES:
                line += _difference(measure, scores[0], scores[number])
            lines.append(line.rstrip())
    return "\n".join(lines)


def _difference(measure: str, first: Sequence[PairScore], other: Sequence[PairScore]) -> str:
    pairs = zip(first, other, strict=True)
    summary = summarize_values(
        np.array([getattr(b, measure) - getattr(a, measure) for a, b in pairs])
    )
    if summary is None:
        return ""
    star = " *" if summary.low > 0 or summary.high < 0 else ""
    return f"  {summary.mean:+.3f}  [{summary.low:+.3f}, {summary.high:+.3f}]{star}"

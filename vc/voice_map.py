"""A map of voices: clips as points on a plane, near each other where the voices are alike.

Two maps side by side. Principal components (Pearson 1901) keep distances as well as a plane can;
t-SNE (van der Maaten & Hinton 2008) keeps who is next to whom, and shows groups better, but the
distance between two groups means nothing there.
"""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vc.errors import DataError, VCError
from vc.safe_write import check_output, write_bytes

PICTURE_SUFFIXES = (".png", ".svg", ".pdf")
FEWEST = 4  # points: with fewer there is nothing to see
INVENTED = "kept and invented voices"

_LEGEND = 20  # speakers; more are coloured, but not named
_MARKS = "osD^vPX<>h"
_PERPLEXITY = 10.0  # t-SNE: about how many neighbours a point has

FloatArray = npt.NDArray[np.floating[Any]]


class Point(NamedTuple):
    """One clip or kept voice."""

    group: str  # whose it is
    identity: npt.NDArray[np.float32]  # (speaker_dim,), the learnt part of the speaker embedding


def check_picture_name(path: Path) -> None:
    """Refuse, before any work, a picture that could not be drawn or written.

    Raises:
        DataError: a suffix of no picture, or a folder that does not exist.
        VCError: what draws is not installed.
    """
    for package, name in (("matplotlib", "matplotlib"), ("sklearn", "scikit-learn")):
        if find_spec(package) is None:
            raise VCError(f"a map needs {name}; install it with: pip install 'vc[eval]'")
    check_output(path, PICTURE_SUFFIXES, DataError)


def place_voices(identities: FloatArray) -> dict[str, FloatArray]:
    """Unit vectors `(voices, speaker_dim)` -> `(voices, 2)` by each method, the same every time."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    components = PCA(min(50, *identities.shape), svd_solver="full").fit_transform(identities)
    perplexity = min(_PERPLEXITY, (len(identities) - 1) / 3)
    neighbours = TSNE(perplexity=perplexity, init="pca", random_state=0)
    return {"PCA": components[:, :2], "t-SNE": neighbours.fit_transform(components)}


def draw_map(path: Path, points: list[Point]) -> None:
    """Write the picture, whole or not at all.

    Args:
        path: `.png`, `.svg` or `.pdf`.
        points: at least 4; those of the group `INVENTED` become black stars.

    Raises:
        DataError: too few points, or the file cannot be written.
    """
    check_picture_name(path)
    if len(points) < FEWEST:
        raise DataError(f"a map needs at least {FEWEST} clips or voices, not {len(points)}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(point.group for point in points))
    speakers = [group for group in groups if group != INVENTED]
    figure = Figure(figsize=(13, 6), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen
    planes = place_voices(np.stack([point.identity for point in points]).astype(np.float64))
    for axes, (title, plane) in zip(np.ravel(figure.subplots(1, 2)), planes.items(), strict=True):
        for group in groups:
            rows = [i for i, point in enumerate(points) if point.group == group]
            axes.scatter(*plane[rows].T, label=group, **_look(group, speakers))
        axes.set(title=title, xticks=[], yticks=[])
    handles, labels = axes.get_legend_handles_labels()
    named = [i for i, name in enumerate(labels) if name in [*speakers[:_LEGEND], INVENTED]]
    figure.legend(
        [handles[i] for i in named],
        [labels[i] for i in named],
        loc="outside right upper",
        frameon=False,
    )
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix.lower()[1:], dpi=110)
    write_bytes(path, data.getvalue())


def _look(group: str, speakers: list[str]) -> dict[str, Any]:
    """Colour and mark of a group: twenty colours, another mark for each twenty more."""
    from matplotlib import colormaps

    if group == INVENTED:
        return {"color": "black", "marker": "*", "s": 130}
    number = speakers.index(group)
    mark = _MARKS[number // 20 % len(_MARKS)]
    return {"color": colormaps["tab20"](number % 20), "marker": mark, "s": 45}

"""The HTML report of the probes: bars, and maps of the latents coloured by speaker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vc.evaluation.figures import bars, scatter_map
from vc.evaluation.html import escape, page
from vc.evaluation.judges import require
from vc.evaluation.probe import ProbeReport, Task, format_report
from vc.safe_write import write_text

MAP_SPEAKERS = 20
_MAPS = {
    "speaker": "Speaker embeddings: clips of a speaker should lie together",
    "content, covariance": "Pooled content: clips of a speaker should not lie together",
}


def write_probe_report(path: Path, report: ProbeReport) -> None:
    """Write a self-contained HTML file.

    Raises:
        DataError: the file cannot be written.
    """
    parts = [
        "<p>How well freshly trained probes read the speaker and the phone from each latent of "
        "clips they were not trained on. Bits are a lower bound of the mutual information.</p>"
    ]
    for task in report.tasks:
        parts.append(f"<h2>The {escape(task.label)}</h2>{_bars(task)}")
    maps = "".join(_map(name, title, report) for name, title in _MAPS.items())
    parts.append(
        f"<h2>Maps</h2><p>Latents of clips of {_map_speakers(report)} speakers, by t-SNE. A colour "
        f'and mark is a speaker.</p><div class="cards">{maps}</div>'
    )
    parts.append(f"<h2>Figures</h2><pre>{escape(format_report(report.tasks))}</pre>")
    write_text(path, page("What the latents tell", parts))


def _bars(task: Task) -> str:
    accuracy = {
        name: {kind: 100 * reading.accuracy for kind, reading in kinds.items()}
        for name, kinds in task.readings.items()
    }
    information = {
        name: {kind: reading.bits for kind, reading in kinds.items()}
        for name, kinds in task.readings.items()
    }
    pictures = (
        bars(
            f"{task.label}-accuracy",
            f"{task.label} named right ({task.classes} classes)",
            "% of held-out examples; dashed: chance",
            accuracy,
            100.0,
            100 * task.chance,
        ),
        bars(
            f"{task.label}-information",
            f"information on the {task.label}",
            "bits; dashed: all there is to know",
            information,
            task.entropy,
            task.entropy,
        ),
    )
    return (
        '<div class="cards">' + "".join(f'<div class="card">{p}</div>' for p in pictures) + "</div>"
    )


def _map_speakers(report: ProbeReport) -> int:
    return min(MAP_SPEAKERS, int(report.speakers.max()) + 1)


def _map(name: str, title: str, report: ProbeReport) -> str:
    shown = report.speakers < _map_speakers(report)
    points = embed_in_plane(report.pooled[name][shown])
    picture = scatter_map(f"map-{name}", title, points, report.speakers[shown].numpy())
    return f'<div class="card">{picture}</div>'


def embed_in_plane(latents: Tensor) -> npt.NDArray[np.float64]:
    """`(clips, dimensions)` -> `(clips, 2)` by t-SNE (van der Maaten & Hinton 2008) from PCA."""
    require("sklearn")
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    values = latents.double().numpy()
    values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-6)
    values = PCA(min(50, *values.shape), svd_solver="full").fit_transform(values)
    perplexity = min(10.0, (len(values) - 1) / 3)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=0)
    return np.asarray(plane.fit_transform(values), dtype=np.float64)

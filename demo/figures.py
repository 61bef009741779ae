"""Pictures of voices as HTML: spectrograms and F0 on one time axis, and a map of voices.

Drawn as HTML and SVG in the page's own colours, so that they follow light and dark and any width.
"""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from demo.known_voices import KnownVoices

LABELS = {"source": "Source", "reference": "Reference", "result": "Result"}
_RANGE = 7.0  # natural-log units of magnitude (61 dB) from black to white
_FIRST_HZ, _LAST_HZ = 60.0, 500.0
_TICKS_HZ = (75, 100, 150, 200, 300, 400)
# dark violet to pale yellow through red, evenly growing in lightness
_COLOURS = (
    (5, 4, 30),
    (72, 16, 104),
    (150, 36, 112),
    (226, 76, 78),
    (252, 158, 88),
    (252, 246, 190),
)


class Heard(NamedTuple):
    """What is drawn of one clip."""

    log_mel: npt.NDArray[np.float32]  # (n_mels, frames)
    f0: npt.NDArray[np.float32]  # (frames,), Hz, 0 where unvoiced
    duration_s: float
    identity: npt.NDArray[np.float32]  # (speaker_dim,), the learnt part of the embedding
    cut: bool  # only the clip's first minute is drawn


def look(clips: dict[str, Heard], known: KnownVoices | None) -> str:
    """HTML of all pictures of up to three clips, by role."""
    longest = max(clip.duration_s for clip in clips.values())
    rows = []
    for role, clip in clips.items():
        width = 100 * clip.duration_s / longest
        rows.append(
            f'<div class="vc-row"><span style="color: var(--vc-{role})">{_label(role, clip)}</span>'
            f'<div class="vc-plot"><img style="width: {width:.2f}%" '
            f'alt="Mel-spectrogram of the {role}, {clip.duration_s:.1f} seconds" '
            f'src="{_spectrogram(clip.log_mel)}"></div></div>'
        )
    axis = f'<div class="vc-row"><span></span>{_seconds(longest)}</div>'
    return (
        '<div class="vc-look"><h2>Sound: mel-spectrograms, 0 to 8 kHz</h2>'
        f"{''.join(rows)}{axis}<h2>Melody: fundamental frequency (F0)</h2>{_legend(clips)}"
        f"{_melody(clips, longest)}{axis}{_map(clips, known)}</div>"
    )


def _label(role: str, clip: Heard) -> str:
    return LABELS[role] + (", first minute" if clip.cut else "")


def _spectrogram(log_mel: npt.NDArray[np.float32]) -> str:
    """PNG of `(n_mels, frames)` as a data URI, low bands below."""
    share = np.clip((log_mel - log_mel.max()) / _RANGE + 1, 0, 1)[::-1]
    stops = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack(
        [np.interp(share, stops, channel) for channel in zip(*_COLOURS, strict=True)]
    )
    image = Image.fromarray(np.moveaxis(colours, 0, -1).astype(np.uint8))
    image = image.resize((min(image.width * 2, 1600), 160), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _seconds(longest: float) -> str:
    step = next(s for s in (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 3600) if longest / s <= 7)
    marks = [
        f'<span style="left: {100 * t / longest:.2f}%">{t:g} s</span>'
        for t in np.arange(0, longest, step)
    ]
    return f'<div class="vc-ticks" aria-hidden="true">{"".join(marks)}<span></span></div>'


def _legend(roles: dict[str, Heard]) -> str:
    items = [
        f'<span><i style="background: var(--vc-{role})"></i>{_label(role, clip)}'
        f"{_median(clip.f0)}</span>"
        for role, clip in roles.items()
    ]
    return f'<div class="vc-legend">{"".join(items)}</div>'


def _median(f0: npt.NDArray[np.float32]) -> str:
    voiced = f0[f0 > 0]
    return f": median {np.median(voiced):.0f} Hz" if voiced.size else ": no voice found"


def _height(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Share of the plot's height, on a logarithmic (musical) scale."""
    return np.asarray(np.log(np.asarray(hertz) / _FIRST_HZ) / np.log(_LAST_HZ / _FIRST_HZ))


def _melody(clips: dict[str, Heard], longest: float) -> str:
    lines = "".join(
        f'<line x1="0" x2="1000" y1="{y:.1f}" y2="{y:.1f}"/>'
        for y in 100 * (1 - _height(_TICKS_HZ))
    )
    marks = "".join(
        f'<span style="bottom: {100 * y:.1f}%">{hertz}</span>'
        for hertz, y in zip(_TICKS_HZ, _height(_TICKS_HZ), strict=True)
    )
    paths = "".join(
        f'<path style="stroke: var(--vc-{role})" d="{_path(clip, longest)}"/>'
        for role, clip in clips.items()
    )
    return (
        f'<div class="vc-row"><span class="vc-hz" aria-hidden="true">{marks}</span>'
        '<div class="vc-plot vc-f0"><svg viewBox="0 0 1000 100" preserveAspectRatio="none" '
        f'role="img" aria-label="F0 curves over time in hertz">{lines}{paths}</svg></div></div>'
    )


def _path(clip: Heard, longest: float) -> str:
    """SVG path of the voiced stretches of an F0 track."""
    x = np.linspace(0, 1000 * clip.duration_s / longest, len(clip.f0))
    y = 100 * (1 - _height(np.clip(np.maximum(clip.f0, 1), _FIRST_HZ, _LAST_HZ)))
    voiced = clip.f0 > 0
    parts = []
    for number in np.flatnonzero(voiced):
        pen = "L" if number and voiced[number - 1] else "M"
        parts.append(f"{pen}{x[number]:.1f} {y[number]:.1f}")
    return "".join(parts)


def _map(clips: dict[str, Heard], known: KnownVoices | None) -> str:
    title = "<h2>Map of voices</h2>"
    if known is None:
        return title + '<p class="vc-note">There is no map of known voices for this model.</p>'
    points = {role: known.place(clip.identity) for role, clip in clips.items()}
    everything = np.concatenate([known.points, *(p[None] for p in points.values())])
    low, high = everything.min(axis=0), everything.max(axis=0)
    span = np.maximum(high - low, 1e-6)
    width, height, margin = 600.0, 460.0, np.array([35.0, 45.0])
    scale = (np.array([width, height]) - 2 * margin) / span

    def place(point: npt.NDArray[np.float32]) -> tuple[float, float]:
        x, y = margin + (point - low) * scale
        return float(x), float(height - y)

    dots = "".join(
        '<circle class="known" r="5" cx="{:.1f}" cy="{:.1f}"/>'.format(*place(point))
        for point in known.points
    )
    for role, point in points.items():
        x, y = place(point)
        letter = {"source": "A", "reference": "B", "result": "X"}[role]
        dots += (
            f'<g><title>{LABELS[role]}</title><circle r="14" cx="{x:.1f}" cy="{y:.1f}" '
            f'style="fill: var(--vc-{role})"/><text x="{x:.1f}" y="{y:.1f}">{letter}</text></g>'
        )
    likeness = ""
    if {"result", "reference", "source"} <= set(clips):
        result, reference, source = (
            clips[role].identity for role in ("result", "reference", "source")
        )
        likeness = (
            f" By the model's own ear (cosine, 1 is the same voice) the result is "
            f"<b>{result @ reference:.2f}</b> like the reference and "
            f"<b>{result @ source:.2f}</b> like the source."
        )
    return (
        f'{title}<p class="vc-note">Each grey dot is one of {len(known.points)} speakers that the '
        "model learnt from (A is the source, B the reference, X the result). From left "
        "to right, voices go from low to high; up and down is the widest other difference "
        f"between them.{likeness}</p>"
        '<svg class="vc-map" viewBox="0 0 600 460" role="img" aria-label="Map of voices: source, '
        'reference and result among known voices"><rect class="frame" width="600" height="460" '
        f'rx="12"/>{dots}<text class="axis" x="300" y="445">low voices ← → high voices</text></svg>'
    )

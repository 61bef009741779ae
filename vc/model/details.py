"""The fine structure of decoded mels: harmonics are steadied, and the rest is lent by a recording.

A decoder that is trained to be right on average makes up harmonics that flutter, and blurs what it
cannot know: of voiced sounds above 2 kHz the narrow peaks, which are a speaker's own. A listener
hears that as dullness (it is most of what DNSMOS P.808 takes off for the autoencoder). So each
decoded frame takes them from a voiced frame of the reference whose broad spectrum is like its own,
and whose details go with those that its neighbours take: unit selection (Hunt & Black 1996) of
nothing but details, where kNN-VC (Baas et al. 2023, arXiv:2305.18975) replaces whole frames.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from vc.model.layers import smooth_bands, smooth_frames

MAX_FRAMES = 512  # kept of a voice
MIN_FRAMES = 20  # with fewer there is nothing to choose from
_CLEANEST_SHARE = 1 / 3  # of a clip's voiced frames are kept, but not fewer than these
_CLEANEST_FRAMES = 60

_ROUNDS = 3  # of choosing anew
_STEADINESS = 0.3  # what a change of details counts beside the distance of the broad spectra
CONTEXT = 1 + _ROUNDS  # frames on either side that a finished frame depends on

_LOWEST_SHARE = 0.5625  # of the bands, 2 kHz: words lie below
_BROAD_COEFFICIENTS = 8  # cepstral: what is finer is lent
_FORMANT_COEFFICIENTS = 20  # cepstral: what is finer is harmonics rather than formants


def voiced_frames(log_mel: Tensor, voiced: Tensor, taken_out: Tensor | None = None) -> Tensor:
    """What of a clip can be lent: `(n_mels, frames)`, `(frames,)` -> `(kept, n_mels)`.

    Where noise was, little is left of details, and what is left of the noise is lent as if it were
    one; so of a clip that was denoised the cleanest third is kept. The frames are sorted by
    loudness: a voice may be given away, and what was said is not to be read from the order.

    Args:
        log_mel: of the clip.
        voiced: above 0 where voiced.
        taken_out: by how much each band of each frame was turned down, in nepers, `(n_mels,
            frames)`; None keeps all voiced frames.
    """
    frames = min(log_mel.shape[-1], len(voiced))
    is_voiced = voiced[:frames] > 0
    kept = log_mel[:, :frames].T[is_voiced]
    if taken_out is not None:
        noise = taken_out[_lowest_band(len(log_mel)) :, :frames].mean(dim=0)[is_voiced]
        count = max(_CLEANEST_FRAMES, math.ceil(_CLEANEST_SHARE * len(kept)))
        kept = kept[noise.argsort(stable=True)[:count]]
    return kept[kept.mean(dim=1).argsort()]


def thin_out(details: Tensor, count: int = MAX_FRAMES) -> Tensor:
    """At most `count` of the frames `(kept, n_mels)`, spread evenly."""
    if len(details) <= count:
        return details
    places = torch.linspace(0, len(details) - 1, count).round().long()
    return details[places]


def finish(log_mel: Tensor, voiced: Tensor, details: Tensor | None) -> Tensor:
    """Decoded mels as the vocoder is given them: `steady_harmonics`, then `lend_details`."""
    return lend_details(steady_harmonics(log_mel), voiced, details)


def steady_harmonics(log_mel: Tensor) -> Tensor:
    """Decoded mels `(batch, n_mels, frames)` whose fine structure changes no faster than it can.

    What is finer than formants (harmonics, mostly) the decoder must make up from the pitch. Of what
    it makes up at more than 12 Hz, nothing is found in real mels (more than their whole variance is
    off), and a recogniser stumbles over it. The mean over three frames takes it out; formants and
    onsets, which are broad over the bands, stay as they are.
    """
    broad = smooth_bands(log_mel, _FORMANT_COEFFICIENTS)
    fine = smooth_frames(log_mel - broad, 3)
    return broad + fine


def lend_details(log_mel: Tensor, voiced: Tensor, details: Tensor | None) -> Tensor:
    """Voiced frames with the fine structure of a reference in their upper bands.

    Real details move slowly. So each frame first takes the likest one, and then, a few times over,
    the one that is best given what its voiced neighbours have taken (iterated conditional modes,
    Besag 1986). The best path of a whole clip (Viterbi's algorithm) would be steadier by a little,
    but costs more, and a clip could not come in pieces.

    Args:
        log_mel: decoded, `(batch, n_mels, frames)`.
        voiced: `(batch, frames)`, 1.0 where voiced.
        details: voiced frames of the references, `(batch, kept, n_mels)`; None or too few change
            nothing.
    """
    if details is None or details.shape[1] < MIN_FRAMES:
        return log_mel
    lent = details.to(log_mel).transpose(1, 2)  # (B, n_mels, kept)
    broad, broad_lent = (smooth_bands(x, _BROAD_COEFFICIENTS) for x in (log_mel, lent))
    shape, shape_lent = (x - x.mean(dim=1, keepdim=True) for x in (broad, broad_lent))
    distance = torch.cdist(shape.transpose(1, 2), shape_lent.transpose(1, 2))  # (B, T, kept)
    n_mels = log_mel.shape[1]
    lowest = _lowest_band(n_mels)
    fine = (lent - broad_lent)[:, lowest:].transpose(1, 2)  # (B, kept, upper bands)
    taken = _choose(distance, fine)
    for _ in range(_ROUNDS):
        change = torch.cdist(taken, fine) * (voiced[..., None] > 0)  # (B, T, kept)
        beside = functional.pad(change, (0, 0, 1, 1))
        taken = _choose(distance + _STEADINESS * (beside[:, :-2] + beside[:, 2:]), fine)
    upper = broad[:, lowest:] + taken.transpose(1, 2)
    changed = torch.where(voiced[:, None] > 0, upper, log_mel[:, lowest:])
    return torch.cat([log_mel[:, :lowest], changed], dim=1)


def _lowest_band(n_mels: int) -> int:
    """From which on bands are lent."""
    return math.ceil(_LOWEST_SHARE * n_mels)


def _choose(cost: Tensor, fine: Tensor) -> Tensor:
    """Of details `(batch, kept, bands)`, those with the least cost `(batch, frames, kept)`."""
    best = cost.argmin(dim=-1, keepdim=True)  # (B, T, 1)
    return fine.gather(1, best.expand(-1, -1, fine.shape[-1]))

"""Fine structure of voiced sounds, lent to decoded mels by frames of a real recording.

A decoder that is trained to be right on average blurs what it cannot know: of voiced sounds above
2.5 kHz the narrow peaks, which are a speaker's own. A listener hears that as dullness (it is most
of what DNSMOS P.808 takes off for the autoencoder). So each decoded frame takes them from the
voiced frame of the reference whose broad spectrum is most like its own: unit selection (Hunt &
Black 1996) of nothing but details, where kNN-VC (Baas et al. 2023, arXiv:2305.18975) replaces whole
frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vc.model.layers import smooth_bands

MAX_FRAMES = 512  # kept of a voice
MIN_FRAMES = 20  # with fewer there is nothing to choose from

_LOWEST_SHARE = 0.625  # of the bands, 2.5 kHz: words lie below
_BROAD_COEFFICIENTS = 8  # cepstral: what is finer is lent


def voiced_frames(log_mel: Tensor, voiced: Tensor) -> Tensor:
    """What of a clip can be lent: `(n_mels, frames)`, `(frames,)` -> `(kept, n_mels)`.

    The frames are sorted by loudness: a voice may be given away, and what was said is not to be
    read from the order.
    """
    frames = min(log_mel.shape[-1], len(voiced))
    kept = log_mel[:, :frames].T[voiced[:frames] > 0]
    return kept[kept.mean(dim=1).argsort()]


def thin_out(details: Tensor, count: int = MAX_FRAMES) -> Tensor:
    """At most `count` of the frames `(kept, n_mels)`, spread evenly."""
    if len(details) <= count:
        return details
    places = torch.linspace(0, len(details) - 1, count).round().long()
    return details[places]


def lend_details(log_mel: Tensor, voiced: Tensor, details: Tensor | None) -> Tensor:
    """Voiced frames with the fine structure of a reference in their upper bands.

    Every frame is judged by itself, so that a clip may come in pieces.

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
    nearest = distance.argmin(dim=-1)  # (B, T)
    n_mels = log_mel.shape[1]
    fine = (lent - broad_lent).gather(2, nearest[:, None].expand(-1, n_mels, -1))  # (B, n_mels, T)
    upper = torch.arange(n_mels, device=log_mel.device) >= _LOWEST_SHARE * n_mels
    changed = upper[:, None] & (voiced[:, None] > 0)
    return torch.where(changed, broad + fine, log_mel)

"""What an autoencoder loses of its source, given back in the other voice.

Rebuilt from its own content in its own voice, a clip is not quite itself. The voice was given, so
what is missing is words, most of all, and a conversion misses the same ones: three quarters of what
it loses are lost when no voice has changed yet. So the difference is added to it: as broad as
formants are, since harmonics follow another pitch there, and moved to where the formants of the new
voice lie. Added in full, it would make of the conversion a filter for the source (Kobayashi et al.
2014, "Statistical singing voice conversion with direct waveform modification based on the spectrum
differential"), which keeps much of its voice; so a share must do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vc.model.layers import smooth_bands
from vc.model.vocal_tract import bend

_COEFFICIENTS = 20  # cepstral: what is finer is harmonics
_VOICED_SHARE = 0.5  # of what unvoiced frames are given: these hardly know who speaks


class Source(NamedTuple):
    """A clip that is converted, or a part of it, and what is known of all of it."""

    log_mel: Tensor  # (batch, n_mels, frames)
    log_f0: Tensor  # (batch, frames), as it is spoken there
    speaker_embedding: Tensor  # (batch, embedding_dim)
    stretch: Tensor | None  # of its vocal tract, (batch, 3)
    said_stretch: Tensor | None = None  # the conversion's
    left: Tensor | None = None  # see `power_left`, if noise was taken out

    def frames(self, log_mel: Tensor, log_f0: Tensor, recorded: Tensor) -> Source:
        """Some frames of the same clip.

        Args:
            log_mel: `(batch, n_mels, frames)`.
            log_f0: `(batch, frames)`.
            recorded: as `log_mel`, before noise and echoes were taken out.
        """
        left = power_left(log_mel, recorded)
        return self._replace(log_mel=log_mel, log_f0=log_f0, left=left)


def residual(source: Source, rebuilt: Tensor, voiced: Tensor, share: float) -> Tensor:
    """What is to be added to a conversion.

    Args:
        source: what is converted.
        rebuilt: from its own latents, `(batch, n_mels, frames)`.
        voiced: `(batch, frames)`, 1.0 where voiced.
        share: of what is missing in unvoiced frames.

    Returns:
        `(batch, n_mels, frames)`.
    """
    missing = smooth_bands(source.log_mel - rebuilt, _COEFFICIENTS)
    if source.left is not None:
        missing = source.left * missing
    if source.stretch is not None and source.said_stretch is not None:
        missing = bend(missing, source.said_stretch - source.stretch)
    shares = torch.where(voiced > 0, share * _VOICED_SHARE, share)
    return shares.unsqueeze(1) * missing


def power_left(log_mel: Tensor, recorded: Tensor) -> Tensor:
    """Share of the power of each band that was left when noise and echoes were taken out.

    Where little was left, what is missing is rather echo or noise than words.

    Args:
        log_mel: without them, `(batch, n_mels, frames)`.
        recorded: with them, the same shape.
    """
    return (2 * (log_mel - recorded)).clamp(max=0).exp()

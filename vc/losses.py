"""Pure loss functions on waveforms, spectra and latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vc.model.layers import smooth_bands

STFT_SIZES = (256, 512, 1024, 2048)
_ENVELOPE_COEFFICIENTS = 14  # cepstral: formants, without harmonics
_VOICE_SCALE, _PICKING_SHARE = 12.0, 0.15  # of the softmax over cosines; beside the cosine


def stft_magnitude(waveform: Tensor, n_fft: int) -> Tensor:
    """Magnitude spectrum of `(batch, samples)`, hop a quarter of the window."""
    window = torch.hann_window(n_fft, device=waveform.device)
    spectrum = torch.stft(waveform, n_fft, n_fft // 4, window=window, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.sqrt(power + 1e-9)  # differentiable at silence


def multi_resolution_stft_loss(
    waveform: Tensor, target: Tensor, sizes: tuple[int, ...] = STFT_SIZES
) -> Tensor:
    """Log-magnitude distance plus spectral convergence over several windows.

    Yamamoto et al. 2020 (Parallel WaveGAN, arXiv:1910.11480).

    Args:
        waveform: `(batch, samples)`.
        target: `(batch, samples)`.
        sizes: window lengths in samples.
    """
    total = waveform.new_zeros(())
    for n_fft in sizes:
        predicted, wanted = stft_magnitude(waveform, n_fft), stft_magnitude(target, n_fft)
        log_distance = (predicted.log() - wanted.log()).abs().mean()
        difference = (predicted - wanted).flatten(1).norm(dim=1)
        convergence = (difference / wanted.flatten(1).norm(dim=1).clamp(min=1e-3)).mean()
        total = total + log_distance + convergence
    return total / len(sizes)


def contrastive_loss(
    content: Tensor, other: Tensor, temperature: float = 0.1, guard: int = 1
) -> Tensor:
    """Each frame must find itself in another version of the same clip (InfoNCE).

    van den Oord et al. 2018 (arXiv:1807.03748). All candidates come from one clip, hence from one
    speaker: knowing the speaker does not help, knowing the sound does.

    Args:
        content: `(batch, content_dim, content_frames)`.
        other: the same frames under another perturbation, or after a swap; same shape.
        temperature: of the softmax over cosine similarities.
        guard: neighbours on either side that do not count as wrong answers.
    """
    a = functional.normalize(content.float(), dim=1)
    b = functional.normalize(other.float(), dim=1)
    logits = a.transpose(1, 2) @ b / temperature  # (B, T, T)
    frames = torch.arange(logits.shape[-1], device=logits.device)
    distance = (frames[:, None] - frames[None, :]).abs()
    near = (distance > 0) & (distance <= guard)
    logits = logits.masked_fill(near, -1e4)
    targets = frames.expand(len(logits), -1)
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def ctc_loss(logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Connectionist temporal classification (Graves et al. 2006), a label.

    Args:
        logits: `(batch, 1 + labels, steps)`; the first is the blank.
        targets: all label sequences, one after the other.
        lengths: `(batch,)`, labels of each.
    """
    log_probabilities = logits.float().log_softmax(dim=1).permute(2, 0, 1)
    steps = torch.full((len(logits),), logits.shape[-1], dtype=torch.long)
    return functional.ctc_loss(log_probabilities, targets, steps, lengths, zero_infinity=True)


def pairing_loss(first: Tensor, second: Tensor, labels: Tensor, scale: float = 16.0) -> Tensor:
    """Two pieces of each speaker must find each other (InfoNCE, both ways).

    Args:
        first: unit vectors of one piece of each speaker, `(batch, speaker_dim)`.
        second: of another, in the same order.
        labels: `(batch,)`; a speaker who was drawn twice is no wrong answer.
        scale: of the softmax over cosines.
    """
    cosines = scale * first.float() @ second.float().T
    own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    again = (labels[:, None] == labels) & ~own
    cosines = cosines.masked_fill(again, -1e4)
    right = torch.arange(len(labels), device=labels.device)
    return (
        functional.cross_entropy(cosines, right) + functional.cross_entropy(cosines.T, right)
    ) / 2


def mistaken_voice_loss(heard: Tensor, wanted: Tensor, source: Tensor) -> Tensor:
    """A swap must sound like its reference, and not like its source or another reference.

    1 - cosine, and a small share of the cross-entropy of picking the right voice.

    Args:
        heard: unit vectors of swapped clips, `(batch, speaker_dim)`.
        wanted: of their references, in the same order.
        source: of their sources.
    """
    to_source = (heard * source).sum(dim=-1, keepdim=True)
    cosines = torch.cat([heard @ wanted.T, to_source], dim=-1)
    right = torch.arange(len(heard), device=heard.device)
    picking = functional.cross_entropy(_VOICE_SCALE * cosines, right)
    return 1 - (heard * wanted).sum(dim=-1).mean() + _PICKING_SHARE * picking


def mistaken_phones_loss(heard: Tensor, said: Tensor) -> Tensor:
    """Kullback-Leibler divergence of phones heard from phones said, nats a step.

    Args:
        heard: logits `(batch, 1 + phones, steps)` of a swapped clip.
        said: logits of its source.
    """
    said, heard = (x.float().log_softmax(dim=1) for x in (said, heard))
    return (said.exp() * (said - heard)).sum(dim=1).mean()


def margin_softmax_loss(
    cosines: Tensor, labels: Tensor, margin: float = 0.15, scale: float = 24.0
) -> Tensor:
    """Classification with an additive cosine margin (CosFace, Wang et al. 2018, arXiv:1801.09414).

    Args:
        cosines: `(batch, classes)` between unit embeddings and unit class vectors.
        labels: `(batch,)`.
        margin: taken off the right class's cosine.
        scale: of the softmax.
    """
    right = functional.one_hot(labels, cosines.shape[1]).to(cosines.dtype)
    return functional.cross_entropy(scale * (cosines - margin * right), labels)


def envelope_loss(difference: Tensor) -> Tensor:
    """Mean distance of the broad shapes of mels, given their difference `(batch, n_mels, frames)`.

    Most of a distance between mels is harmonics and chance; here formants count for more.
    """
    return smooth_bands(difference, _ENVELOPE_COEFFICIENTS).abs().mean()

"""The model's parts in operations that every runtime has: real numbers and convolutions.

ONNX has no complex numbers and no inverse short-time transform. Both transforms are linear, so they
are convolutions here, with the windowed cosines and sines as filters: one forwards, one transposed.
What the networks themselves compute is not written a second time; each module wraps one of them.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan  # torch's only loop that becomes one in ONNX
from torch.nn import functional

from vc.config import FeatureConfig
from vc.features import LogMel
from vc.model.autoencoder import Autoencoder
from vc.pitch import (
    OCTAVE_JUMP_COST,
    VOICING_COST,
    Candidates,
    cost_scale,
    pitch_candidates,
    steps_a_frame,
)
from vc.vocoder.excitation import pulse_train, upsample_log_f0
from vc.vocoder.source_filter import SourceFilterVocoder
from vc.vocoder.temporal_envelope import TemporalEnvelope


class RealSTFT(nn.Module):
    """`torch.stft` and `torch.istft` of centred frames, with real and imaginary parts apart.

    Args:
        window: `(n_fft,)`.
        hop_length: samples between frames.
    """

    def __init__(self, window: Tensor, hop_length: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length = len(window), hop_length
        bins = self.n_fft // 2 + 1
        turns = torch.arange(bins)[:, None] * torch.arange(self.n_fft) % self.n_fft / self.n_fft
        angle = 2 * math.pi * turns.double()
        waves = torch.cat([angle.cos(), -angle.sin()]) * window.double()  # (2 * bins, n_fft)
        # all bins but the first and the last stand for two of the full spectrum
        share = torch.full((bins, 1), 2 / self.n_fft)
        share[0] = share[-1] = 1 / self.n_fft
        self.register_buffer("analysis", waves[:, None].float())
        self.register_buffer("synthesis", (waves * share.repeat(2, 1))[:, None].float())
        self.register_buffer("squared_window", window.square()[None, None])

    def forward(self, signal: Tensor, pad_mode: str = "constant") -> tuple[Tensor, Tensor]:
        """`(batch, samples)` -> real and imaginary part, each `(batch, bins, frames)`."""
        half = self.n_fft // 2
        padded = functional.pad(signal[:, None], (half, half), mode=pad_mode)
        spectrum = functional.conv1d(padded, self.get_buffer("analysis"), stride=self.hop_length)
        real, imaginary = spectrum.chunk(2, dim=1)
        return real, imaginary

    def inverse(self, real: Tensor, imaginary: Tensor, samples: int) -> Tensor:
        """Overlap and add `(batch, bins, frames)` twice to `(batch, samples)`."""
        spectrum = torch.cat([real, imaginary], dim=1)
        signal = self._overlap_add(spectrum, self.get_buffer("synthesis"))
        overlap = self._overlap_add(
            torch.ones_like(real[:1, :1]), self.get_buffer("squared_window")
        )
        kept = slice(self.n_fft // 2, self.n_fft // 2 + samples)
        return signal[:, 0, kept] / overlap[:, 0, kept]

    def _overlap_add(self, frames: Tensor, shapes: Tensor) -> Tensor:
        return functional.conv_transpose1d(frames, shapes, stride=self.hop_length)


class ExportableLogMel(nn.Module):
    """`LogMel` with its spectrum in real numbers."""

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        self.config = log_mel.config
        before = (self.config.n_fft - self.config.win_length) // 2
        after = self.config.n_fft - self.config.win_length - before
        window = functional.pad(log_mel.get_buffer("window"), (before, after))
        self.transform = RealSTFT(window, self.config.hop_length)
        self.register_buffer("filterbank", log_mel.get_buffer("filterbank"))

    def forward(self, waveform: Tensor) -> Tensor:
        """`(batch, samples)`, more than half a window -> `(batch, n_mels, frames)`."""
        real, imaginary = self.transform(waveform, "reflect")
        mel = self.get_buffer("filterbank") @ (real.square() + imaginary.square()).sqrt()
        return mel.clamp(min=self.config.log_floor).log()


class ExportableFeatures(nn.Module):
    """`LogMel` and `estimate_f0` of clips at the model's rate and level.

    Args:
        log_mel: the features to compute.
    """

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        self.config = log_mel.config
        self.log_mel = ExportableLogMel(log_mel)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, samples)` -> log-mel `(batch, n_mels, frames)` and F0 `(batch, frames)` in Hz.

        More samples than half a window are needed.
        """
        f0 = best_f0(pitch_candidates(waveform, self.config), self.config)
        return self.log_mel(waveform), f0[:, :: steps_a_frame(self.config)]


def best_f0(candidates: Candidates, config: FeatureConfig) -> Tensor:
    """`(batch, steps)`: the path that `estimate_f0` takes, found by two scans.

    The first goes forwards and keeps, for each candidate of a step, the best one of the step
    before; the second follows these back from the end.
    """
    f0, strength = (x.transpose(0, 1).contiguous().double() for x in candidates)  # (T, B, K)
    voiced = f0 > 0
    log_f0 = torch.where(voiced, f0, 1.0).log2()
    scale = cost_scale(config)

    def forwards(total: Tensor, frame: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        voiced_before, before, voiced_after, after, strength = frame  # (B, K) each
        jump = OCTAVE_JUMP_COST * (before[:, :, None] - after[:, None]).abs()
        changes = voiced_before[:, :, None] ^ voiced_after[:, None]
        both = voiced_before[:, :, None] & voiced_after[:, None]
        cost = scale * torch.where(both, jump, VOICING_COST * changes)
        reached, arrived = (total[:, :, None] - cost).max(dim=1)
        return reached + strength, arrived

    def backwards(place: Tensor, arrived: Tensor) -> tuple[Tensor, Tensor]:
        place = arrived.gather(1, place)
        return place, place.clone()

    pairs = (voiced[:-1], log_f0[:-1], voiced[1:], log_f0[1:], strength[1:])
    total, arrived = scan(forwards, strength[0], pairs)
    last = total.argmax(dim=1, keepdim=True)
    _, path = scan(backwards, last, arrived, reverse=True)
    path = torch.cat([path, last[None]])  # (T, B, 1)
    return f0.gather(2, path)[..., 0].transpose(0, 1).float()


class ExportableContentEncoder(nn.Module):
    """Log-mel `(batch, n_mels, frames)` -> content `(batch, content_dim, content_frames)`."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, log_mel: Tensor) -> Tensor:
        """See the class."""
        return self.autoencoder.encode_content(log_mel)


class ExportableSpeakerEncoder(nn.Module):
    """Log-mel `(batch, n_mels, frames)` -> speaker embedding `(batch, embedding_dim)`."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, log_mel: Tensor) -> Tensor:
        """See the class."""
        return self.autoencoder.encode_speaker(log_mel)


class ExportableDecoder(nn.Module):
    """Content, speaker embedding, details, pitch, source -> the log-mel for the vocoder.

    All of a clip is rehearsed: a graph for clips of any length cannot tell where a minute ends.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = copy.copy(autoencoder)
        self.autoencoder.heard_frames = None

    def forward(
        self,
        content: Tensor,
        speaker_embedding: Tensor,
        details: Tensor,
        log_f0: Tensor,
        voiced: Tensor,
        source_log_mel: Tensor,
        source_log_f0: Tensor,
    ) -> Tensor:
        """See `Autoencoder.rehearse` and `Autoencoder.say`."""
        model = self.autoencoder
        asked = model.rehearse(content, speaker_embedding, log_f0, voiced)
        source = model.listen_to_source(source_log_mel, source_log_f0)
        return model.say(content, asked, log_f0, voiced, details, source)


class ExportableVocoder(nn.Module):
    """`SourceFilterVocoder` with its products of spectra written out in real numbers."""

    def __init__(self, vocoder: SourceFilterVocoder) -> None:
        super().__init__()
        self.vocoder = vocoder
        self.transform = RealSTFT(vocoder.get_buffer("window"), vocoder.config.filter_hop)
        if vocoder.config.corrections:
            self.log_mel = ExportableLogMel(vocoder.log_mel)

    def forward(self, log_mel: Tensor, log_f0: Tensor, voiced: Tensor, noise: Tensor) -> Tensor:
        """See `SourceFilterVocoder.forward`; mels are decoded ones."""
        config = self.vocoder.config
        filters = self.vocoder.filters(log_mel, log_f0, voiced, decoded=True)
        filters = self.vocoder.steady(filters)
        samples = log_mel.shape[-1] * config.hop_length
        f0 = upsample_log_f0(log_f0, config.hop_length, samples).exp()
        pulse_gain = filters.pulse.exp() / config.n_fft**0.5
        noise_gain = filters.noise.exp() / config.n_fft**0.5
        pulse_real, pulse_imaginary = self._spectrum(pulse_train(f0, config.sample_rate))
        noise_real, noise_imaginary = self._spectrum(noise)
        cosine, sine = pulse_gain * filters.phase.cos(), pulse_gain * filters.phase.sin()
        real = pulse_real * cosine - pulse_imaginary * sine + noise_real * noise_gain
        imaginary = pulse_real * sine + pulse_imaginary * cosine + noise_imaginary * noise_gain
        waveform = self.transform.inverse(real, imaginary, samples)
        for _ in range(config.corrections):
            heard = self.log_mel(waveform)[..., : log_mel.shape[-1]]
            gain = self.vocoder.correction(log_mel, heard, filters.shares)
            real, imaginary = real * gain, imaginary * gain
            waveform = self.transform.inverse(real, imaginary, samples)
        return waveform

    def _spectrum(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        real, imaginary = self.transform(signal)
        return real[..., :-1], imaginary[..., :-1]  # one column for each filter


class ExportableTemporalEnvelope(nn.Module):
    """`TemporalEnvelope` with its spectra in real numbers."""

    def __init__(self, envelope: TemporalEnvelope) -> None:
        super().__init__()
        self.envelope = envelope
        self.transform = RealSTFT(envelope.get_buffer("window"), envelope.hop_length)

    def forward(self, spoken: Tensor, source: Tensor) -> Tensor:
        """See `TemporalEnvelope.forward`."""
        parts = self.transform(spoken), self.transform(source)
        powers = (real.square() + imaginary.square() for real, imaginary in parts)
        gain = self.envelope.gain(*powers)
        real, imaginary = parts[0]
        return self.transform.inverse(real * gain, imaginary * gain, spoken.shape[-1])

"""The neural vocoder: a network shapes a pulse train and white noise into speech.

Periodicity is given (the pulse train follows F0), so only spectral envelopes and their phase are
learnt. That is the source-filter idea of Fant (1960), with learnt filters as in neural
source-filter models (Wang et al. 2019, arXiv:1904.12088) and harmonic-plus-noise synthesis (DDSP,
Engel et al. 2020, arXiv:2001.04643), and, as in Vocos (Siuzdak 2023, arXiv:2306.00814), a ConvNeXt
trunk at frame rate whose only way back to samples is one inverse STFT. What comes out is heard
again: see `vc.vocoder.correction`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vc.config import FeatureConfig, VocoderConfig
from vc.features import LogMel, mel_filterbank
from vc.model.layers import ChannelNorm, ConvNeXtBlock
from vc.vocoder.correction import RUMBLE_FRAMES, MelCorrection, Shares
from vc.vocoder.excitation import pulse_train, upsample_log_f0
from vc.vocoder.frame_pattern import CONTEXT as PATTERN_CONTEXT
from vc.vocoder.frame_pattern import weaken_frame_pattern

_LOG_F0_CENTRE, _LOG_F0_SCALE = 5.0, 0.5  # 148 Hz and about nine semitones
_LOG_GAIN_LIMIT = 6.0
_SILENT_DB = -60.0


class Filters(NamedTuple):
    """What the trunk says of a clip."""

    pulse: Tensor  # log-magnitude for pulses, `(batch, bins, frames * steps_per_frame)`
    noise: Tensor  # for noise, alike
    phase: Tensor  # for pulses, in radians, alike
    steadied: Tensor | None  # frames of decoded mels that `steady` is for, `(batch, frames)`
    shares: Shares | None  # that corrections give back; with corrections only


class SourceFilterVocoder(nn.Module):
    """Log-mel, log-F0 and voicing -> waveform.

    The trunk sees mel frames and predicts, for every `filter_hop` samples, the log-magnitudes of
    a filter for the pulse train and of one for noise, and the phase of the former. Magnitudes are
    corrections to an envelope that the mel itself gives (through the filterbank's pseudo-inverse),
    so that an untrained vocoder already whispers the right spectrum.
    """

    def __init__(self, config: VocoderConfig, features: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.bins = config.n_fft // 2 + 1
        self.steps_per_frame = config.hop_length // config.filter_hop
        self.embed = nn.Conv1d(
            config.n_mels + 2, config.width, config.kernel_size, padding=config.kernel_size // 2
        )
        self.embed_norm = ChannelNorm(config.width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.width, config.expansion, config.kernel_size)
            for _ in range(config.blocks)
        )
        self.head_norm = ChannelNorm(config.width)
        self.head = nn.Linear(config.width, self.steps_per_frame * 3 * self.bins)
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        pinv = torch.linalg.pinv(mel_filterbank(features))  # (n_fft_mel / 2 + 1, n_mels)
        stride = features.n_fft // config.n_fft
        self.register_buffer("mel_inverse", pinv[::stride].contiguous(), persistent=False)
        self.trust: nn.Linear | None = None
        if config.corrections:
            self.trust = nn.Linear(config.width, config.n_mels)
            nn.init.normal_(self.trust.weight, std=1e-3)
            nn.init.zeros_(self.trust.bias)
            self.log_mel = LogMel(features)
            self.correction = MelCorrection(features, self.bins, self.steps_per_frame)

    @property
    def context(self) -> int:
        """Frames on either side that what is synthesised depends on."""
        config = self.config
        return (config.blocks + 1) * (config.kernel_size // 2) + self.filter_context

    @property
    def filter_context(self) -> int:
        """The same once the filters are known."""
        config = self.config
        spread = -(-config.n_fft // config.hop_length) + 1  # of the inverse transform
        heard = -(-self.features.n_fft // (2 * config.hop_length)) + 1
        slow = RUMBLE_FRAMES // 2 if config.rumble_hz else 0
        return PATTERN_CONTEXT + spread + config.corrections * (heard + slow + spread)

    def filters(
        self, log_mel: Tensor, log_f0: Tensor, voiced: Tensor, decoded: bool = False
    ) -> Filters:
        """Predict the filters of `(batch, n_mels, frames)` and pitch `(batch, frames)`.

        The trunk takes what a mel does not say for breath, so noise is turned down a little where
        it is voiced (`clarity_*`). `decoded` mels say less than true ones: voiced sounds would come
        out hoarse, and their pitch hard to follow. They have no noise below `breath_from_hz`, are
        corrected by less there (harmonics are clean already, and a gain that follows the mel blurs
        them), and by more above it (a gain is smeared over the window of the filters, so a single
        step falls short).
        """
        pitch = torch.stack([(log_f0 - _LOG_F0_CENTRE) / _LOG_F0_SCALE, voiced], dim=1)
        x = self.embed_norm(self.embed(torch.cat([log_mel, pitch], dim=1)))
        for block in self.blocks:
            x = block(x)
        x = self.head_norm(x).transpose(1, 2)
        y = self.head(x).float()  # (B, T, steps * 3 * bins)
        batch, frames, _ = y.shape
        y = y.reshape(batch, frames * self.steps_per_frame, 3, self.bins).permute(2, 0, 3, 1)
        envelope = (self.get_buffer("mel_inverse") @ log_mel.float().exp()).clamp(min=1e-5).log()
        envelope = _hold(envelope, self.steps_per_frame)
        pulse, noise = envelope + y[0], envelope + y[1]
        config = self.config
        held = _hold(voiced, self.steps_per_frame).unsqueeze(1)
        if not self.training:
            pulse = pulse + held * self._below(config.clarity_hz, config.clarity_pulse_db)
            noise = noise + held * self._below(config.clarity_hz, config.clarity_noise_db)
        if decoded:
            noise = noise + held * self._below(config.breath_from_hz, _SILENT_DB)
        is_mended = decoded and not self.training
        shares = None
        if self.trust is not None:
            trust = self.trust(x).float().sigmoid().transpose(1, 2)
            shares = self._shares_of_decoded(trust) if is_mended else Shares(trust, trust)
        pulse, noise = (x.clamp(max=_LOG_GAIN_LIMIT) for x in (pulse, noise))
        return Filters(pulse, noise, y[2], voiced if is_mended else None, shares)

    def steady(self, filters: Filters) -> Filters:
        """Filters with less of what repeats in those for pulses from frame to frame.

        Those of true mels keep it: copies are a little less like the recording without.
        """
        if filters.steadied is None:
            return filters
        pulse, phase = (
            weaken_frame_pattern(x, filters.steadied, self.steps_per_frame)
            for x in (filters.pulse, filters.phase)
        )
        return filters._replace(pulse=pulse, phase=phase)

    def _shares_of_decoded(self, trust: Tensor) -> Shares:
        """How far the network's trust in a mel, `(batch, n_mels, frames)`, holds for decoded ones.

        Pulses have nothing below F0, where a mel has what the room of the reference has. So that
        is not heard in pauses alone, some of it is given back while somebody speaks.
        """
        config = self.config
        centres = self.correction.get_buffer("centres")[:, None]
        low = centres < config.breath_from_hz
        at_once = trust * torch.where(low, config.correction_below, config.correction_above)
        rumble = centres < config.rumble_hz
        return Shares(at_once, torch.where(rumble, trust * config.correction_rumble, at_once))

    def _below(self, limit_hz: float, gain_db: float) -> Tensor:
        """A log-gain up to `limit_hz`, none above, `(bins, 1)`."""
        hertz = torch.linspace(0, self.config.sample_rate / 2, self.bins)[:, None]
        log_gain = gain_db * math.log(10) / 20 * (hertz < limit_hz)
        return log_gain.to(self.get_buffer("window").device)

    def forward(
        self,
        log_mel: Tensor,
        log_f0: Tensor,
        voiced: Tensor,
        noise: Tensor | None = None,
        start_cycles: float = 0.0,
        decoded: bool = False,
    ) -> Tensor:
        """Synthesise.

        Args:
            log_mel: `(batch, n_mels, frames)`.
            log_f0: `(batch, frames)`, natural log of Hz, interpolated through unvoiced frames.
            voiced: `(batch, frames)`, 1.0 where voiced.
            noise: white noise of unit variance, `(batch, frames * hop_length)`; drawn from the
                default generator if not given.
            start_cycles: periods of F0 that went before, where this continues a clip.
            decoded: whether the mels were made by a decoder, not measured; see `filters`.

        Returns:
            Waveform `(batch, frames * hop_length)`.
        """
        filters = self.filters(log_mel, log_f0, voiced, decoded)
        return self.speak(filters, log_mel, log_f0, noise, start_cycles)

    def speak(
        self,
        filters: Filters,
        log_mel: Tensor,
        log_f0: Tensor,
        noise: Tensor | None = None,
        start_cycles: float = 0.0,
    ) -> Tensor:
        """`forward` once the filters are known."""
        config = self.config
        filters = self.steady(filters)
        samples = log_mel.shape[-1] * config.hop_length
        f0 = upsample_log_f0(log_f0.float(), config.hop_length, samples).exp()
        pulses = self._stft(pulse_train(f0, config.sample_rate, start_cycles))
        if noise is None:
            noise = torch.randn(f0.shape, device=f0.device)
        spectrum = pulses * torch.polar(filters.pulse.exp(), filters.phase)
        spectrum = spectrum + self._stft(noise) * filters.noise.exp()
        waveform = self._istft(spectrum, samples)
        for _ in range(config.corrections):
            heard = self.log_mel(waveform)[..., : log_mel.shape[-1]]
            spectrum = spectrum * self.correction(log_mel, heard, filters.shares)
            waveform = self._istft(spectrum, samples)
        return waveform

    def _stft(self, signal: Tensor) -> Tensor:
        """Spectrum of an excitation, one column for each filter."""
        spectrum = torch.stft(
            signal,
            self.config.n_fft,
            self.config.filter_hop,
            window=self.get_buffer("window"),
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum[..., :-1] / self.config.n_fft**0.5

    def _istft(self, spectrum: Tensor, samples: int) -> Tensor:
        return torch.istft(
            spectrum,
            self.config.n_fft,
            self.config.filter_hop,
            window=self.get_buffer("window"),
            length=samples,
        )


def _hold(x: Tensor, steps: int) -> Tensor:
    """Repeat each frame of `(..., frames)`; `repeat_interleave`, in a form that can be exported."""
    return x.unsqueeze(-1).expand(*x.shape, steps).flatten(-2)

"""Samples of a clip that goes on: phase, noise and filters go on from step to step."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vc.audio import Waveform
from vc.model.stepwise import Past, stepwise
from vc.streaming.steps import STEP
from vc.vocoder.correction import Shares
from vc.vocoder.excitation import WhiteNoise, periods
from vc.vocoder.source_filter import Filters, SourceFilterVocoder

FADE = 128  # samples over which one step's end goes over into the next one's beginning


class StepwiseVocoder:
    """`SourceFilterVocoder.forward`, and some frames of the past beside those of a step.

    Args:
        vocoder: of the stream.
    """

    def __init__(self, vocoder: SourceFilterVocoder) -> None:
        self.vocoder = stepwise(vocoder, STEP)
        kept = self.kept = vocoder.filter_context
        self._log_mel, self._log_f0, self._voiced = (Past(kept, STEP) for _ in range(3))
        self._shares = [Past(kept, STEP) for _ in Shares._fields]
        self._columns = [Past(kept * vocoder.steps_per_frame, STEP) for _ in range(3)]
        self._noise = WhiteNoise(vocoder.features.hop_length)
        self._done = 0  # frames given for the last time
        self._cycles = 0.0  # periods of F0 in these

    def __call__(self, log_mel: Tensor, log_f0: Tensor, voiced: Tensor) -> Waveform:
        """The samples of a step, and those of some frames before it.

        Args:
            log_mel: `(1, n_mels, frames)`.
            log_f0: `(1, frames)`, natural log of Hz.
            voiced: `(1, frames)`, 1.0 where voiced.
        """
        features, frames = self.vocoder.features, log_mel.shape[-1]
        filters = self._filters(log_mel, log_f0, voiced)
        log_mel, log_f0 = self._log_mel.join(log_mel), self._log_f0.join(log_f0)
        before = log_mel.shape[-1] - frames
        begun = self._cycles - periods(log_f0[:, : before + 1], features)
        noise = self._noise.read(self._done - before, self._done + frames).to(log_mel.device)
        spoken = self.vocoder.speak(filters, log_mel, log_f0, noise, begun)
        new = periods(log_f0[:, before : before + STEP.new + 1], features)
        self._cycles = (self._cycles + new) % 1.0
        self._done += STEP.new
        return spoken[0].float().cpu().numpy()

    def _filters(self, log_mel: Tensor, log_f0: Tensor, voiced: Tensor) -> Filters:
        """Those of the step, behind those that what comes out still depends on."""
        *columns, _, shares = self.vocoder.filters(log_mel, log_f0, voiced, decoded=True)
        pulse, noise, phase = (past.join(x) for past, x in zip(self._columns, columns, strict=True))
        if shares is not None:
            shares = Shares(*(past.join(x) for past, x in zip(self._shares, shares, strict=True)))
        return Filters(pulse, noise, phase, self._voiced.join(voiced), shares)


class Seam:
    """Steps one after the other, at the source's level; each goes over into the next."""

    def __init__(self) -> None:
        self._overlap = np.zeros(0, np.float32)
        self._gain: float | None = None

    def join(self, samples: Waveform, length: int, gain: float) -> Waveform:
        """The samples that are given out.

        Args:
            samples: of a step, `(length + FADE,)`, and of what is made anew in the next one.
            length: of what is given out.
            gain: that the source was brought to the model's level by; taken back, gradually.
        """
        faded = len(self._overlap)
        if faded:
            rise = (np.arange(faded, dtype=np.float32) + 0.5) / faded
            samples[:faded] = rise * samples[:faded] + (1 - rise) * self._overlap
        self._overlap = samples[length:]
        gains = np.linspace(self._gain or gain, gain, length, dtype=np.float32)
        self._gain = gain
        return np.clip(samples[:length] / gains, -1.0, 1.0)

"""From the samples of somebody who speaks to frames of mel and F0, as soon as they can be known.

As in whole clips, the pitch is read from what is left when noise is taken out.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vc.audio import Waveform, frame_levels_db, gated_level_db, level_frame, unusual_offset
from vc.convert import Converter
from vc.denoise import turned_down
from vc.model.stepwise import Past
from vc.pitch import Candidates, best_path, join_candidates, pitch_candidates, steps_a_frame
from vc.streaming.denoiser import StepwiseDenoiser
from vc.streaming.steps import MEMORY_S, STEP

_F0_CONTEXT_S = 0.7  # the F0 track's best path begins so long ago
_OVERLAP = 4  # frames whose windows reach into those after them
_USUAL_LEVEL_S = 0.2  # how much the model's own level counts for
_QUIETEST_DB = -55.0  # what is below cannot be told from a microphone's noise
_SPEECH_DB = 35.0  # so far below active speech, a block still belongs to it
_PAUSE_S = 0.5  # silence that belongs to speech
_MAX_GAIN_DB = 30.0
_SMALLEST_PEAK = 0.02
_OFFSET_S = 2.0  # in which a sound card's constant offset is learnt


class Heard(NamedTuple):
    """Some frames."""

    log_mel: Tensor  # (1, n_mels, frames)
    quiet: Tensor  # the same without its noise, if the model can take it out
    f0: Waveform  # (frames,) in Hz, 0 where unvoiced
    is_speech: bool  # or a short pause in it
    gain: float  # that brought the samples to the model's level


class Ear:
    """Samples -> frames, at a level that follows the speaker's.

    Args:
        converter: whose features.
        kept: how many frames before the last ones asked for can have their samples asked for.
    """

    def __init__(self, converter: Converter, kept: int) -> None:
        self.converter = converter
        self.features = converter.features
        # how far candidates of F0 look, from the middle of a frame's last step
        rate, hop = self.features.sample_rate, self.features.hop_length
        self._longest = math.ceil(rate / self.features.f0_min) + hop // 2 + 4
        self._kept = kept
        self._samples = np.zeros(0, np.float32)  # those still needed
        self._first = 0  # frame that lies at the first of them
        self._levels: deque[float] = deque(maxlen=round(MEMORY_S * 100))
        self._unmeasured = np.zeros(0, np.float32)
        self._peak = _SMALLEST_PEAK
        self._offset = 0.0
        self._silent_s = math.inf
        denoiser = converter.denoiser
        self._denoise = None if denoiser is None else StepwiseDenoiser(denoiser)
        self._gains = Past(_OVERLAP, STEP)
        self._spectrum = Past(_OVERLAP, STEP)
        self._ahead = torch.zeros(1, self.features.n_fft // 2 + 1, 0)  # spectrum, to come again
        self._high = 0  # frames of which it is known
        self._candidates: Candidates | None = None  # of F0, in frames that will not come again

    def listen(self, waveform: Waveform) -> None:
        """Take the next samples."""
        rate = self.features.sample_rate
        learnt = min(1.0, len(waveform) / rate / _OFFSET_S)
        self._offset += learnt * (float(waveform.mean()) - self._offset)
        level_db = self.level_db
        offset = unusual_offset(self._offset, deviation=10 ** (level_db / 20))
        waveform = waveform - np.float32(offset)
        self._samples = np.concatenate([self._samples, waveform])
        fading = 0.5 ** (len(waveform) / rate / MEMORY_S)
        loudest = float(np.abs(waveform).max(initial=0.0))
        self._peak = max(self._peak * fading, loudest, _SMALLEST_PEAK)
        self._unmeasured = np.concatenate([self._unmeasured, waveform])
        length, hop = level_frame(rate)
        count = (len(self._unmeasured) - length) // hop + 1
        if count > 0:
            levels = frame_levels_db(self._unmeasured, rate)
            self._unmeasured = self._unmeasured[count * hop :]
            speech_db = max(level_db - _SPEECH_DB, _QUIETEST_DB)
            for level in levels:
                self._silent_s = 0.0 if level > speech_db else self._silent_s + hop / rate
                if level > _QUIETEST_DB:
                    self._levels.append(float(level))

    @property
    def level_db(self) -> float:
        """Of active speech so far, in dBFS."""
        usual = self.features.level_db
        if not self._levels:
            return usual
        heard = gated_level_db(np.array(self._levels))
        seconds = len(self._levels) / 100
        mean = (seconds * heard + _USUAL_LEVEL_S * usual) / (seconds + _USUAL_LEVEL_S)
        return float(np.clip(mean, usual - _MAX_GAIN_DB, usual + _MAX_GAIN_DB))

    def forget_level(self) -> None:
        """What comes next may be louder or quieter."""
        self._levels.clear()
        self._peak = _SMALLEST_PEAK

    @property
    def frames(self) -> int:
        """How many frames can be computed: those whose whole window was heard."""
        hop, window = self.features.hop_length, self.features.n_fft // 2
        samples = self._first * hop + len(self._samples)
        return max(0, (samples - window) // hop + 1)

    def waveform(self, low: int, high: int, gain: float) -> Waveform:
        """The samples of frames `low` to `high`, none of them forgotten yet; silence before all."""
        hop = self.features.hop_length
        before = max(0, self._first - low)
        samples = self._samples[max(0, low - self._first) * hop : (high - self._first) * hop]
        return np.pad(samples, (before * hop, 0)) * np.float32(gain)

    def frames_from(self, low: int) -> Heard:
        """The frames of a step from `low` on; steps come one after the other."""
        high = low + STEP.frames
        gain = 10 ** ((self.features.level_db - self.level_db) / 20)
        new = self._new_spectrum(self._high, high, gain).to(self.converter.device)
        spectrum = torch.cat([self._ahead.to(new), new], dim=-1)
        self._ahead, self._high = spectrum[..., STEP.new :], high
        log_mel = self.converter.log_mel.of_spectrum(spectrum)
        log_gain = torch.zeros_like(log_mel) if self._denoise is None else self._denoise(log_mel)
        quiet = log_mel + log_gain
        spectrum, log_gain = self._spectrum.join(spectrum), self._gains.join(log_gain)
        # the last frames have no others behind them: where their windows end nothing can be told
        samples = (spectrum.shape[-1] - 1) * self.features.hop_length + self._longest
        cleaned = turned_down(spectrum, log_gain, self.converter.log_mel, samples)
        f0 = self._f0(cleaned, spectrum.shape[-1] - STEP.frames, self._peak * gain)
        first = max(self._first, low - self._kept)
        self._samples = self._samples[(first - self._first) * self.features.hop_length :]
        self._first = first
        return Heard(log_mel, quiet, f0, self._silent_s < _PAUSE_S, gain)

    def _new_spectrum(self, low: int, high: int, gain: float) -> Tensor:
        """Spectrum of frames `low` to `high`, each computed once."""
        reach = -(-self.features.n_fft // (2 * self.features.hop_length))
        samples = self.waveform(low - reach, high - 1 + reach, gain)
        signal = torch.from_numpy(samples)[None].to(self.converter.device)
        return self.converter.log_mel.spectrum(signal)[..., reach : reach + high - low]

    def _f0(self, waveform: Tensor, before: int, peak: float) -> Waveform:
        """F0 of the frames of a step, `(frames,)` in Hz: the end of the best path so far.

        Args:
            waveform: `(1, samples)`, of these frames and of some before them.
            before: how many.
            peak: of all that was heard.
        """
        steps = steps_a_frame(self.features)
        found = pitch_candidates(waveform.cpu(), self.features, peak)
        found = _between(found, before * steps, (before + STEP.frames) * steps)
        path = found if self._candidates is None else join_candidates([self._candidates, found])
        context = round(_F0_CONTEXT_S * self.features.frame_rate) * steps
        end = path.f0.shape[1] - STEP.ahead * steps
        self._candidates = _between(path, max(0, end - context), end)
        return best_path(path, self.features)[-STEP.frames :]


def _between(candidates: Candidates, first: int, last: int) -> Candidates:
    """Those of some steps."""
    return Candidates(*(part[:, first:last] for part in candidates))

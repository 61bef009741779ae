"""What a person should know of a clip before converting it, in plain words.

`vc.audio.check_speech` refuses what cannot be converted at all; here, too, is what can be converted
but will not sound good. These are the cheap signs; `Converter.check` asks the model as well (see
`vc.anomaly`), and the page, `vc batch` and `vc check` all say what it says.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from vc.audio import (
    MIN_REFERENCE_S,
    MIN_SPEECH_S,
    Audio,
    Waveform,
    active_level_db,
    check_speech,
    frame_levels_db,
    level_frame,
    resample,
)
from vc.config import FeatureConfig
from vc.errors import AudioError
from vc.pitch import estimate_f0

GOOD_REFERENCE_S = 3.0  # speech; a shorter reference makes a voice less like its speaker's
LONG_S = 120.0
QUIET_DB = -50.0  # dBFS of active speech
CLIPPED_SHARE = 0.0005  # of samples, in runs at full deflection
NOISY_SNR_DB = 10.0
VOICED_SHARE = 0.15  # of the loud frames; speech has 0.4 to 0.9
STEADY_LOG_F0 = 0.006  # spread (a tenth of a semitone) below which a pitch is a tone, not a voice

NOT_SPEECH = "This does not sound like speech; the result will not be speech either."
STRANGE = {  # what the model finds strange, as `vc.anomaly` calls it
    "tones": "This is a synthetic tone, not speech; the result will not be speech either.",
    "noise": "This sounds like noise, not speech; the result will not be speech either.",
    "music": "This sounds like music, not speech; the result will not be speech either.",
    "reversed": "This sounds like speech played backwards; reverse the file.",
    "telephone": "This sounds like a telephone: there is nothing above 4 kHz; "
    "a wider recording converts better.",
    "fast": "This sounds as if played too fast; does the file name a wrong sample rate?",
    "slow": "This sounds as if played too slowly; does the file name a wrong sample rate?",
    "unlike the known speech": "This is unlike the speech that the model knows; "
    "the result may be odd.",
}
NO_SPEECH_KINDS = frozenset({"tones", "noise", "music"})

_LOOKED_AT_S = 30.0  # of a long clip, its middle, for what is costly to measure
_NOISE_QUANTILE = 0.1


class Problem(NamedTuple):
    """Something wrong with a clip."""

    message: str
    blocking: bool  # it cannot be converted at all


def check_clip(
    audio: Audio, role: str = "source", features: FeatureConfig | None = None
) -> list[Problem]:
    """What is wrong with a clip, the worst first; empty if nothing is.

    Args:
        audio: the clip.
        role: "source" or "reference", of which more is needed.
        features: pitch range and rate to look with.
    """
    features = features or FeatureConfig()
    try:
        check_speech(audio, "This clip", MIN_SPEECH_S if role == "source" else MIN_REFERENCE_S)
    except AudioError as error:
        message = re.sub(r"^This clip: only (\S+ s long)", r"This clip is only \1", str(error))
        return [Problem(message.replace("This clip: is", "This clip is"), blocking=True)]
    middle = _middle(audio)
    problems = []
    if not sounds_like_speech(middle, features):
        problems.append(NOT_SPEECH)
    if clipped_share(audio.waveform) > CLIPPED_SHARE:
        problems.append("This clip is overloaded (clipped); record it at a lower level.")
    level = active_level_db(*audio)
    if level < QUIET_DB:
        problems.append(f"This clip is very quiet ({level:.0f} dBFS); move nearer the microphone.")
    snr = estimate_snr_db(middle)
    if snr < NOISY_SNR_DB:
        problems.append(
            f"This clip is noisy (about {max(snr, 0):.0f} dB above the noise); "
            "the noise will blur the result."
        )
    if role == "reference" and audio.duration_s < GOOD_REFERENCE_S:
        problems.append(
            f"This clip is short ({audio.duration_s:.1f} s); with 5 to 30 s of speech the voice "
            "becomes more like it."
        )
    if audio.duration_s > LONG_S:
        problems.append(
            f"This clip is {audio.duration_s / 60:.1f} minutes long; converting it takes a while."
            if role == "source"
            else f"This clip is {audio.duration_s / 60:.1f} minutes long; half a minute is enough."
        )
    return [Problem(message, blocking=False) for message in problems]


def clipped_share(waveform: Waveform) -> float:
    """Share of samples that lie in runs of three or more at the clip's own full deflection."""
    peak = float(np.abs(waveform).max(initial=0.0))
    if peak < 0.1:  # too quiet to have been cut off by a converter
        return 0.0
    at_peak = np.abs(waveform) >= 0.998 * peak
    runs = at_peak[:-2] & at_peak[1:-1] & at_peak[2:]
    return float(runs.mean()) if runs.size else 0.0


def estimate_snr_db(audio: Audio) -> float:
    """Level of a clip above its stationary noise, in dB.

    The noise in each frequency band is taken from the band's quietest moments (minimum statistics,
    after Martin 2001, IEEE Transactions on Speech and Audio Processing 9(5)).
    """
    waveform, rate = audio
    length = max(64, round(0.032 * rate))
    if len(waveform) < 4 * length:
        return np.inf
    frames = np.lib.stride_tricks.sliding_window_view(waveform, length)[:: length // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(length), axis=-1)) ** 2  # (frames, bins)
    # the power of noise is exponentially distributed: from its quantile follows its mean
    noise = np.quantile(power, _NOISE_QUANTILE, axis=0) / -np.log(1 - _NOISE_QUANTILE)
    total = power.mean(axis=0).sum()
    return float(10 * np.log10(max(total - noise.sum(), 1e-12) / max(noise.sum(), 1e-12)))


def sounds_like_speech(audio: Audio, features: FeatureConfig) -> bool:
    """Whether enough of the loud parts is voiced, with a pitch that moves."""
    waveform = resample(audio.waveform, audio.sample_rate, features.sample_rate)
    f0 = estimate_f0(waveform, features)
    levels = frame_levels_db(waveform, features.sample_rate)
    _, hop = level_frame(features.sample_rate)
    at = np.minimum(np.arange(len(f0)) * features.hop_length // hop, len(levels) - 1)
    loud = levels[at] > levels.max() - 25
    voiced = (f0 > 0) & loud
    if voiced.sum() < VOICED_SHARE * loud.sum():
        return False
    low, high = np.quantile(np.log(f0[voiced]), [0.1, 0.9])
    return bool(high - low > STEADY_LOG_F0)


def _middle(audio: Audio) -> Audio:
    samples = round(_LOOKED_AT_S * audio.sample_rate)
    start = max(0, (len(audio.waveform) - samples) // 2)
    return Audio(audio.waveform[start : start + samples], audio.sample_rate)

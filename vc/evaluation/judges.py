"""The judges: networks and algorithms that play no part in the product.

Each takes 16 kHz mono waveforms `(samples,)` and is made once; all carry their own weights and
run offline (extra `eval`).
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vc.audio import Waveform
from vc.errors import VCError

JUDGE_RATE = 16_000  # Hz, what every judge expects

_F0_FLOOR, _F0_CEILING, _F0_STEP_S = 60.0, 600.0, 0.01


class SpeakerJudge:
    """Speaker verification by Resemblyzer (GE2E, Wan et al. 2018, arXiv:1710.10467)."""

    THRESHOLD = 0.72  # cosine above which it takes two clips for one speaker

    def __init__(self) -> None:
        _require("resemblyzer")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from resemblyzer import VoiceEncoder

            self._encoder = VoiceEncoder("cpu", verbose=False)

    def embed(self, waveform: Waveform) -> npt.NDArray[np.float32]:
        """Unit vector `(256,)` of a clip, level and long pauses taken out."""
        from resemblyzer import preprocess_wav

        prepared = preprocess_wav(waveform, source_sr=JUDGE_RATE)
        if len(prepared) < JUDGE_RATE // 4:  # its voice detector heard nothing
            prepared = waveform
        return self._encoder.embed_utterance(prepared)


class Naturalness(NamedTuple):
    """DNSMOS figures, 1 to 5."""

    p808: float
    overall: float


def naturalness(waveform: Waveform) -> Naturalness:
    """Predicted opinion by DNSMOS (Reddy et al. 2022, arXiv:2110.01763), from `speechmos`."""
    _require("speechmos")
    from speechmos import dnsmos

    peak = max(1.0, float(np.abs(waveform).max(initial=0.0)))
    scores = dnsmos.run(np.asarray(waveform / peak, dtype=np.float32), JUDGE_RATE)
    return Naturalness(float(scores["p808_mos"]), float(scores["ovrl_mos"]))


class Recognizer:
    """English words by pocketsphinx with the model it carries."""

    def __init__(self) -> None:
        _require("pocketsphinx")
        from pocketsphinx import Decoder

        # "batch" takes the cepstral mean from the clip itself: results do not depend on their order
        self._decoder = Decoder(samprate=JUDGE_RATE, loglevel="FATAL", cmn="batch")

    def text(self, waveform: Waveform) -> str:
        """Recognised words, lower case."""
        peak = float(np.abs(waveform).max(initial=1e-9))
        samples = np.round(waveform * (0.7 / peak) * 32767).astype(np.int16)
        decoder = self._decoder
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr.lower() if hypothesis else ""


def error_rate(words: str, reference: str, unit: str) -> float:
    """Edit distance over reference length, in characters or words (unit "char" or "word")."""
    spoken, wanted = _units(words, unit), _units(reference, unit)
    if not wanted:
        return float("nan")
    row = np.arange(len(spoken) + 1)
    for number, item in enumerate(wanted, 1):
        substituted = row[:-1] + np.array([item != other for other in spoken], dtype=int)
        best = np.minimum(substituted, row[1:] + 1)
        previous, row = number, row.copy()
        row[0] = number
        for column, value in enumerate(best, 1):
            previous = min(value, previous + 1)
            row[column] = previous
    return float(row[-1]) / len(wanted)


def _units(text: str, unit: str) -> list[str]:
    kept = "".join(c if c.isalnum() or c == "'" else " " for c in text.lower())
    words = kept.split()
    return list(" ".join(words)) if unit == "char" else words


def f0_track(waveform: Waveform) -> npt.NDArray[np.float64]:
    """F0 in Hz every 10 ms by Praat's cross-correlation method; 0 where unvoiced."""
    _require("parselmouth")
    import parselmouth

    sound = parselmouth.Sound(waveform.astype(np.float64), JUDGE_RATE)
    pitch = sound.to_pitch_cc(
        time_step=_F0_STEP_S, pitch_floor=_F0_FLOOR, pitch_ceiling=_F0_CEILING
    )
    return pitch.selected_array["frequency"]


def f0_correlation(f0: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Pearson correlation of log-F0 over frames voiced in both tracks."""
    frames = min(len(f0), len(other))
    both = (f0[:frames] > 0) & (other[:frames] > 0)
    if both.sum() < 10:
        return float("nan")
    return float(np.corrcoef(np.log(f0[:frames][both]), np.log(other[:frames][both]))[0, 1])


def semitones_apart(f0: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Distance of the medians of two F0 tracks, in semitones."""
    if not (f0 > 0).any() or not (other > 0).any():
        return float("nan")
    return float(abs(12 * np.log2(np.median(f0[f0 > 0]) / np.median(other[other > 0]))))


def _require(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise VCError(f"{package} is not installed; install the judges: pip install 'vc[eval]'")

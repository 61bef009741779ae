"""The judges: networks and algorithms that play no part in the product.

Each takes 16 kHz mono waveforms `(samples,)` and is made once; all carry their own weights and
run offline (extra `eval`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vc.audio import Waveform
from vc.errors import VCError

JUDGE_RATE = 16_000  # Hz, what every judge expects

_F0_FLOOR, _F0_CEILING, _F0_STEP_S = 60.0, 600.0, 0.01
_HARVEST_S = 4.0  # what Harvest hears of a clip: it takes half as long as the speech itself
_NO_STOI = 1e-5  # what pystoi says of clips that are too short

_MEL_BANDS, _MEL_CEPSTRA = 80, 24
_PACKAGES = (
    "librosa",
    "pesq",
    "pocketsphinx",
    "praat-parselmouth",
    "pystoi",
    "pyworld",
    "resemblyzer",
    "speechmos",
)


class SpeakerJudge:
    """Speaker verification by Resemblyzer (GE2E, Wan et al. 2018, arXiv:1710.10467)."""

    THRESHOLD = 0.72  # cosine above which it takes two clips for one speaker

    def __init__(self) -> None:
        require("resemblyzer")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from resemblyzer import VoiceEncoder

            self._encoder = VoiceEncoder("cpu", verbose=False)

    def embed(self, waveform: Waveform) -> npt.NDArray[np.float32]:
        """Unit vector `(256,)` of a clip, without its long pauses.

        Clips below -30 dBFS are raised to it. How loud others are is heard: conversions that are
        brought to another level may have 0.01 more or less (log of experiments, 83).
        """
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
    require("speechmos")
    from speechmos import dnsmos

    peak = max(1.0, float(np.abs(waveform).max(initial=0.0)))
    scores = dnsmos.run(np.asarray(waveform / peak, dtype=np.float32), JUDGE_RATE)
    return Naturalness(float(scores["p808_mos"]), float(scores["ovrl_mos"]))


class Recognizer:
    """English words by pocketsphinx with the model it carries."""

    def __init__(self) -> None:
        require("pocketsphinx")
        from pocketsphinx import Decoder

        # "batch" takes the cepstral mean from the clip itself
        self._decoder = Decoder(samprate=JUDGE_RATE, loglevel="FATAL", cmn="batch")

    def text(self, waveform: Waveform) -> str:
        """Recognised words, lower case."""
        peak = float(np.abs(waveform).max(initial=1e-9))
        samples = np.round(waveform * (0.7 / peak) * 32767).astype(np.int16)
        decoder = self._decoder
        decoder.reinit_feat()  # forgets the last clip: results do not depend on their order
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
    return edit_distance(spoken, wanted) / len(wanted)


def edit_distance(first: Sequence[object], second: Sequence[object]) -> int:
    """Fewest insertions, deletions and substitutions from one to the other (Levenshtein 1966)."""
    above = list(range(len(second) + 1))
    for number, left in enumerate(first, 1):
        row = [number]
        for column, right in enumerate(second, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (left != right)))
        above = row
    return above[-1]


def _units(text: str, unit: str) -> list[str]:
    kept = "".join(c if c.isalnum() or c == "'" else " " for c in text.lower())
    words = kept.split()
    return list(" ".join(words)) if unit == "char" else words


def f0_track(waveform: Waveform) -> npt.NDArray[np.float64]:
    """F0 in Hz every 10 ms by Praat's cross-correlation method; 0 where unvoiced."""
    require("parselmouth")
    import parselmouth

    sound = parselmouth.Sound(waveform.astype(np.float64), JUDGE_RATE)
    pitch = sound.to_pitch_cc(
        time_step=_F0_STEP_S, pitch_floor=_F0_FLOOR, pitch_ceiling=_F0_CEILING
    )
    return pitch.selected_array["frequency"]


def f0_track_harvest(waveform: Waveform) -> npt.NDArray[np.float64]:
    """F0 in Hz every 10 ms of the first 4 s, by WORLD; 0 where unvoiced.

    Harvest (Morise 2017, Interspeech) for F0 and the voicing decision of D4C LoveTrain (Morise
    2016). Filters and instantaneous frequency, where `f0_track` correlates waveforms: an
    independent second opinion, though one with more gross errors (noise 34 dB below speech alone
    brings the correlation of a clip with itself to between 0.90 and 0.99) and slow, hence the 4 s.
    """
    require("pyworld")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks setuptools for its own version
        import pyworld

    heard = waveform[: round(_HARVEST_S * JUDGE_RATE)].astype(np.float64)
    f0, times = pyworld.harvest(heard, JUDGE_RATE, _F0_FLOOR, _F0_CEILING, 1_000 * _F0_STEP_S)
    aperiodicity = pyworld.d4c(heard, f0, times, JUDGE_RATE, threshold=0.85)
    return np.where(aperiodicity.mean(axis=1) > 0.999, 0.0, f0)  # all 1: noise only


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


def perceptual_quality(original: Waveform, copied: Waveform) -> float:
    """PESQ, wide band (ITU-T P.862.2), 1 to 4.6; nan without speech and for less than 0.25 s."""
    require("pesq")
    from pesq import BufferTooShortError, NoUtterancesError, pesq

    try:
        return float(pesq(JUDGE_RATE, original, copied, "wb"))
    except (NoUtterancesError, BufferTooShortError):
        return float("nan")


def short_time_intelligibility(original: Waveform, copied: Waveform) -> float:
    """STOI (Taal et al. 2011), 0 to 1; nan where less than 0.4 s is speech."""
    require("pystoi")
    from pystoi import stoi

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # says so
        intelligibility = float(stoi(original, copied, JUDGE_RATE))
    return intelligibility if intelligibility > _NO_STOI else float("nan")


def mel_cepstral_distortion(original: Waveform, copied: Waveform) -> float:
    """Mel-cepstral distortion in dB (Kubichek 1993) of clips that are aligned to the sample.

    `10 / ln 10 * sqrt(2 * sum_d (c_d - c'_d)^2)` over d = 1 to 24, averaged over frames. Frames are
    compared as they stand, without dynamic time warping. The cepstra are the cosine series of the
    natural logarithm of librosa's mel magnitude spectrum (80 Slaney bands, window 1024, hop 256 at
    16 kHz), so that the figure is in dB of the smoothed spectrum, but is not to be compared with
    one from another mel-cepstral analysis. Only frames within 40 dB of the original's loudest
    count.
    """
    require("librosa")
    cepstra, levels = zip(*(_mel_cepstra(w) for w in (original, copied)), strict=True)
    heard = levels[0] > levels[0].max() - 40
    squares = ((cepstra[0] - cepstra[1])[:, heard] ** 2).sum(axis=0)
    return float(10 / np.log(10) * np.sqrt(2 * squares).mean())


def _mel_cepstra(
    waveform: Waveform,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mel-cepstra 1 to 24, `(24, frames)`, and the level of each frame in dB, `(frames,)`."""
    import librosa
    from scipy.fft import dct

    mel = librosa.feature.melspectrogram(
        y=waveform, sr=JUDGE_RATE, n_fft=1024, hop_length=256, n_mels=_MEL_BANDS, power=1.0
    )
    log_mel = np.log(np.maximum(mel, 1e-5)).astype(np.float64)
    cepstra = dct(log_mel, axis=0, norm="ortho") * np.sqrt(2 / _MEL_BANDS)
    levels = 10 * np.log10(np.maximum((mel.astype(np.float64) ** 2).sum(axis=0), 1e-12))
    return cepstra[1 : _MEL_CEPSTRA + 1], levels


def judge_versions() -> dict[str, str]:
    """Installed version of each package that judges, for the record."""
    return {package: version(package) for package in _PACKAGES if _installed(package)}


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def require(package: str) -> None:
    """Refuse to go on without a judge's package.

    Raises:
        VCError: it is not installed.
    """
    if find_spec(package) is None:
        raise VCError(f"{package} is not installed; install the judges: pip install 'vc[eval]'")

"""When each phone of an English clip is spoken, from its words: forced alignment.

Done by pocketsphinx (Huggins-Daines et al. 2006) with the acoustic model and dictionary that it
carries. Only the probes use it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vc.evaluation.judges import JUDGE_RATE, require

STEP_S = 0.01
_CENTRE_S = 0.0128  # of the analysis window that starts with a step
_LONGEST_PHONE_S = 0.6  # a longer one means that the words are not those of the clip
_FEWEST_WORDS = 3  # so that hardly any clip in another language passes for English


class AlignedPhone(NamedTuple):
    """A phone (ARPAbet without stress, such as "AH") and when it is spoken, in seconds."""

    symbol: str
    start: float
    end: float


class Aligner:
    """Finds the phones of clips whose words are known."""

    def __init__(self) -> None:
        require("pocketsphinx")
        from pocketsphinx import Decoder

        # "batch" takes the cepstral mean from the clip itself
        self._decoder = Decoder(samprate=JUDGE_RATE, loglevel="FATAL", cmn="batch", lm=None)

    def can_align(self, text: str) -> bool:
        """Whether there are enough words and all of them are in the dictionary."""
        words = _words(text)
        return len(words) >= _FEWEST_WORDS and all(map(self._decoder.lookup_word, words))

    def align(self, samples: npt.NDArray[np.int16], text: str) -> list[AlignedPhone]:
        """The phones of a clip in their order, pauses left out.

        Args:
            samples: `(samples,)` at 16 kHz.
            text: what is said in it.

        Returns:
            Nothing if the text has words that the dictionary lacks, or does not fit the clip.
        """
        if not self.can_align(text):
            return []
        try:
            self._decoder.set_align_text(" ".join(_words(text)))
            self._decode(samples)  # finds the words ...
            self._decoder.set_alignment()
            self._decode(samples)  # ... and then the phones in them
            alignment = self._decoder.get_alignment()
        except RuntimeError:
            return []
        phones = []
        for word in alignment or []:  # its parts must not outlive the loop: pocketsphinx frees them
            for phone in word:
                start, end = phone.start, phone.start + phone.duration
                if phone.name.isalpha() and phone.name != "SIL":
                    phones.append(AlignedPhone(phone.name, start * STEP_S, end * STEP_S))
        if any(phone.end - phone.start > _LONGEST_PHONE_S for phone in phones):
            return []
        return phones

    def _decode(self, samples: npt.NDArray[np.int16]) -> None:
        self._decoder.reinit_feat()  # forgets the last clip: results do not depend on their order
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()


def phones_at(phones: list[AlignedPhone], times: npt.NDArray[np.float64]) -> list[str]:
    """The phone at each time in seconds, "" in pauses."""
    symbols = []
    for time in times - _CENTRE_S + STEP_S / 2:
        around = (phone.symbol for phone in phones if phone.start <= time < phone.end)
        symbols.append(next(around, ""))
    return symbols


def _words(text: str) -> list[str]:
    """Lower-case words; one that is not all letters and apostrophes is kept, to be refused."""
    stripped = (word.strip(".,;:!?\"“”()'-—") for word in re.split(r"[\s—-]+", text.lower()))
    return [word for word in stripped if word]

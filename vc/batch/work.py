"""One task of a batch, done in whatever process it is given to."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vc.audio import Audio, read_blocks
from vc.batch.tasks import Outcome, Task, outcome_of
from vc.errors import VCError
from vc.safe_write import make_folder

_CHECKED_BLOCKS = 6  # of ten seconds


@lru_cache(maxsize=1)
def _converter(checkpoint: Path | None, vocoder: Literal["neural", "griffin-lim"]) -> Any:
    import torch

    from vc.convert import load

    torch.set_num_threads(1)  # many processes share the cores
    return load(checkpoint, vocoder=vocoder)


@lru_cache(maxsize=64)
def _voice(
    checkpoint: Path | None,
    vocoder: Literal["neural", "griffin-lim"],
    references: tuple[Path, ...],
    learn: bool,
    kept: Path | None,
) -> Any:
    """The voice of the references: learnt, or as another worker has left it in `kept`."""
    from vc.voice import save_voice

    converter = _converter(checkpoint, vocoder)
    if kept is None:
        return converter.voice(list(references), learn=learn)
    with contextlib.suppress(VCError):  # not there yet, or damaged
        return converter.read_voice(kept)
    voice = converter.voice(list(references), learn=learn)
    with contextlib.suppress(VCError):  # others learn it by themselves
        save_voice(kept, voice, converter.model_sha256)
    return voice


def convert_task(task: Task) -> Outcome:
    """Do one task; what goes wrong becomes its outcome."""
    from vc.blockwise import convert_file

    settings = task.settings
    try:
        converter = _converter(settings.checkpoint, settings.vocoder)
        voice = _voice(
            settings.checkpoint, settings.vocoder, task.references, settings.learn, task.voice
        )
        warning = _warning(converter, task.source) if settings.check else ""
        make_folder(task.output.parent)
        done = convert_file(
            converter,
            task.source,
            voice,
            task.output,
            settings.pitch,
            settings.sample_rate,
            denoise=settings.denoise,
            loudness=settings.loudness,
        )
    except VCError as error:
        return outcome_of(task, "failed", str(error), 1)
    except Exception as error:  # noqa: BLE001 - one bad file never stops the rest
        reason = f"{task.source}: unexpected {type(error).__name__}: {error}"
        return outcome_of(task, "crashed", reason, 1)  # perhaps not the next time
    seconds = round(done.duration_s, 3)
    return replace(outcome_of(task, "done", "", 1), seconds=seconds, warning=warning)


def _warning(converter: Any, source: Path) -> str:
    """What is wrong with a source, judged by its first minute."""
    blocks = list(islice(read_blocks(source), _CHECKED_BLOCKS))
    beginning = Audio(np.concatenate([b.waveform for b in blocks]), blocks[0].sample_rate)
    return " ".join(problem.message for problem in converter.check(beginning).problems)

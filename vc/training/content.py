"""Training task of a content encoder that hears through noise, rooms and telephones.

Neither decoder nor speaker encoder is touched, so on clean speech the model stays what it was,
nearly; see `vc.training.student`. Echoes last longer than sounds, so a student may look at more
frames than its teacher did; what it sees beside them counts for nothing until it has learnt to.

What content knows of its speaker is in the way. Of a clip that the teacher has first said in some
other voice it hears less of that, and the mean over all voices, which the student learns since it
is never told which voice it will be, has nothing of any (after the self-transformations of
Neekhara et al. 2023, arXiv:2310.09653).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vc.config import AutoencoderConfig, require_not_negative
from vc.model.autoencoder import Autoencoder, Latent
from vc.model.layers import instance_norm
from vc.model.vocal_tract import TRACT_DEVIATION
from vc.training.data import Segments
from vc.training.student import StudentRecipe, StudentTask


@dataclass(frozen=True)
class ContentLossConfig:
    """Weights of the losses."""

    content: float = 1.0  # mean square, of unit variance
    vocal_tract: float = 0.1  # mean square, in units of what speakers differ by

    def __post_init__(self) -> None:
        require_not_negative(self, "loss", *vars(self))


@dataclass(frozen=True)
class ContentRecipe(StudentRecipe):
    """Everything that one training run of a content encoder is made of."""

    loss: ContentLossConfig = field(default_factory=ContentLossConfig)
    content_kernel: int = 0  # of the student; 0: the teacher's
    said_by_others: bool = False  # the teacher first says each clip in another voice


class _Heard(NamedTuple):
    """What an autoencoder hears of clips, but for who speaks."""

    content: Tensor  # (batch, content_dim, content_frames), of unit variance
    vocal_tract: Tensor | None  # (batch, 3), in units of what speakers differ by


class ContentTask(StudentTask):
    """See `vc.training.student`."""

    kind = "content"

    def student_config(self) -> AutoencoderConfig:
        """The teacher's, but for the frames that its content encoder looks at."""
        kernel = self.recipe.content_kernel or self.teacher.config.content_kernel
        return replace(self.teacher.config, content_kernel=kernel)

    def learning(self, model: Autoencoder) -> list[nn.Module]:
        """The content encoder and the ear for vocal tracts."""
        tract = model.vocal_tract_encoder
        return [model.content_encoder] + ([] if tract is None else [tract])

    def losses(self, model: Autoencoder, clean: Segments, degraded: Tensor) -> dict[str, Tensor]:
        """Mean square differences; see `StudentTask.losses`."""
        with torch.no_grad():
            wanted = _hear(self.teacher, clean.log_mel)
            if self.recipe.said_by_others:
                wanted = wanted._replace(content=self._said_by_others(clean, wanted.content))
        heard = _hear(model, degraded)
        losses = {"content": (heard.content - wanted.content).square().mean()}
        if heard.vocal_tract is not None and wanted.vocal_tract is not None:
            losses["vocal_tract"] = (heard.vocal_tract - wanted.vocal_tract).square().mean()
        return losses

    def _said_by_others(self, clean: Segments, content: Tensor) -> Tensor:
        """Content of clips as the teacher says them, each in the voice of another of the batch."""
        shift = int(torch.randint(1, max(2, len(content)), ()))
        voices = self.teacher.encode_speaker(clean.log_mel).roll(shift, dims=0)
        log_f0 = clean.log_f0_about(clean.median_log_f0().roll(shift))
        said = self.teacher.decode(Latent(content, voices), log_f0, clean.voiced)
        return _hear_content(self.teacher, said)

    def latent(self, model: Autoencoder, clean: Tensor, degraded: Tensor) -> Latent:
        """Content of the degraded clips, voices of the clean ones."""
        return Latent(model.encode_content(degraded), self.teacher.encode_speaker(clean))


def _hear(model: Autoencoder, log_mel: Tensor) -> _Heard:
    """Content and vocal tract of `(batch, n_mels, frames)`."""
    tract = None
    if model.vocal_tract_encoder is not None:
        # not by `hear_vocal_tract`, which lets no gradient through
        tract = model.vocal_tract_encoder(model.normalize(log_mel)) / TRACT_DEVIATION
    return _Heard(_hear_content(model, log_mel), tract)


def _hear_content(model: Autoencoder, log_mel: Tensor) -> Tensor:
    """Content `(batch, content_dim, content_frames)` of unit variance."""
    return instance_norm(model.look_at_content(log_mel).float())

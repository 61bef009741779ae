"""Where known voices lie on a plane, so that new ones can be shown among them.

`known_voices.safetensors` is made by `recipes/shipped/known_voices.py` from the speakers that the
shipped model learnt from: two directions through the space of their embeddings, and one point each
without a name. It belongs to one model.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

SHIPPED_MAP = Path(__file__).parent / "known_voices.safetensors"


class KnownVoices(NamedTuple):
    """Two directions in the space of speaker embeddings, and speakers on them.

    The first is the one along which voices get higher (least squares on log-F0), the second the
    principal component (Pearson 1901) of what is left.
    """

    mean: npt.NDArray[np.float32]  # (speaker_dim,)
    components: npt.NDArray[np.float32]  # (2, speaker_dim)
    points: npt.NDArray[np.float32]  # (speakers, 2)

    def place(self, identity: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """A voice's learnt part `(speaker_dim,)` on the plane, `(2,)`."""
        return self.components @ (identity - self.mean)


def load_known_voices(model_sha256: str, path: Path = SHIPPED_MAP) -> KnownVoices | None:
    """Read the map; None if there is none of this model."""
    if not path.exists():
        return None
    with safe_open(path, "np") as file:
        if (file.metadata() or {}).get("model") != model_sha256:
            return None
        return KnownVoices(*(file.get_tensor(name) for name in KnownVoices._fields))

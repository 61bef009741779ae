"""Voice conversion with a disentangling autoencoder.

    import vc
    converted = vc.load().convert("source.wav", "reference.wav")

Importing this package is cheap: heavy modules are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vc.audio import Audio, read_audio, write_audio
    from vc.convert import Converter, Embedding, load
    from vc.embedding import embed
    from vc.streaming.stream import Stream
    from vc.voice import Voice

__version__ = "0.1.0"
__all__ = [
    "Audio",
    "Converter",
    "Embedding",
    "Stream",
    "Voice",
    "__version__",
    "embed",
    "load",
    "read_audio",
    "write_audio",
]

_HOMES = {
    "Audio": "vc.audio",
    "read_audio": "vc.audio",
    "write_audio": "vc.audio",
    "Converter": "vc.convert",
    "Embedding": "vc.convert",
    "Stream": "vc.streaming.stream",
    "Voice": "vc.voice",
    "embed": "vc.embedding",
    "load": "vc.convert",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vc' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)

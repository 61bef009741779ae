"""Typed configuration: frozen dataclasses, read from TOML recipes and from checkpoints' JSON.

One rule for every section: unknown keys are errors, types are checked, ranges are checked in
`__post_init__`. A recipe may name a `base` recipe and then holds only what differs from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from vc.errors import ConfigError

SHIPPED = Path(__file__).parent / "weights" / "default"  # the model that is used if none is named

T = TypeVar("T")
_MOST_BASES = 20  # of a recipe, one upon the other


def model_part(folder: Path, part: str) -> Path:
    """A model's own vocoder or denoiser; without one, as a new autoencoder may be, the shipped."""
    return (folder if (folder / part).is_dir() else SHIPPED) / part


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_sizes(config: Any, section: str, largest: int, *names: str, least: int = 1) -> None:
    """Sizes from a damaged file must not fill the memory before anything else is noticed."""
    for name in names:
        _require(
            least <= getattr(config, name) <= largest,
            f"{section}: {name} must be in {least}..{largest}",
        )


def require_not_negative(config: Any, section: str, *names: str) -> None:
    """Refuse a configuration with a figure below 0, or none at all, among these fields.

    Raises:
        ConfigError: which of the section's fields it is.
    """
    for name in names:
        value = getattr(config, name)
        _require(0 <= value < math.inf, f"{section}: {name} must be a number from 0 on")


def require_shares(config: Any, section: str, *names: str) -> None:
    """Refuse a configuration with a share or probability beyond 0..1 among these fields.

    Raises:
        ConfigError: which of the section's fields it is.
    """
    for name in names:
        _require(0 <= getattr(config, name) <= 1, f"{section}: {name} must be in 0..1")


def require_interval(config: Any, section: str, name: str, least: float = -1_000.0) -> None:
    """Refuse a configuration where this field is not a lowest and a highest figure.

    Raises:
        ConfigError: the field is not two figures from `least` to 1000 in order.
    """
    limits = getattr(config, name)
    _require(
        len(limits) == 2 and least <= limits[0] <= limits[1] <= 1_000,
        f"{section}: {name} must be a lowest and a highest figure, from {least:g} to 1000",
    )


_WIDEST, _DEEPEST = 16_384, 256  # channels of a layer, layers


@dataclass(frozen=True)
class FeatureConfig:
    """How a waveform becomes log-mel frames and an F0 track; travels with every checkpoint."""

    sample_rate: int = 16_000  # Hz
    n_fft: int = 1024
    win_length: int = 1024  # samples
    hop_length: int = 256  # samples between frames
    n_mels: int = 80  # Slaney mel bands
    f_min: float = 0.0  # Hz, lower edge of the lowest band
    f_max: float = 8_000.0  # Hz, upper edge of the highest band
    log_floor: float = 1e-5  # magnitudes below this are raised to it before the logarithm
    level_db: float = -26.0  # dBFS of active speech that every clip is brought to
    f0_min: float = 60.0  # Hz
    f0_max: float = 600.0  # Hz

    def __post_init__(self) -> None:
        _require_sizes(self, "features", 400_000, "sample_rate")
        _require_sizes(self, "features", 16_384, "n_fft")
        _require_sizes(self, "features", 512, "n_mels")
        _require(-120 <= self.level_db <= 0, "features: level_db must be in -120..0")
        _require(self.win_length <= self.n_fft, "features: win_length must not exceed n_fft")
        _require(
            0 < self.hop_length <= self.win_length, "features: hop_length must be in 1..win_length"
        )
        _require(
            0 <= self.f_min < self.f_max <= self.sample_rate / 2,
            "features: need 0 <= f_min < f_max <= sample_rate / 2",
        )
        _require(
            10 <= self.f0_min < self.f0_max <= self.sample_rate / 2,
            "features: need 10 <= f0_min < f0_max <= sample_rate / 2",
        )
        _require(0 < self.log_floor < 1, "features: log_floor must be between 0 and 1")

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the content encoder, speaker encoder and decoder."""

    n_mels: int = 80
    width: int = 256  # channels inside content encoder and decoder
    expansion: int = 3  # inner width of a block, in multiples of its width
    kernel_size: int = 7  # frames each layer looks at
    content_blocks: int = 4
    content_kernel: int = 7  # the same, of these blocks
    content_dim: int = 96
    content_stride: int = 1  # mel frames per content frame
    tract_width: int = 128  # of the encoder of vocal tracts; 0: content is read as clips are
    tract_blocks: int = 4
    content_coefficients: int = 20  # cepstral, that content is read from; 0: the whole mel
    input_norm: bool = True  # instance normalisation of the mel that content is read from
    block_norm: Literal["instance", "layer"] = "instance"  # inside the content encoder
    bottleneck: Literal[
        "noise", "narrow", "variational", "sigmoid", "vq", "fsq", "binary", "one_hot"
    ] = "noise"
    bottleneck_noise: float = 0.15  # "noise": standard deviation beside unit-variance content
    codebook_size: int = 256  # "vq": entries
    quantizer_levels: tuple[int, ...] = (8, 5, 5, 5)  # "fsq": levels of each content channel
    one_hot_temperature: float = 1.0  # "one_hot": of the Gumbel-softmax; classes are content_dim
    speaker_width: int = 192
    speaker_blocks: int = 4
    speaker_dim: int = 128  # of the learnt part of the speaker embedding
    speaker_statistics: bool = True  # beside it, the voice's mean spectrum and its spread
    speaker_repair: bool = False  # the latter as they would be without noise, room, telephone
    decoder_blocks: int = 6
    decoder_norm: Literal["layer", "instance"] = "layer"  # with "instance", FiLM is AdaIN
    f0_bands: int = 32  # radial basis functions over log-F0
    f0_conditioning: bool = True
    emphasis: float = 0.0  # how much farther from the average voice than asked conversions are
    closed_loop: float = 0.0  # share of the voice that is missing from them, to ask for as well
    residual: float = 0.0  # share of what is missing from the rebuilt source, to add to them

    def __post_init__(self) -> None:
        widths = ("width", "content_dim", "speaker_width", "speaker_dim")
        _require_sizes(self, "autoencoder", _WIDEST, *widths)
        _require_sizes(self, "autoencoder", _WIDEST, "f0_bands", least=2)
        _require_sizes(self, "autoencoder", _WIDEST, "tract_width", least=0)
        depths = ("content_blocks", "speaker_blocks", "decoder_blocks", "tract_blocks")
        _require_sizes(self, "autoencoder", _DEEPEST, *depths, least=0)
        _require_sizes(self, "autoencoder", 512, "n_mels")
        kernels = ("kernel_size", "content_kernel")
        _require_sizes(self, "autoencoder", 255, "expansion", "content_stride", *kernels)
        _require(self.kernel_size % 2 == 1, "autoencoder: kernel_size must be odd")
        _require(self.content_kernel % 2 == 1, "autoencoder: content_kernel must be odd")
        _require(
            0 <= self.content_coefficients <= self.n_mels,
            "autoencoder: content_coefficients must be in 0..n_mels",
        )
        _require(
            self.tract_width == 0 or self.n_mels >= 16,
            "autoencoder: n_mels must be at least 16, or tract_width 0",
        )
        _require(
            self.speaker_statistics or not self.speaker_repair,
            "autoencoder: speaker_repair needs speaker_statistics, which it repairs",
        )
        _require(self.bottleneck_noise >= 0, "autoencoder: bottleneck_noise must not be negative")
        _require_sizes(self, "autoencoder", 1 << 20, "codebook_size", least=2)
        _require(
            len(self.quantizer_levels) > 0 and all(2 <= n <= 1_024 for n in self.quantizer_levels),
            "autoencoder: quantizer_levels must be in 2..1024 each",
        )
        _require(
            self.bottleneck != "fsq" or len(self.quantizer_levels) == self.content_dim,
            "autoencoder: the fsq bottleneck needs content_dim levels in quantizer_levels",
        )
        _require(
            self.bottleneck != "fsq" or math.prod(self.quantizer_levels) < 1 << 63,
            "autoencoder: the fsq bottleneck needs fewer than 2^63 combinations of "
            "quantizer_levels, for codes to be integers",
        )
        _require(
            self.bottleneck != "binary" or self.content_dim <= 62,
            "autoencoder: the binary bottleneck needs content_dim <= 62, for codes to be integers",
        )
        _require(
            self.bottleneck != "one_hot" or self.content_dim >= 2,
            "autoencoder: the one_hot bottleneck needs content_dim >= 2, its classes",
        )
        require_shares(self, "autoencoder", "emphasis", "closed_loop", "residual")
        _require(self.one_hot_temperature > 0, "autoencoder: one_hot_temperature must be positive")

    @property
    def embedding_dim(self) -> int:
        """Size of the whole speaker embedding."""
        return self.speaker_dim + (2 * self.n_mels if self.speaker_statistics else 0)


@dataclass(frozen=True)
class VocoderConfig:
    """Sizes of the source-filter vocoder."""

    n_mels: int = 80
    sample_rate: int = 16_000
    hop_length: int = 256
    width: int = 256
    expansion: int = 3
    kernel_size: int = 7
    blocks: int = 6
    n_fft: int = 512  # of the filters; shorter than the mel's window, for sharp consonants
    filter_hop: int = 128  # samples between filters
    corrections: int = 0  # times that what was synthesised is moved to the mel that was wanted
    # clarity: in voiced frames, below this frequency, noise and pulses are changed by so much;
    # not while training
    clarity_hz: float = 4_000.0
    clarity_noise_db: float = 0.0
    clarity_pulse_db: float = 0.0
    # of mels that are said to be decoded, which no training says of its own: voiced frames have no
    # noise below this, and of what a correction would give back, so much is given below and above
    breath_from_hz: float = 0.0
    correction_below: float = 1.0
    correction_above: float = 1.0
    # below this there is no voice but a room's rumble, of which so much is given back, slowly
    rumble_hz: float = 0.0
    correction_rumble: float = 1.0

    def __post_init__(self) -> None:
        _require_sizes(self, "vocoder", _WIDEST, "width")
        _require_sizes(self, "vocoder", _DEEPEST, "blocks", "corrections", least=0)
        _require_sizes(self, "vocoder", 512, "n_mels")
        _require_sizes(self, "vocoder", 255, "expansion", "kernel_size")
        _require_sizes(self, "vocoder", 16_384, "n_fft", "hop_length", "filter_hop")
        _require_sizes(self, "vocoder", 400_000, "sample_rate")
        _require(self.kernel_size % 2 == 1, "vocoder: kernel_size must be odd")
        _require(self.n_fft % 2 == 0, "vocoder: n_fft must be even")
        for name in ("clarity_hz", "clarity_noise_db", "clarity_pulse_db", "breath_from_hz"):
            _require(abs(getattr(self, name)) <= 1e6, f"vocoder: {name} is out of range")
        _require(0 <= self.rumble_hz <= 1e6, "vocoder: rumble_hz is out of range")
        for name in ("correction_below", "correction_above", "correction_rumble"):
            _require(0 <= getattr(self, name) <= 4, f"vocoder: {name} must be from 0 to 4")
        _require(
            self.hop_length % self.filter_hop == 0,
            "vocoder: hop_length must be a multiple of filter_hop",
        )
        _require(self.filter_hop * 2 <= self.n_fft, "vocoder: filter_hop must be <= n_fft / 2")


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of the denoiser."""

    n_mels: int = 80
    width: int = 128
    expansion: int = 3
    kernel_size: int = 7  # frames the first layer looks at
    blocks: int = 6
    block_kernel: int = 7  # frames each block looks at
    max_reduction_db: float = 30.0  # what sounds like noise is turned down by at most so much

    def __post_init__(self) -> None:
        _require_sizes(self, "denoiser", _WIDEST, "width")
        _require_sizes(self, "denoiser", _DEEPEST, "blocks", least=0)
        _require_sizes(self, "denoiser", 512, "n_mels")
        _require_sizes(self, "denoiser", 255, "expansion", "kernel_size", "block_kernel")
        _require(self.kernel_size % 2 == 1, "denoiser: kernel_size must be odd")
        _require(self.block_kernel % 2 == 1, "denoiser: block_kernel must be odd")
        _require(
            0 < self.max_reduction_db <= 1_000, "denoiser: max_reduction_db must be in 0..1000"
        )


@dataclass(frozen=True)
class UnitConfig:
    """Sizes of the network that turns content into symbols and back."""

    content_dim: int = 96
    stride: int = 3  # content frames a unit
    width: int = 192
    expansion: int = 2
    kernel_size: int = 7  # units each block looks at
    encoder_blocks: int = 3
    decoder_blocks: int = 4
    code_dim: int = 48
    codebook_size: int = 1024
    stages: int = 9  # codebooks, each for what those before it have left

    def __post_init__(self) -> None:
        _require_sizes(self, "units", _WIDEST, "content_dim", "width", "code_dim")
        _require_sizes(self, "units", _DEEPEST, "encoder_blocks", "decoder_blocks", least=0)
        _require_sizes(self, "units", 255, "stride", "expansion", "kernel_size", "stages")
        _require_sizes(self, "units", 1 << 16, "codebook_size", least=2)
        _require(self.kernel_size % 2 == 1, "units: kernel_size must be odd")


@dataclass(frozen=True)
class MaskedPredictorConfig:
    """Sizes of the network that guesses hidden content, and whose codes learn phones."""

    content_dim: int = 96
    stride: int = 2  # content frames a step
    width: int = 256
    expansion: int = 2
    kernel_size: int = 9  # steps each block looks at
    blocks: int = 8
    code_block: int = 6  # after so many blocks the codebook reads
    codebook_size: int = 256
    targets: int = 128  # classes that are guessed

    def __post_init__(self) -> None:
        section = "masked_predictor"
        _require_sizes(self, section, _WIDEST, "content_dim", "width")
        _require_sizes(self, section, _DEEPEST, "blocks", "code_block", least=0)
        _require_sizes(self, section, 255, "stride", "expansion", "kernel_size")
        _require_sizes(self, section, 1 << 16, "codebook_size", "targets", least=2)
        _require(self.kernel_size % 2 == 1, f"{section}: kernel_size must be odd")
        _require(
            self.code_block <= self.blocks, f"{section}: code_block must not be beyond the blocks"
        )


@dataclass(frozen=True)
class ListenerConfig:
    """Sizes of the networks that hear, in training, who speaks and what is said."""

    n_mels: int = 80
    width: int = 256
    expansion: int = 3
    speaker_kernel: int = 7  # frames each block looks at
    speaker_blocks: int = 5
    speaker_dim: int = 192
    phone_kernel: int = 9
    phone_blocks: int = 6
    phones: int = 0  # symbols; taken from the labels where a training begins

    def __post_init__(self) -> None:
        _require_sizes(self, "listener", _WIDEST, "width", "speaker_dim")
        _require_sizes(self, "listener", _DEEPEST, "speaker_blocks", "phone_blocks", least=0)
        _require_sizes(self, "listener", 512, "n_mels")
        _require_sizes(self, "listener", 255, "expansion", "speaker_kernel", "phone_kernel")
        _require_sizes(self, "listener", 1 << 16, "phones", least=0)
        for kernel in (self.speaker_kernel, self.phone_kernel):
            _require(kernel % 2 == 1, "listener: kernels must be odd")


@dataclass(frozen=True)
class DataConfig:
    """Which cached speech is trained on, and how a batch is cut from it."""

    segment_frames: int = 160
    batch_size: int = 16
    validation_clips: int = 24
    min_clip_s: float = 1.0  # clips with less than this much speech are left out
    corpus_weights: dict[str, float] = field(default_factory=dict)  # default 1.0 a corpus

    def __post_init__(self) -> None:
        _require(self.segment_frames >= 16, "data: segment_frames must be at least 16")
        _require(self.batch_size >= 1, "data: batch_size must be at least 1")
        _require(self.validation_clips >= 1, "data: validation_clips must be at least 1")
        require_not_negative(self, "data", "min_clip_s")
        for corpus, weight in self.corpus_weights.items():
            _require(0 <= weight < math.inf, f"data: corpus_weights.{corpus} must not be negative")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = 1e-3
    final_learning_rate: float = 5e-5
    discriminator_rate: float = 1.0  # learning rate of a discriminator, in multiples of the above
    warmup_steps: int = 300
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        rates = ("learning_rate", "final_learning_rate", "discriminator_rate")
        require_not_negative(self, "optimizer", *rates, "warmup_steps", "weight_decay")
        _require(self.clip_norm > 0, "optimizer: clip_norm must be above 0")
        require_shares(self, "optimizer", "ema_decay")


@dataclass(frozen=True)
class RunConfig:
    """How long, how often, on what."""

    steps: int = 20_000
    seed: int = 0
    micro_batches: int = 1  # of data.batch_size clips, that one step is made of
    initial: str = ""  # checkpoint folder to start from; "" for random weights
    fresh: tuple[str, ...] = ()  # parts of the model that do not take its weights
    precision: Literal["float32", "bfloat16"] = "bfloat16"  # float32 all the same on CPUs without
    checkpoint_every: int = 500
    validate_every: int = 500
    log_every: int = 50
    patience: int = 0  # validations without a better one, after which to stop; 0: never
    tensorboard: bool = False  # write losses, pictures and sounds for TensorBoard (extra `train`)

    def __post_init__(self) -> None:
        counts = ("steps", "micro_batches", "checkpoint_every", "validate_every", "log_every")
        for name in counts:
            _require(getattr(self, name) >= 1, f"run: {name} must be at least 1")
        require_not_negative(self, "run", "seed", "patience")


def require_fit(config: Any, section: str, features: FeatureConfig) -> None:
    """Refuse the sizes of a network that repeat those of its features, but differ.

    Args:
        config: the network's.
        section: what to call it in the message.
        features: what its mels are.

    Raises:
        ConfigError: a size is not that of the features, or the filters of a vocoder do not lie on
            bins of the mel's transform.
    """
    for name in ("n_mels", "sample_rate", "hop_length"):
        size, wanted = getattr(config, name, None), getattr(features, name)
        _require(
            size in (None, wanted),
            f"{section}: {name} must be that of features, {wanted}, not {size}",
        )
    if isinstance(config, VocoderConfig):
        _require(
            features.n_fft % config.n_fft == 0,
            f"{section}: n_fft must divide that of features, {features.n_fft}",
        )


def from_dict(
    cls: type[T], values: dict[str, Any], where: str = "", defaults: T | None = None
) -> T:
    """Build dataclass `cls` from plain values, strictly.

    Args:
        cls: a dataclass type; nested dataclass fields take nested dictionaries.
        values: as read from TOML or JSON.
        where: dotted place inside the whole configuration, for messages.
        defaults: what holds where `values` says nothing; the class's own defaults if None.

    Raises:
        ConfigError: an unknown key (the nearest valid one is named), a wrong type, or a value
            that the dataclass's own checks refuse.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where or cls.__name__!r} must be a section, not {_shown(values)}")
    hints = _hints(typing.cast(type, cls))
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        place = f"{where}.{key}" if where else key
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; known: {sorted(known)}"
            raise ConfigError(f"unknown configuration key {place!r}{hint}")
        default = _default(known[key]) if defaults is None else getattr(defaults, key)
        arguments[key] = _checked(hints[key], value, place, default)
    try:
        if defaults is not None:
            return dataclasses.replace(defaults, **arguments)  # type: ignore[type-var]
        return cls(**arguments)
    except TypeError as error:
        raise ConfigError(f"configuration {where or cls.__name__}: {error}") from error


def _default(field: dataclasses.Field[Any]) -> Any:
    """What a field holds that is not given; None if it must be."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


@lru_cache(maxsize=64)
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _shown(value: Any) -> str:
    """A value for a message: on one line, and not all of a large one."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, a number of too many digits
        return f"this {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _checked(hint: Any, value: Any, place: str, default: Any = None) -> Any:
    """A value of the type that `hint` says; a section lies upon its `default`, if it has one."""
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{place!r} must be a section, not {_shown(value)}")
        return from_dict(typing.cast(type, hint), value, place, default)
    origin = typing.get_origin(hint)
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise ConfigError(
                f"{place!r} must be one of {typing.get_args(hint)}, not {_shown(value)}"
            )
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in typing.get_args(hint):
            return None
        (hint,) = (a for a in typing.get_args(hint) if a is not type(None))
        return _checked(hint, value, place, default)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{place!r} must be a section, not {_shown(value)}")
        return {k: _checked(typing.get_args(hint)[1], v, f"{place}.{k}") for k, v in value.items()}
    if origin is tuple:
        item = typing.get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{place!r} must be a list, not {_shown(value)}")
        return tuple(_checked(item, v, place) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ConfigError(f"{place!r} is too large a number") from error
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{place!r} must be {hint.__name__}, not {_shown(value)}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dictionary of a configuration dataclass, ready for JSON."""
    return dataclasses.asdict(config)


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a TOML recipe; `base = "other.toml"` (relative to it) is read first and overlaid.

    Raises:
        ConfigError: the file is missing, is not TOML, or its bases form a circle.
    """
    return _read_recipe(path, ())


def _read_recipe(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if len(seen) > _MOST_BASES or path in seen:
        raise ConfigError(f"{path}: recipes name each other as base in a circle")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the recipe ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML ({_first_line(error)})") from error
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str) or "\0" in base:
        raise ConfigError(f"{path}: base must name another recipe, not {_shown(base)}")
    return _overlay(_read_recipe(path.parent / base, (*seen, path)), values)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _overlay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        both_sections = isinstance(value, dict) and isinstance(below, dict)
        merged[key] = _overlay(below, value) if both_sections else value  # type: ignore[arg-type]
    return merged


def apply_overrides(values: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Overlay `section.key=value` strings (values in TOML syntax) on recipe values."""
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"--set {override!r}: write it as section.key=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            value = text
        for part in reversed(name.strip().split(".")):
            value = {part: value}
        values = _overlay(values, value)
    return values

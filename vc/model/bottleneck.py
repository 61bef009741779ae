"""Bottlenecks: how much a content frame can carry. One class an idea, one interface.

Each maps content `(batch, content_dim, content_frames)`, frame by frame, to `Bottled`: what is
left of it, what that costs, and, where content becomes symbols, which ones. Content comes in
instance-normalised (which takes away each channel's clip-wide mean, where the speaker hides),
unless the class says `wants_unit_variance = False`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vc.config import AutoencoderConfig

_CODEBOOK_DECAY = 0.99
_DEAD_BELOW = 0.05  # uses a batch, averaged: a code used less often is given a new place
_REVIVED_USES = 0.5  # what such a code begins with there: few, so that it soon follows its frames


class Bottled(NamedTuple):
    """What a bottleneck lets through."""

    content: Tensor  # (batch, content_dim, content_frames)
    loss: Tensor  # scalar, to be weighed by the recipe
    codes: Tensor | None = None  # (batch, content_frames), the symbol of each frame


class Bottleneck(nn.Module):
    """What they share."""

    wants_unit_variance = True

    def forward(self, content: Tensor) -> Bottled:
        """Map `(batch, content_dim, content_frames)`, float32."""
        raise NotImplementedError


class NoiseBottleneck(Bottleneck):
    """Unit-variance content through an additive white Gaussian noise channel while training.

    With each channel's power fixed at 1, noise of standard deviation `noise` caps what it can say
    at `0.5 * log2(1 + 1 / noise**2)` bits a frame (Shannon 1948). The decoder learns to rely on
    what survives, the encoder to say what matters most. Without noise (`noise = 0`) only the
    number of channels is a limit. At inference nothing is added.
    """

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, content: Tensor) -> Bottled:
        """See the module."""
        if self.training and self.noise > 0:
            content = content + self.noise * torch.randn_like(content)
        return Bottled(content, content.new_zeros(()))


class VariationalBottleneck(Bottleneck):
    """Gaussian content of unit variance, drawn towards zero (Chou & Lee 2019, arXiv:1904.05742).

    With the variance fixed, the Kullback-Leibler divergence to the standard normal is half the
    squared mean: content pays for every bit it carries over the noise.
    """

    wants_unit_variance = False

    def forward(self, content: Tensor) -> Bottled:
        """See the module."""
        loss = 0.5 * content.square().mean()
        return Bottled(content + torch.randn_like(content) if self.training else content, loss)


class SigmoidBottleneck(Bottleneck):
    """Content squeezed into (0, 1) by a flat sigmoid: AGAIN-VC's activation guidance.

    Chen et al. 2021, arXiv:2011.00316. The slope of 0.1 is theirs.
    """

    SLOPE = 0.1

    def forward(self, content: Tensor) -> Bottled:
        """See the module."""
        squeezed = torch.sigmoid(self.SLOPE * content)
        return Bottled(squeezed, squeezed.new_zeros(()))


class VectorQuantizer(Bottleneck):
    """Each frame becomes the nearest entry of a codebook (VQ-VAE, van den Oord et al. 2017).

    Entries follow the mean of what they stand for by moving averages (appendix A.1 of
    arXiv:1711.00937). One that is hardly used any more moves to a random frame of the batch, so
    that none is lost; with the first batch, all that fewer than five frames chose do. Gradients
    pass straight through; the loss keeps content near its entry.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.randn(size, dim))
        self.register_buffer("uses", torch.zeros(size))

    def forward(self, content: Tensor) -> Bottled:
        """See the module."""
        frames = content.transpose(1, 2)  # (B, C, T) -> (B, T, C)
        codes = torch.cdist(frames, self.get_buffer("codebook")[None]).argmin(dim=-1)
        quantized = self.look_up(codes)
        if self.training:
            self._follow(frames.detach().flatten(0, 1), codes.flatten())
        loss = functional.mse_loss(content, quantized)
        return Bottled(content + (quantized - content).detach(), loss, codes)

    def look_up(self, codes: Tensor) -> Tensor:
        """Content `(batch, content_dim, content_frames)` of `(batch, content_frames)` codes."""
        return self.get_buffer("codebook")[codes].transpose(1, 2)

    @torch.no_grad()
    def start(self, entries: Tensor) -> None:
        """Begin with these `(size, content_dim)`, each as if it were used once a batch."""
        self.get_buffer("codebook").copy_(entries)
        self.get_buffer("uses").fill_(1.0)

    @torch.no_grad()
    def _follow(self, frames: Tensor, codes: Tensor) -> None:
        """Move the entries towards the `(frames, content_dim)` that chose them."""
        codebook, uses = self.get_buffer("codebook"), self.get_buffer("uses")
        sums = codebook * uses[:, None]
        counts = torch.bincount(codes, minlength=len(codebook)).to(uses.dtype)
        totals = torch.zeros_like(sums).index_add_(0, codes, frames)  # float32 under autocast too
        uses.lerp_(counts, 1 - _CODEBOOK_DECAY)
        sums.lerp_(totals, 1 - _CODEBOOK_DECAY)
        dead = uses < _DEAD_BELOW
        picks = torch.randint(len(frames), (len(codebook),), device=frames.device)
        sums[dead] = _REVIVED_USES * frames[picks][dead]
        uses[dead] = _REVIVED_USES
        codebook.copy_(sums / uses[:, None])


class ScalarQuantizer(Bottleneck):
    """Each channel is rounded to a few levels (finite scalar quantisation, Mentzer et al. 2023).

    arXiv:2309.15505. No codebook, so nothing can collapse; a frame's code is the mixed-radix
    number of its levels.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        radix = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("radix", torch.tensor(radix), persistent=False)

    def forward(self, content: Tensor) -> Bottled:
        """See the module."""
        levels = self.get_buffer("levels")[:, None]
        span = (levels - 1).float()
        places = (torch.tanh(content) + 1) / 2 * span  # 0 ... levels - 1
        places = places + (places.round() - places).detach()  # straight through
        codes = (places.detach().round().long() * self.get_buffer("radix")[:, None]).sum(dim=1)
        return Bottled(2 * places / span - 1, content.new_zeros(()), codes)

    def look_up(self, codes: Tensor) -> Tensor:
        """Content `(batch, content_dim, content_frames)` of `(batch, content_frames)` codes."""
        levels, radix = self.get_buffer("levels")[:, None], self.get_buffer("radix")[:, None]
        places = codes.unsqueeze(1) // radix % levels
        return 2 * places / (levels - 1) - 1


class BinaryQuantizer(Bottleneck):
    """Each channel is one bit: +1 or -1.

    While training the bit is drawn, 1 with probability `sigmoid(content)`, and the gradient goes
    straight through to that probability (stochastic neurons, Bengio et al. 2013, arXiv:1308.3432);
    at inference the likelier one is taken. A frame's code is the number that its bits write, the
    first channel's being the lowest.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("places", 2 ** torch.arange(dim), persistent=False)

    def forward(self, content: Tensor) -> Bottled:
        """See the module."""
        mean = torch.tanh(content / 2)  # of a bit that is +1 with probability sigmoid(content)
        threshold = 2 * torch.rand_like(mean) - 1 if self.training else 0.0
        ones = mean > threshold
        bits = 2 * ones.to(content.dtype) - 1
        codes = (ones.long() * self.get_buffer("places")[:, None]).sum(dim=1)
        return Bottled(mean + (bits - mean).detach(), content.new_zeros(()), codes)

    def look_up(self, codes: Tensor) -> Tensor:
        """Content `(batch, content_dim, content_frames)` of `(batch, content_frames)` codes."""
        ones = codes.unsqueeze(1) // self.get_buffer("places")[:, None] % 2
        return 2 * ones.float() - 1


class OneHotQuantizer(Bottleneck):
    """Each frame is one of `content_dim` classes.

    While training a class is drawn by the Gumbel-softmax, hard forwards and soft backwards (Jang et
    al. 2017, arXiv:1611.01144; Maddison et al. 2017, arXiv:1611.00712); at inference the likeliest
    is taken. The loss is what the classes' average use lacks in bits to being even, so that none
    is lost: what reviving dead entries does for a codebook.

    Args:
        classes: how many.
        temperature: of the softmax; the lower, the nearer its gradient is to that of a choice, and
            the noisier.
    """

    wants_unit_variance = False  # an encoder that is sure may say so

    def __init__(self, classes: int, temperature: float) -> None:
        super().__init__()
        self.classes = classes
        self.temperature = temperature

    def forward(self, content: Tensor) -> Bottled:
        """See the module."""
        use = content.softmax(dim=1).mean(dim=(0, 2))
        loss = math.log2(self.classes) + torch.special.xlogy(use, use).sum() / math.log(2)
        if self.training:
            chosen = functional.gumbel_softmax(content, self.temperature, hard=True, dim=1)
            return Bottled(chosen, loss, chosen.argmax(dim=1))
        codes = content.argmax(dim=1)
        return Bottled(self.look_up(codes).to(content.dtype), loss, codes)

    def look_up(self, codes: Tensor) -> Tensor:
        """Content `(batch, content_dim, content_frames)` of `(batch, content_frames)` codes."""
        return functional.one_hot(codes, self.classes).transpose(1, 2).float()


def make_bottleneck(config: AutoencoderConfig) -> Bottleneck:
    """The bottleneck that a configuration names."""
    match config.bottleneck:
        case "noise":
            return NoiseBottleneck(config.bottleneck_noise)
        case "narrow":
            return NoiseBottleneck(0.0)
        case "variational":
            return VariationalBottleneck()
        case "sigmoid":
            return SigmoidBottleneck()
        case "vq":
            return VectorQuantizer(config.codebook_size, config.content_dim)
        case "fsq":
            return ScalarQuantizer(config.quantizer_levels)
        case "binary":
            return BinaryQuantizer(config.content_dim)
        case "one_hot":
            return OneHotQuantizer(config.content_dim, config.one_hot_temperature)

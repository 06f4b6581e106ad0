"""The shape of an encoder; every version of the `users` line stores it beside the weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from imsr_core.fields import Section, documented
from imsr_core.parts import ENCODERS

Layout = Literal["post_activation", "pre_activation", "norm_conv_relu"]


@dataclass(frozen=True)
class EncoderConfig(Section):
    """One encoder of a user's item sequence; the catalogue's size is not part of it, because it grows."""

    name: str = documented(
        "nextitnet",
        "nextitnet = causal dilated convolutions, grec = the same seeing both sides, sasrec = Transformer, "
        "gru4rec = recurrent, dssm = sum of items / sqrt(their number) and an MLP",
        choices=ENCODERS,
    )
    dim: int = documented(
        64, "d, channels and length of a user vector (papers: 256; 64 in their demos)", at_least=2, at_most=4096
    )
    length: int = documented(
        50, "L, most recent items of a user that are read (papers: 100)", at_least=2, at_most=100_000
    )
    dilations: tuple[int, ...] = documented(
        (1, 4) * 2, "one residual block each, dilations (k, 2k) (papers: 1,4 four times)", at_least=1, at_most=100_000
    )
    kernel: int = documented(3, "items that one convolution sees (papers: 3)", at_least=2, at_most=1000)
    layout: Layout = documented(
        "post_activation",
        "order inside a residual block: post_activation = conv, norm, ReLU (PeterRec, TERACON); "
        "pre_activation = norm, ReLU, conv (Conure's code); norm_conv_relu = norm, conv, ReLU "
        "(Conure's figure)",
    )
    layers: int = documented(2, "blocks of the Transformer, layers of the GRU and of the MLP", at_least=1, at_most=1000)
    heads: int = documented(1, "attention heads of the Transformer", at_least=1, at_most=4096)
    dropout: float = documented(
        0.3,
        "dropout of item vectors, of hidden states and of the Transformer's sub-layers while training",
        at_least=0,
        below=1,
    )

    def clashes(self) -> Iterator[tuple[str, str]]:
        if not self.dilations:
            yield "dilations", "one or more numbers from 1 up"
        if self.name == "grec" and self.kernel % 2 == 0:
            yield "kernel", "odd for grec (both sides alike)"
        if self.dim % self.heads:
            yield "heads", f"a divisor of dim = {self.dim}"

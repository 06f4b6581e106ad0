"""The shape of an encoder; every version of the `users` line stores it beside the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from imsr_core.errors import ConfigError
from imsr_core.fields import documented

EncoderName = Literal["nextitnet", "grec", "sasrec", "gru4rec", "dssm"]
Layout = Literal["post_activation", "pre_activation", "norm_conv_relu"]


@dataclass(frozen=True)
class EncoderConfig:
    """One encoder of a user's item sequence; the catalogue's size is not part of it, because it grows."""

    name: EncoderName = documented(
        "nextitnet",
        "nextitnet = causal dilated convolutions, grec = the same seeing both sides, sasrec = Transformer, "
        "gru4rec = recurrent, dssm = mean of items and an MLP",
    )
    dim: int = documented(64, "d, channels and length of a user vector (papers: 256; 64 in their demos)")
    length: int = documented(50, "L, most recent items of a user that are read (papers: 100)")
    dilations: tuple[int, ...] = documented(
        (1, 4) * 4, "one residual block each, dilations (k, 2k) (papers: 1,4 four times)"
    )
    kernel: int = documented(3, "items that one convolution sees (papers: 3)")
    layout: Layout = documented(
        "post_activation",
        "order inside a residual block: post_activation = conv, norm, ReLU (PeterRec, TERACON); "
        "pre_activation = norm, ReLU, conv (Conure's code); norm_conv_relu = norm, conv, ReLU "
        "(Conure's figure)",
    )
    layers: int = documented(2, "blocks of the Transformer, layers of the GRU and of the MLP")
    heads: int = documented(1, "attention heads of the Transformer")
    dropout: float = documented(0.0, "dropout of the Transformer's sub-layers")

    def __post_init__(self) -> None:
        def check(ok: bool, key: str, wanted: str) -> None:
            if not ok:
                raise ConfigError(
                    f"[encoder] {key} = {getattr(self, key)!r}: must be {wanted}",
                    hint=f"change {key} of the encoder's configuration",
                )

        check(self.name in get_args(EncoderName), "name", f"one of {get_args(EncoderName)}")
        check(self.layout in get_args(Layout), "layout", f"one of {get_args(Layout)}")
        check(self.dim >= 2, "dim", "at least 2")
        check(self.length >= 2, "length", "at least 2")
        check(len(self.dilations) > 0 and min(self.dilations) >= 1, "dilations", "one or more numbers from 1 up")
        check(self.kernel >= 2, "kernel", "at least 2")
        check(self.name != "grec" or self.kernel % 2 == 1, "kernel", "odd for grec (both sides alike)")
        check(self.layers >= 1, "layers", "at least 1")
        check(self.heads >= 1 and self.dim % self.heads == 0, "heads", f"a divisor of dim = {self.dim}")
        check(0 <= self.dropout < 1, "dropout", "in [0, 1)")

"""GRec, as PeterRec uses it for non-causal pre-training (Yuan et al., SIGIR 2020, section 3.2).

NextItNet's blocks with symmetric convolutions. A position sees itself, so pre-training hides some items
behind the MASK token and learns to fill the holes (``imsr_core.lifelong.pretraining``).
"""

from __future__ import annotations

from typing import ClassVar

from imsr_core.encoders.nextitnet import NextItNet


class GRec(NextItNet):
    """Dilated convolutions that see both sides."""

    causal: ClassVar[bool] = False

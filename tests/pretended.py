"""An accelerator that is not there: tensors that were carried to it say so, and meet no others in one operation.

Results are computed by the processor. What torch refuses on a real accelerator is refused here, so that a test without
one finds what was left behind: an operation over tensors of two devices. Numbers (tensors without dimensions) and
positions of an index may be anywhere, as in torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

MARK = "pretended_device"
#: May join devices: they carry, look at or index, and what autograd does is torch's own.
CARRIES = (
    "to",
    "cpu",
    "copy_",
    "_has_compatible_shallow_copy_type",
    "__getitem__",
    "__setitem__",
    "backward",
    "requires_grad_",
    "load_state_dict",
)


class PretendedCuda(TorchFunctionMode):
    """While active, ``tensor.to("cuda")`` marks a tensor, and ``tensor.device`` says so. ``calls`` counts operations
    on marked tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        where = resolve_name(function) or ""
        if where.endswith("Tensor.device.__get__"):
            return torch.device("cuda" if is_there(args[0]) else "cpu")
        if where.endswith("Tensor.data.__set__"):
            setattr(args[0], MARK, is_there(args[1]))
            return function(*args, **kwargs)
        if name == "to":
            return self._carried(function, args, kwargs)
        if name == "cpu":
            return without_mark(function(*args, **kwargs))
        wanted = kwargs.pop("device", None)
        if wanted is not None and torch.device(wanted).type == "cuda":
            return marked(function(*args, **kwargs))
        if wanted is not None:
            kwargs["device"] = wanted
        given = [each for each in flat((args, kwargs)) if isinstance(each, Tensor)]
        there = [each for each in given if is_there(each)]
        here = [each for each in given if not is_there(each) and each.dim()]
        if there and here and name not in CARRIES:
            raise RuntimeError(f"{where or name}: tensors of two devices")
        if name == "numpy" and there:
            raise TypeError("a tensor of an accelerator has no numpy array")
        result = function(*args, **kwargs)
        if not there or where.endswith("__set__"):
            return result
        self.calls += 1
        if name in ("copy_", "__setitem__", "__getitem__") and not is_there(args[0]):
            return result
        return marked(result)

    @staticmethod
    def _carried(function: Any, args: Any, kwargs: Any) -> Any:
        asked = (*args[1:], *kwargs.values())
        devices = [each for each in asked if isinstance(each, str | torch.device)]
        kinds = [each for each in asked if isinstance(each, torch.dtype)]
        result = function(args[0], *kinds) if kinds else args[0]
        if not devices:
            return marked(result) if is_there(args[0]) else result
        there = torch.device(devices[0]).type == "cuda"
        if there == is_there(args[0]):
            return result
        copy = result.detach().clone() if not result.requires_grad else result.clone()
        return marked(copy) if there else without_mark(copy)


def is_there(tensor: Tensor) -> bool:
    """Whether it was carried to the accelerator."""
    return bool(getattr(tensor, MARK, False))


def marked(result: Any) -> Any:
    """The result of an operation there, all its tensors marked."""
    for each in flat(result):
        if isinstance(each, Tensor):
            setattr(each, MARK, True)
    return result


def without_mark(tensor: Tensor) -> Tensor:
    """A copy that is here."""
    if is_there(tensor):
        tensor = tensor.clone()
        setattr(tensor, MARK, False)
    return tensor


def flat(value: Any) -> list[Any]:
    """All that is in tuples, lists and dictionaries."""
    if isinstance(value, dict):
        return flat(list(value.values()))
    if isinstance(value, tuple | list):
        return [each for part in value for each in flat(part)]
    return [value]

"""A device that is the CPU but keeps the rules of a card: tensors of two devices do not meet.

    python -m tests.benchmarks.pretend_card SCRIPT [ARGUMENT ...]     # with device `card`

Every operation is computed on the CPU. What is refused is what CUDA refuses: operands on two
devices (numbers without dimensions and indices apart, as there), a CPU generator for a tensor of
the card, `.numpy()` on it. So a trial can be proved to put its tensors where they belong on a
machine that has no card. Streams, memory and speed are not pretended.
"""

from __future__ import annotations

import contextlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.utils._foreach_utils
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "card"
aten = torch.ops.aten
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
"""Indices may stay on the CPU for a tensor of the card, never the other way round."""


class CardModule:
    """What torch asks of a device's module."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        """The CPU's generator serves."""

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        """Restored with the CPU's."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def device(self, index: int) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()


class CardTensor(torch.Tensor):
    """A tensor that says it is on the card; `raw` is its content on the CPU."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: type[CardTensor], raw: torch.Tensor) -> CardTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls, raw.shape, strides=raw.stride(), storage_offset=raw.storage_offset(),
            dtype=raw.dtype, device=torch.device(f"{NAME}:0"), requires_grad=False,
        )  # fmt: skip
        made.raw = raw
        return made

    def __repr__(self) -> str:
        return f"CardTensor({self.raw!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def _named(device: object) -> bool:
    return device is not None and torch.device(device).type == NAME


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """One operation, refused as CUDA would refuse it.

    Raises:
        RuntimeError: tensors or generator are on the wrong device.
    """
    leaves = tree_leaves((args, kwargs))
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    ours = [x for x in tensors if isinstance(x, CardTensor)]
    asked = kwargs.get("device")
    stays = _named(asked) if asked is not None else bool(ours)
    if func in INDEXING or func is aten.copy_.default:
        stays = isinstance(args[0], CardTensor)
        if func in INDEXING and ours and not stays:
            raise RuntimeError(f"{func}: indices on the card, the tensor on the cpu")
    elif func is not aten._to_copy.default and ours:
        strange = [x.shape for x in tensors if x.dim() and not isinstance(x, CardTensor)]
        if strange:
            raise RuntimeError(f"{func}: all tensors must be on one device; on the cpu: {strange}")
    if stays and any(isinstance(x, torch.Generator) for x in leaves):
        raise RuntimeError(f"{func}: a generator of the cpu for a tensor on the card")
    out = func(*tree_map(_raw, args), **tree_map(_raw, kwargs))
    if func is aten.copy_.default and not stays:
        return args[0]
    if func is aten._local_scalar_dense.default or not stays:
        return out
    wrapped = tree_map(_wrapped, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _wrapped(out: Any) -> Any:
    """On the card, without the marks of a lazy conjugate or negative, which a wrapper loses."""
    if not isinstance(out, torch.Tensor):
        return out
    return CardTensor(out.resolve_conj().resolve_neg())


def _raw(given: Any) -> Any:
    if isinstance(given, CardTensor):
        return given.raw
    if isinstance(given, torch.device) and given.type == NAME:
        return torch.device("cpu")
    return given


class _Operations(TorchDispatchMode):
    """Also catches what makes a tensor on the card out of none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        ours = any(isinstance(x, CardTensor) for x in tree_leaves((args, kwargs)))
        if ours or _named(kwargs.get("device")):
            return computed(func, args, kwargs)
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    """What reaches no operation: tensors from numbers, and numbers from tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor):
            device = kwargs.pop("device", None)
            numbers = tree_map(
                lambda x: x.item() if isinstance(x, CardTensor) and x.dim() == 0 else x, args
            )
            made = func(*numbers, **kwargs)
            return made if device is None else made.to(device)
        if func is torch.Tensor.tolist and isinstance(args[0], CardTensor):
            return args[0].detach().cpu().tolist()
        if func == torch.Tensor.data.__set__ and isinstance(args[0], CardTensor):
            args[0].raw = args[1].raw  # a module's `to` changes its parameters so
        return func(*args, **kwargs)


@contextlib.contextmanager
def pretended() -> Iterator[None]:
    """Device `card` exists inside; files are written from the CPU, as CUDA's tensors are."""
    import safetensors.torch

    registered()
    save, save_file = torch.save, safetensors.torch.save_file
    inference_mode = torch.inference_mode

    def on_cpu(content: Any) -> Any:
        return tree_map(lambda x: x.raw if isinstance(x, CardTensor) else x, content)

    torch.save = lambda content, *args, **more: save(on_cpu(content), *args, **more)
    safetensors.torch.save_file = lambda content, *args, **more: save_file(
        on_cpu(content), *args, **more
    )
    torch.inference_mode = torch.no_grad  # a wrapper has no version counter to do without
    try:
        with _Functions(), _Operations():
            yield
    finally:
        torch.save, safetensors.torch.save_file = save, save_file
        torch.inference_mode = inference_mode


_known = False


def registered() -> None:
    """Make the device known; before the first backward, which counts devices for good."""
    global _known
    if not _known:
        _known = True
        _setup_privateuseone_for_python_backend(NAME, backend_module=CardModule())
        torch.utils._foreach_utils._foreach_supported_types.append(CardTensor)


if __name__ == "__main__":
    script, *arguments = sys.argv[1:]
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).resolve().parent)
    with pretended():
        runpy.run_path(script, run_name="__main__")

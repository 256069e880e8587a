"""Operations on torch's meta device, which computes nothing and still needs Python for shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Remake: TypeAlias = Callable[[tuple[Any, ...]], Any]
"""From the arguments of an operation to what it gives."""

_known: dict[Any, tuple[Remake | None, Any]] = {}


class Remembered(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Works out the results of an operation on meta tensors once for the shapes of its arguments.

    The rows of the zoo do the same to the same shapes again and again.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Without this, torch imports its compiler at the first operation, which takes seconds."""
        return False

    def note(self, func: Any, args: tuple[Any, ...], made: Any) -> Any:
        """What else to remember of an operation; ``made`` is its result."""

    def repeat(self, noted: Any) -> None:
        """Called for each operation that is no view, with what :meth:`note` returned for such."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func.is_view:
            return func(*args, **(kwargs or {}))
        seen: dict[int, int] = {}
        given = tuple([(name, _key(value, seen)) for name, value in (kwargs or {}).items()])
        key = type(self), func, _key(args, seen), given
        remake, noted = _known.get(key, (None, None))
        if remake is None:
            made = func(*args, **(kwargs or {}))
            # What is made once, filters and the order of the reals, is made on the CPU.
            if not all(tensor.is_meta for tensor in tensors((args, made))):
                return made
            noted = self.note(func, args, made)
            _known[key] = _remake(func, args, made), noted
        else:
            made = remake(args)
        self.repeat(noted)
        return made


def _key(value: Any, seen: dict[int, int]) -> Any:
    """Of an argument: shapes of tensors, and which of them are the same one."""
    if isinstance(value, Tensor):
        number = seen.setdefault(id(value), len(seen))
        return value.shape, value.stride(), value.dtype, value.is_meta, number
    if isinstance(value, list | tuple):
        return tuple([_key(part, seen) for part in value])
    return value.__class__, value


def _remake(func: Any, args: tuple[Any, ...], made: Any) -> Remake | None:
    """How to make results like ``made`` again; None where that is left to torch."""
    if func._schema.is_mutable:
        if made is None:
            return lambda args: None
        return (lambda args: args[0]) if args and made is args[0] else None
    if isinstance(made, Tensor):
        shape, stride, dtype = made.shape, made.stride(), made.dtype
        return lambda args: torch.empty_strided(shape, stride, dtype=dtype, device="meta")
    if isinstance(made, list | tuple):
        parts = [_remake(func, args, part) for part in made]
        kind = type(made)
        if kind in (list, tuple) and None not in parts:
            return lambda args: kind(part(args) for part in parts if part)
    return None


def tensors(value: Any) -> list[Tensor]:
    """Those of an operation's arguments and results, which are lists at most."""
    # torch's own tree_leaves took a fifth of the time of counting.
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in tensors(part)]
    return []

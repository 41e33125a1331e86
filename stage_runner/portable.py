"""Converts states to what other programs expect: types that ``torch.load`` reads with default
arguments (``weights_only``), under the model's names without its wrappers.

Arrays become tensors; NumPy scalars become Python's; deques, frozen sets and other mappings become
lists, sets and dicts. Text, dates and times of NumPy become text, in lists if they are arrays.
Everything else is unchanged, including shared memory and ``_metadata``.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from hippo.model.words import with_article

WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of names that PyTorch's wrappers (torch.compile and the like) add anywhere."""

PARALLEL = "module"
"""The prefix that DataParallel and DistributedDataParallel add to every name of a model."""

LONGEST_INT = 255 * 8 - 1
"""Bits; longer integers need a pickle operation that ``weights_only`` does not support."""

_TENSOR_KINDS = "biufc"
_TEXT_KINDS = "USMm"


class NotPortable(ValueError):
    """The file format cannot hold something, named by its path. The message is one line."""


def make_portable(state: Any, torch: Any, *, keep_names: bool) -> Any:
    """Convert the state for ``torch.save``; it shares memory with the original. Raises
    NotPortable.
    """
    return _Conversion(torch, keep_names=keep_names).convert(state, "state")


class _Conversion:
    def __init__(self, torch: Any, *, keep_names: bool) -> None:
        self._torch = torch
        self._keep_names = keep_names
        self._made: dict[int, Any] = {}  # results by id, so that a shared object stays one
        self._dtypes: dict[int, Any] = {}  # dtype of the first tensor in each storage

    def convert(self, value: Any, path: str) -> Any:
        if id(value) in self._made:
            return self._made[id(value)]
        kind = type(value)
        if kind is bytes and not value:
            return bytearray()  # weights_only does not support the pickle of empty bytes
        if value is None or kind in (bool, str, float, complex, bytes, bytearray):
            return value
        if kind is int:
            return _check_int(value, path)
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, (list, deque)):
            made: list[Any] = []
            self._made[id(value)] = made
            made += self._items(value, path)
            return made
        if isinstance(value, (set, frozenset)):
            return set(self._items(value, path))
        if isinstance(value, self._torch.Tensor):
            made = self._made[id(value)] = self._tensor(value)
            return made
        if isinstance(value, self._torch.Size | self._torch.dtype | self._torch.device):
            return value
        if isinstance(value, tuple):
            return tuple(self._items(value, path))
        return self._of_numpy(value, path)

    def _items(self, values: Any, path: str) -> list[Any]:
        return [self.convert(item, f"{path}[{index}]") for index, item in enumerate(values)]

    def _mapping(self, value: Mapping[Any, Any], path: str) -> Any:
        made: Any = type(value)() if type(value) in (OrderedDict, Counter) else {}
        self._made[id(value)] = made
        names = {} if self._keep_names else bare_names(value)
        for key, item in value.items():
            below = f"{path}[{key!r}]"
            converted = self.convert(item, below)
            if key == "param_names" and not self._keep_names:  # of an optimizer's groups
                converted = _bare_list(converted)
            made[names[key] if key in names else self.convert(key, below)] = converted
        if type(value) is OrderedDict and vars(value):
            own = {name: self.convert(item, f"{path}.{name}") for name, item in vars(value).items()}
            if "_metadata" in own and names:
                own["_metadata"] = _bare_metadata(own["_metadata"], value, names)
            vars(made).update(own)
        return made

    def _tensor(self, tensor: Any) -> Any:
        if type(tensor) not in (self._torch.Tensor, self._torch.nn.Parameter):
            tensor = tensor.detach()
        place = tensor.untyped_storage().data_ptr()
        if self._dtypes.setdefault(place, tensor.dtype) != tensor.dtype and place:
            return tensor.detach().clone()  # torch.save refuses two types of one storage
        return tensor

    def _of_numpy(self, value: Any, path: str) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)):
            raise NotPortable(f"{path}: {with_article(type(value).__name__)} cannot be exported")
        kind = value.dtype.kind
        if kind in _TEXT_KINDS:
            told = numpy.datetime_as_string(value) if kind == "M" else value
            return (told.astype(str) if kind == "m" else numpy.asarray(told)).tolist()
        known = kind in _TENSOR_KINDS and value.dtype.itemsize <= (16 if kind == "c" else 8)
        if not known:
            raise NotPortable(
                f"{path}: PyTorch has no counterpart of NumPy's {value.dtype}; name a file that"
                " ends in .npz"
            )
        if isinstance(value, numpy.generic):
            return value.item()
        native = value.dtype.newbyteorder("=")
        made = self._torch.from_numpy(numpy.array(value, dtype=native, order="C", copy=True))
        self._made[id(value)] = made
        return made


def _check_int(value: int, path: str) -> int:
    if value.bit_length() > LONGEST_INT:
        raise NotPortable(
            f"{path}: an integer of {value.bit_length()} bits, and torch.load reads {LONGEST_INT}"
        )
    return value


# -- names -----------------------------------------------------------------------------------------


def bare_names(names: Mapping[Any, Any]) -> dict[Any, str]:
    """Map the names that wrappers have changed to the names without them.

    ``module.`` is removed only if all names begin with it. Nothing changes if two names would
    become equal.
    """
    texts = [name for name in names if isinstance(name, str)]
    bare = {name: _bare(name) for name in texts}
    is_parallel = len(texts) == len(names) and all(
        name.startswith(f"{PARALLEL}.") and is_tensor(names[key]) for key, name in bare.items()
    )
    if is_parallel:
        bare = {key: _bare(name.removeprefix(f"{PARALLEL}.")) for key, name in bare.items()}
    changed = {key: name for key, name in bare.items() if key != name}
    return changed if len(set(bare.values())) == len(bare) else {}


def is_tensor(value: Any) -> bool:
    """Return whether a value is an array or a tensor of any library."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS) or name


def _bare_list(names: Any) -> Any:
    is_text = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return [_bare(name) for name in names] if is_text else names


def _bare_metadata(metadata: Any, state: Mapping[Any, Any], names: Mapping[Any, str]) -> Any:
    """Map module versions to their paths without wrappers; a wrapper's own version is dropped."""
    if not isinstance(metadata, dict):
        return metadata
    is_parallel = any(_bare(key) != name for key, name in names.items())
    find: Callable[[str], str] = _place_in_parallel if is_parallel else _place
    made: dict[Any, Any] = type(metadata)()
    for place, item in sorted(metadata.items(), key=lambda entry: len(str(entry[0]))):
        made[find(place) if isinstance(place, str) else place] = item  # inner modules last
    return made


def _place(place: str) -> str:
    return ".".join(part for part in place.split(".") if part not in WRAPPERS)


def _place_in_parallel(place: str) -> str:
    bare = _place(place)
    return "" if bare == PARALLEL else _place(bare.removeprefix(f"{PARALLEL}."))

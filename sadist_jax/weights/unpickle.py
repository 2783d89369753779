"""A pickle interpreter that cannot run code: plain data and descriptions of tensors come out.

A `.pth` file keeps its structure in one pickle stream, and Python's own unpickler imports and calls whatever such a
stream names. This one never imports and never calls: a global is an inert `Name` from an allow-list, and a "call" of
one is looked up in `_CALLS`, whose few functions only check their arguments and note them down. Opcodes (protocol 2,
and the four that protocol 4 adds for the same data) as described in the standard library's pickletools.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sadist_jax.errors import BadInput
from sadist_jax.weights.torch_dtypes import DTYPES, STORAGES, UNTYPED_STORAGE

RESAVE = "re-save the weights alone, in PyTorch: torch.save(model.state_dict(), 'weights.pth')"

_LARGEST = 1 << 58  # elements; times the widest element (16 bytes) it still fits the machine's integers
_DEEPEST = 32  # axes; NumPy's limit before 2.0


@dataclass(frozen=True)
class Name:
    """A global that the stream may mention. It is only its name."""

    text: str


@dataclass(frozen=True)
class Storage:
    """A member `data/<key>` of the archive: `size` elements of `dtype`; dtype None means untyped bytes."""

    key: str
    dtype: np.dtype | None
    size: int

    @property
    def nbytes(self) -> int:
        return self.size * (self.dtype.itemsize if self.dtype else 1)


@dataclass(frozen=True)
class Tensor:
    """A strided view of a storage; offset and strides count elements, and stay inside the storage (checked)."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class _Damaged(Exception):
    """The stream is not a pickle that PyTorch writes."""


class _Forbidden(Exception):
    """The stream asks for something outside the allow-list."""


def loads(stream: bytes, where: str) -> Any:
    """Interpret one pickle. `where` names the file in messages.

    Returns: dicts, lists, tuples, strings, numbers, None, `Tensor`, `Storage` and `Name`; an OrderedDict becomes a
    dict, a Parameter its tensor. Raises BadInput for anything else, and for a stream that is damaged.
    """
    machine = _Machine(stream)
    try:
        return machine.run()
    except _Forbidden as error:
        raise BadInput(f"{where} {error}, which this reader refuses because it could run code; {RESAVE}") from None
    except (_Damaged, IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        detail = str(error) if isinstance(error, _Damaged) else type(error).__name__
        raise BadInput(
            f"{where} holds a damaged or unknown pickle (byte {machine.at}: {detail}); download it again, or {RESAVE}"
        ) from None


class _Machine:
    """Stack, marks and memo of one stream."""

    def __init__(self, stream: bytes):
        self.stream = stream
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := self.take(1)) != b".":
            if code not in _OPCODES:
                raise _Damaged(f"opcode {code!r}")
            _OPCODES[code](self)
        return self.stack.pop()

    def take(self, count: int) -> bytes:
        if count > len(self.stream) - self.at:
            raise _Damaged("the stream ends too early")
        self.at += count
        return self.stream[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.stream.find(b"\n", self.at, self.at + 512)
        if end < 0:
            raise _Damaged("a name has no end")
        return self.take(end + 1 - self.at)[:-1].decode()

    def text(self, form: str) -> str:
        return self.take(self.number(form)).decode("utf-8", "surrogatepass")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise _Damaged("the stack is empty")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def pop_to_mark(self) -> list[Any]:
        return self.pop(max(0, len(self.stack) - self.marks.pop()))

    def find(self, module: Any, name: Any) -> Name:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise _Damaged("a name that is not text")
        text = f"{module}.{name}"
        if text in _CALLS or text in STORAGES or text in DTYPES or text == UNTYPED_STORAGE:
            return Name(text)
        shown = ascii(text[:80]).strip("'\"")
        if not self.stack:  # the first thing that the stream says: the file as a whole is such an object
            raise _Forbidden(f"is a pickled object of {shown}, not a dictionary of tensors")
        raise _Forbidden(f"contains a Python object of {shown}")

    def call(self) -> None:
        function, arguments = self.pop(2)
        if not isinstance(function, Name) or function.text not in _CALLS or not isinstance(arguments, tuple):
            raise _Forbidden(f"calls {ascii(function.text) if isinstance(function, Name) else 'a value'}")
        self.push(_CALLS[function.text](arguments))

    def build(self) -> None:
        """State of an object: `_metadata` of a state dict (module versions), which we have no use for."""
        target, _ = self.pop(2)
        if not isinstance(target, dict | Tensor):
            raise _Forbidden("sets the state of an object")
        self.push(target)

    def append(self, items: list[Any]) -> None:
        if not self.stack or type(self.stack[-1]) is not list:
            raise _Damaged("appends to something that is not a list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if not self.stack or type(self.stack[-1]) is not dict or len(items) % 2:
            raise _Damaged("sets items of something that is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Only plain keys: hashing tuples that contain themselves many times over would never end.
            if not (key is None or isinstance(key, str | int | float)):
                raise _Damaged("a key is neither text nor a number")
            if key in self.stack[-1]:
                raise _Damaged(f"the key {ascii(key)[:80]} appears twice")
            self.stack[-1][key] = value

    def load_storage(self) -> None:
        match self.pop(1)[0]:
            case ("storage", Name(kind), str(key), str(), int(size)) if size >= 0:
                if kind in STORAGES or kind == UNTYPED_STORAGE:
                    self.push(Storage(key, STORAGES.get(kind), size))
                    return
        raise _Forbidden("refers to an outside object that is not a tensor's storage")

    def memoize(self, index: int) -> None:
        self.memo[index] = self.stack[-1]


def _new_dict(arguments: tuple) -> dict:
    if arguments:
        raise _Damaged("an OrderedDict with arguments")
    return {}


def _rebuild_tensor(arguments: tuple) -> Tensor:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata)."""
    match arguments:
        case (Storage(_, np.dtype() as dtype, _) as storage, offset, shape, strides, _, _, *metadata):
            return _view(storage, dtype, offset, shape, strides, metadata)
    raise _Damaged("a tensor with unknown arguments")


def _rebuild_untyped(arguments: tuple) -> Tensor:
    """torch._utils._rebuild_tensor_v3: as v2 on an untyped storage, with the element type after the hooks."""
    match arguments:
        case (Storage(_, None, _) as storage, offset, shape, strides, _, _, Name(kind), *metadata) if kind in DTYPES:
            return _view(storage, DTYPES[kind], offset, shape, strides, metadata)
    raise _Damaged("a tensor with unknown arguments")


def _view(storage: Storage, dtype: np.dtype, offset: Any, shape: Any, strides: Any, metadata: list) -> Tensor:
    if any(metadata):  # lazily conjugated or negated: the bytes alone are not the values
        raise _Damaged("a lazily conjugated or negated tensor")
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= _DEEPEST):
        raise _Damaged("a tensor whose shape and strides do not match")
    if not all(type(n) is int and 0 <= n < _LARGEST for n in (offset, *shape, *strides)):
        raise _Damaged("a tensor with a negative or impossible size, stride or offset")
    if math.prod(max(n, 1) for n in shape) >= _LARGEST:
        raise _Damaged("a tensor of impossible size")
    steps = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    end = offset + (steps + 1 if math.prod(shape) else 0)
    if end * dtype.itemsize > storage.nbytes:
        raise _Damaged(f"a tensor that reaches outside its storage {storage.key[:80]!a}")
    return Tensor(storage, dtype, offset, shape, strides)


def _rebuild_parameter(arguments: tuple) -> Tensor:
    """torch._utils._rebuild_parameter(data, requires_grad, hooks), and the form that also has Python attributes."""
    match arguments:
        case (Tensor() as data, _, _) | (Tensor() as data, _, _, _):
            return data
    raise _Damaged("a parameter without a tensor")


def _size(arguments: tuple) -> tuple:
    match arguments:
        case (tuple() as shape,):
            return shape
    raise _Damaged("a torch.Size without a tuple")


_CALLS: dict[str, Callable[[tuple], Any]] = {
    "collections.OrderedDict": _new_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_untyped,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
}

_OPCODES: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number("<i")),  # BININT
    b"K": lambda m: m.push(m.number("<B")),  # BININT1
    b"M": lambda m: m.push(m.number("<H")),  # BININT2
    b"\x8a": lambda m: m.push(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),  # LONG1
    b"G": lambda m: m.push(m.number(">d")),  # BINFLOAT
    b"X": lambda m: m.push(m.text("<I")),  # BINUNICODE
    b"\x8c": lambda m: m.push(m.text("<B")),  # SHORT_BINUNICODE
    b")": lambda m: m.push(()),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b"(": lambda m: m.marks.append(len(m.stack)),  # MARK
    b"t": lambda m: m.push(tuple(m.pop_to_mark())),
    b"\x85": lambda m: m.push(tuple(m.pop(1))),
    b"\x86": lambda m: m.push(tuple(m.pop(2))),
    b"\x87": lambda m: m.push(tuple(m.pop(3))),
    b"a": lambda m: m.append(m.pop(1)),  # APPEND
    b"e": lambda m: m.append(m.pop_to_mark()),  # APPENDS
    b"s": lambda m: m.set_items(m.pop(2)),  # SETITEM
    b"u": lambda m: m.set_items(m.pop_to_mark()),  # SETITEMS
    b"c": lambda m: m.push(m.find(m.line(), m.line())),  # GLOBAL
    b"\x93": lambda m: m.push(m.find(*m.pop(2))),  # STACK_GLOBAL
    b"R": lambda m: m.call(),  # REDUCE
    b"b": lambda m: m.build(),  # BUILD
    b"Q": lambda m: m.load_storage(),  # BINPERSID
    b"q": lambda m: m.memoize(m.number("<B")),  # BINPUT
    b"r": lambda m: m.memoize(m.number("<I")),  # LONG_BINPUT
    b"\x94": lambda m: m.memoize(len(m.memo)),  # MEMOIZE
    b"h": lambda m: m.push(m.memo[m.number("<B")]),  # BINGET
    b"j": lambda m: m.push(m.memo[m.number("<I")]),  # LONG_BINGET
}

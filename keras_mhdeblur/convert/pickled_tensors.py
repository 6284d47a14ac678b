"""Reading of the pickles in PyTorch checkpoints without Python's unpickler.

A pickle is a program: Python's unpickler imports what it names and calls it. Here the
opcodes are walked over and only containers, numbers, strings and descriptions of
tensors are made of them. What a pickle names is looked up in fixed tables; nothing
is imported, nothing is called, and any other name ends the reading.
"""

import dataclasses
import math
import pickletools


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or is refused."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """The place of numbers: `count` numbers of a dtype under a key of the file."""

    key: str
    dtype: str
    count: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage that lies within it; offset and strides in numbers."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


@dataclasses.dataclass(frozen=True)
class _Name:
    module: str
    name: str


# What checkpoints hold beside weights and what is of no use here.
IGNORED = object()
_MARK = object()

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
_IGNORED_NAMES = {
    "_codecs": {"encode"},
    "builtins": {"complex", "dict", "float", "int", "list", "set"},
    "collections": {"Counter", "defaultdict"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "torch": {
        *("Size", "device", "bfloat16", "float16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    },
    # Of unsigned integers; no weights.
    "torch._utils": {"_rebuild_tensor_v3"},
}
_IGNORED_NAMES["__builtin__"] = _IGNORED_NAMES["builtins"]
_IGNORED_NAMES["numpy._core.multiarray"] = _IGNORED_NAMES["numpy.core.multiarray"]

_NUMBERS_AND_STRINGS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_TUPLE_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def check(condition, problem):
    """Raises CheckpointError with the problem unless the condition holds."""
    if not condition:
        raise CheckpointError(problem)


def quoted(value):
    """A string of a file, safe to print."""
    return ascii(value)[:80]


def read_pickle(file, storages=None):
    """The object of one pickle, read up to its end.

    Args:
        file: binary file.
        storages: dict that receives every storage that is named, by its key.

    Returns:
        Dicts, lists, tuples, numbers, strings, `Tensor`s, `Storage`s, and `IGNORED`
        in place of what is neither executed nor needed.

    Raises:
        CheckpointError: the pickle names or asks for anything else.
        Exception: of any kind if the pickle is damaged.
    """
    stack, memo = [], {}
    storages = {} if storages is None else storages

    def pop_to_mark():
        position = len(stack) - 1 - stack[::-1].index(_MARK)
        items = stack[position + 1 :]
        del stack[position:]
        return items

    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in _NUMBERS_AND_STRINGS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLE_SIZES:
            start = len(stack) - _TUPLE_SIZES[name]
            check(start >= 0, "The pickle is damaged")
            stack[start:] = [tuple(stack[start:])]
        elif name == "TUPLE":
            stack.append(tuple(pop_to_mark()))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "LIST":
            stack.append(pop_to_mark())
        elif name == "APPEND":
            item = stack.pop()
            _extend(stack[-1], [item])
        elif name == "APPENDS":
            items = pop_to_mark()
            _extend(stack[-1], items)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "DICT":
            items = pop_to_mark()
            stack.append({})
            _update(stack[-1], items[::2], items[1::2])
        elif name == "SETITEM":
            key, value = stack[-2:]
            del stack[-2:]
            _update(stack[-1], [key], [value])
        elif name == "SETITEMS":
            items = pop_to_mark()
            _update(stack[-1], items[::2], items[1::2])
        elif name == "EMPTY_SET":
            stack.append(IGNORED)
        elif name == "ADDITEMS":
            pop_to_mark()
        elif name == "FROZENSET":
            pop_to_mark()
            stack.append(IGNORED)
        elif name == "GLOBAL":
            stack.append(_known(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [_known(*stack[-2:])]
        elif name in ("REDUCE", "NEWOBJ"):
            stack[-2:] = [_make(*stack[-2:])]
        elif name == "BINPERSID":
            storage = stack[-1] = _storage(stack[-1])
            known = storages.setdefault(storage.key, storage)
            check(known == storage, "The checkpoint describes its numbers wrongly")
        elif name == "BUILD":  # attributes of an object that stays as it is
            stack.pop()
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            pop_to_mark()
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise CheckpointError(
                f"The checkpoint is refused: its pickle uses {name}, which weights "
                "have no need of. Nothing was executed"
            )


def _extend(target, items):
    if isinstance(target, list):
        target.extend(items)
    else:
        check(target is IGNORED, "The pickle is damaged")


def _update(target, keys, values):
    if isinstance(target, dict):
        # Others are of no use, and hashing nested tuples can take for ever.
        target.update(
            (key, value) for key, value in zip(keys, values) if type(key) in (str, int)
        )
    else:
        check(target is IGNORED, "The pickle is damaged")


def _known(module, name):
    known = type(module) is str and type(name) is str
    if known:
        known = (
            (module in _STORAGE_MODULES and name in _STORAGES)
            or (module, name) in _MAKERS
            or name in _IGNORED_NAMES.get(module, ())
        )
    check(
        known,
        f"The checkpoint is refused: its pickle names {quoted(f'{module}.{name}')}, "
        "which may run code or be a whole model; save the model's state_dict() "
        "instead. Nothing was executed",
    )
    return _Name(module, name)


def _make(target, arguments):
    """The result of a call that a pickle asks for, without making the call."""
    check(
        isinstance(target, _Name) and type(arguments) is tuple, "The pickle is damaged"
    )
    maker = _MAKERS.get((target.module, target.name))
    return IGNORED if maker is None else maker(*arguments)


def _ordered_dict(pairs=()):
    result = {}
    _update(result, [key for key, _ in pairs], [value for _, value in pairs])
    return result


def _tensor(storage, offset, shape, strides, *_):
    check(
        isinstance(storage, Storage)
        and type(shape) is tuple
        and type(strides) is tuple
        and len(shape) == len(strides) <= 8
        and all(
            type(number) is int and 0 <= number < 2**31
            for number in (offset, *shape, *strides)
        ),
        "The checkpoint describes a tensor wrongly",
    )
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides))
    # More numbers than there are would be repeated ones: a small file, a large array.
    check(
        count == 0 or (count <= storage.count and last < storage.count),
        f"The checkpoint describes a tensor of shape {shape} beyond the "
        f"{storage.count} numbers it is made of",
    )
    return Tensor(storage, offset, shape, strides)


def _parameter(data, *_):
    return data


_MAKERS = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
}


def _storage(identifier):
    check(
        type(identifier) is tuple
        and len(identifier) in (5, 6)
        and identifier[0] == "storage"
        and identifier[5:] in ((), (None,))  # views of storages, before torch 0.4
        and isinstance(identifier[1], _Name)
        and identifier[1].name in _STORAGES
        and type(identifier[2]) is str
        and type(identifier[4]) is int
        and identifier[4] >= 0,
        "The checkpoint describes its numbers wrongly",
    )
    _, kind, key, _, count = identifier[:5]
    return Storage(key, _STORAGES[kind.name], count)

"""Plain Python values as tagged JSON, and back: what may cross between a program and the process that judges it.

Nothing here runs code that the other side chose: decoding builds exact built-in types (and a short list from the
standard library) and refuses everything else. None, bool, small int, finite float and str are themselves in JSON; every
other value is a list whose first item is a tag. Values with no plain form cross as handles, where a table is given.
"""

from __future__ import annotations

import array
import base64
import binascii
import builtins
import collections
import datetime
import decimal
import fractions
import functools
import json
import math
import operator
import re
import sys
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 200
_PLAIN_INT = 1 << 53  # beyond this other readers of JSON lose digits, and beyond 4300 digits Python refuses to parse
_SPECIAL_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_TYPES: dict[str, type] = {
    t.__name__: t for t in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, type(None))
}
_PACKED = 512  # items: shorter lists of floats are written as they are
_PLAIN = {str, bool, type(None)}
_PLAIN_OR_INT = {*_PLAIN, int}
_VIEWS: dict[type, tuple[str, Callable[[Any], list[Any]]]] = {
    type({}.keys()): ("k", list),
    type({}.values()): ("v", list),
    type({}.items()): ("m", list),
}
_NUMERIC = re.compile(r"[<>|=]?[biufc]\d{1,2}")
MAX_FIELDS = 255
arrays = False  # whether numpy's arrays are rebuilt as such; set for a whole process
_MAX_NAME = 80
_ISO: dict[str, Any] = {"datetime": datetime.datetime, "date": datetime.date, "time": datetime.time}
_BUILTIN_FACTORIES = ("int", "float", "str", "list", "dict", "set", "tuple", "bool")

Opaque = Callable[[Any], "list[Any]"]
Resolve = Callable[[Any], Any]


_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def to_json(data: Any) -> bytes:
    """Data of our own making as JSON, by the part of the library that is written in C, made once."""
    return "".join(_chunks(data, 0)).encode()


def _make_chunks() -> Callable[[Any, int], Any]:
    escape, make = json.encoder.encode_basestring_ascii, json.encoder.c_make_encoder  # type: ignore[attr-defined]
    if make is None:  # another interpreter
        return lambda data, _: json.JSONEncoder(separators=(",", ":")).encode(data)
    made: Callable[[Any, int], Any] = make(None, repr, escape, None, ":", ",", False, False, True)
    return made


_chunks = _make_chunks()


def from_json(message: bytes) -> Any:
    """What `to_json` wrote; only for messages of our own side, since what follows the first value is not looked at."""
    return _scan(message.decode(), 0)[0]


class CodecError(ValueError):
    """A value that cannot cross, or bytes that are no value."""


def dumps(value: Any, opaque: Opaque | None = None) -> str:
    """The value as one line of ASCII JSON. CodecError where it is nested deeper than MAX_DEPTH or has no plain form."""
    return json.dumps(encode(value, opaque), allow_nan=False, separators=(",", ":"))


def loads(text: str | bytes, resolve: Resolve | None = None) -> Any:
    """The value written by `dumps`. CodecError for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not a value: {type(error).__name__}") from None
    return decode(data, resolve)


def encode(value: Any, opaque: Opaque | None = None, depth: int = 0) -> Any:
    """The value as data for JSON. `opaque` turns what has no plain form into a handle (a list after the tag "h")."""
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str:
        return value
    if kind is int:
        return value if -_PLAIN_INT < value < _PLAIN_INT else ["i", hex(value)]
    if kind is float:
        return value if math.isfinite(value) else ["n", repr(value)]
    if depth >= MAX_DEPTH:
        raise CodecError(f"nested deeper than {MAX_DEPTH}")
    if kind is list:
        if len(value) >= _PACKED and (packed := _pack(value)) is not None:
            return packed
        if _is_flat(value):
            return ["l", *value]
        return ["l", *[encode(item, opaque, depth + 1) for item in value]]
    if kind is tuple:
        return ["t", *[encode(item, opaque, depth + 1) for item in value]]
    if kind is dict:
        return ["d", *_pairs(value, opaque, depth)]
    return _encode_rare(value, opaque, depth)


def _is_flat(items: list[Any]) -> bool:
    """Whether every item is written as it is; asked first, since long lists of numbers are what tests are full of."""
    kinds = set(map(type, items))
    if kinds <= _PLAIN:
        return True
    if kinds == {int}:
        return bool(min(items) > -_PLAIN_INT and max(items) < _PLAIN_INT)
    return kinds == {float} and all(map(math.isfinite, items))


def _pack(items: list[Any]) -> list[Any] | None:
    """A long list of finite floats, or of floats and small integers, as its doubles and which of them are integers.

    Written as text, a million floats take a second, and another to be read. None for any other list.
    """
    kinds = set(map(type, items))
    if not (kinds == {float} or kinds == {int, float}) or not all(map(math.isfinite, items)):
        return None
    if int in kinds and not (min(items) > -_PLAIN_INT and max(items) < _PLAIN_INT):
        return None
    doubles = base64.b64encode(array.array("d", items).tobytes()).decode("ascii")
    if kinds == {float}:
        return ["P", doubles]
    return ["P", doubles, base64.b64encode(bytes([type(item) is int for item in items])).decode("ascii")]


def _unpack(doubles: str, whole: str | None = None) -> list[Any]:
    numbers = array.array("d", base64.b64decode(doubles, validate=True)).tolist()
    if not all(map(math.isfinite, numbers)):
        raise CodecError("a bare nan or infinity")
    if whole is None:
        return numbers
    marks = base64.b64decode(whole, validate=True)
    return [int(number) if mark else number for number, mark in zip(numbers, marks, strict=True)]


def _pairs(value: Any, opaque: Opaque | None, depth: int) -> list[Any]:
    flat = []
    for key, item in dict.items(value):
        flat.append(encode(key, opaque, depth + 1))
        flat.append(encode(item, opaque, depth + 1))
    return flat


def _encode_rare(value: Any, opaque: Opaque | None, depth: int) -> Any:
    kind = type(value)
    if kind is set or kind is frozenset:
        return ["s" if kind is set else "f", *[encode(item, opaque, depth + 1) for item in value]]
    if kind is complex:
        return ["c", encode(value.real), encode(value.imag)]
    if kind is bytes or kind is bytearray:
        return ["b" if kind is bytes else "a", base64.b64encode(value).decode("ascii")]
    if kind is range:
        return ["r", encode(value.start), encode(value.stop), encode(value.step)]
    if value is Ellipsis:
        return ["e"]
    if isinstance(value, type) and _TYPES.get(value.__name__) is value:
        return ["y", value.__name__]
    library = _encode_library(value, opaque, depth)
    if library is not None:
        return library
    array = _encode_array(value, opaque, depth)
    if array is not None:
        return array
    return _encode_subclass(value, opaque, depth)


def _encode_library(value: Any, opaque: Opaque | None, depth: int) -> list[Any] | None:
    kind = type(value)
    if kind is collections.Counter:
        return ["C", *_pairs(value, opaque, depth)]
    if kind is collections.OrderedDict:
        return ["O", *_pairs(value, opaque, depth)]
    if kind is collections.defaultdict:
        name = getattr(value.default_factory, "__name__", None)
        return ["D", name if name in _BUILTIN_FACTORIES else None, *_pairs(value, opaque, depth)]
    if kind is collections.deque:
        return ["q", value.maxlen, *[encode(item, opaque, depth + 1) for item in value]]
    if kind is decimal.Decimal:
        return ["X", str(value)]
    if kind is fractions.Fraction:
        return ["Q", encode(value.numerator), encode(value.denominator)]
    if kind is datetime.timedelta:
        return ["p", value.days, value.seconds, value.microseconds]
    if kind in _ISO.values():
        return ["z", kind.__name__, value.isoformat()]
    if kind in _VIEWS:
        tag, plain = _VIEWS[kind]
        return [tag, encode(plain(value), opaque, depth + 1)]
    return None


def _encode_array(value: Any, opaque: Opaque | None, depth: int) -> Any:
    """numpy scalars and arrays as plain numbers and lists, where the program has loaded numpy at all."""
    numpy = sys.modules.get("numpy")
    generic, array = getattr(numpy, "generic", None), getattr(numpy, "ndarray", None)
    if isinstance(generic, type) and isinstance(value, generic):
        plain = value.item()  # type: ignore[attr-defined]
        return None if isinstance(plain, generic) else encode(plain, opaque, depth + 1)
    if isinstance(array, type) and isinstance(value, array):
        return ["A", str(value.dtype.str), encode(value.tolist(), opaque, depth + 1)]  # type: ignore[attr-defined]
    return None


def _encode_subclass(value: Any, opaque: Opaque | None, depth: int) -> Any:
    """A named tuple or a subclass of a scalar as the plain value it is; everything else by its handle."""
    if isinstance(value, tuple):
        items = [encode(item, opaque, depth + 1) for item in tuple.__iter__(value)]
        kinds = type.__getattribute__(type(value), "__mro__")
        fields = next((vars(kind)["_fields"] for kind in kinds if "_fields" in vars(kind)), None)
        if fields is not None and _are_names(fields, len(items)):
            return ["N", type(value).__name__, list(fields), *items]
        return ["t", *items]
    plain = _storage(value)
    if plain is not None:
        return encode(plain, opaque, depth)
    if isinstance(value, int):
        return encode(int.__index__(value))
    if isinstance(value, float):
        return encode(float.__float__(value))
    if isinstance(value, str):
        return str.__str__(value) if type(str.__str__(value)) is str else "".join(str.__iter__(value))
    if opaque is None:
        raise CodecError(f"a value of type {type(value).__name__} has no plain form")
    return ["h", *opaque(value)]


def _storage(value: Any) -> Any:
    """What an object of a subclass of a built-in container holds, as that container; None for other objects."""
    if isinstance(value, dict):
        return dict(dict.items(value))
    sequences: tuple[Any, ...] = (list, set, frozenset, bytes, bytearray)
    for base in sequences:
        if isinstance(value, base):
            return base(base.__iter__(value))
    kind = type(value)
    if kind is collections.UserList or kind is collections.UserDict:
        held = value.data
        return held if type(held) is (list if kind is collections.UserList else dict) else None
    return None


def _are_names(fields: Any, count: int) -> bool:
    """Whether these are the field names of a named tuple with `count` items."""
    return type(fields) is tuple and len(fields) == count <= MAX_FIELDS and all(map(_is_name, fields))


def _is_name(text: Any) -> bool:
    return type(text) is str and len(text) <= _MAX_NAME and text.isidentifier() and not text.startswith("_")


@functools.lru_cache(maxsize=256)
def _named(name: str, fields: tuple[str, ...]) -> type[tuple[Any, ...]]:
    """A class of named tuples, made without running text from the other side as code."""
    members: dict[str, Any] = {field: property(operator.itemgetter(place)) for place, field in enumerate(fields)}
    members["_asdict"] = lambda self: dict(zip(fields, self, strict=True))
    return type(name, (tuple,), {"__slots__": (), "_fields": fields, **members})


def decode(data: Any, resolve: Resolve | None = None, depth: int = 0) -> Any:
    """The value for data read from JSON. `resolve` gives the object for a handle's list (without its tag)."""
    if data is None or isinstance(data, (bool, int, float, str)):
        if isinstance(data, float) and not math.isfinite(data):
            raise CodecError("a bare nan or infinity")
        return data
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise CodecError("not a tagged value")
    if depth > MAX_DEPTH + 2:
        raise CodecError(f"nested deeper than {MAX_DEPTH}")
    tag, rest = data[0], data[1:]
    try:
        if tag == "l":
            kinds = set(map(type, rest))
            if kinds <= _PLAIN_OR_INT or (kinds == {float} and all(map(math.isfinite, rest))):
                return rest
            return [decode(item, resolve, depth + 1) for item in rest]
        if tag == "t":
            return tuple([decode(item, resolve, depth + 1) for item in rest])
        if tag == "d":
            return _decode_pairs(rest, resolve, depth)
        return _decode_rare(tag, rest, resolve, depth)
    except CodecError:
        raise
    except (TypeError, ValueError, ArithmeticError, IndexError, KeyError, binascii.Error) as error:
        raise CodecError(f"a broken value with tag {tag[:8]!r}: {type(error).__name__}") from None


def _decode_pairs(rest: list[Any], resolve: Resolve | None, depth: int) -> dict[Any, Any]:
    if len(rest) % 2:
        raise CodecError("a dict with a key but no value")
    items = [decode(item, resolve, depth + 1) for item in rest]
    return dict(zip(items[::2], items[1::2], strict=True))


def _decode_rare(tag: str, rest: list[Any], resolve: Resolve | None, depth: int) -> Any:
    if tag in "sf":
        items = [decode(item, resolve, depth + 1) for item in rest]
        return set(items) if tag == "s" else frozenset(items)
    if tag in "CO":
        return {"C": collections.Counter, "O": collections.OrderedDict}[tag](_decode_pairs(rest, resolve, depth))
    if tag == "D":
        factory = getattr(builtins, rest[0]) if rest[0] in _BUILTIN_FACTORIES else None
        return collections.defaultdict(factory, _decode_pairs(rest[1:], resolve, depth))
    if tag == "q":
        return collections.deque([decode(item, resolve, depth + 1) for item in rest[1:]], _length(rest[0]))
    if tag in "kvm":
        (plain,) = rest
        return _as_view(tag, decode(plain, resolve, depth + 1))
    if tag == "N":
        name, fields = _text(rest[0]), tuple(rest[1])
        if not _is_name(name.lstrip("_")) or not _are_names(fields, len(rest) - 2):
            raise CodecError("a named tuple with names that are none")
        return _named(name, fields)([decode(item, resolve, depth + 1) for item in rest[2:]])
    if tag == "A":
        return _as_array(_text(rest[0]), decode(rest[1], resolve, depth + 1))
    if tag == "h":
        if resolve is None:
            raise CodecError("a handle where only plain values may come")
        return resolve(rest)
    return _decode_scalar(tag, rest)


def _as_view(tag: str, items: Any) -> Any:
    """The view of a dict that is equal to the one that was sent."""
    if type(items) is not list:
        raise CodecError("a view without items")
    if tag == "m":
        return dict(items).items()
    return dict.fromkeys(items).keys() if tag == "k" else dict(enumerate(items)).values()


def _as_array(dtype: str, items: Any) -> Any:
    """An array, where arrays are wanted and numpy is loaded; else its items as lists."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not arrays or not _NUMERIC.fullmatch(dtype):
        return items
    return numpy.array(items, dtype=dtype)


def _decode_scalar(tag: str, rest: list[Any]) -> Any:
    if tag == "e" and not rest:
        return Ellipsis
    if tag == "P":
        return _unpack(*map(_text, rest))
    if tag == "p":
        days, seconds, micros = rest
        return datetime.timedelta(_integer(days), _integer(seconds), _integer(micros))
    if tag in "rcQ":
        numbers = [decode(item) for item in rest]
        return {"r": range, "c": complex, "Q": fractions.Fraction}[tag](*numbers)
    texts = [_text(item) for item in rest]
    if tag == "z":
        return _ISO[texts[0]].fromisoformat(texts[1])
    (text,) = texts
    if tag == "i":
        return int(text, 16)
    if tag == "n":
        return _SPECIAL_FLOATS[text]
    if tag in "ba":
        raw = base64.b64decode(text, validate=True)
        return raw if tag == "b" else bytearray(raw)
    if tag == "X":
        return decimal.Decimal(text)
    if tag == "y":
        return _TYPES[text]
    raise CodecError(f"unknown tag {tag[:8]!r}")


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise CodecError("expected an integer")
    return value


def _length(value: Any) -> int | None:
    return None if value is None else _integer(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CodecError("expected a string")
    return value

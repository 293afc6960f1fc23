"""Plain values survive the crossing with their exact types; nothing else crosses."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import json
import math
from typing import Any

import pytest

from recode_rl.sandbox import codec

Point = collections.namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 3


PLAIN: list[Any] = [
    None,
    True,
    0,
    -1,
    2**53,
    -(2**64),
    10**5000,
    -(10**5000),
    0.1,
    -0.0,
    1e308,
    math.inf,
    -math.inf,
    1 + 2j,
    complex(math.inf, -0.0),
    "",
    "ü\x00\ud800",
    b"\x00\xff",
    bytearray(b"ab"),
    [],
    (),
    {},
    set(),
    frozenset({1, 2}),
    [1, (2, [3, {4: (5,)}])],
    {(1, 2): {"a": [None]}, None: 1, 1.5: b"x"},
    {1, "a", (2, 3)},
    range(3, 10, 2),
    Ellipsis,
    int,
    type(None),
    collections.Counter("abca"),
    collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.defaultdict(list, {1: [2]}),
    collections.deque([1, 2], maxlen=3),
    decimal.Decimal("1.10"),
    fractions.Fraction(1, 3),
    datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.UTC),
    datetime.time(1, 2, 3),
    datetime.timedelta(days=-1, microseconds=5),
    ["l", "d", ["h", 1]],
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_round_trip_keeps_value_and_type(value: Any) -> None:
    back = codec.loads(codec.dumps(value))
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value) if not isinstance(value, int) else True


def test_nan_and_types_inside_containers() -> None:
    back = codec.loads(codec.dumps([math.nan, (True, 1, 1.0)]))
    assert math.isnan(back[0])
    assert [type(item) for item in back[1]] == [bool, int, float]


def test_subclasses_become_what_they_are_made_of() -> None:
    class Text(str):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    back = codec.loads(codec.dumps([Point(1, 2), Colour.RED, Text("a")]))
    assert [type(item) for item in back] == [tuple, int, str]
    assert back == [(1, 2), 3, "a"]


def test_an_object_needs_a_handle_table() -> None:
    with pytest.raises(codec.CodecError, match="object"):
        codec.dumps(object())
    text = codec.dumps([object()], lambda value: [7])
    assert codec.loads(text, lambda rest: ("object", rest[0])) == [("object", 7)]
    with pytest.raises(codec.CodecError, match="handle"):
        codec.loads(text)


def test_list_subclass_is_not_taken_for_a_list() -> None:
    class Friendly(list[int]):
        def __eq__(self, other: object) -> bool:
            return True

    with pytest.raises(codec.CodecError):
        codec.dumps(Friendly())


def test_depth_is_capped() -> None:
    value: list[Any] = []
    for _ in range(codec.MAX_DEPTH + 5):
        value = [value]
    with pytest.raises(codec.CodecError, match="deeper"):
        codec.dumps(value)
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(codec.CodecError, match="deeper"):
        codec.dumps(circle)
    with pytest.raises(codec.CodecError):
        codec.loads('["l",' * 1000 + "1" + "]" * 1000)
    with pytest.raises(codec.CodecError):
        codec.loads("[" * 200_000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[1]",
        '["?"]',
        "NaN",
        '["i","zz"]',
        '["i",5]',
        '["n","1"]',
        '["d",1]',
        '["d",["l"],1]',
        '["s",["l"]]',
        '["b","%"]',
        '["z","datetime","x"]',
        '["z","timedelta","x"]',
        '["y","object"]',
        '["q","x",1]',
        '["r",1,2,0]',
        '["Q",1,0]',
        '["X","x"]',
        '["p",1,2]',
        '["p",1e999,2,3]',
        "9" * 5000,
    ],
)
def test_broken_data_is_refused(text: str) -> None:
    with pytest.raises(codec.CodecError):
        codec.loads(text)


def test_numpy_values_are_plain_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    back = codec.loads(
        codec.dumps([numpy.int64(3), numpy.float32(0.5), numpy.bool_(True), numpy.array([[1, 2], [3, 4]])])
    )
    assert back == [3, 0.5, True, [[1, 2], [3, 4]]]
    assert [type(item) for item in back] == [int, float, bool, list]


def test_text_is_one_line_of_json() -> None:
    text = codec.dumps({"a\n": "é"})
    assert "\n" not in text
    assert text.isascii()
    assert json.loads(text)[0] == "d"

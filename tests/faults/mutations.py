"""A seeded mutator of bytes: the same seed damages the same input in the same way, on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

Step = Callable[[bytearray, Random], None]

# values at which readers of binary formats change their minds
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 40)
# words at which readers of text formats do
WORDS = (
    *(
        b"",
        b"\0",
        b"\n",
        b"\r",
        b'"',
        b"'",
        b"\\",
        b",",
        b"[",
        b"]",
        b"{",
        b"}",
        b"=",
        b"#",
        b"\xff",
        b"\xc3",
    ),
    *(
        b"NaN",
        b"Infinity",
        b"-1",
        b"1e999",
        b"null",
        b"true",
        b"9" * 400,
        b"[" * 3000,
        b"\\ud800",
        b"\xed\xa0\x80",
    ),
    *(b"../", b"/etc/passwd", b"\xe2\x80\xae", b"1979-05-27", b"0x10", b"PK\x01\x02", b"IEND", b"__reduce__"),
)


def _at(data: bytearray, random: Random) -> int:
    return random.randrange(len(data) + 1)


def _span(data: bytearray, random: Random) -> slice:
    start = _at(data, random)
    return slice(start, start + min(1 << random.randrange(9), len(data) - start))


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _cut(data: bytearray, random: Random) -> None:
    del data[_at(data, random) :]


def _drop(data: bytearray, random: Random) -> None:
    del data[_span(data, random)]


def _repeat(data: bytearray, random: Random) -> None:
    at = _at(data, random)
    data[at:at] = data[_span(data, random)] * (1 + random.randrange(3))


def _swap(data: bytearray, random: Random) -> None:
    one, other = sorted((_span(data, random), _span(data, random)), key=lambda s: s.start)
    if one.stop <= other.start:
        data[one], data[other] = data[other], data[one]  # of other lengths too: everything after moves


def _number(data: bytearray, random: Random) -> None:
    width, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
    value = random.choice(_NUMBERS) % (1 << 8 * width)
    at = _at(data, random)
    data[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]  # one of the two words


def _word(data: bytearray, random: Random) -> None:
    at = _at(data, random)
    data[at : at + random.choice((0, 1, 4))] = random.choice(WORDS)


def _zero(data: bytearray, random: Random) -> None:
    span = _span(data, random)
    data[span] = bytes(len(data[span]))


STEPS: Sequence[Step] = (_flip, _set, _cut, _drop, _repeat, _swap, _number, _number, _word, _word, _zero)


def mutated(data: bytes, random: Random) -> bytes:
    """Return `data` after one to four steps; now and then they undo each other."""
    damaged = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        random.choice(STEPS)(damaged, random)
    return bytes(damaged)

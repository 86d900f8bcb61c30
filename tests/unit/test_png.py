"""The strict PNG reader and the plain writer: refused, or the same pixels; never anything else."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from palette_bench.core.png import MAX_BYTES, PngError, decode_strict, encode, read_regular
from palette_bench.core.types import Image

SIDE = 32
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def image(channels: int = 3, side: int = SIDE) -> Image:
    return np.random.default_rng(11).integers(0, 256, (side, side, channels), np.uint8)


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(
    width: int = SIDE, height: int = SIDE, depth: int = 8, colour: int = 2, rest: bytes = b"\0\0\0"
) -> bytes:
    return chunk(b"IHDR", struct.pack(">2I2B", width, height, depth, colour) + rest)


def rows(stride: int = 1 + 3 * SIDE, height: int = SIDE, filter_byte: int = 0) -> bytes:
    return (bytes([filter_byte]) + bytes(stride - 1)) * height


def file_of(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks)


def data_of(raw: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(raw))


def saved(image: PillowImage.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def refusal(data: bytes, channels: int = 3) -> PngError:
    with pytest.raises(PngError) as caught:
        decode_strict(data, SIDE, SIDE, channels)
    return caught.value


SOUND = encode(image())
IEND = chunk(b"IEND")


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**16),
    levels=st.sampled_from([1, 2, 256]),
)
def test_what_is_written_is_read_back(height: int, width: int, channels: int, seed: int, levels: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, levels, (height, width, channels), np.uint8)
    data = encode(pixels)
    decoded, has_metadata = decode_strict(data, height, width, channels)
    assert np.array_equal(decoded, pixels)
    assert not has_metadata
    with PillowImage.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_a_gray_image_may_come_without_its_channel_axis() -> None:
    pixels = image(1)
    assert encode(pixels[:, :, 0]) == encode(pixels)


def test_a_written_file_holds_three_chunks_and_nothing_about_its_maker() -> None:
    kinds, at = [], len(SIGNATURE)
    while at < len(SOUND):
        (length,) = struct.unpack_from(">I", SOUND, at)
        kinds.append(SOUND[at + 4 : at + 8])
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize("filter_byte", [0, 1, 2, 3, 4])
def test_every_row_filter_is_read_as_pillow_reads_it(filter_byte: int) -> None:
    raw = np.random.default_rng(3).integers(0, 256, (SIDE, 1 + 3 * SIDE), np.uint8)
    raw[:, 0] = filter_byte
    data = file_of(header(), data_of(raw.tobytes()), IEND)
    with PillowImage.open(io.BytesIO(data)) as image:
        assert np.array_equal(decode_strict(data, SIDE, SIDE, 3)[0], np.asarray(image))


def test_pixel_data_may_be_cut_into_many_chunks() -> None:
    body = zlib.compress(rows())
    pieces = [chunk(b"IDAT", body[i : i + 7]) for i in range(0, len(body), 7)]
    decoded, _ = decode_strict(file_of(header(), *pieces, chunk(b"IDAT"), IEND), SIDE, SIDE, 3)
    assert not decoded.any()


def test_text_colour_profile_and_exif_are_skipped_and_told() -> None:
    extras = [
        chunk(b"tEXt", b"a\0b"),
        chunk(b"gAMA", b"\0\0\0\1"),
        chunk(b"eXIf", b"MM"),
        chunk(b"iCCP", b"?"),
    ]
    decoded, has_metadata = decode_strict(file_of(header(), *extras, data_of(rows()), IEND), SIDE, SIDE, 3)
    assert has_metadata
    assert not decoded.any()


PLAIN = data_of(rows())
REFUSED = {
    "empty": (b"", "PB301"),
    "text": (b"hello", "PB301"),
    "signature cut": (SIGNATURE[:7], "PB301"),
    "signature alone": (SIGNATURE, "PB305"),
    "too wide": (file_of(header(width=SIDE + 1), PLAIN, IEND), "PB302"),
    "too high": (file_of(header(height=SIDE + 1), PLAIN, IEND), "PB302"),
    "no width": (file_of(header(width=0), PLAIN, IEND), "PB302"),
    "pixel bomb": (file_of(header(width=2**31 - 1, height=2**31 - 1), PLAIN, IEND), "PB302"),
    "16 bits": (file_of(header(depth=16), PLAIN, IEND), "PB303"),
    "4 bits of gray": (file_of(header(depth=4, colour=0), PLAIN, IEND), "PB303"),
    "gray": (file_of(header(colour=0), PLAIN, IEND), "PB303"),
    "palette": (file_of(header(colour=3), PLAIN, IEND), "PB303"),
    "gray with alpha": (file_of(header(colour=4), PLAIN, IEND), "PB303"),
    "RGB with alpha": (file_of(header(colour=6), PLAIN, IEND), "PB303"),
    "unknown colour type": (file_of(header(colour=7), PLAIN, IEND), "PB303"),
    "suggested palette": (file_of(header(), chunk(b"PLTE", b"\0\0\0"), PLAIN, IEND), "PB303"),
    "transparent colour": (file_of(header(), chunk(b"tRNS", bytes(6)), PLAIN, IEND), "PB303"),
    "interlaced": (file_of(header(rest=b"\0\0\1"), PLAIN, IEND), "PB304"),
    "animation control": (file_of(header(), chunk(b"acTL", bytes(8)), PLAIN, IEND), "PB304"),
    "frame control": (file_of(header(), chunk(b"fcTL", bytes(26)), PLAIN, IEND), "PB304"),
    "frame data": (file_of(header(), PLAIN, chunk(b"fdAT", bytes(8)), IEND), "PB304"),
    "unknown compression": (file_of(header(rest=b"\1\0\0"), PLAIN, IEND), "PB305"),
    "unknown filter method": (file_of(header(rest=b"\0\1\0"), PLAIN, IEND), "PB305"),
    "short header": (file_of(chunk(b"IHDR", bytes(12)), PLAIN, IEND), "PB305"),
    "two headers": (file_of(header(), header(), PLAIN, IEND), "PB305"),
    "header second": (file_of(chunk(b"tEXt"), header(), PLAIN, IEND), "PB305"),
    "no ending": (file_of(header(), PLAIN), "PB305"),
    "bytes after the ending": (SOUND + b"\0", "PB305"),
    "bytes in the ending": (file_of(header(), PLAIN, chunk(b"IEND", b"x")), "PB305"),
    "second image after the ending": (SOUND + SOUND, "PB305"),
    "wrong checksum": (SOUND[:-1] + b"\0", "PB305"),
    "unknown critical chunk": (file_of(header(), chunk(b"CgBI", bytes(4)), PLAIN, IEND), "PB305"),
    "chunk name of other bytes": (file_of(header(), chunk(b"t\0xt"), PLAIN, IEND), "PB305"),
    "chunk longer than the file": (file_of(header(), b"\x7f\xff\xff\xffIDAT" + bytes(8)), "PB305"),
    "gap in the pixel data": (
        file_of(header(), chunk(b"IDAT", b"x"), chunk(b"tEXt"), chunk(b"IDAT", b"y"), IEND),
        "PB305",
    ),
    "no pixel data": (file_of(header(), IEND), "PB306"),
    "100 of the rows": (file_of(header(), data_of(rows(height=SIDE - 1)), IEND), "PB306"),
    "a byte too many": (file_of(header(), data_of(rows() + b"\0"), IEND), "PB306"),
    "not deflated": (file_of(header(), chunk(b"IDAT", rows()), IEND), "PB306"),
    "checksum of the stream cut": (
        file_of(header(), chunk(b"IDAT", zlib.compress(rows())[:-1]), IEND),
        "PB306",
    ),
    "bytes after the stream": (
        file_of(header(), chunk(b"IDAT", zlib.compress(rows()) + b"x"), IEND),
        "PB306",
    ),
    "row filter 5": (file_of(header(), data_of(rows(filter_byte=5)), IEND), "PB306"),
    "over a megabyte": (SOUND[:-12] + chunk(b"tEXt", bytes(MAX_BYTES)) + IEND, "PB307"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_breaks_a_rule_is_refused_with_its_code(kind: str) -> None:
    data, code = REFUSED[kind]
    error = refusal(data)
    assert error.code == code
    assert error.expected
    assert error.found


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_mode_but_rgb_that_pillow_saves_is_refused(mode: str) -> None:
    image = PillowImage.new(mode, (SIDE, SIDE))
    assert refusal(saved(image)).code == "PB303"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "BMP", "GIF", "EPS"])
def test_other_formats_are_refused_whatever_the_file_is_called(kind: str) -> None:
    opened = PillowImage.fromarray(image())
    assert refusal(saved(opened.convert("P") if kind == "GIF" else opened, kind)).code == "PB301"


def test_an_animated_png_is_refused() -> None:
    first = PillowImage.fromarray(image())
    data = saved(first, save_all=True, append_images=[PillowImage.fromarray(255 - image())])
    assert refusal(data).code == "PB304"


def test_a_mask_is_not_read_as_an_image_nor_the_other_way_round() -> None:
    assert refusal(encode(image(1))).found == "8-bit gray"
    assert refusal(SOUND, channels=1).found == "8-bit RGB"


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    filters=st.sampled_from(["0", "1", "2", "02", "012", "3", "4", "01234"]),
    seed=st.integers(0, 2**32),
)
def test_every_mix_of_row_filters_gives_pillows_pixels(
    height: int, width: int, channels: int, filters: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    filtered = rng.integers(0, 256, (height, 1 + width * channels), np.uint8)
    filtered[:, 0] = rng.choice([int(kind) for kind in filters], height)
    head = header(width, height, colour=2 if channels == 3 else 0)
    data = file_of(head, data_of(filtered.tobytes()), IEND)
    with PillowImage.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened).reshape(height, width, channels)
    assert np.array_equal(decode_strict(data, height, width, channels)[0], expected)


@given(st.integers(0, len(SOUND) - 1), st.integers(1, 255))
@settings(max_examples=400)
def test_a_changed_byte_is_refused_or_changes_no_pixel(at: int, change: int) -> None:
    damaged = bytearray(SOUND)
    damaged[at] ^= change
    assert _refused_or_same(bytes(damaged))


@given(st.integers(0, len(SOUND) - 1))
def test_a_cut_file_is_refused(length: int) -> None:
    with pytest.raises(PngError):
        decode_strict(SOUND[:length], SIDE, SIDE, 3)


@given(st.integers(0, len(SOUND)), st.binary(min_size=1, max_size=40))
def test_inserted_bytes_are_refused_or_change_no_pixel(at: int, extra: bytes) -> None:
    assert _refused_or_same(SOUND[:at] + extra + SOUND[at:])


@given(
    st.lists(
        st.tuples(st.sampled_from([b"IHDR", b"IDAT", b"IEND", b"tEXt", b"PLTE"]), st.binary(max_size=60))
    )
)
def test_any_list_of_chunks_is_refused_and_nothing_else_is_raised(chunks: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(PngError):
        decode_strict(file_of(*(chunk(kind, body) for kind, body in chunks)), SIDE, SIDE, 3)


@given(st.binary(max_size=200))
def test_a_stream_of_random_bytes_is_refused(body: bytes) -> None:
    with pytest.raises(PngError):
        decode_strict(file_of(header(), chunk(b"IDAT", body), IEND), SIDE, SIDE, 3)


def _refused_or_same(data: bytes) -> bool:
    try:
        return np.array_equal(decode_strict(data, SIDE, SIDE, 3)[0], image())
    except PngError:
        return True


BOMB = """
import resource, struct, sys, zlib
from palette_bench.core.png import PngError, decode_strict

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

stream = zlib.compress(bytes(100_000_000), 9)
assert len(stream) < 1 << 20
head = chunk(b"IHDR", struct.pack(">2I5B", 256, 256, 8, 2, 0, 0, 0))
data = b"\\x89PNG\\r\\n\\x1a\\n" + head + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + 50_000_000, -1))
try:
    decode_strict(data, 256, 256, 3)
except PngError as error:
    print(error.code, error.found)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory limit is read from /proc")
def test_a_stream_of_100_megabytes_is_refused_without_inflating_it() -> None:
    child = subprocess.run(
        [sys.executable, "-c", BOMB], capture_output=True, text=True, timeout=60, check=False
    )
    assert (child.stdout, child.stderr) == ("PB306 more\n", "")


def test_a_regular_file_is_read_whole_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(SOUND)
    assert read_regular(path, len(SOUND)) == SOUND
    with pytest.raises(PngError) as caught:
        read_regular(path, len(SOUND) - 1)
    assert (caught.value.code, caught.value.found) == ("PB307", f"{len(SOUND):,} bytes")


def test_links_folders_and_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(SOUND)
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "broken.png").symlink_to("nothing")
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        for name in ("link.png", "broken.png", "folder.png", "socket.png"):
            with pytest.raises(PngError) as caught:
                read_regular(tmp_path / name)
            assert caught.value.code == "PB105", name
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "absent.png")


def test_a_device_is_refused() -> None:
    with pytest.raises(PngError) as caught:
        read_regular(Path(os.devnull))
    assert caught.value.code == "PB105"


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    script = f"""
from pathlib import Path
from palette_bench.core.png import PngError, read_regular
try:
    read_regular(Path({str(tmp_path / "pipe.png")!r}))
except PngError as error:
    print(error.code)
"""
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert child.stdout == "PB105\n"

"""TIFFs in every way of storing grey and colour: read right, or refused with the kind named."""

import io
import itertools
import logging
import threading
import warnings
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from fader.errors import UnreadableImageError
from fader.photo import open_photo, open_reduced, save_photo
from fader.photo.quiet import quiet

tifffile = pytest.importorskip("tifffile")

HEIGHT, WIDTH = 21, 18


def stored_tiff(values, **options):
    """A TIFF of (H, W, C) values, in parts that do not fill the picture evenly."""
    buffer = io.BytesIO()
    if options.get("planarconfig") == "separate":
        values = np.moveaxis(values, 2, 0)
    if values.shape[-1] == 1 and "planarconfig" not in options:
        values = values[:, :, 0]
    parts = {} if "tile" in options else {"rowsperstrip": 8}
    tifffile.imwrite(buffer, values, metadata=None, **parts, **options)
    return buffer.getvalue()


LAYOUTS = [
    (photometric, alpha, planes)
    for photometric, alpha, planes in itertools.product(
        ("minisblack", "miniswhite", "rgb"), (None, "assocalpha", "unassalpha"), (False, True)
    )
    if not (planes and photometric != "rgb" and alpha is None)
]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("photometric", "alpha", "planes"), LAYOUTS)
def test_every_layout_is_read_right_and_kept(tmp_path, bits, photometric, alpha, planes):
    random = np.random.default_rng(bits)
    kind = np.dtype(f"u{bits // 8}")
    most = int(np.iinfo(kind).max)
    colours = 3 if photometric == "rgb" else 1
    shown = random.integers(0, most + 1, (HEIGHT, WIDTH, colours)).astype(kind)
    opacity = random.integers(1, most + 1, (HEIGHT, WIDTH)).astype(kind)
    stored = shown
    if alpha == "assocalpha":
        stored = ((shown.astype(np.uint64) * opacity[:, :, None] + most // 2) // most).astype(kind)
    multiplied = stored
    stored = most - stored if photometric == "miniswhite" else stored
    options = {"photometric": photometric}
    if alpha:
        stored = np.dstack([stored, opacity])
        options["extrasamples"] = [alpha]
    if stored.shape[2] > 1:
        options["planarconfig"] = "separate" if planes else "contig"
    parts = ({}, {"tile": (16, 16)}, {"compression": "zlib", "predictor": True})
    for order, more in itertools.product("<>", parts):
        path = tmp_path / "a.tif"
        path.write_bytes(stored_tiff(stored, byteorder=order, **options, **more))
        photo = open_photo(path)
        assert photo.grey == (colours == 1) and photo.notes == ()
        values = photo.deep if bits == 16 else photo.pixels
        expected = np.repeat(shown, 3, axis=2) if colours == 1 else shown
        if alpha == "assocalpha":
            error = np.abs(values.astype(np.int64) - expected) * opacity[:, :, None] / most
            assert error.max() <= 1.01  # as exact as colours multiplied by their alpha are
        else:
            assert np.array_equal(values, expected)
        assert photo.alpha is None if alpha is None else np.array_equal(photo.alpha, opacity)
        if bits == 16:
            assert np.array_equal(photo.pixels, photo.deep >> 8)
        out = tmp_path / "b.tif"
        save_photo(photo, out)
        written = tifffile.imread(out).reshape(HEIGHT, WIDTH, -1)
        if bits == 16:  # every bit as it was
            wanted = multiplied if alpha else shown
            assert np.array_equal(written[:, :, :colours], wanted)
        assert alpha is None or np.array_equal(written[:, :, -1], opacity)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_what_libtiff_packs_is_unpacked(tmp_path, compression):
    """Rows of 16-bit values in planes, packed as if they were bytes, as such files have them."""
    from fader.photo.tiff import _unpacked

    values = np.random.default_rng(1).integers(0, 9, (8, 2 * WIDTH), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", compression=compression)
    page = tifffile.TiffFile(io.BytesIO(buffer.getvalue())).pages[0]
    start, length = page.dataoffsets[0], page.databytecounts[0]
    packed = buffer.getvalue()[start : start + length]
    rows = _unpacked(packed, int(page.compression), 2 * WIDTH, 8, 1)
    assert rows == values.tobytes()


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_fewer_bits_in_sixteen_are_as_bright_as_they_look(tmp_path, bits, colours, suffix):
    import cv2

    ramp = np.linspace(0, (1 << bits) - 1, HEIGHT * WIDTH * colours).astype(np.uint16)
    values = ramp.reshape(HEIGHT, WIDTH, colours)
    path, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    cv2.imwrite(str(path), values[:, :, ::-1] if colours == 3 else values[:, :, 0])
    photo = open_photo(path)
    assert photo.pixels.max() == 255 and np.array_equal(photo.deep[:, :, :colours], values)
    pixels = photo.pixels.copy()
    pixels[5:8] = 255 - pixels[5:8]
    save_photo(photo.edited(pixels), out)
    again = open_photo(out)
    assert again.deep.max() < 1 << bits
    assert np.array_equal(again.deep[9:], photo.deep[9:])
    assert np.abs(again.pixels.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("f4", "32-bit floating-point values"),
        ("f2", "16-bit floating-point values"),
        ("f8", "64-bit floating-point values"),
        ("u4", "32-bit unsigned whole numbers"),
        ("i2", "16-bit whole numbers with a sign"),
        ("i4", "32-bit whole numbers with a sign"),
        ("c8", "complex"),
    ],
)
@pytest.mark.parametrize("colours", [1, 3])
def test_other_kinds_of_values_are_named(tmp_path, capfd, kind, words, colours):
    path = tmp_path / "a.tif"
    values = np.zeros((HEIGHT, WIDTH, colours), kind)
    more = {"photometric": "rgb"} if colours == 3 else {"photometric": "minisblack"}
    path.write_bytes(stored_tiff(values, **more))
    with pytest.raises(UnreadableImageError, match=words) as caught:
        open_photo(path)
    assert str(caught.value).startswith(f"{path}: holds")
    assert capfd.readouterr().err == ""


def test_big_tiffs_and_several_pages(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as file:
        file.write(values, photometric="rgb", software="Camera")
        file.write(values[::-1], photometric="rgb")
    photo = open_photo(tmp_path / "a.tif")
    assert np.array_equal(photo.deep, values)
    assert photo.notes == ("only the first of its 2 frames or pages",)
    save_photo(photo, tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as image:
        assert image.tag_v2[305] == "Camera"


def test_cut_short(tmp_path):
    values = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    data = stored_tiff(values, photometric="rgb", planarconfig="separate")
    (tmp_path / "a.tif").write_bytes(data[:-50])
    with pytest.raises(UnreadableImageError, match="broken or cut short"):
        open_photo(tmp_path / "a.tif")


# Without a word of the libraries


def damaged_tiffs():
    """What Pillow and libtiff each have words for on standard error, by what is wrong."""
    picture = Image.effect_noise((64, 64), 80).convert("P")
    whole = {}
    for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "group4"):
        buffer = io.BytesIO()
        mode = {"group4": "1"}.get(kind, "P")
        options = {"compression": None if kind == "raw" else kind, "description": "x" * 300}
        picture.convert(mode).save(buffer, "TIFF", **options)
        whole[kind] = buffer.getvalue()
    for kind, data in whole.items():
        yield f"{kind} cut", data[: len(data) * 2 // 3]
        start = int.from_bytes(data[4:8], "little")
        for number in range(int.from_bytes(data[start : start + 2], "little")):
            count = start + 2 + 12 * number + 4
            yield f"{kind} entry {number}", data[:count] + b"\xff" * 3 + data[count + 3 :]
            yield f"{kind} kind {number}", data[: count - 2] + b"\2" + data[count - 1 :]
    for kind in ("tiff_lzw", "tiff_adobe_deflate", "group4"):
        data, middle = whole[kind], 200
        yield f"{kind} pixels", data[:middle] + b"\xff\0" * 20 + data[middle + 40 :]


def test_a_damaged_tiff_gets_one_sentence_and_no_other_word(capfd):
    refused = 0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _, data in damaged_tiffs():
            for read in (open_photo, lambda data: open_reduced(data, 32)):
                try:
                    read(data)
                except UnreadableImageError as error:
                    refused += 1
                    assert "\n" not in str(error)
    assert refused > 40
    assert capfd.readouterr().err == "" and [str(one.message) for one in told] == []


def test_what_was_silenced_speaks_again_when_the_last_thread_has_read(capfd):
    def heard():
        """What reaches the user of a damaged TIFF that others than we read."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _, data in damaged_tiffs():
                with suppress(Exception):
                    Image.open(io.BytesIO(data)).load()
        return len(capfd.readouterr().err), len(told)

    assert all(heard())
    filters, level = list(warnings.filters), logging.getLogger("PIL").level
    entered, leave = threading.Event(), threading.Event()

    def read():
        with quiet():
            entered.set()
            leave.wait(60)

    with quiet():
        other = threading.Thread(target=read)
        other.start()
        entered.wait(60)
    # The other still reads.
    assert logging.getLogger("PIL").level == logging.CRITICAL and warnings.filters != filters
    leave.set()
    other.join()
    assert warnings.filters == filters and logging.getLogger("PIL").level == level
    assert all(heard())

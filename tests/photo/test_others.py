"""What programs and cameras put into files beside what everybody does: kept, or told of."""

import base64
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from corpus import ASTRONAUT, encoded
from PIL import Image, ImageCms, PngImagePlugin

from fader.errors import UnreadableImageError
from fader.photo import Provenance, open_photo, open_reduced, save_photo
from fader.photo.exif import PREFIX
from fader.photo.png import chunk
from fader.photo.resources import caption_of, packed, parsed

CAPTION = b"\x1c\x02\x78\x00\x09A caption"
EXIF6 = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x112, 3, 1, 6) + bytes(4)
XMP6 = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    b'"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff='
    b'"http://ns.adobe.com/tiff/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    b'xmp:Rating="4" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
NEEDS_BITS = "written with 8 bits per channel, not more"


@pytest.fixture(scope="module")
def picture():
    with Image.open(ASTRONAUT) as image:
        return image.convert("RGB").crop((180, 40, 372, 168)).resize((96, 64))


@pytest.fixture(scope="module")
def small(picture):
    return encoded(picture.resize((32, 24)), "JPEG")


def saved(data, folder, suffix, out=None):
    """The photo of a file's content, the content of the file it is saved to, and the notes."""
    path, target = folder / f"in.{suffix}", folder / f"out.{out or suffix}"
    path.write_bytes(data)
    photo = open_photo(path)
    notes = save_photo(photo, target, provenance=Provenance("Smiling=+0.5"))
    return photo, target.read_bytes(), (*photo.notes, *notes)


def with_segments(image, *segments):
    data = encoded(image, "JPEG", quality=90)
    parts = [struct.pack(">BBH", 0xFF, marker, len(part) + 2) + part for marker, part in segments]
    return data[:2] + b"".join(parts) + data[2:]


def photoshop(image, resources, head=b"Photoshop 3.0\0"):
    return with_segments(image, (0xED, head + resources))


# JPEG


@pytest.mark.parametrize(
    ("marker", "payload", "name"),
    [
        (0xEC, b"[picture info]\nOwner=Ann\0", "APP12 picture info"),
        (0xE3, b"Meta\0\0" + EXIF6, "APP3 Meta"),
        (0xE1, b"FLIR\0\1\0\0" + bytes(99), "APP1 FLIR"),
        (0xEC, b"Ducky\0\1\0\4\0\0\0\x3c\0\2\0\6\0\0\0\1\0A\0\0", "APP12 Ducky"),
        (0xEF, b"\xff\x80\x90", "APP15"),
        (0xEC, b"Ducky\0\1\0\4\0\0\0\x3c\0\0", None),
        (0xEF, b"Q 95\0", None),
        (0xE0, b"JFXX\0\x13" + bytes(9), None),
    ],
)
def test_segments_that_nobody_here_knows_are_named(picture, tmp_path, marker, payload, name):
    _, out, notes = saved(with_segments(picture, (marker, payload)), tmp_path, "jpg")
    assert payload not in out
    assert notes == ((f"other parts of the file left out ({name})",) if name else ())


def test_a_second_packet_of_xmp_is_told_of(picture, tmp_path):
    head = b"http://ns.adobe.com/xap/1.0/\0"
    second = (0xE1, head + XMP6.replace(b'Rating="4"', b'Label="Red"'))
    photo, out, notes = saved(with_segments(picture, (0xE1, head + XMP6), second), tmp_path, "jpg")
    assert photo.pixels.shape == (96, 64, 3) and b"Red" not in out
    assert notes == ("other parts of the file left out (a second XMP packet)",)


def test_photoshops_resources_as_other_programs_write_them(picture, tmp_path):
    odd = b"8BIM\x04\x04\0\0" + struct.pack(">I", 13) + CAPTION[:-1]
    place = b"8BIM\x04\x0b\0\0" + struct.pack(">I", 14) + b"http://ann.com"
    _, out, notes = saved(photoshop(picture, odd + place), tmp_path, "jpg")
    assert b"A captio" in out and b"ann.com" in out and notes == ()
    old = photoshop(picture, packed([(0x404, b"\0\0", CAPTION)]), b"Adobe_Photoshop2.5:")
    _, out, notes = saved(old, tmp_path, "jpg")
    assert CAPTION in out and notes == ()
    broken = packed([(0x404, b"\0\0", CAPTION)]) + place[:12]
    _, out, notes = saved(photoshop(picture, broken), tmp_path, "jpg")
    assert CAPTION in out
    assert notes == ("some of its Photoshop resources are broken and left out",)


@pytest.mark.parametrize("first", [b"\xff", b"\x02"])
def test_no_preview_stays_in_a_resource_or_a_makers_notes(picture, small, tmp_path, first):
    preview = first + small[1:]  # some cameras spoil the first byte
    data = photoshop(picture, packed([(0x1B58, b"\0\0", b"xx" + preview + b"yy")]))
    assert small[40:90] not in saved(data, tmp_path, "jpg")[1]
    note = struct.pack("<HHHII", 1, 0x927C, 7, 9 + len(preview), 44) + bytes(4) + b"MAKER"
    exif = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHIII", 0x8769, 4, 1, 26, 0)
    data = with_segments(picture, (0xE1, PREFIX + exif + note + preview + b"note"))
    _, out, _ = saved(data, tmp_path, "jpg")
    assert small[40:90] not in out and b"MAKER" in out and b"note" in out


@pytest.mark.parametrize(
    ("marker", "bits", "words"), [(0xC0, 12, "12 bits per channel"), (0xC3, 8, "lossless")]
)
def test_unusual_jpegs_are_named(picture, tmp_path, marker, bits, words):
    data = bytearray(encoded(picture, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, bits
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(UnreadableImageError, match=rf"a\.jpg: .*{words}.*; save it as"):
        open_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("blocks", ["resources", "second"])
def test_who_learns_sees_photos_as_upright_as_who_edits(picture, blocks):
    if blocks == "resources":
        data = photoshop(picture, packed([(0x422, b"\0\0", EXIF6)]))
    else:
        first = EXIF6.replace(b"\x12\x01", b"\0\x01")
        data = with_segments(picture, (0xE1, PREFIX + first), (0xE1, PREFIX + EXIF6))
    assert open_photo(data).pixels.shape == (96, 64, 3)
    assert open_reduced(data, 64).size == (64, 96)


# PNG


def with_chunks(image, *chunks, **options):
    plain = encoded(image, "PNG", **options)
    return plain[:33] + b"".join(chunk(*one) for one in chunks) + plain[33:]


def test_chunks_that_nobody_here_knows_are_named(picture, small, tmp_path):
    data = with_chunks(picture, (b"prVW", small), (b"iDOT", bytes(28)), (b"iCCP", b"x\0\0no"))
    _, out, notes = saved(data, tmp_path, "png")
    assert b"prVW" not in out
    assert notes == (
        "its colour profile is broken and left out",
        "other parts of the file left out (prVW)",
    )


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
@pytest.mark.parametrize("raw", [False, True])
def test_no_picture_stays_in_a_text_of_a_png(picture, small, tmp_path, kind, raw):
    text = b"\n" + small if raw else base64.b64encode(small)
    head, text = {
        "tEXt": (b"", text),
        "zTXt": (b"\0", zlib.compress(text)),
        "iTXt": (b"\0\0\0\0", text),
    }[kind]
    texts = (kind.encode(), b"Preview\0" + head + text), (b"tEXt", b"Author\0Ann")
    _, out, _ = saved(with_chunks(picture, *texts), tmp_path, "png")
    assert b"Preview" not in out and b"Ann" in out


def test_texts_called_thumbnail_go_however_they_are_written(picture, small, tmp_path):
    texts = [PngImagePlugin.PngInfo() for _ in range(3)]
    for info, name in zip(texts, ("Thumbnail", "EXIF:Thumbnail", "Thumb::Image"), strict=True):
        info.add_text(name, small.hex())
        _, out, _ = saved(encoded(picture, "PNG", pnginfo=info), tmp_path, "png")
        assert small.hex().encode() not in out


@pytest.mark.parametrize("kind", ["exif", "iptc", "icc", "xmp"])
def test_a_profile_whose_digits_are_spoilt_is_told_of(picture, tmp_path, kind):
    info = PngImagePlugin.PngInfo()
    info.add_text(f"Raw profile type {kind}", f"\n{kind}\n       4\n0x?z")
    _, out, notes = saved(encoded(picture, "PNG", pnginfo=info), tmp_path, "png")
    assert notes == (f"other parts of the file left out (broken raw profile '{kind}')",)
    with Image.open(io.BytesIO(out)) as image:
        assert "icc_profile" not in image.info


def test_captions_beside_photoshops_resources(picture, tmp_path):
    """ImageMagick writes both."""
    info = PngImagePlugin.PngInfo()
    resources = packed([(0x404, b"\0\0", CAPTION), (0x40B, b"\0\0", b"http://ann.com")])
    for kind, block in (("iptc", CAPTION), ("8bim", resources), ("xyz", b"what")):
        text = f"\n{kind}\n{len(block):8d}\n{block.hex()}\n"
        info.add_text(f"Raw profile type {kind}", text)
    _, out, notes = saved(encoded(picture, "PNG", pnginfo=info), tmp_path, "png")
    kept = open_photo(out).contents.resources
    assert caption_of(kept) == CAPTION and len(parsed(kept)) == 2
    assert notes == ("other parts of the file left out (raw profile 'xyz')",)


def png16(values, colour_type, *chunks):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    parts = ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in parts)


def test_a_transparent_grey_of_sixteen_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 9, (21, 18)).astype(np.uint16) * 8000
    data = png16(values, 0, (b"tRNS", struct.pack(">H", 8000)))
    photo, out, notes = saved(data, tmp_path, "png")
    assert notes == () and np.array_equal(photo.alpha == 0, values == 8000)
    again = open_photo(out)
    assert np.array_equal(again.deep, photo.deep) and np.array_equal(again.alpha, photo.alpha)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_png_cut_behind_its_last_row(picture, tmp_path, bits):
    shown = np.asarray(picture)
    if bits == 16:
        shown = shown.astype(np.uint16) * 257
    data = png16(shown, 2) if bits == 16 else encoded(picture, "PNG")
    for cut in (13, 16, 18, 20):
        photo, _, notes = saved(data[:-cut], tmp_path, "png")
        assert notes == ("its end is missing",)
        assert np.array_equal(photo.pixels if bits == 8 else photo.deep, shown)
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(UnreadableImageError, match="cut short"):
            open_photo(data[: int(len(data) * part)])


def test_a_profile_for_other_pixels_is_told_of(picture, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(picture.convert("L"), "PNG", icc_profile=profile)
    words = "its colour profile is for another kind of pixels, and left out"
    assert saved(data, tmp_path, "png")[2] == (words,)


# Other kinds


def test_content_credentials_are_told_of_in_every_kind(picture, tmp_path):
    words = "its content credentials (C2PA) are left out"
    webp = encoded(picture, "WEBP", exif=EXIF6) + b"C2PA" + struct.pack("<I", 8) + bytes(8)
    webp = webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:]
    assert saved(webp, tmp_path, "webp")[2] == (words,)
    gif = encoded(picture.quantize(16), "GIF")
    gif = gif[:-1] + b"!\xff\x0bC2PA_GIF\1\0\0\2ab\0;"
    assert words in saved(gif, tmp_path, "gif", "png")[2]
    tiff = io.BytesIO()
    tags = [(52545, "B", 8, bytes(8), True)]
    tifffile.imwrite(tiff, np.asarray(picture), photometric="rgb", extratags=tags)
    assert saved(tiff.getvalue(), tmp_path, "tif")[2] == (words,)
    packet = XMP6.replace(
        b'xmp:Rating="4"',
        b'xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="self#jumbf=c2pa/1"',
    )
    _, out, notes = saved(encoded(picture, "JPEG", xmp=packet), tmp_path, "jpg")
    assert notes == (words,) and b"self#jumbf" not in out
    if "AVIF" in Image.SAVE:
        box = b"\0\0\0\x20uuid" + bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + bytes(8)
        assert saved(encoded(picture, "AVIF") + box, tmp_path, "avif")[2] == (words,)


def test_a_gif_with_xmp(picture, tmp_path):
    packet = b"!\xff\x0bXMP DataXMP" + XMP6 + b"\1" + bytes(range(255, -1, -1)) + b"\0"
    data = encoded(picture.quantize(16), "GIF", comment=b"by Ann")[:-1] + packet + b";"
    photo, out, notes = saved(data, tmp_path, "gif", "png")
    assert photo.pixels.shape == (96, 64, 3) and notes == ()
    assert b'Rating="4"' in out and b"by Ann" in out and b'Orientation="6"' not in out


def test_a_jpeg_2000_with_all_there_is(picture, tmp_path):
    def box(name, content):
        return struct.pack(">I", 24 + len(content)) + b"uuid" + name + content

    plain = encoded(picture, "JPEG2000")
    boxes = (
        box(bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), XMP6),
        box(b"JpgTiffExif->JP2", EXIF6),
        box(bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"), CAPTION),
    )
    photo, out, notes = saved(plain + b"".join(boxes), tmp_path, "jp2", "jpg")
    assert photo.pixels.shape == (96, 64, 3) and notes == ()
    assert b'Rating="4"' in out and CAPTION in out
    deep = cv2.imencode(".jp2", np.asarray(picture).astype(np.uint16) * 257)[1].tobytes()
    assert saved(deep, tmp_path, "jp2", "png")[2] == (NEEDS_BITS,)


def test_a_photoshop_document(picture, small, tmp_path):
    resources = packed(
        [(0x404, b"\0\0", CAPTION), (0x424, b"\0\0", XMP6), (0x40C, b"\0\0", bytes(28) + small)]
    )
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHHI", 3, 64, 96, 8, 3, 0)
    pixels = np.asarray(picture).transpose(2, 0, 1).tobytes()
    data = head + struct.pack(">I", len(resources)) + resources + bytes(6) + pixels
    photo, out, notes = saved(data, tmp_path, "psd", "jpg")
    assert photo.pixels.shape == (96, 64, 3) and notes == ()
    assert CAPTION in out and b'Rating="4"' in out and small[40:90] not in out


def test_a_ppm_of_sixteen_bits_with_a_comment(picture, tmp_path):
    pixels = (np.asarray(picture).astype(">u2") * 257).astype(">u2").tobytes()
    data = b"P6 # by Ann\n96 64\n65535\n" + pixels
    _, out, notes = saved(data, tmp_path, "ppm", "png")
    assert b"by Ann" in out and notes == (NEEDS_BITS,)
    plain = b"P6\n96 64\n255\n" + np.asarray(picture).tobytes()
    assert saved(plain, tmp_path, "ppm", "png")[2] == ()


# TIFF


def stored(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [8, 16])
def test_entries_of_a_tiff_that_nobody_here_knows(picture, small, tmp_path, bits):
    values = np.asarray(picture).astype(f"u{bits // 8}")
    tags = [
        (33550, "d", 3, (1.0, 2.0, 0.0), True),
        (50341, "B", 8, b"PrintIM\0", True),
        (36867, "s", 0, "2020:01:01 00:00:00", True),
        (65000, "B", 3000, bytes(3000), True),
        (37724, "B", 30, b"Adobe Photoshop Document Data\0", True),
        (65001, "B", len(small), small, True),
    ]
    data = stored(values, photometric="rgb", extratags=tags)
    for compression in ({}, {"compression": "zlib"}):
        data = stored(values, photometric="rgb", extratags=tags, **compression)
        _, out, notes = saved(data, tmp_path, "tif")
        kept = tifffile.TiffFile(io.BytesIO(out)).pages[0].tags
        assert {33550, 50341, 36867} <= set(kept.keys()) and 37724 not in kept
        assert kept.valueof(33550) == (1.0, 2.0, 0.0)
        assert small[40:90] not in out and "its layers are left out" in notes
        assert any("entry 65000" in note for note in notes)
    exif = Image.Exif()
    exif[50341] = b"PrintIM\0"
    _, out, notes = saved(encoded(picture, "JPEG", exif=exif), tmp_path, "jpg", "tif")
    assert b"PrintIM" in out and notes == ()


def test_inks_of_sixteen_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (21, 18, 4)).astype(np.uint16)
    _, _, notes = saved(stored(values, photometric="separated"), tmp_path, "tif")
    assert "written with 8 bits per channel, not 16" in notes


def test_a_cameras_raw_file_is_not_taken_for_its_preview(picture, tmp_path):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        preview = np.asarray(picture.resize((48, 32)))
        file.write(preview, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        values = np.zeros((64, 96), np.uint16)
        file.write(values, photometric=32803, metadata=None)
    canon = b"II*\0\x10\0\0\0CR\2\0" + bytes(99)
    for data in (buffer.getvalue(), canon):
        (tmp_path / "a.tif").write_bytes(data)
        with pytest.raises(UnreadableImageError, match=r"a\.tif: is a camera's raw file; convert"):
            open_photo(tmp_path / "a.tif")


def test_a_file_cut_before_it_says_what_it_is(picture, tmp_path):
    (tmp_path / "a.tif").write_bytes(encoded(picture, "TIFF", compression="tiff_lzw")[:-3])
    with pytest.raises(UnreadableImageError, match=r"a\.tif: broken or cut short"):
        open_photo(tmp_path / "a.tif")

"""What is beside the pixels: kept, or left out with a note; and no trace of the photo before."""

import io
import os
import re
import struct
import time
import zlib

import numpy as np
import pytest
from corpus import ASTRONAUT, encoded
from paths import ROOT
from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from fader.errors import FaderError, UnreadableImageError
from fader.photo import Provenance, open_photo, save_photo
from fader.photo.formats import register_heif
from fader.photo.jpeg import MOST
from fader.photo.png import chunk
from fader.photo.resources import packed

MARK = Provenance("Smiling=+0.5")
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'


@pytest.fixture(scope="module")
def picture():
    with Image.open(ASTRONAUT) as image:
        return image.convert("RGB").crop((180, 40, 372, 168)).resize((96, 64))


def xmp(properties="", attributes=""):
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}><rdf:Description rdf:about="" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" '
        'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
        'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" '
        'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" '
        'xmlns:GImage="http://ns.google.com/photos/1.0/image/" '
        'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" '
        f"{attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def segment(marker, payload):
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_segments(image, *segments):
    data = encoded(image, "JPEG", quality=90)
    return data[:2] + b"".join(segments) + data[2:]


def saved(data, folder, suffix, out=None, provenance=MARK):
    """The photo of a file's content, the content of the file it is saved to, and the notes."""
    path = folder / f"in.{suffix}"
    path.write_bytes(data)
    photo = open_photo(path)
    target = folder / f"out.{out or suffix}"
    notes = save_photo(photo, target, provenance=provenance)
    return photo, target.read_bytes(), (*photo.notes, *notes)


def exif_block(*entries, following=0, tail=b""):
    """A little-endian block of (tag, type, count, value) entries."""
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    head += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0" + head + struct.pack("<I", following) + tail


# The photo before


def thumbnails(picture):
    """EXIF blocks with a picture of the photo in each of the places there are."""
    small = encoded(picture.resize((32, 24)), "JPEG")
    raw = np.asarray(picture.resize((8, 6))).tobytes()
    place = 8 + 2 + 12 + 4  # after a directory of one entry
    first = (0x010F, 2, 3, int.from_bytes(b"Me\0\0", "little"))

    def second(start, *entries):
        body = struct.pack("<H", len(entries))
        body += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
        return body, start + len(body)

    _, at = second(place, (0x103, 3, 1, 6), (0x201, 4, 1, 0), (0x202, 4, 1, 0))
    jpeg = second(place, (0x103, 3, 1, 6), (0x201, 4, 1, at), (0x202, 4, 1, len(small)))[0] + small
    strips = second(place, (0x103, 3, 1, 1), (0x111, 4, 1, at), (0x117, 4, 1, len(raw)))[0] + raw
    maker = struct.pack("<HHHII", 1, 0x927C, 7, 60 + len(small), place + 18)
    note = maker + bytes(4) + b"MAKER" + bytes(40) + small + bytes(15)
    return {
        "thumbnail": (exif_block(first, following=place, tail=jpeg), small),
        "uncompressed": (exif_block(first, following=place, tail=strips), raw),
        "sub-image": (exif_block((0x14A, 4, 1, place), tail=jpeg), small),
        "maker note": (exif_block((0x8769, 4, 1, place), tail=note), small),
    }


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "heic", "tif"])
@pytest.mark.parametrize("kind", ["thumbnail", "uncompressed", "sub-image", "maker note"])
def test_no_picture_of_the_photo_before_stays_in_its_exif(picture, tmp_path, kind, suffix):
    if suffix == "heic":
        pytest.importorskip("pillow_heif")
        register_heif()
    block, before = thumbnails(picture)[kind]
    form = {"jpg": "JPEG", "tif": "TIFF", "heic": "HEIF"}.get(suffix, suffix.upper())
    data = encoded(picture, form, **({} if suffix == "tif" else {"exif": block}))
    if suffix == "tif":  # a page of a small copy, and one below the first
        small = Image.new("RGB", (8, 6))
        data = encoded(picture, form, save_all=True, append_images=[small])
        before = small.tobytes()
    _, out, _ = saved(data, tmp_path, suffix)
    needle = before[-60:-20] if kind != "uncompressed" else before
    assert suffix == "tif" or needle in data
    assert needle not in out
    assert out.find(b"\xff\xd8\xff", 10) < 0


@pytest.mark.parametrize(
    "properties",
    [
        '<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource"><xmpGImg:format>JPEG'
        "</xmpGImg:format><xmpGImg:image>{}</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>",
        "<GImage:Mime>image/jpeg</GImage:Mime><GImage:Data>{}</GImage:Data>",
        "<dc:source>{}</dc:source>",
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_nor_in_its_xmp(picture, tmp_path, properties, suffix):
    import base64

    code = base64.b64encode(encoded(picture, "JPEG", quality=50)).decode()
    code = code[:400] + "&#xA;" + code[400:]
    packet = xmp(properties.format(code), 'xmp:Rating="5"')
    form = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    if form == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        data = encoded(picture, form, pnginfo=info)
    elif form == "TIFF":
        exif = Image.Exif()
        exif[700] = packet
        data = encoded(picture, form, exif=exif)
    else:
        data = encoded(picture, form, xmp=packet)
    photo, out, _ = saved(data, tmp_path, suffix)
    assert b"/9j/" not in out and b'xmp:Rating="5"' in out
    assert photo.provenance is None and open_photo(out).provenance == MARK


def test_nor_among_photoshops_resources_nor_behind_the_picture(picture, tmp_path):
    small = encoded(picture.resize((32, 24)), "JPEG")
    records = b"\x1c\x02\x78\x00\x09A caption" + b"\x1c\x02\xca" + struct.pack(">H", len(small))
    resources = packed(
        [
            (0x0404, b"\0\0", records + small),
            (0x040C, b"\0\0", bytes(28) + small),
            (0x0409, b"\0\0", bytes(28) + small),
        ]
    )
    jfxx = segment(0xE0, b"JFXX\0\x10" + small)
    data = with_segments(picture, jfxx, segment(0xED, b"Photoshop 3.0\0" + resources)) + small
    _, out, _ = saved(data, tmp_path, "jpg")
    assert out.find(b"\xff\xd8\xff", 10) < 0 and b"A caption" in out


def test_nor_as_further_pictures_of_the_file(picture, tmp_path):
    buffer = io.BytesIO()
    picture.save(buffer, "MPO", save_all=True, append_images=[picture.resize((48, 32))])
    _, out, notes = saved(buffer.getvalue(), tmp_path, "jpg")
    assert out.find(b"\xff\xd8\xff", 10) < 0 and b"MPF" not in out
    assert notes == ("only the first of its 2 frames or pages",)
    pytest.importorskip("pillow_heif")
    register_heif()
    large = picture.resize((384, 256))
    _, out, _ = saved(encoded(large, "HEIF", thumbnails=[128]), tmp_path, "heic")
    with Image.open(io.BytesIO(out)) as image:
        assert not image.info["thumbnails"]


# Orientation

EXIF6 = exif_block((0x0112, 3, 1, 6))
XMP6 = xmp(attributes='tiff:Orientation="6"')
XMP6_ELEMENT = xmp("<tiff:Orientation>6</tiff:Orientation>")


def raw_profile(kind, block):
    digits = block.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return f"Raw profile type {kind}", f"\n{kind}\n{len(block):8d}\n{lines}\n"


def oriented(picture, place):
    info = PngImagePlugin.PngInfo()
    head = b"http://ns.adobe.com/xap/1.0/\0"
    if place == "jpeg xmp":
        return "jpg", with_segments(
            picture, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP6)
        )
    if place == "jpeg xmp element":
        head = b"http://ns.adobe.com/xap/1.0/\0"
        return "jpg", with_segments(picture, segment(0xE1, head + XMP6_ELEMENT))
    if place == "jpeg second block":
        first = exif_block((0x010F, 2, 3, int.from_bytes(b"Me\0\0", "little")))
        return "jpg", with_segments(picture, segment(0xE1, first), segment(0xE1, EXIF6))
    if place == "jpeg photoshop":
        resources = packed([(0x0422, b"\0\0", EXIF6[6:]), (0x0424, b"\0\0", XMP6)])
        return "jpg", with_segments(picture, segment(0xED, b"Photoshop 3.0\0" + resources))
    if place == "tiff xmp":
        exif = Image.Exif()
        exif[700] = XMP6
        return "tif", encoded(picture, "TIFF", exif=exif)
    if place == "webp xmp":
        return "webp", encoded(picture, "WEBP", xmp=XMP6, lossless=True)
    if place == "webp exif":
        return "webp", encoded(picture, "WEBP", exif=EXIF6, lossless=True)
    if place.startswith(("avif", "heic")):
        form = {"avif": "AVIF", "heic": "HEIF"}[place[:4]]
        block = {"exif": EXIF6} if place.endswith("exif") else {"xmp": XMP6}
        return place[:4], encoded(picture, form, **block)
    if place == "png exif chunk":
        return "png", encoded(picture, "PNG", exif=EXIF6)
    if place == "png xmp":
        info.add_itxt("XML:com.adobe.xmp", XMP6.decode())
    elif place == "png packed xmp":
        info.add_itxt("XML:com.adobe.xmp", XMP6.decode(), zip=True)
    else:
        kind, block = {
            "png raw exif": ("exif", EXIF6),
            "png raw app1": ("APP1", EXIF6),
            "png raw xmp": ("xmp", XMP6),
        }[place]
        info.add_text(*raw_profile(kind, block), zip=True)
    return "png", encoded(picture, "PNG", pnginfo=info)


PLACES = [
    *("jpeg xmp", "jpeg xmp element", "jpeg second block", "jpeg photoshop", "tiff xmp"),
    *("webp xmp", "webp exif", "png exif chunk", "png xmp", "png packed xmp"),
    *("png raw exif", "png raw app1", "png raw xmp"),
    *("avif exif", "avif xmp", "heic exif", "heic xmp"),
]


@pytest.mark.parametrize("place", PLACES)
def test_an_orientation_is_obeyed_and_none_is_left(picture, tmp_path, place):
    if place.startswith("heic"):
        pytest.importorskip("pillow_heif")
        register_heif()
    suffix, data = oriented(picture, place)
    photo, out, _ = saved(data, tmp_path, suffix)
    assert photo.pixels.shape == (96, 64, 3)
    again = open_photo(out)
    assert again.pixels.shape == (96, 64, 3)
    with Image.open(io.BytesIO(out)) as image:
        image.load()
        assert image.size == (64, 96) and image.getexif().get(274, 1) == 1
        assert not any("Raw profile type exif" in key for key in image.info)
    assert not re.search(rb"Orientation\W{1,3}[2-8]", again.xmp)
    assert b"\x12\x01\x03\x00\x01\x00\x00\x00\x06" not in out


# Nothing makes room for ours


@pytest.mark.parametrize("length", [65_000, 65_500, 65_520, 90_000])
def test_a_long_exif_stays(picture, tmp_path, length):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Canon"
    exif[ExifTags.Base.Artist] = "Ann"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"n" * (length - 200)
    block = exif.tobytes()
    pieces = [block[:MOST]] + [
        b"Exif\0\0" + block[i : i + 60_000] for i in range(MOST, len(block), 60_000)
    ]
    _, out, notes = saved(
        with_segments(picture, *(segment(0xE1, piece) for piece in pieces)), tmp_path, "jpg"
    )
    with Image.open(io.BytesIO(out)) as image:
        written = image.getexif()
        assert written[ExifTags.Base.Make] == "Canon" and written[ExifTags.Base.Artist] == "Ann"
        assert len(written.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote]) == length - 200
    assert notes == () and open_photo(out).provenance == MARK


@pytest.mark.parametrize("length", [60_000, 64_200, 200_000])
@pytest.mark.parametrize("source", ["jpg", "png"])
def test_a_long_xmp_stays(picture, tmp_path, length, source):
    """As extended XMP, where it does not fit one segment any more."""
    text = "a note " * (length // 7)
    packet = xmp(f"<dc:description>{text}</dc:description><dc:title>Mine</dc:title>")
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode())
    if source == "jpg" and len(packet) < MOST - 29:
        data = encoded(picture, "JPEG", xmp=packet)
    else:
        data, source = encoded(picture, "PNG", pnginfo=info), "png"
    _, out, notes = saved(data, tmp_path, source, "jpg")
    again = open_photo(out)
    assert text.encode() in again.xmp and b"Mine" in again.xmp and notes == ()
    assert again.provenance == MARK
    if length == 64_200:  # theirs where every reader looks, ours in the extension
        with Image.open(io.BytesIO(out)) as image:
            assert text.encode() in image.info["xmp"]
    # Once more, so that an extension is also read.
    (tmp_path / "again.jpg").write_bytes(out)
    save_photo(open_photo(tmp_path / "again.jpg"), tmp_path / "twice.jpg")
    assert text.encode() in open_photo(tmp_path / "twice.jpg").xmp


def test_an_extension_that_cannot_be_read_stays_with_its_name(picture, tmp_path):
    name = "0123456789ABCDEF" * 2
    main = xmp(attributes=f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{name}"')
    more = b"<x:xmpmeta>" + b"E" * 70_000 + b"</x:xmpmeta>"
    head = b"http://ns.adobe.com/xmp/extension/\0" + name.encode()
    parts = [
        segment(0xE1, head + struct.pack(">II", len(more), i) + more[i : i + 60_000])
        for i in range(0, len(more), 60_000)
    ]
    packet = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + main)
    data = with_segments(picture, packet, *parts)
    _, out, _ = saved(data, tmp_path, "jpg")
    assert b"HasExtendedXMP" in out and out.count(b"xmp/extension") == 2
    # Without its extension the name leads nowhere.
    _, out, _ = saved(with_segments(picture, packet), tmp_path, "jpg")
    assert b"HasExtendedXMP" not in out
    _, out, notes = saved(data, tmp_path, "jpg", "png")
    assert b"HasExtendedXMP" not in out and "not kept: XMP" in notes


# Promises


@pytest.mark.parametrize(
    ("properties", "behind", "word"),
    [
        ('hdrgm:Version="1.0"', b"", "gain map"),
        ('GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"', b"", "video"),
        ('GCamera:MicroVideo="1" GCamera:MicroVideoOffset="99"', b"", "video"),
        ("", b"\0\0\0\x18ftypmp42" + bytes(99), "video"),
        ('GDepth:Format="RangeInverse"', b"", "depth map"),
    ],
)
def test_what_is_gone_is_said_and_no_longer_promised(picture, tmp_path, properties, behind, word):
    packet = xmp(
        '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item '
        'Item:Semantic="GainMap"/></rdf:li></rdf:Seq></Container:Directory>',
        f'xmp:Rating="4" {properties}',
    )
    _, out, notes = saved(encoded(picture, "JPEG", xmp=packet) + behind, tmp_path, "jpg")
    assert f"its {word} is left out" in notes
    assert b'Rating="4"' in out
    for name in (b"hdrgm:Version", b"MotionPhoto=", b"MicroVideo", b"GainMap", b"GDepth:Format"):
        assert name not in out


# Captions, comments, chunks


@pytest.mark.parametrize("out", ["jpg", "png", "tif"])
@pytest.mark.parametrize("source", ["jpg", "png", "tif"])
def test_captions_are_kept(picture, tmp_path, source, out):
    records = b"\x1c\x02\x78\x00\x09A caption"
    resources = packed([(0x0404, b"\0\0", records)])
    if source == "jpg":
        data = with_segments(picture, segment(0xED, b"Photoshop 3.0\0" + resources))
    elif source == "png":
        info = PngImagePlugin.PngInfo()
        info.add_text(*raw_profile("iptc", resources), zip=True)
        data = encoded(picture, "PNG", pnginfo=info)
    else:
        exif = Image.Exif()
        exif[33723] = records
        data = encoded(picture, "TIFF", exif=exif, compression="tiff_lzw")
    photo, written, notes = saved(data, tmp_path, source, out)
    assert notes == ()
    assert open_photo(written).contents.resources == photo.contents.resources == resources
    if out == "tif":
        with Image.open(io.BytesIO(written)) as image:
            assert 33723 in image.tag_v2


def test_comments_are_kept(picture, tmp_path):
    comments = segment(0xFE, b"shot by Ann"), segment(0xFE, b"and Bob")
    data = with_segments(picture, *comments)
    _, out, notes = saved(data, tmp_path, "jpg")
    assert b"shot by Ann" in out and b"and Bob" in out and notes == ()
    _, out, notes = saved(data, tmp_path, "jpg", "png")
    assert b"shot by Ann" in out and notes == ()
    assert saved(data, tmp_path, "jpg", "webp")[2] == ("not kept: its comment",)


def test_chunks_of_a_png_are_kept(picture, tmp_path):
    plain = encoded(picture, "PNG")
    chunks = {
        b"gAMA": struct.pack(">I", 45455),
        b"cHRM": struct.pack(">8I", *range(8)),
        b"cICP": b"\x09\x10\0\1",
        b"sBIT": b"\7\7\7",
        b"bKGD": bytes(6),
        b"tIME": b"\x07\xe8\1\2\3\4\5",
        b"tEXt": b"Author\0A. Person",
        b"zTXt": b"Story\0\0" + zlib.compress(b"once " * 400_000),
        b"iTXt": b"Title\0\0\0ru\0\xd0\x9d\0\xd0\xa4\xd0\xbe\xd1\x82\xd0\xbe",
    }
    data = plain[:33] + b"".join(chunk(*one) for one in chunks.items()) + plain[33:]
    _, out, notes = saved(data, tmp_path, "png")
    assert notes == ()
    for kind, payload in chunks.items():
        assert chunk(kind, payload) in out
    # Of a palette they would say something else.
    palette = encoded(picture.quantize(16), "PNG")
    data = palette[:33] + chunk(b"sBIT", b"\7\7\7") + palette[33:]
    assert b"sBIT" not in saved(data, tmp_path, "png")[1]


# Harmless damage


@pytest.mark.parametrize("kind", [b"tEXt", b"pHYs", b"iCCP", b"eXIf", b"zTXt", b"abCd"])
def test_damage_beside_the_pixels_of_a_png(picture, tmp_path, kind):
    plain = encoded(picture, "PNG")
    bad = bytearray(chunk(kind, b"Key\0\0some bytes"))
    bad[-1] ^= 1
    photo, _, notes = saved(plain[:33] + bytes(bad) + plain[33:], tmp_path, "png")
    assert np.array_equal(photo.pixels, np.asarray(picture))
    assert notes == (f"damaged parts beside the pixels left out ({kind.decode()})",)


@pytest.mark.parametrize("cut", [8, 12])
def test_a_png_without_its_end(picture, tmp_path, cut):
    photo, _, notes = saved(encoded(picture, "PNG")[:-cut], tmp_path, "png")
    assert np.array_equal(photo.pixels, np.asarray(picture)) and notes == ("its end is missing",)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("cut", [1, 2])
def test_a_jpeg_without_its_end(picture, tmp_path, cut, progressive):
    data = encoded(picture, "JPEG", quality=90, progressive=progressive)
    whole = open_photo(data)
    photo, _, notes = saved(data[:-cut], tmp_path, "jpg")
    assert np.array_equal(photo.pixels, whole.pixels) and notes == ("its end is missing",)
    for twentieths in range(2, 20):
        with pytest.raises(UnreadableImageError, match="cut short"):
            open_photo(data[: len(data) * twentieths // 20])


def test_readers_of_data_take_them_too(picture, tmp_path):
    from cgan.data import middle_square
    from fader.data.annotations import FolderImages

    plain = encoded(picture, "PNG")
    bad = bytearray(chunk(b"tEXt", b"Key\0text"))
    bad[-1] ^= 1
    (tmp_path / "a.png").write_bytes(plain[:33] + bytes(bad) + plain[33:])
    (tmp_path / "b.jpg").write_bytes(encoded(picture, "JPEG", quality=95)[:-2])
    dark = np.asarray(picture.convert("L")).astype(np.uint16) << 4
    Image.fromarray(dark).save(tmp_path / "c.png")
    for name in ("a.png", "b.jpg", "c.png"):
        values = FolderImages(tmp_path).read(name)
        assert values.shape == (64, 96, 3) and values.mean() > 60
        square = middle_square(tmp_path / name, 16, 3)
        assert square.mean() > 60


# From strangers


def test_no_program_is_started_for_a_postscript_file(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(UnreadableImageError, match="not an image"):
        open_photo(path)


def test_nothing_opens_images_of_any_format():
    """Image.open without a list of formats is called nowhere."""
    for package in ("fader", "cgan"):
        for path in (ROOT / package).rglob("*.py"):
            for found in re.finditer(r"Image\.open\([^\n]*", path.read_text(encoding="utf-8")):
                assert "formats=" in found[0], f"{path}: {found[0]}"


@pytest.mark.parametrize(
    "text",
    [
        "a" * 3_000_000,
        "<rdf:Description rdf:about=" * 100_000,
        "<a>" * 100_000,
        "<xmp:Rating>" * 30_000 + "5" + "</xmp:Rating>" * 30_000,
        "<dc:title>x</dc:title>" * 100_000,
        " tiff:Orientation" * 200_000,
    ],
)
def test_xmp_takes_no_more_time_than_its_length(picture, tmp_path, text):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp(text).decode(), zip=True)
    begin = time.process_time()
    photo, _, _ = saved(encoded(picture, "PNG", pnginfo=info), tmp_path, "png")
    assert time.process_time() - begin < 5
    assert photo.pixels.shape == (64, 96, 3)


def test_xmp_of_which_nothing_may_stay_is_dropped(picture, tmp_path):
    """Its root is a depth map's: it ended in a traceback."""
    head = b"http://ns.adobe.com/xap/1.0/\0"
    root = b'<g:RDF xmlns:g="http://ns.google.com/photos/1.0/image/"><g:Data>/9j/</g:Data></g:RDF>'
    data = with_segments(picture, segment(0xE1, head + root))
    _, out, _ = saved(data, tmp_path, "jpg", provenance=None)
    assert open_photo(out).pixels.shape[:2] == picture.size[::-1]
    assert b"photos/1.0/image" not in out


def test_xmp_expands_no_entities(picture, tmp_path):
    packet = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>' + xmp("&e;")
    photo, _, notes = saved(encoded(picture, "JPEG", xmp=packet), tmp_path, "jpg")
    assert photo.xmp == b"" and any("XMP" in note for note in notes)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_devices_and_folders_are_no_photos(tmp_path):
    from cgan.data import middle_square

    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "zero.jpg", "folder.jpg"):
        with pytest.raises(UnreadableImageError, match="not a photo"):
            open_photo(tmp_path / name)
        with pytest.raises(UnreadableImageError, match="not a photo"):
            middle_square(tmp_path / name, 16, 3)


def test_the_limit_of_pixels_follows_the_memory_and_can_be_set(picture, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    picture.save(path)
    monkeypatch.setenv("FADER_MAX_MEGAPIXELS", "0.005")
    with pytest.raises(UnreadableImageError, match=r"FADER_MAX_MEGAPIXELS sets another limit"):
        open_photo(path)
    monkeypatch.delenv("FADER_MAX_MEGAPIXELS")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's own is not what counts
    assert open_photo(path).pixels.shape == (64, 96, 3)
    monkeypatch.setattr("fader.photo.formats._free_memory", lambda: 24 * 6000)
    with pytest.raises(UnreadableImageError, match="megapixels"):
        open_photo(path)


def test_a_jpeg_that_claims_to_be_huge(picture, tmp_path):
    data = bytearray(encoded(picture, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 20_000, 20_000)
    begin = time.process_time()
    for content in (bytes(data), bytes(data[:-2])):
        with pytest.raises(UnreadableImageError, match=r"too few bytes for 400 megapixels"):
            open_photo(content)
    assert time.process_time() - begin < 2


# Writing


@pytest.mark.parametrize("quality", [None, 90, 95, 100])
@pytest.mark.parametrize("progressive", [False, True])
def test_noise_at_the_highest_quality_is_written(
    tmp_path, capfd, monkeypatch, quality, progressive
):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile, "MAXBLOCK", 10**7)
        image = Image.fromarray(noise)
        data = encoded(image, "JPEG", quality=100, subsampling=0, progressive=progressive)
    photo = open_photo(data)
    save_photo(photo, tmp_path / "a.jpg", quality=quality)
    assert open_photo(tmp_path / "a.jpg").pixels.shape == noise.shape
    assert "uspension" not in capfd.readouterr().err


@pytest.mark.parametrize("suffix", ["ico", "pdf", "eps", "icns", "xbm", "h5"])
def test_files_that_are_no_photos_are_not_written(picture, tmp_path, suffix):
    with pytest.raises(FaderError, match=rf"cannot write \.{suffix}; use \.png or \.jpg"):
        save_photo(open_photo(picture), tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    "suffix", ["gif", "bmp", "ppm", "tga", "qoi", "jp2", "webp", "avif", "jpg"]
)
def test_what_a_format_has_no_place_for_is_said(picture, tmp_path, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Canon"
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Ann")
    image = picture.copy()
    image.putalpha(200)
    data = encoded(image, "PNG", exif=exif, pnginfo=info, dpi=(300, 300))
    photo, out, notes = saved(data, tmp_path, "png", suffix)
    said = "; ".join(notes)
    holds_exif = suffix in ("webp", "avif", "jpg")
    assert ("EXIF" in said) != holds_exif and "PNG texts" in said
    assert ("transparency" in said) == (suffix in ("gif", "bmp", "ppm", "jpg"))
    assert ("256 colours" in said) == (suffix == "gif")
    assert ("that it was edited" in said) == (not holds_exif and suffix != "gif")
    again = open_photo(out)
    assert again.pixels.shape == photo.pixels.shape
    assert suffix != "gif" or any(b"Smiling=+0.5" in one for one in again.contents.comments)


@pytest.mark.skipif(os.name != "posix", reason="needs permissions")
@pytest.mark.parametrize(
    ("source", "there", "expected"),
    [(0o600, None, 0o600), (0o640, None, 0o640), (0o644, 0o600, 0o600), (0o600, 0o644, 0o600)],
)
def test_an_output_is_read_by_no_more_people_than_its_source(
    picture, tmp_path, source, there, expected
):
    from fader.photo import copy_file

    path, out = tmp_path / "a.png", tmp_path / "b.png"
    picture.save(path)
    path.chmod(source)
    if there is not None:
        out.write_bytes(b"")
        out.chmod(there)
    umask = os.umask(0o022)
    try:
        save_photo(open_photo(path), out)
        assert out.stat().st_mode & 0o777 == expected
        made = open_photo(path).made_into(np.zeros((4, 4, 3), np.uint8))
        save_photo(made, tmp_path / "crop.png")
        assert (tmp_path / "crop.png").stat().st_mode & 0o777 == source
        copy_file(path, tmp_path / "copy.png")
        assert (tmp_path / "copy.png").stat().st_mode & 0o777 == source
    finally:
        os.umask(umask)


def test_provenance_says_what_was_asked(picture):
    from fader.attributes import parse_changes
    from fader.edit.results import Edit, FaceEdit

    before = {"Eyeglasses": 0.0312, "Smiling": 0.9}
    face = FaceEdit(None, before, before | {"Eyeglasses": 0.5312})
    asked = parse_changes("Eyeglasses=+0.5,Smiling=1")
    edit = Edit(open_photo(picture), 1, (face,), asked=asked)
    assert edit.provenance.edits == "Eyeglasses=+0.5"

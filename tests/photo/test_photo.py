import io
import os
import warnings
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import tifffile
from corpus import encoded, png_bomb
from paths import ASTRONAUT
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, PngImagePlugin, features

from fader.errors import DiskFullError, FaderError, UnreadableImageError
from fader.photo import open_image, open_photo, save_photo
from fader.photo.jpeg import has_standard_tables
from fader.photo.metadata import Provenance
from fader.photo.xmp import DIGITAL_SOURCE_TYPE

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def picture():
    """96×64, so that turns show."""
    with Image.open(ASTRONAUT) as image:
        return image.convert("RGB").crop((180, 40, 372, 168)).resize((96, 64))


def brightened(photo, rows=slice(10, 20), columns=slice(30, 50)):
    """``photo`` as an edit leaves it: brighter in one place."""
    pixels = photo.pixels.copy()
    pixels[rows, columns] = np.minimum(pixels[rows, columns].astype(int) + 40, 255)
    return photo.edited(pixels)


def sixteen_bits(shape):
    return np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)


# Reading


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"]
)
def test_every_mode_is_read_as_it_looks(picture, tmp_path, mode):
    suffix = {"CMYK": "tif", "YCbCr": "tif", "PA": None}.get(mode, "png")
    image = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
    source = image
    if suffix:
        source = tmp_path / f"a.{suffix}"
        image.save(source)
    expected = np.asarray(image.convert("RGB") if mode != "I;16" else picture.convert("L"))
    if mode == "I;16":  # values of 8 bits in 16
        expected = np.stack([expected] * 3, axis=2)
    photo = open_photo(source)
    assert photo.pixels.shape == (64, 96, 3) and photo.pixels.dtype == np.uint8
    assert np.array_equal(photo.pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
def test_orientation_is_obeyed_and_written_back_upright(picture, tmp_path, orientation, suffix):
    from PIL import ImageOps

    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    path, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    picture.save(path, exif=exif)
    with Image.open(path) as image:
        image.load()
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    photo = open_photo(path)
    assert np.array_equal(photo.pixels, shown)
    save_photo(photo, out)
    with Image.open(out) as image:
        image.load()
        assert image.size == shown.shape[1::-1]
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert image.getexif()[ExifTags.Base.Make] == "Maker"


def test_adobes_inverted_cmyk_and_the_plain_kind(picture, tmp_path):
    """Pillow writes the one; without its Adobe marker the same file is the other."""
    path = tmp_path / "adobe.jpg"
    picture.convert("CMYK").save(path, quality=100)
    photo = open_photo(path)
    assert np.abs(photo.pixels.astype(int) - np.asarray(picture)).mean() < 4
    data = path.read_bytes()
    marker = data.index(b"\xff\xee\x00\x0eAdobe")
    plain = tmp_path / "plain.jpg"
    Image.fromarray(255 - np.asarray(picture.convert("CMYK")), "CMYK").save(path, quality=100)
    data = path.read_bytes()
    plain.write_bytes(data[:marker] + data[marker + 16 :])
    assert np.abs(open_photo(plain).pixels.astype(int) - np.asarray(picture)).mean() < 4
    assert photo.notes == ("written as RGB, not CMYK",)
    save_photo(photo, tmp_path / "out.jpg")
    assert Image.open(tmp_path / "out.jpg").mode == "RGB"


def test_of_an_animation_the_first_frame_is_taken_and_that_is_said(picture, tmp_path):
    path = tmp_path / "a.gif"
    picture.save(path, save_all=True, append_images=[picture.rotate(a) for a in (90, 180, 270)])
    photo = open_photo(path)
    assert photo.notes == ("only the first of its 4 frames or pages",)
    assert photo.pixels.std() > 20


# Writing back


def test_a_jpeg_keeps_its_tables_sampling_and_progression(picture, tmp_path):
    for quality, subsampling, progressive in ((35, 2, True), (92, 0, False)):
        path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
        picture.save(path, quality=quality, subsampling=subsampling, progressive=progressive)
        save_photo(brightened(open_photo(path)), out)
        with Image.open(path) as before, Image.open(out) as after:
            assert after.quantization == before.quantization
            assert JpegImagePlugin.get_sampling(after) == subsampling
            assert bool(after.info.get("progressive")) == progressive
        save_photo(open_photo(path), out, quality=60)
        picture.save(tmp_path / "c.jpg", quality=60)
        with Image.open(out) as after, Image.open(tmp_path / "c.jpg") as reference:
            assert after.quantization == reference.quantization


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_coded_by_tables_of_its_own_where_it_was(picture, tmp_path, mode):
    for optimize in (False, True):
        path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
        # A preview inside, with tables of its own, says nothing about the picture.
        preview = io.BytesIO()
        picture.resize((32, 32)).save(preview, "JPEG", optimize=not optimize)
        picture.convert(mode).save(path, optimize=optimize, comment=preview.getvalue())
        save_photo(brightened(open_photo(path)), out)
        assert has_standard_tables(path.read_bytes()) == (not optimize)
        assert has_standard_tables(out.read_bytes()) == (not optimize)


def test_a_grey_photo_stays_grey(picture, tmp_path):
    for suffix in ("jpg", "png", "tif", "bmp"):
        path, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
        picture.convert("L").save(path)
        save_photo(brightened(open_photo(path)), out)
        assert Image.open(out).mode == "L"
        difference = np.asarray(Image.open(out)).astype(int) - np.asarray(Image.open(path))
        assert difference[12:18, 33:47].mean() > 30
        if suffix != "jpg":
            assert not difference[22:].any()


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_so_outside_the_change(tmp_path, suffix, channels):
    values = sixteen_bits((64, 96, channels) if channels > 1 else (64, 96))
    path, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    cv2.imwrite(str(path), values)
    photo = open_photo(path)
    provenance = Provenance("Smiling=1")
    save_photo(brightened(photo), out, provenance=provenance)
    written = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16 and written.shape == values.shape
    changed = np.zeros((64, 96), bool)
    changed[10:20, 30:50] = True
    assert np.array_equal(written[~changed], values[~changed])
    assert (written[changed] != values[changed]).any()
    if channels == 4:
        assert np.array_equal(written[:, :, 3], values[:, :, 3])
    with Image.open(out) as image:
        image.load()
        assert image.size == (96, 64)
    again = open_photo(out)
    assert again.deep is not None and again.provenance == provenance


def test_a_turned_photo_of_sixteen_bits(tmp_path):
    values = sixteen_bits((64, 96, 3))
    cv2.imwrite(str(tmp_path / "a.png"), values)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    from fader.photo.metadata import Contents
    from fader.photo.png import deep_png, with_contents
    from fader.photo.tiff import deep_tiff

    plain = deep_png(values[:, :, ::-1])
    data = with_contents(plain, Contents(exif=exif.tobytes()), None)
    (tmp_path / "b.png").write_bytes(data)
    (tmp_path / "b.tif").write_bytes(deep_tiff(values[:, :, ::-1], False, {"exif": exif}))
    for name in ("b.png", "b.tif"):
        photo = open_photo(tmp_path / name)
        assert np.array_equal(photo.deep, np.rot90(values[:, :, ::-1], -1))
        assert np.array_equal(photo.pixels, photo.deep >> 8)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "avif"])
def test_alpha_is_kept(picture, tmp_path, suffix):
    image = picture.convert("RGBA")
    alpha = np.tile(np.arange(96, dtype=np.uint8) * 2, (64, 1))
    image.putalpha(Image.fromarray(alpha))
    path, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    image.save(path, **({"lossless": True} if suffix == "webp" else {}))
    save_photo(brightened(open_photo(path)), out)
    with Image.open(path) as before, Image.open(out) as after:
        assert after.mode == "RGBA"
        assert np.array_equal(before.getchannel("A"), after.getchannel("A")) or suffix == "avif"
        if suffix != "avif":  # lossless as it was: also in the colours of transparent pixels
            assert np.array_equal(np.asarray(before)[22:], np.asarray(after)[22:])


def test_palettes_with_transparency_and_alpha_into_jpeg(picture, tmp_path):
    image = picture.quantize(64)
    path = tmp_path / "a.png"
    image.save(path, transparency=image.getpixel((0, 0)))
    photo = open_photo(path)
    assert photo.alpha is not None and photo.alpha.min() == 0
    save_photo(photo, tmp_path / "b.png")
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "b.png")), np.asarray(Image.open(path).convert("RGBA"))
    )
    save_photo(photo, tmp_path / "b.jpg")
    assert open_image(tmp_path / "b.jpg").getpixel((0, 0)) >= (240, 240, 240)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
def test_profile_exif_and_resolution_are_kept(picture, tmp_path, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Camera"
    exif[ExifTags.Base.Orientation] = 3
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ISOSpeedRatings: 400}
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    path, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    made = tmp_path / f"made.{suffix.replace('tif', 'jpg')}"
    picture.save(made, exif=exif, icc_profile=SRGB, dpi=(300, 300))
    save_photo(open_photo(made), path)
    save_photo(brightened(open_photo(path)), out, provenance=Provenance("Male=0, Smiling=1"))
    with Image.open(out) as image:
        image.load()
        assert image.info["icc_profile"] == SRGB
        written = image.getexif()
        assert written[ExifTags.Base.Model] == "Camera"
        assert written.get(ExifTags.Base.Orientation, 1) == 1
        assert written.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 400
        assert written.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
        if suffix in ("jpg", "png", "tif"):
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_maker_notes_stay_where_they_were_and_the_thumbnail_goes(picture, tmp_path):
    from fader.photo.exif import cleaned_exif, signed_exif

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"secret offsets" * 20
    before = exif.tobytes()
    after = signed_exif(cleaned_exif(before), "Fader")
    assert after.index(b"secret") == before.index(b"secret")
    read = Image.Exif()
    read.load(after)
    assert read[ExifTags.Base.Orientation] == 1 and read[ExifTags.Base.Software] == "Fader"
    assert not read.get_ifd(ExifTags.IFD.IFD1)
    for broken in (b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", before[:20], b"II*\0"):
        assert cleaned_exif(broken) == b""
        again = Image.Exif()
        again.load(signed_exif(cleaned_exif(broken), "Fader"))
        assert again[ExifTags.Base.Software] == "Fader"


def test_texts_of_a_png_are_kept(picture, tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "A. Person")
    texts.add_itxt("Title", "Фото")
    picture.save(tmp_path / "a.png", pnginfo=texts)
    save_photo(open_photo(tmp_path / "a.png"), tmp_path / "b.png")
    assert Image.open(tmp_path / "b.png").text == {"Author": "A. Person", "Title": "Фото"}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
def test_edited_photos_say_so(picture, tmp_path, suffix):
    path, out, twice = (tmp_path / f"{name}.{suffix}" for name in "abc")
    picture.save(path)
    assert open_photo(path).provenance is None
    save_photo(open_photo(path), out, provenance=Provenance("Smiling=1"))
    photo = open_photo(out)
    assert photo.provenance == Provenance("Smiling=1")
    assert photo.xmp.count(DIGITAL_SOURCE_TYPE.encode()) == 1
    ElementTree.fromstring(photo.xmp.decode().lstrip("\ufeff"))
    with Image.open(out) as image:
        image.load()
        software = image.info.get("Software") or image.getexif()[ExifTags.Base.Software]
        assert software == str(Provenance("Smiling=1"))
    save_photo(photo, twice, provenance=Provenance("Male=0"))
    photo = open_photo(twice)
    assert photo.provenance == Provenance("Smiling=1; Male=0")
    assert photo.xmp.count(DIGITAL_SOURCE_TYPE.encode()) == 1


def test_the_mark_joins_the_xmp_that_is_there(picture, tmp_path):
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        b'syntax-ns#"><rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        b'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" tiff:Orientation="6" '
        b'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digital'
        b'Capture" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"/></rdf:RDF></x:xmpmeta>'
    )
    picture.save(tmp_path / "a.jpg", xmp=packet)
    save_photo(
        open_photo(tmp_path / "a.jpg"), tmp_path / "b.jpg", provenance=Provenance('<"&> Male=0')
    )
    photo = open_photo(tmp_path / "b.jpg")
    assert photo.provenance == Provenance('<"&> Male=0')
    assert b'xmp:Rating="5"' in photo.xmp and b"digitalCapture" not in photo.xmp
    assert b'tiff:Orientation="1"' in photo.xmp
    # Without provenance it is left as it was.
    save_photo(open_photo(tmp_path / "a.jpg"), tmp_path / "c.jpg")
    assert b"digitalCapture" in open_photo(tmp_path / "c.jpg").xmp


def test_heic_is_read_and_written_where_its_library_is(picture, tmp_path):
    pytest.importorskip("pillow_heif", reason="needs the extra: pip install 'fader[heif]'")
    from fader.photo import can_write

    assert can_write(".heic")
    save_photo(open_photo(picture), tmp_path / "a.heic", provenance=Provenance("Male=0"))
    photo = open_photo(tmp_path / "a.heic")
    assert np.abs(photo.pixels.astype(int) - np.asarray(picture)).mean() < 6
    assert photo.provenance == Provenance("Male=0")


def test_a_full_disk_is_told_and_leaves_nothing(picture, tmp_path, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"a\.png: the disk is full"):
        save_photo(open_photo(picture), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(picture, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file/a.png", "a.xyz", "a"):
        with pytest.raises(FaderError, match="a"):
            save_photo(open_photo(picture), tmp_path / name)


# What is no photo


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"dear diary\n" * 50, "not an image"),
        (b"\0\0\0\x18ftypheic" + bytes(100), r"fader\[heif\]|broken|not an image"),
        (ASTRONAUT.read_bytes()[:50_000], "broken or cut short"),
    ],
)
def test_no_photo_is_one_sentence(tmp_path, data, message):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=message) as caught:
        open_photo(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_bomb_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_bomb())
    with pytest.raises(UnreadableImageError, match="megapixels"):
        open_photo(path)


def test_pipes_folders_loops_and_floats(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "nan.tif")
    for name, message in (
        ("pipe.jpg", "no regular file"),
        (".", "folder"),
        ("loop.jpg", "link"),
        ("nan.tif", "floating-point"),
        ("none.jpg", "no such file"),
    ):
        with pytest.raises(UnreadableImageError, match=message):
            open_photo(tmp_path / name)


def resident_megabytes():
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        pytest.skip("needs /proc to see this process's memory")
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def test_thousands_of_damaged_files(picture, tmp_path):
    """Every one is read or answered with one sentence; nothing else comes out."""
    small = picture.resize((24, 16))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"comment"
    deep = {
        suffix: cv2.imencode(suffix, sixteen_bits((16, 24, 3)))[1].tobytes()
        for suffix in (".png", ".tiff")
    }
    planes = io.BytesIO()
    values = sixteen_bits((3, 16, 24))
    tifffile.imwrite(planes, values, photometric="rgb", planarconfig="separate", compression="zlib")
    packet = Provenance("Male=0").marked(b"")
    originals = {
        "a.jpg": encoded(small, "JPEG", exif=exif, icc_profile=SRGB, dpi=(72, 72)),
        "b.jpg": encoded(small.convert("CMYK"), "JPEG", progressive=True),
        "c.png": encoded(small.convert("RGBA"), "PNG", exif=exif),
        "d.png": encoded(small.quantize(16), "PNG", transparency=3),
        "e.gif": encoded(small, "GIF", save_all=True, append_images=[small.rotate(90)]),
        "f.webp": encoded(small, "WEBP", exif=exif, lossless=True),
        "g.tif": encoded(small, "TIFF", compression="tiff_lzw", exif=exif),
        "h.bmp": encoded(small, "BMP"),
        "i.png": deep[".png"],
        "j.tif": deep[".tiff"],
        "l.tif": planes.getvalue(),
        "m.jpg": encoded(small, "JPEG", exif=exif, xmp=packet, comment=b"a comment"),
    }
    if features.check("avif"):
        originals["k.avif"] = encoded(small, "AVIF", speed=10)
    random = np.random.default_rng(4)
    tried = unreadable = 0
    memory = []
    for name, data in originals.items():
        path = tmp_path / name
        path.write_bytes(data)
        open_photo(path)
        for round_ in range(205):
            damaged = np.frombuffer(data, np.uint8).copy()
            if round_ % 4 == 0:
                damaged = damaged[: random.integers(len(damaged))]
            else:
                # Headers are where it hurts, so half of the flips go there.
                reach = len(damaged) if round_ % 2 else min(len(damaged), 200)
                places = random.integers(0, reach, 1 + round_ % 8)
                damaged[places] = random.integers(0, 256, len(places))
            path.write_bytes(damaged.tobytes())
            tried += 1
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    photo = open_photo(path)
            except UnreadableImageError as error:
                unreadable += 1
                assert str(path) in str(error) and "\n" not in str(error)
            else:
                assert photo.pixels.dtype == np.uint8 and photo.pixels.shape[2] == 3
                if photo.pixels.size < 10**6 and round_ % 10 == 1:
                    for suffix in ("png", "jpg", "tif"):
                        out = tmp_path / f"out.{suffix}"
                        save_photo(photo, out, provenance=Provenance("Male=0"))
                del photo
        memory.append(resident_megabytes())
    assert tried >= 2000 and tried // 10 < unreadable < tried
    # The first kinds of file load their decoders. A photo that stayed for each file, or a file that
    # stayed open, would be seen: some of the damaged ones claim to be of many megapixels.
    assert memory[-1] - memory[2] < 60 and len(os.listdir("/proc/self/fd")) < 200

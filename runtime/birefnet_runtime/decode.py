"""Path, bytes, Pillow image or array -> Frame.

The header is read first and the pixel limit applied to it, so a bomb is refused before it is
unpacked. Ordinary three-channel JPEG is decoded by simplejpeg (4 times Pillow's speed on 12 MP),
16-bit colour by OpenCV (Pillow keeps its high byte), the rest by Pillow. Only the formats listed
here are tried. Of an animation the first frame is taken (``animation`` takes all).
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from birefnet_runtime.errors import BirefnetError, DecodeError, TooLargeError, one_line
from birefnet_runtime.formats import bombs, heif
from birefnet_runtime.formats.sixteen import is_deep, is_readable, read_deep
from birefnet_runtime.frame import Bytes, Frame
from birefnet_runtime.picture import Keep, from_pixels, to_frame, upright

PictureSource = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | Image.Image
    | NDArray[np.uint8]
    | NDArray[np.uint16]
)

Empty = Callable[[tuple[int, ...]], Bytes]

# Pillow's name of a format and the suffixes of its files. A phone's JPEG with a second picture in
# it opens as MPO through the JPEG reader. AVIF needs Pillow 11.3, HEIF a reader of its own (see
# ``heif``).
FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

# Filters of `warnings` are shared by all threads; this keeps two decoders from restoring each
# other's.
_WARNINGS_LOCK = threading.Lock()


def empty(shape: tuple[int, ...]) -> Bytes:
    """Ordinary memory, uint8 of ``shape``, not filled."""
    return np.empty(shape, np.uint8)


def decode(
    source: PictureSource, max_pixels: int, empty: Empty = empty, keep: Keep | None = None
) -> Frame:
    """One upright RGB picture from a path, bytes, a Pillow image or an array.

    Arrays are uint8 or uint16, [H,W,3] RGB, [H,W,4] RGBA with straight alpha, or [H,W] grey; those
    of bytes are borrowed, not copied. EXIF orientation is applied. Grey, 1-bit and palette become
    RGB, and so does CMYK, by its ICC profile where it has one; 16 bits are divided by 257 and
    rounded. RGB stays as it is under transparency. The ICC profile is kept when it is one for RGB.
    ``empty`` gives the memory of an ordinary JPEG's pixels. ``keep``: what else is kept, None for
    nothing. Raises DecodeError, or TooLargeError above ``max_pixels``.
    """
    keep = keep or Keep()
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels, keep)
    if isinstance(source, Image.Image):
        with errors_about("<image>"):
            check_size("<image>", *source.size, max_pixels)
            return to_frame(source, "<image>", keep)
    with ExitStack() as stack:
        stream, name = open_source(source, stack)
        with errors_about(name):
            return _from_stream(stream, name, max_pixels, empty, keep)


def open_source(source: object, stack: ExitStack) -> tuple[IO[bytes], str]:
    """A seekable stream over ``source``, which is not empty, and its name."""
    if isinstance(source, bytes | bytearray | memoryview):
        stream, name = cast("IO[bytes]", io.BytesIO(source)), "<bytes>"
    elif isinstance(source, str | os.PathLike):
        name = os.fsdecode(source)
        stream = stack.enter_context(_open_file(name))
    else:
        kind = type(source).__name__
        raise DecodeError(f"<{kind}>", "give a path, bytes, a Pillow image or a uint8 array")
    with errors_about(name):
        if not stream.seekable():
            stream = io.BytesIO(stream.read())
        if not stream.read(1):
            raise DecodeError(name, "is empty")
        stream.seek(0)
    return stream, name


def _open_file(name: str) -> IO[bytes]:
    path = Path(name)
    try:
        if path.is_dir():
            raise DecodeError(name, "is a folder: name the pictures in it")
        return path.open("rb")
    except FileNotFoundError:
        raise DecodeError(name, "no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise DecodeError(name, f"cannot be read: {reason}") from error


@contextmanager
def errors_about(name: str) -> Iterator[None]:
    """Whatever a damaged picture makes a decoder raise leaves as one InputError about ``name``."""
    try:
        yield
    except BirefnetError:
        raise
    except Image.DecompressionBombError as error:
        raise TooLargeError(
            name, "has more pixels than Pillow opens: scale it down first"
        ) from error
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise DecodeError(name, f"is none of {known}, or its header is damaged") from error
    except MemoryError as error:
        raise TooLargeError(name, "does not fit into memory: scale it down first") from error
    except Exception as error:
        raise DecodeError(name, f"is damaged or cut off: {one_line(error)}") from error


def _from_array(pixels: NDArray[Any], max_pixels: int, keep: Keep) -> Frame:
    name = "<array>"
    if pixels.dtype not in (np.uint8, np.uint16) or not (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    ):
        found = f"{pixels.dtype} {list(pixels.shape)}"
        raise DecodeError(
            name, f"is {found}: give [H,W,3], [H,W,4] or [H,W] as uint8 in 0..255 or as uint16"
        )
    check_size(name, pixels.shape[1], pixels.shape[0], max_pixels)
    return from_pixels(pixels, name, keep)


def _from_stream(stream: IO[bytes], name: str, max_pixels: int, empty: Empty, keep: Keep) -> Frame:
    with open_header(stream, name) as image:
        check_size(name, *image.size, max_pixels)
        if image.format in ("JPEG", "MPO") and image.mode == "RGB":
            stream.seek(0)
            rgb = _decode_jpeg(stream.read(), image.size, empty)
            if rgb is not None:
                return upright(rgb, name, image, keep)
            stream.seek(0)
        if is_deep(image, stream):
            if is_readable(image):
                # OpenCV passes over some damage, and reports the rest on stderr: Pillow judges.
                with open_header(stream, name) as judged:
                    judged.load()
                return upright(read_deep(image, stream, name), name, image, keep)
            if keep.depth == 16:
                reason = "its 16 bits cannot be kept, planar or premultiplied as they are: save it"
                raise DecodeError(name, f"{reason} as plain RGB, or leave out --depth 16")
        return to_frame(image, name, keep)


def open_header(stream: IO[bytes], name: str) -> Image.Image:
    """The picture's header. What Pillow warns of here does no harm or becomes our own error."""
    Image.init()
    heif.check(stream, name)
    stream.seek(0)
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(stream, formats=[name for name in FORMATS if name in Image.OPEN])
    place = stream.tell()
    bombs.check(image, stream, name)
    stream.seek(place)
    return image


def _decode_jpeg(data: bytes, size: tuple[int, int], empty: Empty) -> Bytes | None:
    """uint8 [H,W,3] RGB, or None where simplejpeg finds a fault: Pillow then judges it."""
    memory = empty((*size[::-1], 3))
    try:
        rgb: Bytes = simplejpeg.decode_jpeg(data, "RGB", buffer=memory)
    except ValueError:
        return None
    return rgb if rgb.shape[:2] == size[::-1] else None


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """DecodeError for a picture without pixels, TooLargeError for one with too many."""
    if width < 1 or height < 1:
        raise DecodeError(name, f"has no pixels ({height}x{width})")
    if width * height > max_pixels:
        raise TooLargeError(
            name,
            f"has {height}x{width} = {height * width} pixels, the limit is {max_pixels}: "
            "scale it down, or raise the limit (max_pixels, --max-pixels)",
        )

"""What a camera and a codec do to a finished scene; alpha is not touched."""

from __future__ import annotations

import cv2
import numpy as np

from .raster import Bytes, Picture, Rng, as_float, blur, resize, to_bytes, to_float


def photograph(rng: Rng, image: Bytes) -> Bytes:
    """``image`` uint8 [S,S,3] RGB as a camera would store it: light, softness, noise, JPEG."""
    picture = exposure(rng, to_float(image))
    if rng.random() < 0.25:
        picture = soft(rng, picture)
    if rng.random() < 0.6:
        sigma = float(rng.uniform(0.003, 0.04))
        grain = rng.standard_normal(picture.shape, np.float32) * np.float32(sigma)
        picture = picture + blur(as_float(grain), float(rng.choice([0.0, 0.6])))
    shot = to_bytes(as_float(picture))
    return jpeg(shot, int(rng.integers(45, 96))) if rng.random() < 0.6 else shot


def exposure(rng: Rng, picture: Picture) -> Picture:
    """Colour cast, exponent, contrast and corner fall-off."""
    gains = rng.uniform(0.88, 1.12, 3) * rng.uniform(0.75, 1.2)
    exponent = np.float32(rng.uniform(0.7, 1.4))
    picture = np.power(np.clip(picture * as_float(gains), 0, 1), exponent)
    if rng.random() < 0.3:
        size = picture.shape[0]
        line = np.linspace(-1, 1, size, dtype=np.float32) ** 2
        fall = np.float32(rng.uniform(0.05, 0.18))
        picture = picture * (1 - fall * (line[:, None] + line))[..., None]
    return picture


def soft(rng: Rng, picture: Picture) -> Picture:
    """A small blur, or a trip through a smaller size."""
    if rng.random() < 0.5:
        return blur(picture, float(rng.uniform(0.4, 1.2)))
    size = picture.shape[0]
    small = int(size * rng.uniform(0.45, 0.9))
    return resize(resize(picture, small, small), size, size)


def jpeg(image: Bytes, quality: int) -> Bytes:
    """``image`` after JPEG at ``quality``, chroma halved as cameras do."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    ok, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1], dtype=np.uint8)

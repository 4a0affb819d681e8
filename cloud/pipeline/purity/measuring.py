"""What the check measures of each picture: it is decoded once, and only small things of it are kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cloud.datasets.dataset import LabeledImage
from cloud.pipeline.purity.duplicates import Print, difference_hash, small_copy
from cloud.pipeline.purity.findings import Kind
from cloud.pipeline.purity.pictures import FORMATS, ImpureError, open_picture
from edge.drift.look import Look
from edge.drift.picture_features import PICTURE_FEATURES

FEATURE_NAMES = tuple(feature.name for feature in PICTURE_FEATURES)
_SHARP_WIDTH = 640  # pixels: finer than what a detector sees, coarser than a sensor's grain
_SHARP_BLUR = 0.8  # pixels, standard deviation: grain is no sharpness
_AHEAD = 4  # pictures in work for each thread: bounds the memory


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """What is kept of a picture, about 2.5 KB.

    Attributes:
        dhash: see `difference_hash`.
        small: see `small_copy`.
        sharpness: logarithm of the Laplacian's spread by the picture's contrast, at 640 pixels of width.
        light: logarithm of the mean luma, to the base 2: in stops of the camera's levels.
        features: `float32[F]`, the drift monitor's features of the picture, as FEATURE_NAMES.
    """

    dhash: int
    small: Print
    sharpness: float
    light: float
    features: npt.NDArray[np.float32]


def measure(encoded: bytes, width: int | None, height: int | None, formats: Sequence[str]) -> Measures:
    """Decode a picture whole, and measure it.

    Args:
        encoded: the file.
        width: that its labels are for, pixels; None: any. So for the height.
        height: see there.
        formats: of Pillow's, that it may have.

    Raises:
        ImpureError: it cannot be used.
    """
    picture = open_picture(encoded, width, height, formats)
    grey = np.asarray(picture.convert("L"))
    look = Look(np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]), np.zeros((0, 6), np.float32))
    features = np.array([feature.of(look) for feature in PICTURE_FEATURES], np.float32)
    return Measures(
        difference_hash(grey),
        small_copy(grey),
        _sharpness(grey),
        math.log2(1.0 + float(grey.mean())),
        features,
    )


def measure_all(
    images: Iterable[LabeledImage],
    read: Callable[[LabeledImage], bytes],
    formats: Sequence[str] = FORMATS,
    threads: int = 2,
) -> Iterator[Measures | ImpureError]:
    """Measure pictures, in their order; a few at a time are in memory.

    Args:
        images: whose pictures are wanted.
        read: gives a picture's file; an OSError or ImpureError of its is the picture's.
        formats: of Pillow's, that pictures may have.
        threads: that share the work.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    waiting: deque[Future[Measures | ImpureError]] = deque()
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="purity") as pool:
            for image in images:
                waiting.append(pool.submit(_measured, image, read, formats))
                if len(waiting) > _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        cv2.setNumThreads(before)


def _measured(
    image: LabeledImage, read: Callable[[LabeledImage], bytes], formats: Sequence[str]
) -> Measures | ImpureError:
    try:
        return measure(read(image), image.width, image.height, formats)
    except ImpureError as error:
        return error
    except FileNotFoundError:
        return ImpureError("picture is missing", Kind.PICTURE)
    except OSError:
        return ImpureError("picture cannot be read", Kind.PICTURE)


def read_file(image: LabeledImage) -> bytes:
    """Read a picture from the disk.

    Raises:
        ImpureError: the labels have no picture.
        OSError: it cannot be read.
    """
    if image.path is None:
        raise ImpureError("picture is missing", Kind.PICTURE)
    return image.path.read_bytes()


def _sharpness(grey: npt.NDArray[np.uint8]) -> float:
    """Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000, against the contrast."""
    height, width = grey.shape
    if width > _SHARP_WIDTH:
        size = (_SHARP_WIDTH, max(1, round(height * _SHARP_WIDTH / width)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _SHARP_BLUR)
    edges = float(cv2.meanStdDev(cv2.Laplacian(smooth, cv2.CV_32F, ksize=1))[1][0, 0])
    contrast = float(cv2.meanStdDev(smooth)[1][0, 0])
    # Without the constants a picture of one level everywhere would have no logarithm.
    return math.log((edges + 0.01) / (contrast + 1.0))

"""Pictures on disk: their size, whether they decode, and where the one of a given name lies."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from PIL import ExifTags, Image, UnidentifiedImageError

from cloud.datasets.dataset import IMAGE_SUFFIXES

# What Pillow raises on bytes that are no picture, or only a part of one.
PICTURE_ERRORS = (
    OSError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_ROTATED_BY_90 = (5, 6, 7, 8)


class PictureError(ValueError):
    """Bytes are not a picture that can be used; the message is a reason to count by."""


def picture_size(source: Path | bytes, decode: bool = False) -> tuple[int, int]:
    """Read a picture's width and height, pixels, as it decodes (EXIF orientation applied).

    Only the header is read, unless `decode` asks for the whole (at an eighth of the size for JPEG, which
    is enough to notice a truncated file).

    Raises:
        PictureError: the picture is missing, cannot be read, or is corrupt, truncated or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                width, height = picture.size
                rotated = picture.getexif().get(ExifTags.Base.Orientation) in _ROTATED_BY_90
                if decode:
                    picture.draft("RGB", (max(1, width // 8), max(1, height // 8)))
                    picture.load()
    except FileNotFoundError:
        raise PictureError("image is missing") from None
    except PICTURE_ERRORS as error:
        # Only the operating system's errors have a number, Pillow's have none.
        if isinstance(error, OSError) and error.errno:
            raise PictureError("image cannot be read") from None
        raise PictureError("image is corrupt") from None
    return (height, width) if rotated else (width, height)


class PictureFinder:
    """Finds pictures by the names that labels give them: with or without folder, whatever the suffix."""

    def __init__(self, folders: Iterable[Path], deep: Iterable[Path] = ()) -> None:
        """Index `folders` flat and `deep` ones with all that is below; earlier ones come first."""
        self._levels: list[_Level] = []
        for folder in folders:
            if folder.is_dir():
                self._levels.append(_Level(folder, (Path(entry.path) for entry in os.scandir(folder))))
        for folder in deep:
            if folder.is_dir():
                files = (Path(root, file) for root, _, names in os.walk(folder) for file in names)
                self._levels.append(_Level(folder, files))

    def find(self, *names: str) -> Path | None:
        """Give the picture of the first of these names that is there.

        Raises:
            PictureError: several folders hold a picture of this name.
        """
        for name in names:
            for level in self._levels:
                found = level.find(name)
                if found:
                    return found
        return None


class _Level:
    """The pictures below one folder, by their whole path in it and by each end of that path."""

    def __init__(self, folder: Path, paths: Iterable[Path]) -> None:
        self._whole: dict[str, Path] = {}
        # None: several pictures' paths end so.
        self._ends: dict[str, Path | None] = {}
        for path in paths:
            if not path.name.lower().endswith(IMAGE_SUFFIXES):
                continue
            parts = path.relative_to(folder).parts
            self._whole["/".join(parts)] = path
            for start in range(len(parts)):
                name = "/".join(parts[start:])
                for key in (name, without_suffix(name)):
                    self._ends[key] = None if key in self._ends else path

    def find(self, name: str) -> Path | None:
        found = self._whole.get(name) or self._ends.get(name)
        if not found and name in self._ends:
            raise PictureError("image name is found in several folders")
        return found


def without_suffix(name: str) -> str:
    """Take the suffix from a picture's name with its folders."""
    return str(PurePosixPath(name).with_suffix(""))

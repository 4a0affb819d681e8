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
_PICTURE_ERRORS = (
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
        PictureError: the picture is missing, corrupt, truncated or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                width, height = picture.size
                rotated = picture.getexif().get(ExifTags.Base.Orientation) in _ROTATED_BY_90
                if decode:
                    picture.draft("RGB", (width // 8, height // 8))
                    picture.load()
    except FileNotFoundError:
        raise PictureError("image is missing") from None
    except _PICTURE_ERRORS:
        raise PictureError("image is corrupt") from None
    return (height, width) if rotated else (width, height)


class PictureFinder:
    """Finds pictures by the names that labels give them: with or without folder, with or without suffix."""

    def __init__(self, folders: Iterable[Path], deep: Iterable[Path] = ()) -> None:
        """Index `folders` flat and `deep` ones with all that is below; earlier ones come first."""
        self._levels: list[dict[str, set[Path]]] = []
        for folder in folders:
            if folder.is_dir():
                self._index(folder, [Path(entry.path) for entry in os.scandir(folder)])
        for folder in deep:
            if folder.is_dir():
                self._index(
                    folder, (Path(root, file) for root, _, files in os.walk(folder) for file in files)
                )

    def _index(self, folder: Path, paths: Iterable[Path]) -> None:
        level: dict[str, set[Path]] = {}
        for path in paths:
            if path.name.lower().endswith(IMAGE_SUFFIXES):
                relative = path.relative_to(folder)
                for key in {relative.as_posix(), relative.with_suffix("").as_posix(), path.name, path.stem}:
                    level.setdefault(key, set()).add(path)
        if level:
            self._levels.append(level)

    def find(self, *names: str) -> Path | None:
        """Give the picture of the first of these names that is there, else one of the last's bare name.

        Raises:
            PictureError: several folders hold a picture of this name.
        """
        for level in self._levels:
            for name in (*names, PurePosixPath(names[-1]).name):
                found = level.get(name, ())
                if len(found) > 1:
                    raise PictureError("image name is found in several folders")
                if found:
                    return next(iter(found))
        return None

"""Class names from a file that a person wrote."""

from __future__ import annotations

from pathlib import Path

import yaml

from edge.errors import TrafficVisionError


class ClassNamesError(TrafficVisionError):
    """The file holds no class names; the message says what is wrong with it."""


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read class names in the order of the model's output.

    Args:
        path: a text file with one name a line, or a YAML file with `names` as a list or by index, as
            Ultralytics' data.yaml.

    Raises:
        ClassNamesError: the file cannot be read or holds no such names.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ClassNamesError(f"{path}: class names cannot be read: {reason}") from None
    if path.suffix.lower() not in (".yaml", ".yml"):
        names: object = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        try:
            document = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise ClassNamesError(f"{path}: not YAML: {' '.join(str(error).split())[:200]}") from None
        names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise ClassNamesError(f"{path}: 'names' is expected to be numbered from 0 without a gap")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ClassNamesError(f"{path}: no class names in it: one a line, or 'names' in a .yaml file")
    if not all(isinstance(name, str) for name in names):
        raise ClassNamesError(f"{path}: every class name is expected to be text; put others in quotes")
    return tuple(names)

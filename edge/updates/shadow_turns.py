"""Which frames a candidate in shadow is shown: every so-manieth, of one camera after the other. No I/O."""

from __future__ import annotations


class Turns:
    """Counts frames of all cameras. A turn is of the camera that was shown the longest ago.

    Cameras of one rate come in a fixed order: each tenth frame of two of them is always of the same one.
    """

    def __init__(self, every: int) -> None:
        """None was shown.

        Args:
            every: so-manieth frame is a turn.
        """
        self._every = every
        self._frames = self._shows = self._waited = 0
        self._is_due = False
        self._shown: dict[str, int] = {}  # the latest show of each camera there is; 0: none
        self._came: set[str] = set()  # since the turn was due

    def is_next(self, camera: str) -> bool:
        """Count a frame, and say whether it is its turn."""
        self._frames += 1
        self._shown.setdefault(camera, 0)
        if self._frames % self._every == 0:
            self._is_due = True
        if not self._is_due:
            return False
        self._came.add(camera)
        if self._shown[camera] > min(self._shown.values()):
            self._waited += 1
            if self._waited <= 2 * len(self._shown):
                return False
            # Those that were waited for are gone.
            self._shown = {one: show for one, show in self._shown.items() if one in self._came}
        self._is_due, self._waited = False, 0
        self._came.clear()
        return True

    def shown(self, camera: str) -> None:
        """Its frame was taken."""
        self._shows += 1
        self._shown[camera] = self._shows

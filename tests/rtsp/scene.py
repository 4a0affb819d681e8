"""The pictures of the test camera: what is drawn tells its number, and what it must look like all over.

In plain Python, since the system's has no numpy.
"""

import math

CELLS = 32  # sixteen bits, and the same ones inverted
_DARK, _LIGHT = 40, 215
_STEP = 6  # pixels a frame that the lower half moves: each frame is made from the one before


def _texture(width):
    return bytes(
        round(128 + 50 * math.sin(x * 0.11) + 40 * math.sin(x * 0.037 + 1) + 20 * math.sin(x * 0.31 + 2))
        for x in range(width)
    )


_TEXTURES = {}


def scene(number, width, height):
    """Luma of the frame of that number, `width * height` bytes: its bits above, a moving texture below."""
    bits = number & 0xFFFF
    bits = bits << 16 | (bits ^ 0xFFFF)
    cells = [_LIGHT if bits >> (CELLS - 1 - cell) & 1 else _DARK for cell in range(CELLS)]
    above = bytes(cells[x * CELLS // width] for x in range(width))
    texture = _TEXTURES.setdefault(width, _texture(width))
    shift = number * _STEP % width
    below = texture[shift:] + texture[:shift]
    return above * (height // 2) + below * (height - height // 2)

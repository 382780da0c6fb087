"""ShapesWorld: procedural pictures of coloured shapes over textured ground, with their exact truth.

A scene is drawn in two steps: a layout in units of the picture's short side, so that one seed shows
the same scene at any resolution, then its pixels. Legend: H, W picture height and width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mmseg_siglip.datasets.shapes_world.geometry import SIGNED_DISTANCE, signed_distance
from mmseg_siglip.datasets.shapes_world.textures import TEXTURES, value_noise

SHAPES = tuple(SIGNED_DISTANCE)
STUFF = tuple(TEXTURES)
COLOURS = {
    'red': (0.84, 0.15, 0.15),
    'green': (0.16, 0.66, 0.27),
    'blue': (0.15, 0.32, 0.84),
    'yellow': (0.96, 0.82, 0.16),
    'purple': (0.56, 0.20, 0.72),
    'white': (0.94, 0.94, 0.94),
}
PAIRS = tuple((colour, shape) for shape in SHAPES for colour in COLOURS)
_PAIR_INDEX = {pair: index for index, pair in enumerate(PAIRS)}
CLASSES = SHAPES + STUFF
PAIR_CLASSES = tuple(f'{colour} {shape}' for colour, shape in PAIRS) + STUFF

HELD_OUT_PAIRS = tuple(
    (tuple(COLOURS)[(5 * index + 2) % len(COLOURS)], shape) for index, shape in enumerate(SHAPES)
)
"""The colour-shape pairs, one for each shape, that no training scene shows or names."""

SPLITS = {
    'train': range(1_000_000),
    'val': range(1_000_000, 1_100_000),
    'test': range(1_100_000, 1_200_000),
}

NEAREST, FARTHEST = 2.0, 4.0  # metres, of objects
GROUND_NEAR, GROUND_FAR = 6.5, 12.0  # metres, at the lower and the upper edge of the picture
RADIUS_AT_ONE_METRE = 0.58  # of the picture's short side
MOST_TURNED = np.pi / 12  # radians from upright, either way
LEAST_VISIBLE = 0.25  # of a shape's own pixels; what is more hidden is left out
MIN_SIZE = 16


@dataclass(frozen=True)
class ShapesObject:
    """One shape: where it is (pixels, radians), how far (metres), how many pixels show it."""

    shape: str
    colour: str
    centre: tuple[float, float]
    radius: float
    rotation: float
    depth: float
    area: int

    @property
    def pair(self) -> int:
        """Index into ``PAIRS``."""
        return _PAIR_INDEX[self.colour, self.shape]


@dataclass(frozen=True)
class ShapesScene:
    """A picture and everything that is true of it.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        classes: (H, W) uint8, index into ``CLASSES``.
        pairs: (H, W) uint8, index into ``PAIR_CLASSES``.
        instances: (H, W) uint8, 0 on the ground, else 1 + index into ``objects``.
        depth: (H, W) float32, metres.
        objects: From the farthest to the nearest, which is the order of occlusion.
        stuff: The two kinds of ground.
        seed: What the scene was made from.
    """

    image: np.ndarray
    classes: np.ndarray
    pairs: np.ndarray
    instances: np.ndarray
    depth: np.ndarray
    objects: tuple[ShapesObject, ...]
    stuff: tuple[str, str]
    seed: int = field(compare=False)


@dataclass(frozen=True)
class _Placement:
    pair: int
    centre: tuple[float, float]
    radius: float
    rotation: float
    depth: float


def scene_seed(split: str, index: int) -> int:
    """The seed of a scene of a split; no seed belongs to two splits."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {sorted(SPLITS)}, got '{split}'")
    if not 0 <= index < len(SPLITS[split]):
        raise ValueError(f"'{split}' has scenes 0 to {len(SPLITS[split]) - 1}, got {index}")
    return SPLITS[split][index]


def _layout(rng: np.random.Generator, size: tuple[int, int], held_out: bool) -> list[_Placement]:
    """Places shapes whose centre no other shape's circle covers, in short sides."""
    short = min(size)
    height, width = size[0] / short, size[1] / short
    allowed = [index for index, pair in enumerate(PAIRS) if held_out or pair not in HELD_OUT_PAIRS]
    wanted = rng.integers(2, 2 + round(4 * width * height))
    placed: list[_Placement] = []
    for _ in range(12 * wanted):
        if len(placed) == wanted:
            break
        depth = 1 / rng.uniform(1 / FARTHEST, 1 / NEAREST)
        radius = RADIUS_AT_ONE_METRE / depth * rng.uniform(0.88, 1.12)
        margin = 0.5 * radius
        candidate = _Placement(
            pair=int(rng.choice(allowed)),
            centre=(rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)),
            radius=radius,
            rotation=rng.uniform(-MOST_TURNED, MOST_TURNED),
            depth=depth,
        )
        if all(
            np.hypot(*np.subtract(candidate.centre, other.centre))
            > max(radius, other.radius) + 0.5 * min(radius, other.radius)
            for other in placed
        ):
            placed.append(candidate)
    return sorted(placed, key=lambda item: -item.depth)


def _border(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a random curve through the middle of the picture, short sides."""
    angle = rng.uniform(0, 2 * np.pi)
    along, across = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
    middle_u, middle_v = u[0, -1] * rng.uniform(0.35, 0.65), v[-1, 0] * rng.uniform(0.35, 0.65)
    across = across - (np.cos(angle) * middle_v - np.sin(angle) * middle_u)
    for amplitude, frequency in ((0.08, 0.5), (0.03, 1.5)):
        phase = rng.uniform(0, 2 * np.pi)
        across = across + amplitude * np.sin(2 * np.pi * frequency * along + phase)
    return across


def _cover(canvas: np.ndarray, paint: np.ndarray, alpha: np.ndarray) -> None:
    canvas += (paint - canvas) * alpha[..., None]


def _surface(
    rng: np.random.Generator, colour: str, distance: np.ndarray, radius: float, light: np.ndarray
) -> np.ndarray:
    """A smooth, lit surface with a darker rim: (h, w, 3)."""
    base = np.float32(COLOURS[colour]) * np.float32(rng.uniform(0.88, 1.08))
    base = np.clip(base + rng.uniform(-0.04, 0.04, 3), 0, 1).astype(np.float32)
    rim = np.clip(1 + distance / (0.12 * radius), 0, 1)
    return base * ((1 + 0.16 * light) * (1 - 0.3 * rim))[..., None]


def generate(
    seed: int, *, size: tuple[int, int] = (128, 192), held_out: bool = False
) -> ShapesScene:
    """Draws the scene of a seed.

    Args:
        seed: Any number from 0; ``scene_seed`` gives those of a split.
        size: (height, width), pixels, each at least 16.
        held_out: Whether ``HELD_OUT_PAIRS`` may be shown.

    Raises:
        ValueError: If the seed is negative or the size too small.
    """
    if seed < 0:
        raise ValueError(f'a scene seed must be 0 or above, got {seed}')
    height, width = size
    if min(size) < MIN_SIZE:
        raise ValueError(f'a scene must be at least {MIN_SIZE} pixels on a side, got {size}')
    layout_rng, paint_rng, noise_rng = (
        np.random.Generator(np.random.PCG64(child))
        for child in np.random.SeedSequence(seed).spawn(3)
    )
    short = min(size)
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
    u, v = columns / short, rows / short

    stuff = tuple(str(name) for name in layout_rng.choice(STUFF, 2, replace=False))
    border = _border(layout_rng, u, v)
    placements = _layout(layout_rng, size, held_out)

    first, second = (TEXTURES[name](paint_rng, u, v) for name in stuff)
    image = np.ascontiguousarray(second, dtype=np.float32)
    _cover(image, first, np.clip(0.5 - border * short, 0, 1))
    image *= 1 + 0.12 * value_noise(paint_rng, u, (1.5, 1.5))[..., None]

    distances = [
        signed_distance(
            SHAPES[item.pair // len(COLOURS)],
            columns,
            rows,
            centre=(item.centre[0] * short, item.centre[1] * short),
            radius=item.radius * short,
            rotation=item.rotation,
        )
        for item in placements
    ]
    instances, visible = _stack(distances)
    light_angle = paint_rng.uniform(0, 2 * np.pi)
    toward_light = np.cos(light_angle) * u + np.sin(light_angle) * v

    inverse_far, inverse_near = 1 / GROUND_FAR, 1 / GROUND_NEAR
    depth = 1 / (inverse_far + (inverse_near - inverse_far) * rows / height)
    objects = []
    for rank, index in enumerate(visible, start=1):
        item, distance = placements[index], distances[index]
        colour, shape = PAIRS[item.pair]
        radius = item.radius * short
        offset = 0.035 * short * (GROUND_NEAR / item.depth) / 2
        shadow = signed_distance(
            shape,
            columns,
            rows,
            centre=(item.centre[0] * short + offset, item.centre[1] * short + offset),
            radius=radius,
            rotation=item.rotation,
        )
        image *= 1 - 0.35 * np.clip(0.5 - shadow / (0.05 * short), 0, 1)[..., None]
        light = (
            toward_light
            - np.cos(light_angle) * item.centre[0]
            - np.sin(light_angle) * item.centre[1]
        ) / item.radius
        haze = 1 - 0.08 * (item.depth - NEAREST)
        paint = _surface(paint_rng, colour, distance, radius, light) * haze
        _cover(image, paint, np.clip(0.5 - distance, 0, 1))
        depth[distance < 0] = item.depth
        objects.append(
            ShapesObject(
                shape=shape,
                colour=colour,
                radius=radius,
                rotation=item.rotation,
                centre=(item.centre[0] * short, item.centre[1] * short),
                depth=item.depth,
                area=int((instances == rank).sum()),
            )
        )
    image += noise_rng.normal(0, 0.018, image.shape).astype(np.float32)

    ground = np.where(border < 0, STUFF.index(stuff[0]), STUFF.index(stuff[1]))
    shape_of = np.array([0, *(SHAPES.index(item.shape) for item in objects)], np.uint8)
    pair_of = np.array([0, *(item.pair for item in objects)], np.uint8)
    on_ground = instances == 0
    return ShapesScene(
        image=(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8),
        classes=np.where(on_ground, len(SHAPES) + ground, shape_of[instances]).astype(np.uint8),
        pairs=np.where(on_ground, len(PAIRS) + ground, pair_of[instances]).astype(np.uint8),
        instances=instances,
        depth=depth.astype(np.float32),
        objects=tuple(objects),
        stuff=stuff,
        seed=seed,
    )


def _stack(distances: list[np.ndarray]) -> tuple[np.ndarray, list[int]]:
    """Paints far to near; drops what is hidden too much.

    Returns:
        (H, W) uint8 instance map, and the indices of the shapes that stay, in order.
    """
    stays = list(range(len(distances)))
    while True:
        instances = np.zeros(distances[0].shape, np.uint8)
        for rank, index in enumerate(stays, start=1):
            instances[distances[index] < 0] = rank
        counts = np.bincount(instances.ravel(), minlength=len(stays) + 1)
        hidden = [
            index
            for rank, index in enumerate(stays, start=1)
            if counts[rank] < LEAST_VISIBLE * max(1, (distances[index] < 0).sum())
        ]
        if not hidden:
            return instances, stays
        stays.remove(hidden[0])

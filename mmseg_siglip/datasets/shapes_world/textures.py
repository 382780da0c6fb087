"""Procedural textures of the ShapesWorld backgrounds.

Coordinates are in units of the picture's short side, so that a texture looks alike at any size.
Legend: H, W picture height and width; u to the right, v downwards.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Field = np.ndarray  # (H, W) float32


def value_noise(rng: np.random.Generator, u: Field, cells: tuple[float, float]) -> Field:
    """Smooth noise of mean 0 and range about [-1, 1].

    Args:
        rng: Source of the lattice values.
        u: Any coordinate field; gives the size.
        cells: Lattice cells per short side, (vertical, horizontal).
    """
    height, width = u.shape
    short = min(height, width)
    rows, columns = (
        max(2, round(n * side / short)) for n, side in zip(cells, u.shape, strict=True)
    )
    lattice = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return cv2.resize(lattice, (width, height), interpolation=cv2.INTER_CUBIC)


def _mix(dark: tuple, light: tuple, amount: Field) -> np.ndarray:
    dark, light = np.float32(dark), np.float32(light)
    return dark + (light - dark) * np.clip(amount, 0, 1)[..., None]


def _turn(u: Field, v: Field, angle: float) -> tuple[Field, Field]:
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cosine * u + sine * v, cosine * v - sine * u


def grass(rng: np.random.Generator, u: Field, v: Field) -> np.ndarray:
    """Blades: noise stretched upwards, over soft patches."""
    blades = value_noise(rng, u, (14, 45)) + value_noise(rng, u, (25, 80))
    amount = 0.45 + 0.3 * blades + 0.2 * value_noise(rng, u, (3, 3))
    return _mix((0.13, 0.30, 0.08), (0.52, 0.68, 0.25), amount)


def water(rng: np.random.Generator, u: Field, v: Field) -> np.ndarray:
    """Waves: horizontal stripes bent by noise, with bright crests."""
    bend = value_noise(rng, u, (4, 3)) + 0.4 * value_noise(rng, u, (12, 6))
    wave = np.sin(2 * np.pi * (rng.uniform(7, 11) * v + 0.9 * bend + rng.uniform()))
    amount = 0.35 + 0.22 * wave + 0.25 * np.maximum(wave, 0) ** 6 + 0.1 * bend
    return _mix((0.06, 0.26, 0.42), (0.55, 0.80, 0.86), amount)


def brick(rng: np.random.Generator, u: Field, v: Field) -> np.ndarray:
    """Running bond with pale mortar; every brick has its own shade."""
    u, v = _turn(u, v, rng.uniform(-0.08, 0.08))
    height = rng.uniform(0.085, 0.12)
    width = height * rng.uniform(2.0, 2.5)
    down = v / height + rng.uniform()
    row = np.floor(down)
    across = u / width + 0.5 * (row % 2) + rng.uniform()
    column = np.floor(across)
    edge = np.minimum(
        (0.5 - np.abs(down - row - 0.5)) * height, (0.5 - np.abs(across - column - 0.5)) * width
    )
    mortar = np.clip(1.5 - edge / 0.007, 0, 1)[..., None]
    shade = rng.uniform(-1, 1, (61, 61)).astype(np.float32)
    amount = 0.5 + 0.35 * shade[row.astype(int) % 61, column.astype(int) % 61]
    amount += 0.2 * value_noise(rng, u, (40, 40))
    clay = _mix((0.45, 0.18, 0.12), (0.74, 0.38, 0.27), amount)
    return clay + (np.float32((0.70, 0.67, 0.62)) - clay) * mortar


def sand(rng: np.random.Generator, u: Field, v: Field) -> np.ndarray:
    """Fine grains over faint ripples."""
    u_turned, v_turned = _turn(u, v, rng.uniform(-0.6, 0.6))
    bend = value_noise(rng, u, (3, 3))
    ripple = np.sin(2 * np.pi * (rng.uniform(4, 7) * v_turned + 0.5 * bend + 0.1 * u_turned))
    grains = value_noise(rng, u, (70, 70)) + value_noise(rng, u, (30, 30))
    amount = 0.55 + 0.1 * ripple + 0.22 * grains + 0.1 * bend
    return _mix((0.66, 0.54, 0.36), (0.95, 0.87, 0.68), amount)


def wood(rng: np.random.Generator, u: Field, v: Field) -> np.ndarray:
    """Planks with their own shade, dark gaps and grain along them, lying or standing."""
    if rng.random() < 0.5:
        u, v = v, u
        along_cells, fine_cells = (2, 9), (5, 60)
    else:
        along_cells, fine_cells = (9, 2), (60, 5)
    width = rng.uniform(0.16, 0.24)
    across = v / width + rng.uniform()
    plank = np.floor(across)
    shade = rng.uniform(-1, 1, 61).astype(np.float32)[plank.astype(int) % 61]
    bend = value_noise(rng, u, along_cells)
    grain = np.sin(2 * np.pi * (rng.uniform(14, 20) * v + 1.2 * bend + 3 * shade))
    amount = 0.5 + 0.25 * shade + 0.13 * grain + 0.12 * value_noise(rng, u, fine_cells)
    gap = np.clip(1.5 - (0.5 - np.abs(across - plank - 0.5)) * width / 0.006, 0, 1)
    return _mix((0.27, 0.15, 0.07), (0.67, 0.46, 0.27), amount) * (1 - 0.6 * gap[..., None])


TEXTURES: dict[str, Callable[[np.random.Generator, Field, Field], np.ndarray]] = {
    function.__name__: function for function in (grass, water, brick, sand, wood)
}

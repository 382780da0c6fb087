"""The models that the owner of the server named; visitors choose among them and name none."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmseg_siglip.api import SYSTEMS, Result, System
from mmseg_siglip.api.shipped import SHIPPED, build_shipped
from mmseg_siglip.web.controls import METHOD, controls_of, read_controls
from mmseg_siglip.web.limits import Refusal

CONFIG = '.py'
KINDS = {str: 'words', float: 'a number from 0 to 1', bool: 'true or false'}


class Offer:
    """A system under a name.

    Args:
        name: What visitors see.
        system: What answers.
    """

    def __init__(self, name: str, system: System) -> None:
        self.name, self.system = name, system
        self.controls = controls_of(system)
        self.own_method = system.model.method if METHOD in self.controls else None

    @property
    def task(self) -> str:
        return self.system.task

    def __call__(self, rgb: np.ndarray, prompt: Any, given: Mapping[str, Any]) -> list[Result]:
        """What the system says about an image (H, W, 3) uint8.

        Raises:
            ValueError: A setting or the prompt cannot be used.
        """
        options = read_controls(self.controls, given)
        if METHOD in self.controls:
            self.system.model.method = options.pop(METHOD, self.own_method)
        found = self.system(rgb, prompt, **options)
        return found if isinstance(found, list) else [found]


class Menu:
    """Offers by task, in the order of `SYSTEMS`.

    Args:
        offers: One or more.

    Raises:
        ValueError: There are none, or two of a task have one name.
    """

    def __init__(self, offers: Iterable[Offer]) -> None:
        self.offers: dict[str, dict[str, Offer]] = {}
        offers = sorted(offers, key=lambda offer: [*SYSTEMS].index(offer.task))
        for offer in offers:
            named = self.offers.setdefault(offer.task, {})
            if offer.name in named:
                raise ValueError(f'{offer.task}: expected names that differ, found {offer.name!r}')
            named[offer.name] = offer
        if not offers:
            raise ValueError('expected one or more models to serve, found none')

    def find(self, task: str, name: str = '') -> Offer:
        """An offer; the first of its task where no name is given.

        Raises:
            Refusal: There is no such offer.
        """
        if task not in self.offers:
            raise Refusal(f'expected one of {", ".join(self.offers)}, found {task!r}', 404)
        named = self.offers[task]
        if name and name not in named:
            raise Refusal(f'model: expected one of {", ".join(named)}, found {name!r}')
        return named[name] if name else next(iter(named.values()))

    def describe(self) -> list[dict[str, Any]]:
        """Plain values: what each task asks for, its models, and their settings."""
        return [
            dict(
                task=task,
                asks=SYSTEMS[task].asks,
                models={
                    offer.name: {
                        control.name: list(control.choices) or KINDS[type(control.default)]
                        for control in offer.controls.values()
                    }
                    for offer in named.values()
                },
            )
            for task, named in self.offers.items()
        ]


def build_offer(
    task: str,
    text: str,
    *,
    device: str | torch.device | None = None,
    precision: str = 'auto',
    method: str | None = None,
) -> Offer:
    """A model by what the owner wrote: ``NAME=SOURCE``, or ``SOURCE`` alone.

    Args:
        task: A key of `SYSTEMS`.
        text: The source is what `from_pretrained` takes, or ``CONFIG.py,CHECKPOINT``. Without a
            name, a file or folder is called by its own.
        device: By default the GPU, if there is one.
        precision: See `mmseg_siglip.precision`.
        method: Of an encoder's dense features, only where the source takes one; by default its own.

    Raises:
        ValueError: There are no such weights.
    """
    name, equals, source = text.partition('=')
    if not equals:
        source, name = text, Path(text).name if Path(text).exists() else text
    if not name.strip() or not source.strip():
        raise ValueError(f'--{task}: expected NAME=SOURCE or SOURCE, found {text!r}')
    config, comma, checkpoint = source.partition(',')
    common = dict(device=device, precision=precision)
    if config.endswith(CONFIG):
        system = SYSTEMS[task].from_config(config, checkpoint or None, **common)
    else:
        taken = METHOD in inspect.signature(SYSTEMS[task].from_pretrained).parameters
        options = {METHOD: method} if taken and method else {}
        system = SYSTEMS[task].from_pretrained(source, **common, **options)
    return Offer(name, system)


def shipped_offers(
    *, device: str | torch.device | None = None, precision: str = 'auto', method: str | None = None
) -> list[Offer]:
    """The small systems that ship along: they know coloured shapes only."""
    common = dict(device=device, precision=precision)
    chosen = {METHOD: method} if method else {}
    return [
        Offer(name, build_shipped(source, **common, **(chosen if METHOD in options else {})))
        for source, (_, name, options) in SHIPPED.items()
    ]

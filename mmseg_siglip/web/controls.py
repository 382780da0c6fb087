"""What visitors may set beside image and prompt: what the system's call takes, and its method."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmseg_siglip.api import METHODS, System
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.registry import DENSE_METHODS
from mmseg_siglip.web.limits import Refusal


@dataclass(frozen=True)
class Control:
    """One setting.

    Attributes:
        name: Of the field, and of the argument.
        label: For people.
        default: What counts if nothing is given: a name for a choice, a number in [0, 1], a
            boolean for a switch, or an empty text for words.
        choices: The names of a choice.
    """

    name: str
    label: str
    default: str | float | bool
    choices: tuple[str, ...] = ()

    def read(self, value: Any) -> str | float | bool:
        """A value that came as text, or as JSON has it.

        Raises:
            Refusal: It is none of those that are expected.
        """
        if self.choices:
            if value in self.choices:
                return value
            raise Refusal(
                f'{self.name}: expected one of {", ".join(self.choices)}, found {value!r}'
            )
        if isinstance(self.default, str):
            return str(value).strip()
        if isinstance(self.default, bool):
            known = {'true': True, 'false': False}
            if (text := str(value).lower()) in known:
                return known[text]
            raise Refusal(f'{self.name}: expected true or false, found {value!r}')
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number <= 1:
            raise Refusal(f'{self.name}: expected a number from 0 to 1, found {value!r}')
        return number


METHOD = 'method'
ARGUMENTS = (
    Control('background', 'None of these: words for everything else, such as wall, floor', ''),
    Control('threshold', 'Threshold: less likely pixels are none of these', 0.0),
    Control('normals', 'Surface normals', False),
)
"""Arguments of systems' calls that visitors may set, where a system takes them."""


def controls_of(system: System) -> dict[str, Control]:
    """What can be set, by name."""
    found = {}
    if names := methods_of(system):
        found[METHOD] = Control(METHOD, 'Method', system.model.attention, names)
    taken = inspect.signature(type(system).torch).parameters
    for control in ARGUMENTS:
        if control.name in taken and getattr(system.model, f'has_{control.name}', True):
            found[control.name] = control
    return found


def methods_of(system: System) -> tuple[str, ...]:
    """The dense methods that its encoder can work with and that need no second model, and its own;
    none where it has no choice."""
    model = getattr(system, 'model', None)
    if not isinstance(model, SCLIPSegmentor):
        return ()

    def fits(name: str) -> bool:
        kind = DENSE_METHODS.get(name)
        if kind.uses_guide or kind.uses_regions:
            return False
        try:
            model.backbone.method_for(name)
        except ValueError:
            return False
        return True

    return tuple(dict.fromkeys([model.attention, *filter(fits, METHODS)]))


def read_controls(controls: Mapping[str, Control], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, without those that are as if nothing was given.

    Raises:
        Refusal: One is unknown, or its value is.
    """
    for name in given:
        if name not in controls:
            known = ', '.join(controls) or 'none'
            raise Refusal(f'{name}: expected settings of this model ({known}), found {name!r}')
    read = {name: controls[name].read(value) for name, value in given.items()}
    return {name: value for name, value in read.items() if value != controls[name].default}

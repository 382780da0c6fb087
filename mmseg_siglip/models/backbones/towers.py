"""Where the layers of an encoder's towers lie, and which of their matrices may train."""

from __future__ import annotations

from dataclasses import dataclass, field

NAMES = ('vision', 'text')


@dataclass(frozen=True)
class Tower:
    """One tower of an encoder; names are relative to its ``model``.

    Attributes:
        layers: The list of layers.
        adaptable: What LoRA may adapt in a layer, by the name that configs have for it.
        default: What it adapts if it is not told.
        query_value: The matrices of queries and of values in a layer, where they are apart.
        fused: (module, parameter) in a layer that holds queries, keys and values in one.
        behind: What LoRA may adapt behind the layers, by such a name, and where it lies.
    """

    layers: str
    adaptable: dict[str, str] = field(default_factory=dict)
    default: tuple[str, ...] = ()
    query_value: tuple[str, ...] = ()
    fused: tuple[str, str] | None = None
    behind: dict[str, str] = field(default_factory=dict)

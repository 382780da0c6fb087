"""A guide: a second model whose features tell which parts of a picture belong together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from mmseg_siglip.misspelt import did_you_mean
from mmseg_siglip.models.guides.find import find_guide
from mmseg_siglip.models.guides.frozen import Frozen
from mmseg_siglip.registry import GUIDES


class Guide(Frozen):
    """A frozen model that looks at pixels; registered in ``GUIDES``.

    A guide owns its pixel statistics, how it brings a picture to its own size, its rule for
    positions off its native grid, and what of itself it reads out. Each element of a batch is seen
    alone.

    Attributes:
        channels: C.
    """

    channels: int

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W), RGB in [0, 1], to features (B, C, h, w) that span the same pixels; not
        normalised, without gradients."""


def build_guide(spec: str | Mapping | nn.Module, *, site: str = 'tokens') -> Guide:
    """A guide by its name, by ``dict(type=name, ...)``, by a checkpoint, or itself.

    Args:
        spec: See above; of a checkpoint, see `find_guide`.
        site: What is read of a checkpoint's guide, where there is a choice.

    Raises:
        ValueError: No guide has that name, and nothing that could be one is there.
    """
    if isinstance(spec, nn.Module):
        return spec
    GUIDES.import_from_location()
    config = dict(type=spec) if isinstance(spec, str) else dict(spec)
    if config.get('type') not in GUIDES.module_dict:
        names = ', '.join(GUIDES.module_dict)
        if not isinstance(spec, str):
            meant = did_you_mean(config.get('type'), GUIDES.module_dict)
            raise ValueError(
                f'unknown guide {config.get("type")!r}; expected one of {names}{meant}'
            )
        try:
            config = find_guide(spec, site=site)
        except ValueError as error:
            raise ValueError(
                f'unknown guide {spec!r}; expected one of {names}, or a checkpoint: {error}'
            ) from error
    return GUIDES.build(config)

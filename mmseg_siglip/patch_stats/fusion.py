"""Depth statistics into a vision-language model's image features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_siglip.patch_stats.statistics import SPACES, check_names

OPTIONS = ('names', 'space', 'mean', 'std', 'width')


class PatchStatisticsFusion(nn.Module):
    """features + MLP((statistics - mean) / std): nothing at first, since its last layer is 0.

    Args:
        num_statistics: K.
        hidden_size: D, channels of the features.
        mean: (K,), over the training set; the command that exports statistics writes it.
        std: (K,), likewise.
        width: Channels of a hidden layer; 0 for a single linear layer.

    Raises:
        ValueError: `mean` or `std` has another length, or a std is not positive.

    Examples:
        >>> import torch
        >>> from mmseg_siglip.patch_stats import PatchStatisticsFusion
        >>> fusion = PatchStatisticsFusion(3, 32)
        >>> features, statistics = torch.randn(1, 6, 32), torch.ones(1, 6, 3)
        >>> torch.equal(fusion(features, statistics), features)  # until it is trained
        True
    """

    def __init__(
        self,
        num_statistics: int,
        hidden_size: int,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        width: int = 0,
    ) -> None:
        super().__init__()
        for name, values, default in (('mean', mean, 0.0), ('std', std, 1.0)):
            values = [default] * num_statistics if values is None else list(values)
            if len(values) != num_statistics:
                raise ValueError(f'{name}: expected {num_statistics} values, found {len(values)}')
            if name == 'std' and not min(values) > 0:
                raise ValueError(f'std: expected positive values, found {min(values)}')
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))
        self.last = nn.Linear(width or num_statistics, hidden_size)
        self.first = nn.Linear(num_statistics, width) if width else None
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], hidden_size: int) -> PatchStatisticsFusion:
        """For the statistics that a model's configuration names, on features of `hidden_size`.

        Args:
            options: ``names`` of the statistics; maybe their ``space``, see `patch_statistics`, and
                ``mean``, ``std`` and ``width``, as above.
            hidden_size: D.

        Raises:
            ValueError: An option or the value of one is unknown, or there are no names.
        """
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown or 'names' not in options:
            raise ValueError(
                f'depth_fusion: expected names and maybe {", ".join(OPTIONS[1:])}, found '
                f'{", ".join(unknown) or "no names"}'
            )
        check_names(options['names'])
        if options.get('space', 'depth') not in SPACES:
            raise ValueError(
                f'depth_fusion: space: expected one of {", ".join(SPACES)}, found '
                f'{options["space"]!r}'
            )
        given = {key: options[key] for key in ('mean', 'std', 'width') if key in options}
        return cls(len(options['names']), hidden_size, **given)

    def forward(self, features: Tensor, statistics: Tensor) -> Tensor:
        """Add what the statistics say; a statistic that is not finite counts as average.

        Args:
            features: (B, N, D), on the statistics' grid.
            statistics: (B, N, K).

        Returns:
            (B, N, D), in the dtype of `features`.

        Raises:
            ValueError: The two are of different grids.
        """
        expected = (*features.shape[:2], len(self.mean))
        if tuple(statistics.shape) != expected:
            raise ValueError(
                f'statistics: expected {expected} beside features {tuple(features.shape)}, '
                f'found {tuple(statistics.shape)}'
            )
        x = (statistics.to(self.mean) - self.mean) / self.std
        x = torch.where(torch.isfinite(x), x, 0).to(self.last.weight.dtype)
        if self.first is not None:
            x = nn.functional.gelu(self.first(x))
        return features + self.last(x).to(features.dtype)

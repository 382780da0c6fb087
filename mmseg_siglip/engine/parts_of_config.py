"""What belongs together in a config, and data sets that hold something."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

TOGETHER = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
WHERE = ('data_root', 'data_prefix', 'ann_file', 'img_suffix', 'seg_map_suffix')
NOTHING = 'need at least one array to concatenate'
"""NumPy, when MMEngine packs the samples of a data set that has none."""


def require_parts(cfg: Mapping[str, Any]) -> None:
    """Refuse a config that gives a part of what training, validation or testing needs.

    Raises:
        ValueError: A field of three is given and another is not.
    """
    where = getattr(cfg, 'filename', None) or 'the config'
    for fields in TOGETHER:
        given = [field for field in fields if cfg.get(field) is not None]
        if given and len(given) < len(fields):
            missing = [field for field in fields if field not in given]
            raise ValueError(
                f'{where} has {" and ".join(given)} but no {" and no ".join(missing)}: expected '
                f'{", ".join(fields)}, all of them or none (a field that is None is not given)'
            )


@contextmanager
def samples_found(dataloader: Any) -> Iterator[None]:
    """Say where a data set looked that found no sample.

    Args:
        dataloader: Its configuration.
    """
    try:
        yield
    except ValueError as error:
        if str(error) != NOTHING or not isinstance(dataloader, Mapping):
            raise
        dataset = dataloader['dataset']
        looked = ', '.join(f'{key}={dataset[key]!r}' for key in WHERE if key in dataset)
        raise ValueError(
            f'{dataset["type"]}: expected samples, found none by {looked or "its defaults"}; these '
            'must name folders that hold files which end so'
        ) from error

"""Folders as ``mmseg-siglip label`` leaves them, without a model."""

from __future__ import annotations

from functools import partial
from itertools import islice

import numpy as np

from mmseg_siglip.api.segmentation import Segmentation
from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.rows import schema_of, write_table
from mmseg_siglip.labelling.tables import Tables


def fill(folder, results, *, task='segment', per_shard=2, **settings):
    """Tables of results by the names of their images; several of one image in a list."""
    results = {name: each if isinstance(each, list) else [each] for name, each in results.items()}
    first = next(iter(results.values()))[0]
    settings.setdefault('classes', list(getattr(first, 'classes', ())))
    store = ShardStore(folder)
    store.claim(dict(settings, task=task))
    names, items = [], iter(results.items())
    while part := list(islice(items, per_shard)):
        rows = [
            dict(
                result.to_row(),
                name=name,
                path=f'photos/{name}',
                height=result.image.shape[0],
                width=result.image.shape[1],
            )
            for name, each in part
            for result in each
        ]
        names.append(f's-{len(names)}')
        store.put(names[-1], partial(write_table, rows, schema_of(first.columns, {})))
    store.write_index(names)
    return Tables(store)


def random_labels(seed, size=(12, 17)):
    """A segmentation of three classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size)
    scores = rng.random(size, dtype=np.float32)
    return Segmentation(labels, scores, ('cat', 'dog', 'grass'), np.zeros((*size, 3), np.uint8))

"""A test in which consecutive images reach the model together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import TestLoop as BaseTestLoop
from torch import nn

from mmseg_siglip.device import chunk_bytes
from mmseg_siglip.io.outcomes import raise_others
from mmseg_siglip.models.compiled import compile_parts
from mmseg_siglip.registry import LOOPS
from mmseg_siglip.weights.foreign import first_line

MOST = 16
"""Images that a model gets at once."""
PIXEL_BYTES = 32
"""Labels, truth and the image itself take about so many bytes a pixel."""


@LOOPS.register_module()
class TestLoop(BaseTestLoop):
    """MMEngine's, but a model whose `takes_many` is true gets several images at once.

    So the windows of small images fill a batch together, though the data loader, whose workers
    would hold whole batches in memory, gives an image at a time. Results are counted, saved and
    kept in the order of the images. Where a model fails for several, the loader's batches are
    predicted one by one, so that those before the one that it fails for are counted.

    Args:
        runner: See MMEngine.
        dataloader: See MMEngine.
        evaluator: See MMEngine.
        pixels_at_once: Batches of the loader are taken together, up to 16 images, while they have
            at most so many pixels, as images come in or as they are labelled, whichever are more.
            By default as many as a sixty-fourth of a GPU's memory holds, at 32 bytes a pixel; on a
            CPU, which gains nothing, each batch is predicted by itself, as with 0.
        compile: True or the options of ``torch.compile``, by which what computes most of CAT-Seg,
            depth and referring predicts, as in training. On a GPU ``dict(mode='reduce-overhead')``
            starts all kernels of an image size together.
        options: See MMEngine.

    Raises:
        ValueError: `pixels_at_once` is negative, or there is nothing to compile.
    """

    __test__ = False  # of pytest

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        *,
        pixels_at_once: int | None = None,
        compile: bool | Mapping[str, Any] = False,
        **options: Any,
    ) -> None:
        if pixels_at_once is not None and pixels_at_once < 0:
            raise ValueError(f'test_cfg.pixels_at_once: expected 0 or more, found {pixels_at_once}')
        super().__init__(runner, dataloader, evaluator, **options)
        self.pixels_at_once = pixels_at_once
        if compile_parts(self._model, compile, 'prediction') is None:
            raise ValueError(
                'test_cfg.compile: expected a model of CAT-Seg, depth, referring or SAM 3, found '
                f'{type(self._model).__name__}; training-free models have compile_backend'
            )
        self._waiting: list[tuple[int, Mapping]] = []

    @property
    def _model(self) -> nn.Module:
        model = self.runner.model
        return model.module if is_model_wrapper(model) else model

    @property
    def limit(self) -> int:
        """Pixels that are predicted together; 0 where each batch is by itself."""
        model = self._model
        if self.fp16 or not getattr(model, 'takes_many', False):
            return 0
        if self.pixels_at_once is not None:
            return self.pixels_at_once
        return chunk_bytes(next(model.parameters()).device, 0) // PIXEL_BYTES

    def run(self) -> dict:
        metrics = super().run()
        if self._waiting:
            raise RuntimeError(
                f'expected {len(self.dataloader)} batches of test_dataloader, found fewer: '
                f'{len(self._waiting)} were not predicted'
            )
        return metrics

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Mapping) -> None:
        """Take a batch of the loader; predict what waits once it is enough, or the last."""
        waiting, limit = self._waiting if idx else [], self.limit
        if not (limit or waiting):
            super().run_iter(idx, data_batch)
            return
        self.runner.call_hook('before_test_iter', batch_idx=idx, data_batch=data_batch)
        together = [batch for _, batch in waiting] + [data_batch]
        images = sum(len(batch['inputs']) for batch in together)
        if waiting and (images > MOST or sum(map(pixels_of, together)) > limit):
            self._predict(waiting)
            waiting = []
        self._waiting = [*waiting, (idx, data_batch)]
        if idx + 1 == len(self.dataloader):
            waiting, self._waiting = self._waiting, []
            self._predict(waiting)

    def _predict(self, batches: Sequence[tuple[int, Mapping]]) -> None:
        together = {
            key: [item for _, batch in batches for item in batch[key]] for key in batches[0][1]
        }
        outputs = self._try(together) if len(batches) > 1 else None
        if outputs is not None:
            self._count(batches, together, outputs)
            return
        for one in batches:
            self._count([one], one[1], self.runner.model.test_step(one[1]))

    def _try(self, together: Mapping) -> Sequence | None:
        """The predictions for several batches of the loader; None, after a warning, if it fails.

        Raises:
            Exception: One that each alone would meet, see `raise_others`.
        """
        try:
            return self.runner.model.test_step(together)
        except Exception as error:
            raise_others(error)
            if isinstance(error, torch.OutOfMemoryError):
                self.pixels_at_once = 0
            reason = f'{type(error).__name__}: {first_line(error)}'
        self.runner.logger.warning(
            f'{len(together["inputs"])} images at once: {reason}; they are predicted one by one.'
        )
        return None

    def _count(
        self, batches: Sequence[tuple[int, Mapping]], together: Mapping, outputs: Sequence
    ) -> None:
        """Give predictions to the metrics, and to the hooks as those of each batch."""
        self.evaluator.process(data_samples=outputs, data_batch=together)
        found = iter(outputs)
        for idx, batch in batches:
            own = [next(found) for _ in batch['inputs']]
            self.runner.call_hook('after_test_iter', batch_idx=idx, data_batch=batch, outputs=own)


def pixels_of(batch: Mapping) -> int:
    """Pixels of a loader's batch, of each image as it came in or as it is labelled."""
    sizes = [image.shape[-2:].numel() for image in batch['inputs']]
    outputs = [sample.metainfo.get('ori_shape', (0, 0)) for sample in batch['data_samples']]
    return sum(max(size, h * w) for size, (h, w, *_) in zip(sizes, outputs, strict=True))

"""What data sets of images and label maps share: every file is used, or named."""

from __future__ import annotations

import os
from logging import WARNING

from mmengine.logging import print_log

from mmseg_siglip.datasets.first_value import contradiction
from mmseg_siglip.datasets.listing import check_indices, is_local, pair_files
from mmseg_siglip.datasets.name_lists import named_pairs, read_names
from mmseg_siglip.datasets.parts import check_part, pairs_of_part


class PairedFiles:
    """For a dataset of MMSeg's: lists images by their names without regard to their kind.

    MMSeg takes what ends in ``img_suffix`` to the letter and passes over all else, so that a folder
    with some ``.JPG`` or ``.jpeg`` is scored on a part of its images. Here an image of any kind
    that is read goes with the label map of its name (see `pair_files`); where `ann_file` is given,
    with those that it names (see `named_pairs`). The log says if the values of the label maps speak
    against their first class.

    Attributes:
        first_class: Its value in the files, if that is to be checked.
        outlines: See `contradiction`.

    Args:
        data_prefix: Folders of ``img_path`` and of the label maps, None for the latter where there
            are none.
        part: ``train`` or ``val``, where no lists tell these apart; see `pairs_of_part`.
        held_out: Share of the images that is ``val``.

    Raises:
        ValueError: A folder or list is not there, or an image or a label map has no counterpart.
    """

    TRUTH = 'seg_map_path'
    outlines = False

    def __init__(
        self,
        *,
        data_prefix: dict | None = None,
        part: str | None = None,
        held_out: float | None = None,
        **kwargs,
    ) -> None:
        check_part(part, held_out)
        self.part, self.held_out = part, held_out
        if data_prefix is not None:
            given = {key: folder for key, folder in data_prefix.items() if folder is not None}
            kwargs['data_prefix'] = given
        self.chosen = kwargs.get('indices')
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        root = self.data_prefix.get('img_path') or self.data_root
        pairs = pairs_of_part(self.pairs(), self.part, self.held_out, root)
        check_indices(self.chosen, len(pairs), type(self).__name__)
        truths, first = [truth for _, truth in pairs if truth is not None], self.first_class
        if truths and first is not None:
            values = self.label_map or range(len(self.metainfo['classes']))
            ignored = self.ignore_index
            told = dict(outlines=self.outlines, backend_args=self.backend_args)
            if sentence := contradiction(truths, first, max(values) + 1, ignored, **told):
                self.doubt(sentence)
        return [self.sample(image, truth) for image, truth in pairs]

    @property
    def first_class(self) -> int | None:
        return 1 if self.reduce_zero_label else None

    def doubt(self, sentence: str) -> None:
        """Say what speaks against the first class."""
        print_log(sentence, 'current', WARNING)

    def pairs(self) -> list[tuple[str, str | None]]:
        """Paths of each image and its label map."""
        folder, truths = self.data_prefix['img_path'], self.data_prefix.get(self.TRUTH)
        image, truth = ('', self.img_suffix), ('', self.seg_map_suffix)
        if not self.ann_file:
            return pair_files(folder, image, truths, truth, backend_args=self.backend_args)
        if is_local(folder, self.backend_args):
            return named_pairs(self.ann_file, folder, image, truths, truth)
        stems = [name.removesuffix(self.img_suffix) for name in read_names(self.ann_file)]
        return [
            (
                os.path.join(folder, stem + self.img_suffix),
                None if truths is None else os.path.join(truths, stem + self.seg_map_suffix),
            )
            for stem in stems
        ]

    def sample(self, image: str, truth: str | None) -> dict:
        found = dict(
            img_path=image,
            label_map=self.label_map,
            reduce_zero_label=self.reduce_zero_label,
            seg_fields=[],
        )
        return found if truth is None else dict(found, **{self.TRUTH: truth})

"""Referring data sets as their authors lay them out on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmseg_siglip.datasets.coco_file import read_coco
from mmseg_siglip.datasets.name_lists import numbered_lines
from mmseg_siglip.datasets.referring import AnnotatedPhraseDataset, Record
from mmseg_siglip.datasets.referring_masks import MaskSource
from mmseg_siglip.datasets.refs_file import load_refs
from mmseg_siglip.registry import DATASETS

NO_TARGET = -1


@DATASETS.register_module()
class RefCOCODataset(AnnotatedPhraseDataset):
    """RefCOCO, RefCOCO+, RefCOCOg and RRSIS-D: references beside COCO's ``instances.json``.

    gRefCOCO's references, which may name several instances or none, are read as well. Each
    sentence is a phrase; those of one image make one sample.

    Args:
        ann_file: ``instances.json``.
        refs_file: Such as ``refs(unc).p`` or the same as ``.json``, beside `ann_file`.
        split: Such as ``train``, ``val``, ``testA``.
        sentence: Which form of a sentence: ``raw``, as it was written, or ``sent``, cleaned.
        data_prefix: Folder of ``img_path``.
        kwargs: See `PhraseDataset`.

    Raises:
        ValueError: A file is damaged or would run code, the split is unknown, or a reference
            names an image or instance that is not there.
    """

    def __init__(
        self,
        *,
        ann_file: str,
        refs_file: str,
        split: str,
        sentence: str = 'raw',
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        self.refs_file, self.split, self.sentence = refs_file, split, sentence
        super().__init__(ann_file=ann_file, data_prefix=data_prefix or dict(img_path=''), **kwargs)

    def records(self) -> Iterator[Record]:
        refs_path = Path(self.ann_file).with_name(self.refs_file)
        refs = load_refs(refs_path)
        splits = sorted({str(ref['split']) for ref in refs})
        if self.split not in splits:
            raise ValueError(
                f'{refs_path}: expected split {", ".join(splits)}, found {self.split!r}'
            )
        coco = read_coco(self.ann_file, dict(images=['file_name'], annotations=['segmentation']))
        images, annotations = coco['images'], coco['annotations']
        folder = Path(self.data_prefix['img_path'])
        for ref in refs:
            if ref['split'] != self.split:
                continue
            where = f'{refs_path}, reference {ref.get("ref_id", "")}'.rstrip()
            if ref['image_id'] not in images:
                raise ValueError(f'{where}: image {ref["image_id"]} is not in {self.ann_file}')
            sentences = [item.get(self.sentence) for item in ref['sentences']]
            image = images[ref['image_id']]
            source = self._source(ref, annotations, where)
            if source is not None and 'height' in image and 'width' in image:
                source = dict(source, image_size=(image['height'], image['width']))
            yield str(folder / image['file_name']), self.texts(sentences, where), source

    def _source(self, ref: dict, annotations: dict, where: str) -> MaskSource:
        ids = ref['ann_id'] if isinstance(ref['ann_id'], list) else [ref['ann_id']]
        ids = [index for index in ids if index != NO_TARGET]
        unknown = [index for index in ids if index not in annotations]
        if unknown:
            raise ValueError(f'{where}: instance {unknown[0]} is not in {self.ann_file}')
        for index in ids:
            own = annotations[index].get('image_id', ref['image_id'])
            if own != ref['image_id']:
                raise ValueError(
                    f'{where}: image {ref["image_id"]} has instance {index}, which is of image '
                    f'{own}'
                )
        parts = [segmentation_source(annotations[index]['segmentation']) for index in ids]
        if len(parts) == 1:
            return parts[0]
        return dict(parts=parts) if parts else None


def segmentation_source(segmentation: dict | list) -> MaskSource:
    """COCO's ``segmentation``: an RLE, polygons, or (in RRSIS-D) a list of one RLE."""
    if isinstance(segmentation, list) and segmentation and isinstance(segmentation[0], dict):
        parts = [dict(rle=rle) for rle in segmentation]
        return parts[0] if len(parts) == 1 else dict(parts=parts)
    if isinstance(segmentation, dict):
        return dict(rle=segmentation)
    return dict(polygons=segmentation)


@DATASETS.register_module()
class PhraseListDataset(AnnotatedPhraseDataset):
    """RefSegRS and RISBench: a text file with an image's name and a phrase on each line.

    Args:
        ann_file: Such as ``output_phrase_test.txt``.
        data_prefix: Folders of ``img_path`` and ``mask_path``, whose files have the same names.
        suffix: What follows the names, such as ``.tif``, if they are without.
        mask_above: Pixels of a mask above this belong to the target.
        kwargs: See `PhraseDataset`.

    Raises:
        ValueError: A line has no phrase; names file and line.
    """

    def __init__(
        self, *, ann_file: str, data_prefix: dict, suffix: str = '', mask_above: int = 0, **kwargs
    ) -> None:
        self.suffix, self.mask_above = suffix, mask_above
        super().__init__(ann_file=ann_file, data_prefix=data_prefix, **kwargs)

    def records(self) -> Iterator[Record]:
        images, masks = (Path(self.data_prefix[key]) for key in ('img_path', 'mask_path'))
        for number, line in numbered_lines(self.ann_file):
            name, _, phrase = line.partition(' ')
            where = f'{self.ann_file}, line {number}'
            file = f'{name}{self.suffix}'
            source = dict(file=str(masks / file), above=self.mask_above)
            yield str(images / file), self.texts(phrase, where), source

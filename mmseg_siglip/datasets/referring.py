"""Images with phrases, and what in the image each phrase means."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from logging import WARNING
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmseg_siglip.datasets.listing import check_indices, first_few
from mmseg_siglip.datasets.name_lists import check_files, numbered_lines
from mmseg_siglip.datasets.referring_masks import MaskSource
from mmseg_siglip.datasets.refs_file import load_json
from mmseg_siglip.registry import DATASETS

MASK_KEYS = ('mask', 'polygons', 'rle')
Record = tuple[str, list[str], MaskSource]
"""Path of an image, phrases, and what they all mean."""


class PhraseDataset(BaseDataset):
    """What referring data sets share: a sample is one image with one or more phrases.

    A pipeline gets ``img_path``, ``text`` (P phrases), ``mask_sources`` (see `referring_masks`) and
    ``targets``, the index of each phrase's source. `LoadReferringMasks` makes masks of them.

    Args:
        phrases_per_image: How many phrases of an image a visit gives, at most; all if not given.
            In training they are drawn anew at each visit, from NumPy's generator, which the
            Runner seeds, and one is the default. In tests they are always the same ones.
        kwargs: Those of MMEngine's `BaseDataset`.

    Raises:
        ValueError: The number is below 1.
    """

    METAINFO = dict(classes=('rest', 'referred'), palette=[[0, 0, 0], [220, 20, 60]])

    def __init__(
        self, *, phrases_per_image: int | None = None, test_mode: bool = False, **kwargs
    ) -> None:
        if phrases_per_image is not None and phrases_per_image < 1:
            raise ValueError(f'phrases_per_image: expected 1 or more, found {phrases_per_image}')
        self.phrases_per_image = phrases_per_image
        if phrases_per_image is None and not test_mode:
            self.phrases_per_image = 1
        self.chosen = kwargs.get('indices')
        super().__init__(test_mode=test_mode, **kwargs)

    def choose(self, info: Mapping) -> list[int]:
        """Which phrases of an image a visit gives."""
        count = len(info['text'])
        wanted = count if self.phrases_per_image is None else min(self.phrases_per_image, count)
        if self.test_mode:
            return np.linspace(0, count - 1, wanted).round().astype(int).tolist()
        return sorted(np.random.choice(count, wanted, replace=False).tolist())

    @staticmethod
    def texts(value: Any, where: str) -> list[str]:
        """Phrases without surrounding blanks.

        Raises:
            ValueError: They are no non-empty strings.
        """
        value = [value] if isinstance(value, str) else value
        good = isinstance(value, list) and value
        if not good or not all(isinstance(text, str) and text.strip() for text in value):
            raise ValueError(f'{where}: expected one or more phrases, found {value!r}')
        return [text.strip() for text in value]


class AnnotatedPhraseDataset(PhraseDataset):
    """Phrases that stand in files.

    Args:
        apart: Whether each phrase makes a sample of its own, which says by ``first_phrase`` which
            of its image's it is; else those of an image share one.
        kwargs: See `PhraseDataset`.
    """

    def __init__(self, *, apart: bool = False, **kwargs) -> None:
        self.apart = apart
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """One entry for each image, or phrase, in the order of the image's first mention.

        Raises:
            ValueError: There is no phrase at all, or an image or a mask is not there.
        """
        images: dict[str, dict] = {}
        for path, phrases, source in self.records():
            entry = images.setdefault(
                path, dict(img_path=path, text=[], targets=[], mask_sources=[])
            )
            entry['text'] += phrases
            entry['targets'] += [len(entry['mask_sources'])] * len(phrases)
            entry['mask_sources'].append(source)
        where = self.ann_file or type(self).__name__
        if not images:
            raise ValueError(f'{where}: found no phrase')
        say_alike(images.values(), where)
        sources = [source for entry in images.values() for source in entry['mask_sources']]
        check_files(images, 'images', where)
        check_files((s['file'] for s in sources if s and 'file' in s), 'masks', where)
        samples = list(images.values())
        if self.apart:
            samples = [
                dict(entry, text=[text], targets=[target], first_phrase=index)
                for entry in samples
                for index, (text, target) in enumerate(
                    zip(entry['text'], entry['targets'], strict=True)
                )
            ]
        check_indices(self.chosen, len(samples), where)
        return samples

    @abstractmethod
    def records(self) -> Iterable[Record]:
        """Everything the annotations say, in their order."""

    def get_data_info(self, idx: int) -> dict:
        info = super().get_data_info(idx)
        chosen = self.choose(info)
        for key in ('text', 'targets'):
            info[key] = [info[key][i] for i in chosen]
        return info


def say_alike(images: Iterable[Mapping], where: str) -> None:
    """Log how many phrases of an image stand there twice, and how many mean several things.

    Args:
        images: Entries as `AnnotatedPhraseDataset` makes them.
        where: What holds them.
    """
    twice, unclear = [], []
    for entry in images:
        targets = [hash(str(entry['mask_sources'][target])) for target in entry['targets']]
        pairs = Counter(zip(entry['text'], targets, strict=True))
        name = Path(entry['img_path']).name
        twice += [f'{text!r} of {name}' for (text, _), count in pairs.items() if count > 1]
        several = Counter(text for text, _ in pairs)
        unclear += [f'{text!r} of {name}' for text, count in several.items() if count > 1]
    _log_alike(twice, where, 'stand there more than once, which count as often')
    _log_alike(unclear, where, 'stand for several targets of one image')


def _log_alike(phrases: Sequence[str], where: str, what: str) -> None:
    if phrases:
        print_log(
            f'{where}: {len(phrases)} phrases {what}: {first_few(phrases)}', 'current', WARNING
        )


@DATASETS.register_module()
class ReferringDataset(AnnotatedPhraseDataset):
    """Any images and phrases, one JSON object a line, or a JSON list of them.

    ``{"image": "a.jpg", "mask": "a_1.png", "expressions": ["the red cup", "cup on the left"]}``.
    Instead of ``mask``, a file, no JPEG, whose pixels above 0 belong to the target, there may be
    ``polygons`` or ``rle``, both COCO's; ``"mask": null`` says that nothing fits. ``image_size``,
    [height, width], is checked where it is given. Objects of one image may lie on several lines and
    make one sample.

    Args:
        ann_file: The file.
        data_root: What everything is relative to.
        data_prefix: Folders of ``img_path`` and ``mask_path``.
        kwargs: See `PhraseDataset`.

    Raises:
        ValueError: The file cannot be read, or a line lacks something; names file and line.
    """

    def __init__(self, *, ann_file: str, data_prefix: dict | None = None, **kwargs) -> None:
        prefix = dict(img_path='', mask_path='') | dict(data_prefix or {})
        super().__init__(ann_file=ann_file, data_prefix=prefix, **kwargs)

    def records(self) -> Iterator[Record]:
        images, masks = (Path(self.data_prefix[key]) for key in ('img_path', 'mask_path'))
        unused = {}
        for where, line in self._lines():
            if not isinstance(line, dict) or not isinstance(line.get('image'), str):
                raise ValueError(f'{where}: expected an object with image, mask and expressions')
            given = [key for key in MASK_KEYS if key in line]
            if len(given) != 1:
                raise ValueError(
                    f'{where}: expected one of mask, polygons and rle, found {given or "none"}'
                )
            (key,) = given
            source = line[key] if line[key] is None else {key: line[key]}
            if key == 'mask' and source is not None:
                if not isinstance(line['mask'], str):
                    raise ValueError(f'{where}: expected the name of a mask file or null')
                source = dict(file=str(masks / line['mask']))
            if source is not None and 'image_size' in line:
                source['image_size'] = drawn_size(line['image_size'], where)
            phrases = self.texts(line.get('expressions'), where)
            unused |= dict.fromkeys(
                line.keys() - {'image', 'image_size', 'expressions', *MASK_KEYS}
            )
            yield str(images / line['image']), phrases, source
        if unused:
            names = first_few(sorted(unused))
            print_log(f'{self.ann_file}: nothing is made of the fields {names}', 'current')

    def _lines(self) -> Iterator[tuple[str, Any]]:
        if Path(self.ann_file).suffix != '.jsonl':
            entries = load_json(self.ann_file)
            if not isinstance(entries, list):
                raise ValueError(f'{self.ann_file}: expected a list of objects')
            yield from ((f'{self.ann_file}, entry {i}', e) for i, e in enumerate(entries))
            return
        for number, line in numbered_lines(self.ann_file):
            where = f'{self.ann_file}, line {number}'
            try:
                yield where, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f'{where} is not JSON: {error}') from None


def drawn_size(value: Any, where: str) -> tuple[int, int]:
    """The (H, W) that a line gives.

    Raises:
        ValueError: They are no two whole numbers.
    """
    if not isinstance(value, list) or [type(side) for side in value] != [int, int]:
        raise ValueError(f'{where}: expected image_size as [height, width], found {value!r}')
    return tuple(value)

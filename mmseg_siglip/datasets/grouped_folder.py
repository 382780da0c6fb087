"""Images that lie in folders by place or sequence, their label maps in folders beside them."""

from __future__ import annotations

import os
from logging import WARNING
from pathlib import Path

from mmengine.logging import print_log

from mmseg_siglip.datasets.folder import FolderDataset
from mmseg_siglip.datasets.listing import first_few, list_files, lying, pair_files, stem_of
from mmseg_siglip.datasets.name_lists import check_files, read_names
from mmseg_siglip.registry import DATASETS


@DATASETS.register_module()
class GroupedFolderDataset(FolderDataset):
    """``<root>/<group>/<image_folder>/<name>`` with ``<root>/<group>/<label_folder>/<name>``.

    OpenEarthMap and UAVid are laid out so. The root is ``data_root``, or what
    ``data_prefix.img_path`` names below it.

    Args:
        image_folder: Name of the folder of images in each group.
        label_folder: Name of the folder of label maps.
        kwargs: Those of `FolderDataset`. ``ann_file`` lists names of images, each on a line, of any
            group, without blanks around them. A name that no group has is left out, as in
            OpenEarthMap without xBD; the log counts these.

    Raises:
        ValueError: Nothing is found, or an image or a label map has no counterpart.
    """

    def __init__(self, *, image_folder: str, label_folder: str, **kwargs) -> None:
        self.image_folder, self.label_folder = image_folder, label_folder
        super().__init__(**kwargs)

    def pairs(self) -> list[tuple[str, str | None]]:
        root = self.data_prefix.get('img_path') or self.data_root
        groups = sorted(Path(root).glob(f'*/{self.image_folder}'))
        image, truth = ('', self.img_suffix), ('', self.seg_map_suffix)
        if not groups:
            raise ValueError(
                f'{root}: expected images <group>/{self.image_folder}/*{self.img_suffix}, '
                f'found none; {lying(list_files(root, self.backend_args))}'
            )
        if self.ann_file:
            return self._listed(groups)
        return [
            pair
            for folder in groups
            for pair in pair_files(str(folder), image, str(self._labels(folder)), truth)
        ]

    def _labels(self, folder: Path) -> Path:
        return folder.parent / self.label_folder

    def _listed(self, groups: list[Path]) -> list[tuple[str, str]]:
        image = ('', self.img_suffix)
        wanted = {stem_of(n, image, any_kind=True) or n for n in read_names(self.ann_file)}
        pairs, seen = [], {}
        for folder in groups:
            for path, _ in pair_files(str(folder), image):
                stem = stem_of(os.path.relpath(path, folder), image, any_kind=True)
                if stem in wanted:
                    if seen.setdefault(stem, path) != path:
                        raise ValueError(
                            f'{self.ann_file}: {stem} is of several images, {seen[stem]} and {path}'
                        )
                    pairs.append((path, f'{self._labels(folder) / stem}{self.seg_map_suffix}'))
        if not pairs:
            raise ValueError(
                f'{groups[0].parents[1]}: expected images <group>/{self.image_folder}/'
                f'*{self.img_suffix} that {self.ann_file} lists, found none'
            )
        wanted -= seen.keys()
        if wanted:
            print_log(
                f'{self.ann_file}: {len(wanted)} of {len(wanted) + len(seen)} names are of no '
                f'image here and left out: {first_few(sorted(wanted))}',
                'current',
                WARNING,
            )
        check_files((label for _, label in pairs), 'label maps', self.ann_file)
        return pairs

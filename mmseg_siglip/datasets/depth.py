"""Images with depth maps: any folder of pairs, and KITTI by its split lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmseg import datasets as mmseg

from mmseg_siglip.datasets.listing import check_indices, pair_files
from mmseg_siglip.datasets.name_lists import (
    check_files,
    named_pairs,
    numbered_lines,
    say_repeated,
)
from mmseg_siglip.datasets.paired_files import PairedFiles
from mmseg_siglip.datasets.parts import check_part, pairs_of_part
from mmseg_siglip.registry import DATASETS


class DepthDataset(BaseDataset):
    """What depth data sets share: each sample says the unit and the range of its depth map.

    Args:
        depth_scale: Units of the depth files per metre.
        invalid_values: Values of the depth files that mean "none", besides 0.
        max_depth: Metres, above which the unit must be mistaken.
    """

    def __init__(
        self,
        *,
        depth_scale: float,
        invalid_values: Sequence[float] = (),
        max_depth: float = float('inf'),
        **kwargs,
    ) -> None:
        if not 0 < depth_scale < float('inf'):
            raise ValueError(f'depth_scale: expected a positive number, found {depth_scale}')
        self.fields = dict(
            depth_rescale_factor=1 / depth_scale,
            invalid_values=tuple(invalid_values),
            max_depth=max_depth,
        )
        self.chosen = kwargs.get('indices')
        super().__init__(metainfo=dict(classes=('depth',), palette=[[0, 0, 0]]), **kwargs)

    def pair(self, image: str, depth: str) -> dict:
        return dict(img_path=image, depth_map_path=depth, seg_fields=[], **self.fields)


@DATASETS.register_module()
class RGBDDataset(DepthDataset):
    """A folder of images with a depth map beside each, or in a folder of its own.

    Args:
        data_root: Folder of both.
        data_prefix: ``img_path`` and ``depth_map_path``, folders under `data_root`.
        img_suffix: How image names end; other kinds of images count as well.
        depth_map_suffix: What replaces it in the depth map's name.
        img_prefix: How image names begin.
        depth_map_prefix: What replaces it in the depth map's name.
        part: ``train`` or ``val``, see `pairs_of_part`.
        held_out: Share of the images that is ``val``.
        kwargs: See `DepthDataset` and MMEngine's `BaseDataset`; ``indices`` selects samples in the
            order of their names. ``ann_file`` lists names of images, each on a line.

    Raises:
        ValueError: There is no image, one without a depth map, or a depth map without an image; see
            `pair_files` and `named_pairs`.
    """

    def __init__(
        self,
        *,
        data_root: str,
        data_prefix: dict | None = None,
        img_suffix: str = '.jpg',
        depth_map_suffix: str = '.png',
        img_prefix: str = '',
        depth_map_prefix: str = '',
        part: str | None = None,
        held_out: float | None = None,
        depth_scale: float = 1000.0,
        **kwargs,
    ) -> None:
        check_part(part, held_out)
        self.part, self.held_out = part, held_out
        self.image = img_prefix, img_suffix
        self.depth = depth_map_prefix, depth_map_suffix
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix or dict(img_path='', depth_map_path=''),
            depth_scale=depth_scale,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        folder, depths = (self.data_prefix[key] for key in ('img_path', 'depth_map_path'))
        if self.ann_file:
            pairs = named_pairs(self.ann_file, folder, self.image, depths, self.depth)
        else:
            pairs = pair_files(folder, self.image, depths, self.depth)
        pairs = pairs_of_part(pairs, self.part, self.held_out, folder)
        check_indices(self.chosen, len(pairs), folder)
        return [self.pair(image, depth) for image, depth in pairs]


@DATASETS.register_module()
class NYUDataset(PairedFiles, mmseg.NYUDataset):
    """MMSegmentation's NYU, with `ann_file` heeded and without its numbers of kinds of rooms."""

    TRUTH = 'depth_map_path'

    def sample(self, image: str, truth: str | None) -> dict:
        return dict(img_path=image, depth_map_path=truth, seg_fields=[])


@DATASETS.register_module()
class KITTIDepthDataset(DepthDataset):
    """KITTI raw images with the ground truth of its depth benchmark, by Eigen's lists.

    A line of a list holds the image, the depth map or ``None`` where there is none, and the focal
    length: ``2011_09_26/..._sync/image_02/data/0000000069.png ..._sync/proj_depth/groundtruth/
    image_02/0000000069.png 721.5377``. Of Eigen's 697 test images 45 have no ground truth.

    Args:
        ann_file: The list.
        data_root: What `ann_file` and `data_prefix` are relative to.
        data_prefix: Folders of ``img_path`` and ``depth_map_path``, which lines are relative to.
        kwargs: See `DepthDataset` and MMEngine's `BaseDataset`.

    Raises:
        ValueError: A line has another form, names a file that is not there, or no image has a
            depth map.
    """

    def __init__(
        self,
        *,
        ann_file: str,
        data_prefix: dict | None = None,
        depth_scale: float = 256.0,
        max_depth: float = 100.0,
        **kwargs,
    ) -> None:
        super().__init__(
            ann_file=ann_file,
            data_prefix=data_prefix or dict(img_path='raw', depth_map_path='depth'),
            depth_scale=depth_scale,
            max_depth=max_depth,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        folder, depths = (Path(self.data_prefix[key]) for key in ('img_path', 'depth_map_path'))
        pairs = []
        lines = numbered_lines(self.ann_file)
        say_repeated((line.split()[0] for _, line in lines), self.ann_file)
        for number, line in lines:
            parts = line.split()
            if len(parts) not in (2, 3):
                raise ValueError(
                    f'{self.ann_file}, line {number}: expected "image depth focal-length", '
                    f'found {line!r}'
                )
            if parts[1] != 'None':
                pairs.append(self.pair(str(folder / parts[0]), str(depths / parts[1])))
        if not pairs:
            raise ValueError(f'{self.ann_file}: expected images with depth maps, found none')
        if len(pairs) < len(lines):
            print_log(
                f'{self.ann_file}: {len(lines) - len(pairs)} of {len(lines)} images have no depth '
                'map and are left out',
                'current',
            )
        check_indices(self.chosen, len(pairs), self.ann_file)
        check_files((pair['img_path'] for pair in pairs), 'images', self.ann_file)
        check_files((pair['depth_map_path'] for pair in pairs), 'depth maps', self.ann_file)
        return pairs

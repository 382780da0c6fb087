"""Images that lie in folders by place or sequence, their label maps in folders beside them."""

from __future__ import annotations

from pathlib import Path

from mmseg_siglip.datasets.folder import FolderDataset
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
            group; a name that has none is left out, as in OpenEarthMap without xBD.

    Raises:
        ValueError: Nothing is found.
    """

    def __init__(self, *, image_folder: str, label_folder: str, **kwargs) -> None:
        self.image_folder, self.label_folder = image_folder, label_folder
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        root = Path(self.data_prefix.get('img_path') or self.data_root)
        wanted = None
        if self.ann_file:
            wanted = set(Path(self.ann_file).read_text(encoding='utf-8').split())
        samples = [
            self.sample(path)
            for path in sorted(root.glob(f'*/{self.image_folder}/*{self.img_suffix}'))
            if wanted is None or path.name in wanted
        ]
        if not samples:
            among = f' that {self.ann_file} lists' if self.ann_file else ''
            raise ValueError(
                f'{root}: expected images <group>/{self.image_folder}/*{self.img_suffix}{among}, '
                'found none'
            )
        return samples

    def sample(self, image: Path) -> dict:
        label = image.name.removesuffix(self.img_suffix) + self.seg_map_suffix
        return dict(
            img_path=str(image),
            seg_map_path=str(image.parents[1] / self.label_folder / label),
            label_map=self.label_map,
            reduce_zero_label=self.reduce_zero_label,
            seg_fields=[],
        )

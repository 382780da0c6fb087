"""A result exporter of your own: labels as Labelme opens them, to be corrected by hand.

    python examples/labelme_store.py photos --words "cat, dog, grass" --format labelme --out out

It is `mmseg-siglip label` with one format more: resumable, over many processes, bad files listed.
"""

import json
import sys
from pathlib import PurePosixPath

from pycocotools import mask as coco_mask

from mmseg_siglip.cli.main import main
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.io.label_store import STORES, JournalStore
from mmseg_siglip.io.outlines import outlines


class LabelmeStore(JournalStore):
    """At the end ``annotations/<name>.json`` for each image, an outline for each connected part.

    Raises:
        ValueError: Two images differ in nothing but their suffixes.
    """

    def finish(self, classes, info):
        written = set()
        for record in self.records():
            name = PurePosixPath(record['file_name'])
            target = self.folder / 'annotations' / name.with_suffix('.json')
            if target in written:
                raise ValueError(f'{target}: expected one image of that name, found two')
            written.add(target)
            content = dict(
                version='5.0.0',
                flags={},
                shapes=[*shapes_of(record)],
                imagePath=name.name,
                imageData=None,
                imageHeight=record['height'],
                imageWidth=record['width'],
            )
            write_atomically(json.dumps(content, ensure_ascii=False), target)


def shapes_of(record):
    """A polygon for each connected part of each class."""
    for entry in record['annotations']:
        for ring in outlines(coco_mask.decode(entry['segmentation']) == 1):
            yield dict(
                label=entry['category'],
                points=ring.tolist(),
                group_id=None,
                shape_type='polygon',
                flags={},
            )


STORES['labelme'] = LabelmeStore

if __name__ == '__main__':
    sys.exit(main(['label', *sys.argv[1:]]))

"""A result exporter of your own: labels as Labelme opens them, to be corrected by hand.

    python examples/labelme_export.py photos --words "cat, dog, grass" --format labelme --out out

It is `mmseg-siglip label` with one format more: resumable, over many processes, bad files listed.
"""

import json
import sys
from pathlib import PurePosixPath

from mmseg_siglip.cli.main import main
from mmseg_siglip.io.outlines import outlines
from mmseg_siglip.labelling.exports import EXPORTS
from mmseg_siglip.labelling.exports.files import write_files
from mmseg_siglip.labelling.exports.yolo import refuse_doubled


def labelme(tables, folder):
    """``annotations/<name>.json`` for each image, an outline for each connected part.

    Raises:
        ValueError: Two images differ in nothing but their suffixes.
    """
    refuse_doubled(tables)
    files = (
        (str(PurePosixPath(image.name).with_suffix('.json')), content_of(tables, image))
        for image in tables.images()
    )
    return write_files(files, folder / 'annotations')


def content_of(tables, image):
    """An image as Labelme has it: a polygon for each connected part of each class."""
    shapes = [
        dict(
            label=tables.classes[index],
            points=ring.tolist(),
            group_id=None,
            shape_type='polygon',
            flags={},
        )
        for index, mask, score in tables.masks(image)
        for ring in outlines(mask)
    ]
    content = dict(
        version='5.0.0',
        flags={},
        shapes=shapes,
        imagePath=PurePosixPath(image.name).name,
        imageData=None,
        imageHeight=image.height,
        imageWidth=image.width,
    )
    return json.dumps(content, ensure_ascii=False).encode()


EXPORTS['segment']['labelme'] = labelme

if __name__ == '__main__':
    sys.exit(main(['label', *sys.argv[1:]]))

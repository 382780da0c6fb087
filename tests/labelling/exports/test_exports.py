import pytest

from mmseg_siglip.api import SYSTEMS
from mmseg_siglip.labelling.exports import EXPORTS, check_export, export_of, files


def test_an_export_by_its_name():
    assert check_export('depth', None) == 'png' and check_export('ask', None) == 'jsonl'
    assert check_export('depth', 'parquet') == 'parquet'
    assert export_of('depth', 'png') is files.export_depth_maps
    message = r"--format: expected one of png, parquet of depth, found 'coco'"
    with pytest.raises(ValueError, match=message):
        check_export('depth', 'coco')


def test_every_task_has_exports_that_are_there():
    assert set(SYSTEMS) <= set(EXPORTS)
    assert all(callable(export_of(task, name)) for task in EXPORTS for name in EXPORTS[task])

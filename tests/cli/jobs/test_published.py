import pytest
from mmengine.config import Config

from mmseg_siglip.cli.jobs.benchmark import find_config, published
from mmseg_siglip.cli.jobs.published import is_published_encoder, published_rows
from mmseg_siglip.datasets.benchmarks import BENCHMARKS

ROWS = published_rows()


def test_each_row_is_there_once():
    names = [(row.name, row.method, row.encoder) for row in ROWS]
    assert len(names) == len(set(names)) > 50
    systems = {row.path.parent.name for row in ROWS}
    assert systems == {'sclip', 'cat_seg', 'refer_sam'}


def test_the_nine_of_sclip():
    figures = {row.name: row.metrics['mIoU'] for row in ROWS if row.method == 'csa'}
    assert figures['coco_stuff'] == 22.77 and figures['voc21'] == 59.63 and len(figures) == 9


@pytest.mark.parametrize('row', ROWS, ids=lambda row: f'{row.name}-{row.method}{row.encoder or ""}')
def test_the_split_is_known_and_the_config_is_whole(row):
    cfg = row.config()
    assert BENCHMARKS[row.data].samples > 0
    assert cfg.test_dataloader.dataset.data_root and cfg.test_evaluator
    if row.encoder:
        wanted = Config.fromfile(row.path.parents[1] / '_base_/encoders' / f'{row.encoder}.py')
        assert cfg.model.backbone == wanted.encoder
    if row.method:
        assert published(cfg) == (row.metrics['mIoU'], row.source)


def test_a_figure_is_of_its_settings_alone():
    cfg = Config.fromfile(find_config('coco_stuff'))
    assert published(cfg)[0] == 22.77
    cfg.model.logit_scale = 41
    assert published(cfg) == (None, None)


def test_published_weights(tmp_path):
    assert is_published_encoder('ViT-B/16') and is_published_encoder('ViT-B-16-quickgelu:openai')
    assert not is_published_encoder('ViT-L/14')
    (tmp_path / 'other.pt').write_bytes(b'weights')
    assert not is_published_encoder(str(tmp_path / 'other.pt'))

"""The command; that scores stay equal is in tests/test_stock_pipelines.py."""

from transformers import AutoConfig

from mmseg_siglip.cli.main import main


def test_the_shipped_encoder(tmp_path, capsys):
    out = str(tmp_path / 'long')
    assert main(['convert', 'lengthen-text', 'tiny_siglip_shapes', out]) == 0
    assert capsys.readouterr().out == f'{out}: written\n'
    assert AutoConfig.from_pretrained(out).text_config.max_position_embeddings == 64


def test_a_source_that_is_none(tmp_path, capsys):
    assert main(['convert', 'lengthen-text', str(tmp_path / 'none'), str(tmp_path / 'out')]) == 1
    assert capsys.readouterr().err.startswith('error: ')
    assert not (tmp_path / 'out').exists()

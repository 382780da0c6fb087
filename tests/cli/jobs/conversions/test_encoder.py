import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from mmseg_siglip.cli.jobs.conversions.encoder import convert
from mmseg_siglip.cli.main import main
from mmseg_siglip.models.pretrainers import SigLIPPretrainer


@pytest.fixture
def trained(siglip_folder, tmp_path):
    """A config and a checkpoint whose weights differ from those that the config starts from."""
    config = tmp_path / 'config.py'
    config.write_text(
        f"model = dict(type='SigLIPPretrainer', vocabulary=['cat'],\n"
        f"             backbone=dict(type='SigLIPBackbone', config={siglip_folder!r}))\n"
    )
    torch.manual_seed(9)
    model = SigLIPPretrainer(
        dict(type='SigLIPBackbone', config=siglip_folder), vocabulary=['cat']
    ).eval()
    checkpoint = tmp_path / 'iter_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    return config, checkpoint, model


def test_stock_transformers_gives_the_trained_outputs(trained, tmp_path):
    config, checkpoint, model = trained
    out = tmp_path / 'out'
    assert main(['convert', 'encoder', str(config), str(checkpoint), str(out)]) == 0
    stock = AutoModel.from_pretrained(out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    processor = AutoImageProcessor.from_pretrained(out)
    pixels = torch.randn(2, 3, 32, 32)
    ids = tokenizer(['a cat'], padding='max_length', max_length=16, return_tensors='pt').input_ids
    with torch.no_grad():
        image = stock.get_image_features(pixels).pooler_output
        text = stock.get_text_features(ids).pooler_output
        torch.testing.assert_close(image, model.backbone.encode_image(pixels))
        torch.testing.assert_close(text, model.backbone.encode_text(['a cat']))
    assert processor.size['height'] == 32
    torch.testing.assert_close(stock.logit_bias, model.backbone.model.logit_bias)


def test_half_precision_halves_the_file(trained, tmp_path):
    config, checkpoint, _ = trained
    sizes = {}
    for dtype in ('float32', 'float16'):
        convert(config, checkpoint, tmp_path / dtype, dtype=dtype)
        sizes[dtype] = (tmp_path / dtype / 'model.safetensors').stat().st_size
    assert sizes['float16'] < 0.65 * sizes['float32']


def test_a_checkpoint_without_the_encoder_is_refused(trained, tmp_path, capsys):
    config, _, _ = trained
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'decode_head.weight': torch.zeros(1)}, meta={}), other)
    assert main(['convert', 'encoder', str(config), str(other), str(tmp_path / 'out')]) == 1
    assert 'expected the weights of SigLIPBackbone under backbone.' in capsys.readouterr().err

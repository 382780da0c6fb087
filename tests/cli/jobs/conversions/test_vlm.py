"""A checkpoint of training becomes a folder that answers as the trained model did."""

import pytest
import torch

from mmseg_siglip.cli.main import main
from mmseg_siglip.vlm import LlavaTrainer, VisionChat


def convert(*arguments: object) -> int:
    return main(['convert', 'vlm', *map(str, arguments)])


@pytest.fixture
def config(siglip_folder, llama, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        f"model = dict(type='LlavaTrainer', vision={siglip_folder!r}, llm={llama!r},\n"
        f"             tokenizer='shapes_questions', depth=dict(names=('mean',)))\n"
    )
    return path


def test_export(config, siglip_folder, llama, tmp_path, capsys):
    torch.manual_seed(5)
    trained = LlavaTrainer(
        siglip_folder, llama, tokenizer='shapes_questions', depth=dict(names=('mean',))
    )
    torch.nn.init.normal_(trained.llava.depth_fusion.last.weight)
    torch.save(dict(state_dict=trained.state_dict(), meta={}), tmp_path / 'iter_1.pth')
    assert convert(config, tmp_path / 'iter_1.pth', tmp_path / 'out') == 0
    picture = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    asked = dict(depths=torch.rand(40, 40) + 1, max_new_tokens=6)
    again = VisionChat.from_pretrained(tmp_path / 'out', precision='fp32')
    answer = VisionChat(trained.vlm)(picture, 'what?', **asked)
    assert again(picture, 'what?', **asked) == answer


def test_what_does_not_fit_is_refused(config, tmp_path, capsys):
    torch.save(dict(state_dict={'a': torch.zeros(1)}, meta={}), tmp_path / 'a.pth')
    assert convert(config, tmp_path / 'a.pth', tmp_path / 'out') == 1
    assert 'weights of a LlavaTrainer' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    config.write_text("model = dict(type='SigLIPVisionTower', name_or_path='tiny_siglip_shapes')")
    assert convert(config, tmp_path / 'a.pth', tmp_path / 'out') == 1
    assert 'expected a LlavaTrainer, found a SigLIPVisionTower' in capsys.readouterr().err

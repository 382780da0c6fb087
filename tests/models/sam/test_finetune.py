import pytest
import torch
from tiny_sams import disturb
from torch import nn

from mmseg_siglip.models.lora import lora_layers
from mmseg_siglip.models.sam import SAMAdapter
from mmseg_siglip.models.sam.finetune import choose_sam_trainable

LAYERS = dict(sam=3 * 4 + 2, sam2=5 * 2 + 4)


@pytest.fixture(params=['sam', 'sam2'])
def adapter(request):
    adapter = SAMAdapter(config=request.getfixturevalue(f'{request.param}_config'))
    disturb(adapter.model)
    return adapter.train()


def run(adapter, masks=True):
    torch.manual_seed(0)
    features = adapter.encode(torch.rand(2, 3, 64, 64))
    sparse = torch.randn(2, 2, 3, adapter.prompt_dim)
    dense = adapter.prompt_masks(torch.randn(2, 2, *adapter.mask_size)) if masks else None
    return adapter.decode(features, sparse, dense)


@pytest.mark.parametrize(
    ('encoder', 'masks', 'iou'),
    [('none', True, True), ('lora', True, False), ('all', False, True)],
)
def test_every_trainable_parameter_gets_a_gradient(adapter, encoder, masks, iou):
    before = run(adapter, masks)[0].detach()
    choose_sam_trainable(adapter, encoder, masks=masks, iou=iou)
    logits, scores = run(adapter, masks)
    torch.testing.assert_close(logits, before)  # adapters begin without effect
    for name, parameter in adapter.named_parameters():
        if 'lora_B' in name:
            nn.init.normal_(parameter, std=0.1)
    logits, scores = run(adapter, masks)
    (logits.square().mean() + (scores.square().mean() if iou else 0)).backward()
    dead = [
        name
        for name, parameter in adapter.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not dead
    trains = {name for name, p in adapter.named_parameters() if p.requires_grad}
    assert any('mask_decoder' in name for name in trains)
    assert any('vision_encoder' in name for name in trains) == (encoder != 'none')
    if encoder == 'lora':
        assert len(lora_layers(adapter)) == LAYERS[adapter.kind]
        assert all('lora' in name for name in trains if 'vision_encoder' in name)


def test_frozen_altogether(adapter):
    choose_sam_trainable(adapter, 'none', decoder=False)
    assert not any(parameter.requires_grad for parameter in adapter.parameters())


def test_a_checkpoint_from_before_still_loads(adapter):
    plain = {name: value.clone() for name, value in adapter.state_dict().items()}
    choose_sam_trainable(adapter, dict(type='lora', rank=2))
    missing, unexpected = adapter.load_state_dict(plain, strict=False)
    assert not unexpected and all('lora_' in name for name in missing)


@pytest.mark.parametrize('mode', ['some', dict(type='all', rank=2), dict(rank=2)])
def test_unknown_modes_are_refused(sam_config, mode):
    with pytest.raises(ValueError, match='sam_finetune'):
        choose_sam_trainable(SAMAdapter(config=sam_config), mode)

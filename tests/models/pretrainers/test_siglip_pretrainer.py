import subprocess
import sys

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.nn.functional import logsigmoid, normalize
from torch.utils.data import default_collate

from mmseg_siglip.datasets import ShapesCaptionDataset
from mmseg_siglip.models.backbones import SigLIPBackbone
from mmseg_siglip.models.backbones.block import attend_plainly
from mmseg_siglip.models.pretrainers.siglip_pretrainer import (
    SigLIPPretrainer,
    caption_key,
    truth,
)

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def pretrainer(siglip_folder):
    torch.manual_seed(0)
    return SigLIPPretrainer(
        dict(type='SigLIPBackbone', pretrained=siglip_folder),
        vocabulary=['cat', 'red star', 'grass'],
    )


def captioned(count: int = 5) -> dict:
    torch.manual_seed(1)
    captions = ['a cat', 'red star', 'a cat', 'the sky', 'grass'][:count]
    return dict(
        inputs=torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8),
        data_samples=dict(caption=captions),
    )


def test_starts_at_the_given_scale_and_bias(pretrainer):
    assert pretrainer.backbone.logit_scale == pytest.approx(10)
    assert pretrainer.backbone.logit_bias == pytest.approx(-10)


@pytest.mark.parametrize(('kind', 'plain'), [('AMX', True), ('AVX2', False)])
def test_both_towers_attend_as_is_fast(pretend_cpu, siglip_folder, kind, plain):
    """And to the same numbers."""
    pretend_cpu(kind)
    model = SigLIPPretrainer(
        dict(type='SigLIPBackbone', pretrained=siglip_folder), vocabulary=['cat']
    )
    own = SigLIPBackbone(siglip_folder)
    assert (model.backbone.attend is attend_plainly) == plain
    text = model.backbone.model.text_model.config
    assert (text._attn_implementation == 'eager') == plain
    images = torch.randn(2, 3, 24, 40)
    torch.testing.assert_close(model(images), own.encode_image(images), atol=1e-5, rtol=1e-4)
    found = model.backbone.encode_text(['a cat'])
    torch.testing.assert_close(found, own.encode_text(['a cat']), atol=1e-5, rtol=1e-4)


def test_equal_captions_are_positives_of_each_other():
    positives, ignored = truth(dict(caption=['a', 'b', 'a']), CPU)
    assert ignored is None
    assert positives.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert caption_key('a') != caption_key('b') and 0 <= caption_key('a') < 2**63


def test_claims_decide_where_a_batch_has_facts():
    """Facts 0 always, 1 'a star', 2 'a ring'; the second image may or may not show a ring."""
    batch = dict(
        caption=['a star', 'a ring', 'both'],
        claims=torch.tensor([[1, 0], [2, 0], [1, 2]]),
        facts=torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 1]]).bool(),
        possible=torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 1]]).bool(),
    )
    positives, ignored = truth(batch, CPU)
    assert positives.tolist() == [[1, 1, 1], [1, 0, 0], [0, 1, 0]]
    assert ignored.tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_loss_is_the_formula_on_the_encoders_own_outputs(pretrainer):
    batch = captioned()
    data = pretrainer.data_preprocessor(batch, True)
    loss = pretrainer(**data, mode='loss')['loss']
    backbone = pretrainer.backbone
    pixels = batch['inputs'].flip(1) / 127.5 - 1
    images = normalize(backbone.encode_image(pixels), dim=-1)
    texts = normalize(backbone.encode_text(batch['data_samples']['caption']), dim=-1)
    signs = 2 * truth(batch['data_samples'], CPU)[0].float() - 1
    expected = -logsigmoid(signs * (10 * images @ texts.T - 10)).sum() / len(images)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_training_sizes_are_drawn_from_the_list(pretrainer, monkeypatch):
    assert pretrainer._resize(torch.zeros(1, 3, 64, 64)).shape[-1] == 64
    monkeypatch.setattr(pretrainer, 'train_sizes', (16, 40))
    drawn = {pretrainer._resize(torch.zeros(1, 3, 64, 64)).shape[-1] for _ in range(30)}
    assert drawn == {16, 40}


def test_training_looks_at_some_patches_and_prediction_at_all(pretrainer, monkeypatch):
    monkeypatch.setattr(pretrainer, 'max_tokens', 5)
    lengths = []
    hook = pretrainer.backbone.model.vision_model.post_layernorm.register_forward_pre_hook(
        lambda module, args: lengths.append(args[0].shape[1])
    )
    images = torch.randn(3, 3, 32, 32)
    drawn = [pretrainer.train()(images) for _ in range(2)]
    whole = pretrainer.eval()(images)
    hook.remove()
    assert lengths == [5, 5, 16] and not torch.equal(*drawn)
    torch.testing.assert_close(whole, pretrainer.backbone.encode_image(images))


def test_every_parameter_learns(pretrainer):
    pretrainer.zero_grad()
    pretrainer(**pretrainer.data_preprocessor(captioned(), True), mode='loss')['loss'].backward()
    without = [n for n, p in pretrainer.named_parameters() if p.grad is None]
    assert not without
    pretrainer.zero_grad()


def test_another_encoder_learns_or_says_what_it_lacks(openai_file):
    backbone = dict(type='CLIPBackbone', pretrained=openai_file)
    with pytest.raises(
        ValueError, match='logit_bias: expected 0, as this CLIP has none, found -10'
    ):
        SigLIPPretrainer(backbone, vocabulary=['cat'])
    model = SigLIPPretrainer(backbone, vocabulary=['cat'], logit_bias=0.0, max_tokens=5)
    losses = model(**model.data_preprocessor(captioned(), True), mode='loss')
    assert losses['scale'].item() == pytest.approx(10) and losses['bias'].item() == 0
    losses['loss'].backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


def test_learns_from_shapesworld_captions(siglip_folder):
    """Sixty steps on one batch halve the loss of its own pairs."""
    dataset = ShapesCaptionDataset(image_size=32, num_scenes=4, scene_size=(48, 64))
    torch.manual_seed(0)
    model = SigLIPPretrainer(
        dict(type='SigLIPBackbone', pretrained=siglip_folder),
        vocabulary='shapes',
        logit_bias=-2.0,
    )
    batch = default_collate([dataset[i] for i in range(16)])
    batch['data_samples']['caption'] = [
        f'{word} {other}'
        for word in ('cat', 'dog', 'sky', 'road')
        for other in ('red', 'star', 'large', 'small')
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        loss = model(**model.data_preprocessor(batch, True), mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_predicts_a_label_for_the_image_and_for_each_pixel(pretrainer):
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 40, 56))) for _ in range(2)]
    batch = dict(inputs=[torch.zeros(3, 40, 56, dtype=torch.uint8)] * 2, data_samples=samples)
    results = pretrainer.eval().val_step(batch)
    dense = pretrainer.backbone.dense(torch.full((1, 3, 40, 56), -1.0))
    texts = normalize(pretrainer.backbone.encode_text(['cat', 'red star', 'grass']), dim=-1)
    corner = (texts @ normalize(dense, dim=1)[0, :, 0, 0]).argmax()
    for sample in results:
        assert sample.pred_sem_seg.data.shape == (1, 40, 56)
        assert sample.pred_sem_seg.data[0, 0, 0] == corner
        assert sample.pred_label in (0, 1, 2)


def test_unknown_mode_is_refused(pretrainer):
    with pytest.raises(ValueError, match="expected loss, predict or tensor, found 'train'"):
        pretrainer(torch.zeros(1, 3, 32, 32), mode='train')


WORKER = """
import sys
import torch
import torch.distributed as dist
from mmseg_siglip.models.pretrainers.siglip_pretrainer import SigLIPPretrainer

folder, rank, world, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)
if world > 1:
    dist.init_process_group('gloo', init_method=f'file://{out}.rendezvous', rank=rank,
                            world_size=world)
model = SigLIPPretrainer(dict(type='SigLIPBackbone', pretrained=folder), vocabulary=['cat'])
generator = torch.Generator().manual_seed(5)
images = torch.randn(6, 3, 32, 32, generator=generator)
facts = torch.rand(6, 7, generator=generator) < 0.5
claims = torch.randint(0, 7, (6, 2), generator=generator)
captions = ['a cat', 'dog', 'a cat', 'red star', 'grass', 'dog']
mine = slice(rank * 6 // world, (rank + 1) * 6 // world)
losses = {}
for kind in ('captions', 'facts'):
    batch = dict(caption=captions[mine])
    if kind == 'facts':
        batch.update(claims=claims[mine], facts=facts[mine], possible=facts[mine])
    model.zero_grad()
    loss = model(images[mine], batch, mode='loss')['loss']
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    value = loss.detach().clone()
    if world > 1:
        for tensor in (gradient, value):
            dist.all_reduce(tensor)
            tensor /= world
    losses[kind] = (value, gradient)
if rank == 0:
    torch.save(losses, out)
"""


def test_two_processes_give_the_loss_and_gradient_of_one(siglip_folder, tmp_path):
    """Averaged over processes, as DistributedDataParallel does."""
    results = {}
    for world in (1, 2):
        out = str(tmp_path / f'world{world}.pt')
        workers = [
            subprocess.Popen(
                [sys.executable, '-c', WORKER, siglip_folder, str(rank), str(world), out]
            )
            for rank in range(world)
        ]
        assert [worker.wait(120) for worker in workers] == [0] * world
        results[world] = torch.load(out)
    for kind, (loss, gradient) in results[1].items():
        torch.testing.assert_close(results[2][kind][0], loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(results[2][kind][1], gradient, rtol=1e-4, atol=1e-6)
        assert gradient.abs().max() > 0

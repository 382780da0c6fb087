"""On MMEngine's Runner: a loss on answers, only chosen parts move, the blind are blind."""

from __future__ import annotations

import pytest
import torch
from commands import command
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmseg_siglip.engine import AmpOptimWrapper, Runner
from mmseg_siglip.vlm import LlavaTrainer, VisionChat, load_pretrained_model
from mmseg_siglip.vlm.processing import prompt_of
from mmseg_siglip.weights.tokenizers import load_tokenizer

DEPTH = dict(names=('mean', 'min'), width=4)
BLOCKS = 'model.vision_tower.encoder.layers'


@pytest.fixture
def build(siglip_folder, llama):
    def build(**options):
        torch.manual_seed(0)
        return LlavaTrainer(siglip_folder, llama, tokenizer='shapes_questions', **options)

    return build


def samples():
    talks = (
        ('how many stars?', 'two', [('what colour is the ring?', 'red')]),
        ('which shape is nearest?', 'crescent', []),
    )
    torch.manual_seed(0)
    images = [torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8) for _ in talks]
    return images, [
        BaseDataElement(question=q, answer=a, further=f, depth=torch.rand(40, 60) + 1)
        for q, a, f in talks
    ]


def test_loss_is_transformers_own_on_the_answers(build):
    trainer = build(train=('projector', 'llm')).eval()
    images, talks = samples()
    found = trainer(images, talks)['loss']
    tokenizer, processor = trainer.vlm.tokenizer, trainer.vlm.processor
    losses, counts = [], []
    for image, talk in zip(images, talks, strict=True):
        text = prompt_of(processor, talk.question)
        batch = processor(images=image, text=text, return_tensors='pt')
        ids, labels = batch['input_ids'][0].tolist(), [-100] * batch['input_ids'].shape[1]
        turns = [('', talk.answer)] + [
            (f'USER: {question} ASSISTANT:', answer) for question, answer in talk.further
        ]
        for asked, answer in turns:
            asked = tokenizer(asked, add_special_tokens=False)['input_ids'] if asked else []
            answer = tokenizer(f' {answer}</s>', add_special_tokens=False)['input_ids']
            ids, labels = ids + asked + answer, labels + [-100] * len(asked) + answer
        losses.append(
            trainer.llava(
                input_ids=torch.tensor([ids]),
                pixel_values=batch['pixel_values'],
                labels=torch.tensor([labels]),
            ).loss
        )
        counts.append(sum(label != -100 for label in labels))
    expected = sum(loss * n for loss, n in zip(losses, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('parts', [('projector',), ('projector', 'fusion'), ('llm',), ('vision',)])
def test_only_the_chosen_parts_move(build, parts):
    trainer = build(train=parts, depth=DEPTH if 'fusion' in parts else None)
    before = {name: p.detach().clone() for name, p in trainer.llava.named_parameters()}
    optimizer = torch.optim.SGD([p for p in trainer.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        trainer(*samples())['loss'].backward()
        optimizer.step()
    places = dict(
        projector='model.multi_modal_projector',
        fusion='model.depth_fusion',
        vision=('model.vision_tower.embeddings', *(f'{BLOCKS}.{i}.' for i in (0, 1))),
        llm=('model.language_model', 'lm_head'),
    )
    chosen = {name for name in before if any(name.startswith(places[part]) for part in parts)}
    assert {name for name, p in trainer.llava.named_parameters() if p.requires_grad} == chosen
    moved = {
        name for name, p in trainer.llava.named_parameters() if not torch.equal(p, before[name])
    }
    assert moved <= chosen
    # A softmax does not change with what all keys have in common.
    assert all('k_proj.bias' in name for name in chosen - moved)


@pytest.mark.parametrize('folder', ['siglip_folder', 'clip_folder'])
@pytest.mark.parametrize(('layer', 'blocks'), [(-1, 3), (-2, 2), (-3, 1), (0, 0)])
def test_every_parameter_that_requires_a_gradient_gets_one(request, llama, folder, layer, blocks):
    """DDP waits in vain for any other: blocks above the features, the final norm, the head."""
    trainer = LlavaTrainer(
        request.getfixturevalue(folder),
        llama,
        tokenizer='shapes_questions',
        select_layer=layer,
        train=('vision', 'projector', 'fusion', 'llm'),
        depth=DEPTH,
    ).train()
    trainer(*samples())['loss'].backward()
    for name, p in trainer.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name
    layers = trainer.llava.model.vision_tower.encoder.layers
    assert [any(p.requires_grad for p in block.parameters()) for block in layers] == [
        i < blocks for i in range(len(layers))
    ]


@pytest.mark.parametrize(
    ('kind', 'dtype'), [('AMX', torch.bfloat16), ('AVX2', torch.float32)], ids=['AMX', 'AVX2']
)
def test_products_are_in_the_format_that_is_fast_on_the_cpu(build, pretend_cpu, kind, dtype):
    pretend_cpu(kind)
    trainer, seen = build(train=('projector', 'llm')), set()
    for layer in trainer.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(lambda _, args, out: seen.add(out.dtype))
    sgd = torch.optim.SGD(trainer.parameters(), 0.1)
    optimizer = AmpOptimWrapper(optimizer=sgd, dtype='bfloat16')
    with optimizer.optim_context(trainer):
        loss = trainer(*samples())['loss']
    optimizer.update_params(loss)
    assert seen == {dtype} and loss.dtype == torch.float32


def test_without_images_only_the_language_model_learns(build):
    with pytest.raises(ValueError, match=r"expected train=\('llm',\), all that is read, found"):
        build(use_image=False, train=('llm', 'projector'))


def test_the_blind_see_nothing(build):
    trainer = build(use_image=False, train=('llm',)).eval()
    images, talks = samples()
    other = [255 - image for image in images]
    assert trainer(images, talks)['loss'] == trainer(other, talks)['loss']
    seeing = build(train=('llm',)).eval()
    assert seeing(images, talks)['loss'] != seeing(other, talks)['loss']


def test_predictions_are_those_of_a_chat(build):
    trainer = build(depth=DEPTH, max_new_tokens=5).eval()
    images, talks = samples()
    found = trainer(images, talks, mode='predict')
    chat = VisionChat(trainer.vlm)
    for image, talk in zip(images, found, strict=True):
        answer = chat(image, talk.question, depths=talk.depth, max_new_tokens=5)
        assert talk.pred_answer == answer
    with pytest.raises(ValueError, match="expected loss or predict, found 'tensor'"):
        trainer(images, talks, mode='tensor')


def test_settings_of_the_checkpoint_have_no_effect_on_predictions(build):
    """They have none in a chat either; what is saved keeps them."""
    trainer = build(max_new_tokens=8).eval()
    expected = [talk.pred_answer for talk in trainer(*samples(), mode='predict')]
    settings = trainer.llava.generation_config
    settings.repetition_penalty = 20.0
    assert [talk.pred_answer for talk in trainer(*samples(), mode='predict')] == expected
    assert trainer.llava.generation_config is settings


def test_answers_that_cannot_be_given_are_refused(build):
    trainer = build(max_new_tokens=2).eval()
    images, talks = samples()
    talks[0].answer, talks[1].answer = 'red', 'red red red red'
    trainer(images[:1], talks[:1], mode='predict')
    wanted = r"max_new_tokens: expected \d+ or more, as the true answer 'red red red red' has"
    with pytest.raises(ValueError, match=wanted):
        trainer(images, talks, mode='predict')
    trainer.max_new_tokens = 1  # 'red' would be cut out of 'red and blue', and be right
    with pytest.raises(ValueError, match="expected 2 or more, as the true answer 'red' has with"):
        trainer(images[:1], talks[:1], mode='predict')


@pytest.mark.parametrize('answer', ['', '  ', 3, None, ['red', 'blue']])
@pytest.mark.parametrize('turn', [1, 2])
def test_what_is_no_answer_is_not_learnt(build, answer, turn):
    trainer = build()
    images, talks = samples()
    talks[0].set_field('b.png', 'name', field_type='metainfo')
    if turn == 1:
        talks[0].answer = answer
    else:
        talks[0].further = [('what colour is the ring?', answer)]
    with pytest.raises(
        ValueError, match=r'^b\.png: expected its answer|^b\.png: answer: expected te'
    ):
        trainer(images, talks)


@pytest.mark.parametrize('mode', ['loss', 'predict'])
@pytest.mark.parametrize('answer', ['red</s> blue', '<image>', 'a<pad>'])
def test_special_tokens_in_an_answer(build, mode, answer):
    """It would end there, or pass for an image; predictions show none."""
    trainer = build(max_new_tokens=20).eval()
    images, talks = samples()
    talks[1].answer = answer
    with pytest.raises(ValueError, match='answer: expected no special tokens in it, of which'):
        trainer(images, talks, mode=mode)


@pytest.mark.parametrize('mode', ['loss', 'predict'])
def test_what_is_longer_than_the_context_is_refused(build, mode):
    trainer = build()
    images, talks = samples()
    talks[1].set_field('b.png', 'name', field_type='metainfo')
    talks[1].question = 'what ' * 600
    with pytest.raises(ValueError, match=r'^b\.png: expected at most 512 tokens, the context'):
        trainer(images, talks, mode=mode)


def test_batches_that_lack_something(build):
    trainer = build(depth=DEPTH)
    images, talks = samples()
    for field in ('question', 'answer', 'depth'):
        images, talks = samples()
        delattr(talks[1], field)
        with pytest.raises(ValueError, match=f'^a sample: expected its {field}, found none'):
            trainer(images, talks)
    images, talks = samples()
    for image in (images[1].float() / 255, images[1].permute(1, 2, 0)):
        with pytest.raises(ValueError, match=r'^a sample: expected an RGB image \(3, H, W\) of'):
            trainer([images[0], image], talks)
    depth = talks[1].depth
    for talks[1].depth in (0 * depth, -depth, depth / 0):
        with pytest.raises(
            ValueError, match='depth: image 2 of 2: expected some depth above 0, fo'
        ):
            trainer(images, talks)
    talks[1].depth = depth.T
    with pytest.raises(ValueError, match='depth: expected a map of the shape of image 2 of 2'):
        trainer(images, talks)
    talks[1].question = 'what is <image>?'
    with pytest.raises(ValueError, match='^a sample: question: expected no <image> in it'):
        trainer(images, talks)


def test_a_tokenizer_without_an_end(siglip_folder, llama, tmp_path):
    tokenizer = load_tokenizer('shapes_questions')
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='expected a tokenizer with an end token .eos_token., by'):
        LlavaTrainer(siglip_folder, llama, tokenizer=str(tmp_path))


def small(iterations):
    """Options of a short training on little data."""
    options = [
        f'train_cfg.max_iters={iterations}',
        'train_cfg.val_interval=2',
        'load_from=None',
        'train_dataloader.batch_size=2',
    ]
    for loader in ('train', 'val', 'test'):
        options += [
            f'{loader}_dataloader.num_workers=0',
            f'{loader}_dataloader.persistent_workers=False',
            f'{loader}_dataloader.dataset.num_scenes=150',
            f'{loader}_dataloader.dataset.num_questions=6',
        ]
    return options


def test_a_loss_that_is_not_finite_ends_the_training(repository, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    argv = [str(repository / 'configs/vlm/shapes_blind.py'), '--work-dir', str(tmp_path)]
    argv += ['--cfg-options', *small(50), 'train_cfg.val_interval=100']
    argv += ['optim_wrapper.optimizer.lr=1e30', 'param_scheduler=None']
    assert command('train')(argv) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('error: the training stops: loss not finite since iteration ')
    assert '10 times in a row; no checkpoint is from before.' in line
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('name', ['shapes', 'shapes_blind', 'shapes_depth'])
def test_configs_train_test_and_export(repository, tmp_path, name):
    options = small(2)
    config = repository / 'configs/vlm' / f'{name}.py'
    argv = [str(config), '--work-dir', str(tmp_path), '--cfg-options', *options]
    assert command('train')(argv) == 0
    cfg = Config.fromfile(next(tmp_path.glob('*.py')))
    cfg.load_from, cfg.work_dir = str(tmp_path / 'iter_2.pth'), str(tmp_path / 'test')
    cfg.experiment_name = f'{name}_{tmp_path.name}'
    runner = Runner.from_cfg(cfg)
    assert set(runner.test()) >= {'answers/count', 'answers/nearest', 'answers/mean'}
    runner.model.save_pretrained(tmp_path / 'llava')
    again = load_pretrained_model(tmp_path / 'llava').model
    for key, value in runner.model.llava.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_answers_that_go_by_what_is_no_number_are_refused(build):
    trainer = build().eval()
    images, talks = samples()
    trainer(images, talks, mode='predict')
    talks[1].set_metainfo(dict(img_path='b.png'))
    embed = trainer._visual

    def spoilt(*given):
        found = embed(*given)
        found['pixel_values'][1, 0, 0, 0] = float('nan')
        return found

    trainer._visual = spoilt
    with pytest.raises(ValueError, match=r'^b\.png: expected finite scores of words, found NaN'):
        trainer(images, talks, mode='predict')

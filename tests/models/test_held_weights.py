"""What is cast once gives what ``autocast`` gives, and a model keeps its own weights."""

from __future__ import annotations

import copy
import pickle
import re
from collections import Counter
from threading import Barrier, Thread

import pytest
import torch
from tiny_guides import GUIDES
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_siglip.api import DepthPredictor, OpenVocabSegmenter, System
from mmseg_siglip.models.guides.frozen import Frozen
from mmseg_siglip.models.held_weights import HeldWeights, hold_weights
from mmseg_siglip.models.segmentors import SAM3Segmentor
from mmseg_siglip.precision import autocast
from mmseg_siglip.vlm.tower import SigLIPVisionTower

CPU = torch.device('cpu')


@pytest.fixture(autouse=True)
def on(monkeypatch):
    """As behind `hold_weights`."""
    monkeypatch.setattr(HeldWeights, 'on', True)


class WeightCasts(TorchDispatchMode):
    """Counts casts of a model's parameters.

    Attributes:
        found: How many, by name, of a parameter or a part of it.
        whole: Of a parameter alone.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        named = model.named_parameters()
        self.names = {p.untyped_storage().data_ptr(): name for name, p in named}
        self.found: Counter[str] = Counter()
        self.whole: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket is torch.ops.aten._to_copy:
            name = self.names.get(args[0].untyped_storage().data_ptr())
            if name is not None and args[0].is_floating_point():
                self.found[name] += 1
                self.whole[name] += isinstance(args[0], nn.Parameter)
        return func(*args, **(kwargs or {}))


class Small(nn.Module):
    """A weight of each kind: multiplied, normed, multiplied in float32, in part, and elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
        self.plain, self.last = nn.Parameter(torch.randn(8, 8)), nn.Linear(8, 4)
        self.wide, self.second = nn.Linear(8, 16), Frozen(nn.Linear(8, 8))
        self.held = HeldWeights()

    def forward(self, x):
        x = self.norm(self.first(x)) @ self.plain
        x = nn.functional.linear(self.second(x), self.wide.weight[:8])
        with torch.autocast(x.device.type, enabled=False):
            return self.last(x.float())


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Small().eval()


X = torch.linspace(-1, 1, 18).reshape(3, 6)


def plainly(model, precision='bf16'):
    with torch.no_grad(), autocast(precision, CPU):
        return model(X)


def run(model, precision='bf16', *what):
    with torch.no_grad(), model.held.autocast(model, precision, CPU, *what):
        return model(X)


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_to_the_bit(model, precision):
    expected = plainly(model, precision)
    for _ in range(3):
        assert torch.equal(run(model, precision), expected)
    with WeightCasts(model) as casts, WeightCasts(model.second.model) as second:
        run(model, precision)
    assert dict(casts.found) == {'wide.weight': 1}, 'a part of a weight is not held'
    assert not second.found
    with WeightCasts(model) as casts:
        plainly(model, precision)
    assert set(casts.found) == {'first.weight', 'first.bias', 'plain', 'wide.weight'}


def test_a_model_keeps_its_weights(model):
    own, state = dict(model.named_parameters()), copy.deepcopy(model.state_dict())
    for _ in range(2):
        run(model)
    found = model.state_dict()
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert found[name].dtype == torch.float32 and torch.equal(found[name], value)
    assert all(p is own[name] for name, p in model.named_parameters())
    with pytest.raises(RuntimeError), torch.no_grad(), model.held.autocast(model, 'bf16', CPU):
        assert model.first.weight.dtype == torch.bfloat16
        model(X[:, :5])
    assert all(p is own[name] for name, p in model.named_parameters())


def change_in_place(model):
    with torch.no_grad():
        model.first.weight.mul_(2)


def change_by_an_average(model):
    model.train()
    model.first.weight.data.mul_(2)
    model.eval()


def change_by_loading(model):
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})


def change_by_assigning(model):
    state = {name: 2 * value for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def change_a_module(model):
    model.first = nn.Linear(6, 8)


def change_what_is_frozen(model):
    with torch.no_grad():
        model.second.model.weight.mul_(2)


def change_to_double(model):
    model.plain.data = torch.randn(8, 8)


@pytest.mark.parametrize(
    'change',
    [
        change_in_place,
        change_by_an_average,
        change_by_loading,
        change_by_assigning,
        change_a_module,
        change_what_is_frozen,
        change_to_double,
    ],
)
def test_what_is_changed_is_cast_again(model, change):
    for _ in range(2):
        before = run(model)
    change(model)
    expected = plainly(model)
    assert not torch.equal(expected, before)
    for _ in range(2):
        assert torch.equal(run(model), expected)


def test_another_format(model):
    for precision in ('bf16', 'fp16', 'bf16', 'fp32'):
        expected = plainly(model, precision)
        for _ in range(2):
            assert torch.equal(run(model, precision), expected)


def test_where_gradients_are_wanted_nothing_is_held(model):
    for _ in range(2):
        run(model)
    with model.held.autocast(model, 'bf16', CPU):
        assert model.first.weight.dtype == torch.float32
        model(X).sum().backward()
    with autocast('bf16', CPU):
        twin = copy.deepcopy(model)
        twin.zero_grad()
        twin(X).sum().backward()
    own, expected = (dict(each.named_parameters()) for each in (model, twin))
    learnt = {name for name, weight in own.items() if weight.grad is not None}
    assert learnt == {name for name, weight in expected.items() if weight.grad is not None} != set()
    assert all(torch.equal(own[name].grad, expected[name].grad) for name in learnt)


def test_inference_mode_before_and_after(model):
    expected = plainly(model)
    with torch.inference_mode():
        for _ in range(2):
            with model.held.autocast(model, 'bf16', CPU):
                assert torch.equal(model(X), expected)
    assert torch.equal(run(model), expected)


def test_what_is_read_elsewhere_is_not_held(model):
    """Another forward of the same model multiplies in float32 what the first one cast."""
    for _ in range(2):
        run(model, 'bf16', 'first')

    def exactly():
        with (
            torch.no_grad(),
            model.held.autocast(model, 'bf16', CPU, 'second'),
            torch.autocast('cpu', enabled=False),
        ):
            return model.first(X)

    for _ in range(2):
        assert torch.equal(exactly(), model.first(X))
        assert torch.equal(run(model, 'bf16', 'first'), plainly(model))


def test_one_inside_of_another(model):
    expected = plainly(model)
    for _ in range(3):
        with torch.no_grad(), model.held.autocast(model, 'bf16', CPU, 'outer'):
            assert torch.equal(run(model), expected)
            assert torch.equal(model(X), expected)
    assert model.first.weight.dtype == torch.float32


def test_threads(model):
    expected, wrong, barrier = plainly(model), [], Barrier(4)

    def work():
        barrier.wait()
        for _ in range(50):
            if not torch.equal(run(model), expected):
                wrong.append(1)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and model.first.weight.dtype == torch.float32


def test_another_device_and_what_failed_half_way(model, monkeypatch):
    run(model)
    run(model)
    assert model.held._held
    model.to('cpu')
    assert not model.held._held
    run(model)
    model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()}, assign=True)
    wanted = dict(model.named_parameters())

    def fail(*_):
        raise RuntimeError('no memory')

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match='no memory'):
        patch.setattr('mmseg_siglip.models.held_weights.HeldWeight.renew', fail)
        run(model)
    assert all(weight is wanted[name] for name, weight in model.named_parameters())


def test_held_only_where_a_model_is_said_to_predict(model, monkeypatch):
    monkeypatch.setattr(HeldWeights, 'on', False)
    run(model)
    assert not model.held._known
    hold_weights(model)
    run(model)
    assert model.held._known and not HeldWeights.on


def test_copies_begin_anew(model):
    for _ in range(2):
        run(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        with torch.no_grad():
            other.first.weight.mul_(2)
        for _ in range(2):
            assert torch.equal(run(other), plainly(other))
    assert torch.equal(run(model), plainly(model))


WORDS = 'red circle, blue square|azure square, green triangle, background'


def images(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(3, *size, generator=generator) * 255).to(torch.uint8) for size in sizes]


def check_system(call, model, *, apart=r'(?!)'):
    """Later calls cast no weight but those that `apart` describes, and give what ``autocast``
    gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldWeights, 'autocast', lambda self, model, *where_: autocast(*where_[:2]))
        expected = call()
        with WeightCasts(model) as casts:
            call()
        assert casts.whole, 'nothing to hold'
    first = call()
    with WeightCasts(model) as casts:
        second = call()
    assert not {name for name in casts.found if not re.fullmatch(apart, name)}
    for found in (first, second):
        torch.testing.assert_close(found, expected, atol=0, rtol=0, equal_nan=True)
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


@pytest.mark.parametrize(
    'method', ['csa', 'resclip', 'sc_clip', 'itaclip', 'scga', 'sfp', 'proxyclip', 'trident']
)
@pytest.mark.parametrize('encoder', ['siglip_folder', 'openai_file'])
def test_training_free(request, method, encoder):
    config = dict(type=method)
    if method in ('proxyclip', 'trident'):
        config['guide'] = dict(type='DINOGuide', config=GUIDES['DINOGuide'])
    if method == 'trident':
        config['sam'] = dict(type='SAMGuide', config=GUIDES['SAMGuide'])
    options = dict(device='cpu', precision='bf16', templates='single', short_side=40)
    system = OpenVocabSegmenter.from_pretrained(request.getfixturevalue(encoder), config, **options)
    batch = images((40, 48), (40, 72))
    check_system(lambda: system.torch(batch, WORDS), system.model)


IN_PART = r'decode_head\..*(\.[qkv]|\.conv1|\.mix|in_proj|padding)_?(weight|\.weight|guidance)'
DECIDES = r'(decode_head|sam)\..*(in_proj_bias|attentions.*out_proj\.(weight|bias))'


@pytest.mark.parametrize(
    ('task', 'prompt'), [('cat_seg', [WORDS]), ('depth', []), ('refer', [['the red circle', 'a']])]
)
def test_trained_systems(repository, task, prompt):
    """Decoders that also multiply by parts of a weight cast these as before."""
    folder = repository / 'mmseg_siglip/assets' / f'shapes_{task}'
    system = System.from_pretrained(folder, device='cpu', precision='bf16')
    batch = images((48, 64), (40, 80))
    apart = '(?!)' if task == 'depth' else f'{IN_PART}|{DECIDES}'
    check_system(lambda: system.torch(batch, *prompt), system.model, apart=apart)


def test_published_depth(tmp_path):
    from tiny_depth_models import depth_anything, depth_anything_processor, save

    folder = save(depth_anything(), depth_anything_processor(), tmp_path / 'model')
    system = DepthPredictor.from_pretrained(folder, device='cpu', precision='bf16')
    batch = images((40, 56))
    check_system(lambda: system.torch(batch), system.model)


def test_sam3(sam3_folder):
    words = ['cat', 'dog', 'sky, grass']
    model = SAM3Segmentor(dict(pretrained=sam3_folder), words, precision='bf16').eval()
    batch = [image.float() / 128 - 1 for image in images((24, 40))]

    def predict():
        return [sample.pred_sem_seg.data for sample in model.predict(batch)]

    check_system(predict, model)


def test_a_vision_tower_is_kept_in_the_format():
    tower = SigLIPVisionTower('tiny_siglip_shapes', precision='bf16').eval()
    pixels = torch.rand(1, 3, *tower.image_size)
    with torch.no_grad(), WeightCasts(tower) as casts:
        tower(pixels)
    assert not casts.whole

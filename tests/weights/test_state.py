import pytest
import torch
from safetensors.torch import save_file

from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import load_strict, read_state_dict, refuse_missing_path
from mmseg_siglip.weights.transformers_model import load_model_config

WEIGHTS = {'weight': torch.randn(2, 3), 'bias': torch.randn(2)}


def prefixed(prefix):
    return {prefix + name: value for name, value in WEIGHTS.items()}


@pytest.mark.parametrize(
    'content',
    [
        WEIGHTS,
        dict(state_dict=WEIGHTS, epoch=3),
        dict(state_dict=prefixed('module.')),
        dict(meta={}, state_dict=prefixed('backbone.model.') | {'head.weight': torch.ones(1)}),
        dict(model=WEIGHTS),
        dict(state_dict=dict(weight=torch.ones(1)), state_dict_ema=WEIGHTS),
    ],
)
def test_wrappers_and_prefixes(tmp_path, content):
    torch.save(content, tmp_path / 'x.pth')
    state = read_state_dict(tmp_path / 'x.pth')
    assert state.keys() == WEIGHTS.keys()
    assert all(torch.equal(state[name], WEIGHTS[name]) for name in WEIGHTS)


def test_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / 'x.safetensors')
    assert read_state_dict(tmp_path / 'x.safetensors').keys() == WEIGHTS.keys()


def test_no_tensors(tmp_path):
    torch.save(dict(a=1), tmp_path / 'x.pt')
    with pytest.raises(ValueError, match=r'x.pt: expected a state dict of tensors, found none'):
        read_state_dict(tmp_path / 'x.pt')


@pytest.mark.parametrize(
    ('state', 'message'),
    [
        ({'weight': WEIGHTS['weight']}, r'1 \(first bias\) missing and 0 unknown'),
        (WEIGHTS | {'extra': torch.ones(1)}, r'0 missing and 1 \(first extra\) unknown'),
        (WEIGHTS | {'bias': torch.ones(5)}, r'expected shape \(2,\) for bias, found \(5,\)'),
    ],
)
def test_strict(state, message):
    with pytest.raises(ValueError, match=rf'^x.pt: .*{message}'):
        load_strict(torch.nn.Linear(3, 2), state, 'x.pt')


def test_strict_loads_all():
    module = torch.nn.Linear(3, 2)
    load_strict(module, WEIGHTS, 'x.pt')
    assert torch.equal(module.weight, WEIGHTS['weight'])


@pytest.mark.parametrize('source', ['/no/such', './no', 'weights.pt', 'a/b/c'])
def test_paths_that_do_not_exist(source):
    with pytest.raises(ValueError, match='no such file or folder'):
        refuse_missing_path(source)


@pytest.mark.parametrize('source', ['google/siglip2-base-patch16-224', 'name'])
def test_hub_names_are_not_paths(source):
    refuse_missing_path(source)


def test_weights_that_are_not_finite(tmp_path):
    state = prefixed('model.') | {'model.bad': torch.tensor([1, float('inf')])}
    torch.save(dict(state_dict=state), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'x\.pth: expected finite weights, .* in model\.bad'):
        read_state_dict(tmp_path / 'x.pth')


@pytest.mark.parametrize(
    'prefix',
    ['_orig_mod.', 'module.', 'model.', 'module._orig_mod.', 'model._orig_mod.', 'model.model.'],
)
@pytest.mark.parametrize('wrapped', [False, True])
def test_what_wrappers_put_before_names_goes(tmp_path, prefix, wrapped):
    state = {f'{prefix}a.weight': torch.ones(1), f'{prefix}b._orig_mod.weight': torch.ones(2)}
    torch.save(dict(state_dict=state) if wrapped else state, tmp_path / 'a.pth')
    assert list(read_state_dict(tmp_path / 'a.pth')) == ['a.weight', 'b.weight']


def test_a_backbone_inside_of_a_wrapper(tmp_path):
    names = ('module.backbone.a', 'module.backbone.b', 'module.head.a')
    torch.save({name: torch.ones(1) for name in names}, tmp_path / 'a.pth')
    assert list(read_state_dict(tmp_path / 'a.pth')) == ['a', 'b']


def test_two_names_that_would_be_one_are_refused(tmp_path):
    torch.save({'a': torch.ones(1), '_orig_mod.a': torch.ones(1)}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='expected one tensor of the name a, found one with'):
        read_state_dict(tmp_path / 'a.pth')


def test_a_folder_of_images_is_no_folder_of_weights(tmp_path):
    (tmp_path / 'dog.JPG').touch()
    for read in (Source.open, load_model_config):
        with pytest.raises(ValueError, match=r'expected weights, found a folder of images \(dog'):
            read(str(tmp_path))
    (tmp_path / 'model.safetensors').touch()
    Source.open(str(tmp_path))

import torch

from mmseg_siglip.weights.differences import differing, tensors_digest

STATE = dict(a=torch.arange(4.0), b=torch.zeros(2, 3, dtype=torch.int64), c=torch.tensor(1.5))


def test_what_differs():
    other = dict(a=STATE['a'].clone(), b=STATE['b'].float(), d=torch.ones(1))
    assert differing(STATE, STATE) == {}
    assert differing(STATE, other).keys() == {'b', 'c'}
    assert differing(STATE, dict(STATE, a=torch.arange(4.0).reshape(2, 2))).keys() == {'a'}


def test_a_digest_changes_with_name_shape_format_and_value():
    changed = [
        dict(STATE, a=STATE['a'] + 1e-7),
        dict(STATE, a=STATE['a'].reshape(2, 2)),
        dict(STATE, a=STATE['a'].view(torch.int32)),
        {name.upper(): value for name, value in STATE.items()},
    ]
    digests = [tensors_digest(state) for state in (STATE, *changed)]
    assert len(set(digests)) == len(digests)
    assert tensors_digest(dict(reversed(STATE.items()))) == digests[0]
    assert tensors_digest(dict(STATE, a=torch.arange(8.0)[::2] / 2)) == digests[0]

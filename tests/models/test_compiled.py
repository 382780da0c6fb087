"""What is compiled, when, and what knows nothing of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from mmengine.config import Config
from torch._dynamo.testing import CompileCounter

from mmseg_siglip.engine import Runner
from mmseg_siglip.models.compiled import (
    COMPILED,
    cloned,
    compilable,
    compile_method,
    compile_parts,
    nothing_compiled,
)


class Part(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([2.0]))

    @compilable
    def forward(self, x):
        """Twice."""
        return (self.weight * x).sum(-1)


class Child(Part):
    """With another such method, and that of its parent."""

    @compilable
    def half(self, x):
        return self.weight * x / 4


class Whole(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Child()

    def forward(self, x):
        return self.part(x) + self.part.half(x).sum(-1)


@pytest.fixture
def counter():
    torch._dynamo.reset()
    yield CompileCounter()
    torch._dynamo.reset()
    COMPILED.clear()


def test_only_training_is_compiled(counter):
    model, x = Whole(), torch.ones(3, 4)
    expected = model(x)
    assert compile_parts(model, dict(backend=counter), 'training') == [
        'Child.forward',
        'Child.half',
    ]
    assert torch.equal(model(x), expected) and counter.frame_count == 2
    model(x)
    assert counter.frame_count == 2
    counter.clear()
    with torch.no_grad():
        model(torch.ones(5, 6, 7))
    model.eval()(torch.ones(5, 6, 7))
    assert counter.frame_count == 0
    model.train()(torch.ones(5, 6, 7)).sum().backward()
    assert counter.frame_count == 2 and model.part.weight.grad.item() == 5 * 6 * 7 * 1.25


def test_prediction_is_compiled_unless_its_weights_are_looked_at(counter):
    model, x = Whole().eval(), torch.ones(3, 4)
    expected = model(x)
    compile_parts(model, dict(backend=counter), 'prediction')
    with torch.no_grad():
        with nothing_compiled():
            model(x)
        model.train()(x)
        assert counter.frame_count == 0
        assert torch.equal(model.eval()(x), expected) and counter.frame_count == 2
    model(x + 1), model.train()(x)
    assert counter.frame_count == 2


def test_what_cuda_graphs_would_overwrite_is_copied(monkeypatch):
    """A backend, here a function, that has one place for all its results."""

    @dataclass(frozen=True)
    class Pair:
        one: torch.Tensor
        others: tuple
        name: str = 'x'

    place = torch.zeros(2)

    def method(value):
        place.fill_(value)
        return Pair(place, (place, [place, 3]))

    monkeypatch.setattr(torch, 'compile', lambda function, **options: function)
    first = compile_method(method, dict(mode='reduce-overhead'))
    found = first(1.0)
    first(2.0)
    assert found.one.tolist() == found.others[0].tolist() == found.others[1][0].tolist() == [1, 1]
    assert (found.name, found.others[1][1]) == ('x', 3)
    assert compile_method(method, dict(backend='inductor')) is method
    assert cloned('x') == 'x'


def test_states_and_copies_know_nothing_of_it(counter):
    """A copy that keeps running means of the weights runs its own methods."""
    model = Whole()
    compile_parts(model, dict(backend=counter), 'training')
    assert list(model.state_dict()) == ['part.weight']
    twin = copy.deepcopy(model)
    twin.part.weight.data.fill_(0.0)
    assert twin(torch.ones(2, 2)).tolist() == [0.0, 0.0] and counter.frame_count == 0
    assert Part.forward.__doc__ == 'Twice.' and Part.forward.__name__ == 'forward'


def test_sizes_that_vary_are_compiled_once_more(counter):
    model = Whole()
    compile_parts(model, dict(backend=counter), 'training')
    for side in range(2, 30):
        model(torch.ones(3, side))
    assert counter.frame_count == 4  # of both methods, with a size and without


def test_a_model_that_is_gone_is_forgotten(counter):
    model = Whole()
    compile_parts(model, dict(backend=counter), 'training')
    assert len(COMPILED) == 1
    del model
    assert not len(COMPILED)


def test_nothing_to_compile():
    assert compile_parts(torch.nn.Linear(1, 1), {}, 'training') is None
    assert compile_parts(torch.nn.Linear(1, 1), None, 'training') == []


def test_what_was_compiled_is_forgotten(counter):
    model = Child().train()
    compile_parts(model, dict(backend=counter), 'training')
    assert compile_parts(model, False, 'training') == [] and not len(COMPILED)


def test_a_method_that_calls_the_one_it_overrides(counter):
    class Grandchild(Child):
        @compilable
        def half(self, x):
            return super().half(x) + 1

    model, x = Grandchild().train(), torch.ones(2, 3)
    expected = model.half(x)
    compile_parts(model, dict(backend=counter), 'training')
    assert torch.equal(model.half(x), expected) and counter.frame_count == 1


@pytest.mark.slow
def test_a_compiled_training_validates_saves_and_is_resumed_uncompiled(
    repository, tmp_path, counter
):
    def run(name, **options):
        cfg = Config.fromfile(repository / 'configs/dpt/shapes_frozen.py')
        loader = dict(num_workers=0, persistent_workers=False, batch_size=1)
        cfg.merge_from_dict(
            dict(
                work_dir=str(tmp_path / name),
                experiment_name=f'compiled_{name}',
                train_dataloader=loader,
                val_dataloader=loader | dict(dataset=dict(num_scenes=2)),
                train_cfg=dict(max_iters=2, val_interval=2),
                default_hooks=dict(checkpoint=dict(interval=1)),
                randomness=dict(seed=0),
            )
            | options
        )
        cfg.train_dataloader.dataset.pipeline[1].prob = 0.0
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner.model.state_dict()

    graphs = []

    def backend(graph, inputs):  # a function, which a config does not copy
        graphs.append(graph)
        return graph.forward

    compiled = run('run', compile=dict(backend=backend))
    assert len(graphs) == 2  # encoder and decoder, of training alone
    (tmp_path / 'run/iter_2.pth').unlink()
    COMPILED.clear()
    resumed = run('run', resume=True, compile=False, experiment_name='compiled_rest')
    assert len(graphs) == 2 and compiled.keys() == resumed.keys()
    for name, tensor in compiled.items():
        torch.testing.assert_close(tensor, resumed[name], rtol=1e-4, atol=1e-6)


def test_what_is_no_option_is_refused(tiny_config, tmp_path):
    cfg = Config.fromfile(tiny_config)
    cfg.merge_from_dict(dict(work_dir=str(tmp_path / 'run'), compile='inductor'))
    with pytest.raises(ValueError, match='compile: expected True or options .* found inductor'):
        Runner.from_cfg(cfg).train()

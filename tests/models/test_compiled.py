"""What is compiled, when, and what knows nothing of it."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from torch._dynamo.testing import CompileCounter

from mmseg_siglip.engine import Runner
from mmseg_siglip.models.compiled import COMPILED, compile_training, compiled_in_training


class Part(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([2.0]))

    @compiled_in_training
    def forward(self, x):
        """Twice."""
        return (self.weight * x).sum(-1)


class Child(Part):
    """With another such method, and that of its parent."""

    @compiled_in_training
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
    assert compile_training(model, dict(backend=counter)) == ['Child.forward', 'Child.half']
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


def test_states_and_copies_know_nothing_of_it(counter):
    """A copy that keeps running means of the weights runs its own methods."""
    model = Whole()
    compile_training(model, dict(backend=counter))
    assert list(model.state_dict()) == ['part.weight']
    twin = copy.deepcopy(model)
    twin.part.weight.data.fill_(0.0)
    assert twin(torch.ones(2, 2)).tolist() == [0.0, 0.0] and counter.frame_count == 0
    assert Part.forward.__doc__ == 'Twice.' and Part.forward.__name__ == 'forward'


def test_sizes_that_vary_are_compiled_once_more(counter):
    model = Whole()
    compile_training(model, dict(backend=counter))
    for side in range(2, 30):
        model(torch.ones(3, side))
    assert counter.frame_count == 4  # of both methods, with a size and without


def test_a_model_that_is_gone_is_forgotten(counter):
    model = Whole()
    compile_training(model, dict(backend=counter))
    assert len(COMPILED) == 1
    del model
    assert not len(COMPILED)


def test_nothing_to_compile():
    assert compile_training(torch.nn.Linear(1, 1), {}) is None
    assert compile_training(torch.nn.Linear(1, 1), None) == []


def test_what_was_compiled_is_forgotten(counter):
    model = Child().train()
    compile_training(model, dict(backend=counter))
    assert compile_training(model, False) == [] and not len(COMPILED)


def test_a_method_that_calls_the_one_it_overrides(counter):
    class Grandchild(Child):
        @compiled_in_training
        def half(self, x):
            return super().half(x) + 1

    model, x = Grandchild().train(), torch.ones(2, 3)
    expected = model.half(x)
    compile_training(model, dict(backend=counter))
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

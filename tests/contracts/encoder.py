"""What every encoder must do, in one tester.

The test of a new encoder is a subclass of `EncoderContract` whose name starts with ``Test``, beside
what equals the encoder's own library. Sides of images are given in patches.
"""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from mmseg_siglip.models.backbones import build_encoder
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.block import attend, run_block
from mmseg_siglip.models.backbones.build import encoder_kinds, find_encoder
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.towers import NAMES as TOWERS
from mmseg_siglip.models.backbones.trunk import Trunk, method_names
from mmseg_siglip.models.dense import DenseMethod
from mmseg_siglip.models.finetune import choose_trainable, text_trains
from mmseg_siglip.models.lora import add_lora
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.onnx import export_graph
from mmseg_siglip.onnx.parts import graph_part
from mmseg_siglip.registry import DENSE_METHODS
from mmseg_siglip.weights.source import Source

TEXTS = ['a photo of a cat', 'sky', 'a large red star in the grass']
MIXING = [name for name in method_names() if DENSE_METHODS.get(name).forward is DenseMethod.forward]
CLOSE = dict(atol=1e-5, rtol=1e-4)


class EncoderContract:
    """Checks that a subclass inherits.

    Attributes:
        kind: The class of the encoder.
    """

    kind: type[VisionLanguageBackbone]

    @pytest.fixture(scope='class')
    def source(self) -> str:
        """A checkpoint of the kind, its weights so large that every part of it matters."""
        raise NotImplementedError

    @pytest.fixture(scope='class')
    def description(self) -> dict:
        """What `build_encoder` must be told of a file that holds its weights alone."""
        return {}

    @pytest.fixture(scope='class')
    def config(self, source) -> dict:
        """The encoder's part of a config."""
        return dict(pretrained=source)

    @pytest.fixture(scope='class')
    def encoder(self, source) -> VisionLanguageBackbone:
        return build_encoder(source)

    @pytest.fixture
    def fresh(self, encoder) -> VisionLanguageBackbone:
        """A copy that the test may change."""
        return copy.deepcopy(encoder)

    def pooled_text(self, projected: Tensor, real: Tensor) -> Tensor:
        """What `encode_text` makes of `project_text`'s (N, L, D): the last that is no padding."""
        return projected[torch.arange(len(real)), real.sum(1) - 1]

    # Images

    @pytest.mark.parametrize(('rows', 'columns'), [(4, 4), (5, 9), (2, 8), (4.125, 5.875), (1, 1)])
    @torch.no_grad()
    def test_batch_equals_singles_on_any_grid(self, encoder, rows, columns):
        images = draw(encoder, rows, columns, batch=3)
        dense = encoder.dense(images)
        grid = tuple(-(-side // encoder.patch_size) for side in images.shape[2:])
        assert dense.shape == (3, encoder.embed_dim, *grid)
        singles = torch.cat([encoder.dense(image[None]) for image in images])
        assert_close(dense, singles, **CLOSE)

    @torch.no_grad()
    def test_padding_changes_no_pixel_inside(self, encoder):
        """What stands beyond the border is the mean colour, as if padded by hand."""
        images, p = draw(encoder, 4.125, 5.875), encoder.patch_size
        height, width = images.shape[2:]
        by_hand = nn.functional.pad(images, (0, -width % p, 0, -height % p))
        assert by_hand.shape[2:] == (5 * p, 6 * p)
        assert_close(encoder.dense(images), encoder.dense(by_hand))

    def test_an_image_smaller_than_a_patch_is_refused(self, encoder):
        p = encoder.patch_size
        with pytest.raises(ValueError, match=rf'\({p}x{p} pixels\), found {p - 1}x{3 * p}'):
            encoder.dense(torch.randn(1, 3, p - 1, 3 * p))

    @torch.no_grad()
    def test_taps(self, fresh):
        images = draw(fresh, 5, 3)
        expected = outputs_by_hand(fresh, images)
        fresh._requested_indices = (0, -1, 1)
        assert fresh.out_indices == (0, fresh.num_layers - 1, 1)
        for tap, block in zip(fresh(images), fresh.out_indices, strict=True):
            assert tap.shape == (2, fresh.hidden_size, 5, 3)
            assert_close(tap, Tokens(expected[block + 1], (5, 3), fresh.num_prefix).map)

    def test_taps_that_the_encoder_lacks_are_refused(self, fresh):
        count = fresh.num_layers
        for index in (count, -count - 1):
            fresh._requested_indices = (index,)
            sentence = rf'from -{count} to {count - 1}, found {index}; the encoder has {count}'
            with pytest.raises(ValueError, match=sentence):
                fresh(draw(fresh, 2, 2))

    @pytest.mark.parametrize('prefix', [False, True])
    @pytest.mark.parametrize('norm', [False, True])
    @torch.no_grad()
    def test_forward_intermediates(self, encoder, prefix, norm):
        images, last = draw(encoder, 3, 5), encoder.num_layers - 1
        expected = outputs_by_hand(encoder, images)
        end, taps = encoder.forward_intermediates(images, (last, 0), prefix=prefix, norm=norm)
        assert_close(end.x, expected[-1])
        for tap, block in zip(taps, (last, 0), strict=True):
            x = expected[block + 1]
            tokens = Tokens(encoder.norm(x) if norm else x, (3, 5), encoder.num_prefix)
            assert_close(tap, tokens.x if prefix else tokens.map)
        end, (tap,) = encoder.forward_intermediates(images, (1,), stop_early=True)
        assert end is None
        assert_close(tap, Tokens(expected[2], (3, 5), encoder.num_prefix).map)

    @torch.no_grad()
    def test_the_last_tap_is_what_the_method_gives(self, encoder):
        images, method = draw(encoder, 3, 5), encoder.method_for('csa')
        end, (tap,) = encoder.forward_intermediates(images, (-1,), method=method)
        assert_close(tap, end.map)
        assert not torch.allclose(tap, encoder.forward_intermediates(images, (-1,))[1][0])

    @pytest.mark.parametrize('name', MIXING)
    @torch.no_grad()
    def test_every_method_that_mixes_tokens(self, encoder, name):
        images = draw(encoder, 3, 5)
        if name == 'value_cls' and not encoder.num_prefix:
            with pytest.raises(ValueError, match='needs a CLS token'):
                encoder.dense(images, attention=name)
            return
        method, trunk = encoder.method_for(name), Trunk(encoder, images)
        x = run_block(
            encoder.blocks()[-1],
            outputs_by_hand(encoder, images)[-2],
            lambda q, k, v: method.mix(q, k, v, trunk),
            grid=(3, 5),
            residual=method.residual,
            ffn=method.ffn,
        )
        expected = encoder.project(Tokens(x, (3, 5), encoder.num_prefix))
        assert_close(encoder.dense(images, attention=name, **on_trunk(encoder)), expected)

    def test_unknown_methods_and_readouts_are_refused(self, encoder, source):
        with pytest.raises(ValueError, match="unknown attention 'nothing'"):
            self.kind(source, attention='nothing')
        with pytest.raises(ValueError, match="unknown readout 'nothing'; expected one of"):
            encoder.dense(draw(encoder, 2, 2), readout='nothing')

    @torch.no_grad()
    def test_every_readout(self, encoder):
        images = draw(encoder, 3, 5)
        maps = [encoder.dense(images, readout=readout) for readout in encoder.readouts]
        assert all(dense.shape == (2, encoder.embed_dim, 3, 5) for dense in maps)
        for i, dense in enumerate(maps):
            assert not any(torch.allclose(dense, other) for other in maps[:i])
        assert any(torch.equal(encoder.dense(images), dense) for dense in maps)

    @torch.no_grad()
    def test_the_encoders_own_vector(self, encoder):
        images = draw(encoder, 4, 4)
        end = encoder.forward_intermediates(images)[0].x
        assert encoder.summary(end).shape == (2, encoder.hidden_size)
        assert encoder.pool(end).shape == (2, encoder.embed_dim)
        assert_close(encoder.encode_image(images), encoder.pool(end))

    @torch.no_grad()
    def test_statistics(self, encoder):
        for values in (encoder.mean, encoder.std):
            assert len(values) == 3 and all(0 <= value <= 255 for value in values)
        assert all(encoder.std) and all(side >= encoder.patch_size for side in encoder.image_size)
        pixels = torch.rand(2, 3, 4, 5)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.mean, encoder.std))
        assert_close(encoder.to_pixels((255 * pixels - mean) / std), pixels)

    def test_it_becomes_a_graph_for_any_size(self, config, tmp_path):
        """`export_graph` compares it with torch at three."""
        pytest.importorskip('onnxruntime')
        pytest.importorskip('onnxscript')
        model = SCLIPSegmentor(config, ['cat', 'sky'], templates='plain', attention='vanilla')
        layers = model.backbone.towers()['vision'].layers
        del model.backbone.model.get_submodule(layers)[1:]  # which take seconds each
        agreement = export_graph(graph_part(model), tmp_path / 'x.onnx')
        assert agreement.facts.size is None and agreement.largest < 1e-5

    # Text

    @torch.no_grad()
    def test_text_does_not_depend_on_its_neighbours(self, encoder):
        together = encoder.encode_text(TEXTS)
        assert together.shape == (3, encoder.embed_dim)
        assert_close(together, torch.cat([encoder.encode_text([t]) for t in TEXTS]), **CLOSE)

    def test_a_prompt_longer_than_the_context_is_refused(self, encoder):
        with pytest.raises(ValueError, match='expected a prompt of at most .* tokens, found'):
            encoder.encode_text(['sky', 'grass ' * 80])

    @torch.no_grad()
    def test_text_tokens(self, encoder):
        tokens, real, vectors = encoder.encode_text_tokens(TEXTS)
        assert tokens.shape == (*real.shape, encoder.text_width) and real.dtype == torch.bool
        assert (real.long().diff(dim=1) <= 0).all() and real.any(1).all()
        assert_close(vectors, encoder.encode_text(TEXTS), **CLOSE)
        for text, row, mask in zip(TEXTS, tokens, real, strict=True):
            alone, own, _ = encoder.encode_text_tokens([text])
            assert_close(row[mask], alone[own], **CLOSE)
        projected = encoder.project_text(tokens)
        assert projected.shape == (*real.shape, encoder.embed_dim)
        assert_close(self.pooled_text(projected, real), vectors, **CLOSE)

    @torch.no_grad()
    def test_text_depends_on_its_own_tensors_and_images_on_the_others(self, fresh):
        images, own = draw(fresh, 3, 3), fresh.text_parameters()
        text, dense = fresh.encode_text(TEXTS), fresh.dense(images)
        for value in own.values():
            value += 0.05 * torch.randn_like(value)
        changed = fresh.encode_text(TEXTS)
        assert (changed - text).abs().amax(1).min() > 1e-3
        assert torch.equal(fresh.dense(images), dense)
        for name, value in fresh.model.state_dict().items():
            if name not in own:
                value += 0.05 * torch.randn_like(value)
        assert torch.equal(fresh.encode_text(TEXTS), changed)
        assert not torch.allclose(fresh.dense(images), dense)

    def test_what_no_tensor_tells_is_plain(self, encoder):
        json.dumps(encoder.text_settings())
        assert all(isinstance(index, int) for index in encoder.tokenizer_state().values())

    def test_logits(self, fresh):
        assert fresh.logit_scale > 0 and isinstance(fresh.logit_bias, float)
        fresh.set_logit(scale=7.0, bias=0.0)
        assert fresh.logit_scale == pytest.approx(7) and fresh.logit_bias == 0
        assert all(value.ndim == 0 for value in fresh.logit_parameters())
        weights = fresh.logit_weights()
        for weight in weights:
            weight.requires_grad_(True)
        sum(fresh.logit_parameters()).backward()
        assert weights and all(weight.grad.abs() > 0 for weight in weights)

    def test_eval_reads_logits_that_an_average_took_the_place_of(self, fresh):
        fresh.set_logit(scale=7.0, bias=0.0)
        assert fresh.train().logit_scale == pytest.approx(7)
        fresh.logit_weights()[0].data.add_(1)
        now = fresh.logit_parameters()[0].item()
        assert fresh.eval().logit_scale == now != pytest.approx(7)

    # Training

    def test_recomputing_blocks_gives_the_same_gradients(self, fresh):
        gradients = []
        for fresh.with_cp in (False, True):
            fresh.zero_grad()
            fresh.dense(draw(fresh, 5, 3)).square().mean().backward()
            gradients.append(with_gradient(fresh))
        assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
        for name, plain in gradients[0].items():
            assert_close(gradients[1][name], plain)

    def test_inference_first_and_training_first(self, fresh):
        images = draw(fresh, 3, 5)
        with torch.inference_mode():
            before = fresh.dense(images)
        fresh.dense(images).sum().backward()
        with torch.inference_mode():
            assert_close(fresh.dense(images), before)

    def test_init_weights_keeps_the_checkpoint(self, fresh):
        before = {name: value.clone() for name, value in fresh.state_dict().items()}
        fresh.init_weights()
        nn.Sequential(fresh)[0].init_weights()
        assert all(torch.equal(before[name], value) for name, value in fresh.state_dict().items())

    @pytest.mark.parametrize('tower', TOWERS)
    def test_every_matrix_that_lora_may_adapt_has_an_effect(self, encoder, tower):
        layout = encoder.towers()[tower]
        assert set(layout.default) <= set(layout.adaptable)
        for target in layout.adaptable:
            adapted = add_lora(copy.deepcopy(encoder), rank=2, towers=(tower,), targets=[target])
            before = self.output(adapted, tower)
            for name, parameter in adapted.named_parameters():
                if 'lora_B' in name:
                    nn.init.normal_(parameter, std=0.3)
            after = self.output(adapted, tower)
            assert (after - before).abs().max() > 1e-3, target
            after.square().sum().backward()
            trained = [p for p in adapted.parameters() if p.requires_grad]
            assert trained and all(p.grad is not None and p.grad.any() for p in trained), target

    @pytest.mark.parametrize('tower', TOWERS)
    def test_queries_and_values_train_or_are_refused(self, fresh, tower):
        before = self.output(fresh, tower).detach()
        layout = fresh.towers()[tower]
        if not (layout.query_value or layout.fused):
            with pytest.raises(ValueError, match='which has none apart'):
                choose_trainable(fresh, 'qv', towers=(tower,))
            return
        choose_trainable(fresh, 'qv', towers=(tower,))
        assert text_trains(fresh) == (tower == 'text')
        output = self.output(fresh, tower)
        assert_close(output, before)
        output.square().sum().backward()
        trained = [p for p in fresh.parameters() if p.requires_grad]
        assert len(trained) == 2 * len(fresh.model.get_submodule(layout.layers))
        assert all(p.grad.any() for p in trained)

    @pytest.mark.parametrize('attention', ['vanilla', 'maskclip', 'naclip'])
    def test_what_dense_features_and_words_depend_on(self, fresh, attention):
        """All that trains has a gradient, or a process that trains beside others would wait."""
        method = fresh.method_for(attention)
        for readout in fresh.readouts:
            fresh.zero_grad()
            choose_trainable(fresh, 'all')
            for part in fresh.unread(method, readout=readout):
                part.requires_grad_(False)
            reading = dict(on_trunk(fresh), readout=readout)
            dense = fresh.dense(draw(fresh, 3, 3), attention=method, **reading)
            (dense.square().sum() + fresh.encode_text(TEXTS).square().sum()).backward()
            wanted = {name for name, p in fresh.named_parameters() if p.requires_grad}
            assert with_gradient(fresh).keys() == wanted
            fresh.requires_grad_(True).zero_grad()
            fresh.dense(draw(fresh, 3, 3), attention=method, **reading).sum().backward()
            assert with_gradient(fresh).keys() <= wanted

    @pytest.mark.parametrize(('norm', 'pooling'), [(False, False), (True, False), (True, True)])
    def test_vision_parts_are_what_taps_depend_on(self, fresh, norm, pooling):
        blocks = fresh.num_layers if pooling else 2
        parts = fresh.vision_parts(blocks, norm=norm, pooling=pooling)
        end, (tap,) = fresh.forward_intermediates(
            draw(fresh, 3, 3), (blocks - 1,), prefix=True, norm=norm, stop_early=not pooling
        )
        loss = tap.square().sum() + (fresh.summary(end.x).square().sum() if pooling else 0)
        loss.backward()
        own = {
            id(parameter)
            for part in parts
            for parameter in (part.parameters() if isinstance(part, nn.Module) else [part])
        }
        named = fresh.named_parameters()
        assert with_gradient(fresh).keys() == {name for name, p in named if id(p) in own}

    @pytest.mark.parametrize('pooling', [False, True])
    @torch.no_grad()
    def test_a_vision_only_form(self, fresh, pooling):
        images, count = draw(fresh, 3, 5), len(fresh.state_dict())
        end, (tap,) = fresh.forward_intermediates(images, (1,))
        summary = fresh.summary(end.x)
        lost = 0 if pooling else sum(len(part.state_dict()) for part in fresh.pooling_parts())
        own = sum(not fresh.is_text(name) for name in fresh.model.state_dict())
        fresh.keep_vision(pooling=pooling)
        assert len(fresh.state_dict()) < count
        assert sum(not fresh.is_text(name) for name in fresh.model.state_dict()) <= own - lost
        with pytest.raises(ValueError, match=f'{self.kind.__name__} that was reduced to its vis'):
            fresh.encode_text(TEXTS)
        with pytest.raises(ValueError, match='reduced to its vision side'):
            fresh.encode_text_tokens(TEXTS)
        again, (same,) = fresh.forward_intermediates(images, (1,))
        assert torch.equal(again.x, end.x) and torch.equal(same, tap)
        if pooling:
            assert torch.equal(fresh.summary(end.x), summary)
            fresh.dense(images)
            return
        for joint in (fresh.dense, fresh.encode_image):
            with pytest.raises(
                ValueError, match=f'{self.kind.__name__} that was reduced to its tr'
            ):
                joint(images)

    # Files and number formats

    @pytest.mark.parametrize('form', ['mmengine', 'safetensors'])
    @torch.no_grad()
    def test_weights_alone_in_a_file(self, encoder, description, tmp_path, form):
        if form == 'mmengine':
            path = tmp_path / 'iter_1.pth'
            state = {f'backbone.{name}': value for name, value in encoder.state_dict().items()}
            torch.save(dict(meta={}, state_dict=state), path)
        else:
            path = tmp_path / 'weights.safetensors'
            save_file(encoder.model.state_dict(), path)
        source = Source.open(path)
        again, other = (build_encoder(source, **description) for _ in range(2))
        assert type(again) is self.kind
        places = {p.data_ptr() for p in again.parameters()}
        assert places.isdisjoint(p.data_ptr() for p in other.parameters())
        assert places.isdisjoint(value.data_ptr() for value in source.tensors.values())
        images = draw(encoder, 4, 5)
        assert_close(again.dense(images), encoder.dense(images))
        assert_close(again.encode_text(TEXTS), encoder.encode_text(TEXTS))
        self.check_recognised(str(path))

    def test_only_its_own_kind_recognises_it(self, source):
        self.check_recognised(source)
        assert find_encoder(Source.open(source)) is self.kind

    def check_recognised(self, source: str) -> None:
        opened = Source.open(source)
        assert [kind for kind in encoder_kinds() if kind.recognises(opened)] == [self.kind]

    @torch.no_grad()
    def test_half_precision_is_near(self, encoder):
        images = draw(encoder, 4, 5)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            half = encoder.dense(images), encoder.encode_text(TEXTS)
        for got, wanted in zip(
            half, (encoder.dense(images), encoder.encode_text(TEXTS)), strict=True
        ):
            assert torch.cosine_similarity(got.float(), wanted, dim=1).min() > 0.99

    @torch.no_grad()
    def test_export_leaves_the_eager_forward_as_it_was(self, fresh):
        module, images = Dense(fresh.requires_grad_(False)), draw(fresh, 4, 5)
        before = module(images)
        exported = torch.export.export(module, (images,), strict=False)
        assert_close(exported.module()(images), before)
        after = module(images)
        assert type(after) is Tensor and torch.equal(after, before)

    @staticmethod
    def output(encoder: VisionLanguageBackbone, tower: str) -> Tensor:
        if tower == 'text':
            return encoder.encode_text(TEXTS)
        return encoder.dense(draw(encoder, 3, 4), attention='vanilla')


class Dense(nn.Module):
    def __init__(self, encoder: VisionLanguageBackbone) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder.dense(images)


def on_trunk(encoder):
    """The trunk's last block as the place of a method, where there is a choice."""
    return dict(site='trunk') if encoder.pools_by_attention else {}


def draw(encoder: VisionLanguageBackbone, rows: float, columns: float, batch: int = 2) -> Tensor:
    """The same images every time, sides in patches."""
    size = (int(side * encoder.patch_size) for side in (rows, columns))
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def outputs_by_hand(encoder: VisionLanguageBackbone, images: Tensor) -> list[Tensor]:
    """What stands before the first block and behind each."""
    tokens = encoder.tokens(images)
    found = [tokens.x]
    for block in encoder.blocks():
        found.append(run_block(block, found[-1], attend, grid=tokens.grid))
    return found


def with_gradient(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}

from __future__ import annotations

import pytest
import torch

pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

import onnx  # noqa: E402

from mmseg_siglip.api import VisionChat  # noqa: E402
from mmseg_siglip.api.shipped import build_shipped  # noqa: E402
from mmseg_siglip.models.segmentors import SCLIPSegmentor  # noqa: E402
from mmseg_siglip.onnx import Graph, export_graph  # noqa: E402
from mmseg_siglip.onnx import export as module  # noqa: E402
from mmseg_siglip.onnx.export import check_format, difference, rounded, size_for  # noqa: E402
from mmseg_siglip.onnx.parts import graph_part  # noqa: E402
from mmseg_siglip.vlm import SigLIPVisionTower  # noqa: E402

SIZES = [(1, 64, 64), (2, 48, 72), (3, 104, 40), (1, 8, 8)]


def agree(part, graph, sizes):
    """Both on images of their own, whatever the exporter has compared."""
    for count, height, width in sizes:
        images = torch.randn(count, 3, height, width)
        with torch.no_grad():
            wanted = part(images)
        for name, want in zip(part.outputs, wanted, strict=True):
            found = graph(images, name)
            assert found.shape == want.shape
            assert (found - want).abs().max() <= 1e-4, (name, height, width)


def test_dense_features_are_those_of_torch(shapes, dense_file):
    path, agreement = dense_file
    assert agreement.largest <= 1e-5 and len(set(agreement.sizes)) == 3
    assert any(height != width for height, width in agreement.sizes)
    assert 'within' in str(agreement) and '24x40' in str(agreement)
    shapes.use('circle, square|box, star, heart, brick, grass')
    agree(graph_part(shapes.model), Graph(path), SIZES)


@pytest.mark.parametrize('size', [(44, 48), (48, 50), (9, 8)])
def test_the_graph_itself_refuses_parts_of_patches(dense_file, size):
    """Whoever runs it, without this package: a plain export gives a smaller grid."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(dense_file[0]), options)
    assert session.run(None, dict(images=torch.zeros(1, 3, 16, 24).numpy()))[0].shape[2:] == (2, 3)
    with pytest.raises(Exception, match='multiple of block_size'):
        session.run(None, dict(images=torch.zeros(1, 3, *size).numpy()))


def test_nothing_of_the_machine_is_in_the_file(dense_file, repository):
    held = dense_file[0].read_bytes()
    assert str(repository).encode() not in held and b'.py' not in held and b'/home' not in held


def test_the_standard_checker_takes_it(dense_file):
    onnx.checker.check_model(onnx.load(dense_file[0]), full_check=True)


def test_eight_bits_differ_by_what_they_round(shapes, dense_file, tmp_path):
    path, _ = dense_file
    model = rounded(onnx.load(path))
    assert {'MatMulInteger'} <= {node.op_type for node in model.graph.node}
    small = tmp_path / 'int8.onnx'
    small.write_bytes(model.SerializeToString())
    assert small.stat().st_size < 0.5 * path.stat().st_size
    images = torch.randn(2, 3, 48, 72)
    shapes.use('circle, square|box, star, heart, brick, grass')
    with torch.no_grad():
        wanted = graph_part(shapes.model)(images)[1]
    assert 1e-4 < difference(Graph(small)(images, 'cosines'), wanted) < 0.1


def test_a_graph_that_says_something_else_is_not_written(shapes, dense_file, tmp_path, monkeypatch):
    shapes.use('circle, square|box, star, heart, brick, grass')
    part, place = graph_part(shapes.model), tmp_path / 'other.onnx'
    wrong = onnx.load(dense_file[0])
    for one in wrong.graph.initializer:
        if one.name.endswith('post_layernorm.bias'):
            one.raw_data = torch.ones(one.dims[0]).numpy().tobytes()
            break
    else:
        pytest.fail('expected the final norm in the graph')
    monkeypatch.setattr(module, 'traced', lambda *_, **__: wrong)
    with pytest.raises(ValueError, match='expected features .* within 0.0001 of torch'):
        export_graph(part, place)
    assert not place.exists()


def test_a_model_that_torch_cannot_trace_is_refused_in_a_line(shapes, tmp_path, monkeypatch):
    def forward(images):
        return (images if images.sum() > 0 else -images,)

    part = graph_part(shapes.model)
    monkeypatch.setattr(part, 'forward', forward)
    with pytest.raises(ValueError, match='torch cannot trace this model') as caught:
        export_graph(part, tmp_path / 'x.onnx')
    assert '\n' not in str(caught.value) and 'see size' in str(caught.value)


def test_formats_and_names_are_refused(shapes, tmp_path):
    part = graph_part(shapes.model)
    with pytest.raises(ValueError, match=r'expected a name that ends in \.onnx'):
        export_graph(part, tmp_path / 'x.bin')
    half = build_shipped('tiny_siglip_shapes', device='cpu', precision='bf16')
    with pytest.raises(ValueError, match="expected a model of precision='fp32' to export, found"):
        export_graph(graph_part(half.model), tmp_path / 'x.onnx')


def test_weights_of_words_do_not_count(shapes):
    part = graph_part(shapes.model)
    layers = shapes.model.backbone.layers_of('vision')
    held = sum(weight.nbytes for weight in layers.parameters())
    assert held < sum(weight.nbytes for weight in part.parameters())
    check_format(part, most=held)
    with pytest.raises(ValueError, match=f'at most {held - 1} bytes to export, found {held}'):
        check_format(part, most=held - 1)


def test_one_size(shapes):
    part = graph_part(shapes.model)
    assert size_for(part, None) is None and size_for(part, part.window) == part.window
    with pytest.raises(ValueError, match='expected 48x48 pixels .*, the views of this model'):
        size_for(part, (48, 64))
    part.window = None  # a model that sees images whole
    assert size_for(part, (48, 64)) == (48, 64)
    for size, match in (((44, 64), 'expected whole patches of 8'), (10**6, 'at most'), (4, '8 or')):
        with pytest.raises(ValueError, match=match):
            size_for(part, size)
    views = graph_part(build_shipped('shapes_cat_seg', device='cpu', precision='fp32').model)
    assert size_for(views, None) == (64, 64)
    with pytest.raises(ValueError, match='expected 64x64 pixels .*, the views of this model'):
        size_for(views, (64, 72))


@pytest.mark.slow
def test_cat_seg(tmp_path):
    segmenter = build_shipped('shapes_cat_seg', device='cpu', precision='fp32')
    segmenter.use('red circle, blue square, grass')
    part, path = graph_part(segmenter.model), tmp_path / 'cat_seg.onnx'
    assert export_graph(part, path).largest <= 1e-4
    agree(part, Graph(path), [(1, 64, 64), (3, 64, 64)])
    with pytest.raises(ValueError, match='expected images of 64x64 pixels'):
        Graph(path)(torch.zeros(1, 3, 48, 64))


@pytest.mark.slow
def test_depth(tmp_path):
    part = graph_part(build_shipped('shapes_depth', device='cpu', precision='fp32').model)
    assert export_graph(part, tmp_path / 'depth.onnx').largest <= 1e-4
    agree(part, Graph(tmp_path / 'depth.onnx'), SIZES)


@pytest.mark.slow
def test_the_tower_of_a_chat(tmp_path):
    chat = VisionChat.from_pretrained('shapes_chat', device='cpu', precision='fp32')
    chat.model.model.vision_tower.save_pretrained(tmp_path / 'tower')
    chat.vlm.image_processor.save_pretrained(tmp_path / 'tower')
    tower = SigLIPVisionTower(str(tmp_path / 'tower'), select_layer=-2)
    part, path = graph_part(tower), tmp_path / 'tower.onnx'
    assert export_graph(part, path).largest <= 1e-4
    agree(part, Graph(path), SIZES)


@pytest.mark.slow
def test_a_graph_of_one_size(shapes, tmp_path):
    shapes.use('circle, square')
    part = graph_part(shapes.model)
    part.window = None  # a model that sees images whole
    export_graph(part, tmp_path / 'one.onnx', size=(48, 64))
    graph = Graph(tmp_path / 'one.onnx')
    agree(part, graph, [(2, 48, 64)])
    with pytest.raises(ValueError, match='expected images of 48x64 pixels'):
        graph(torch.zeros(1, 3, 64, 48))


@pytest.mark.slow
@pytest.mark.parametrize('offset', [0.1, 0.0])
def test_a_clip_whose_positions_move(openai_file, tmp_path, offset):
    """But for its own grid, at which they stay."""
    backbone = dict(type='CLIPBackbone', pretrained=openai_file, position_offset=offset)
    model = SCLIPSegmentor(backbone, ['cat', 'dog'], templates='plain', attention='csa')
    part, path = graph_part(model), tmp_path / 'clip.onnx'
    assert export_graph(part, path).largest <= 1e-4
    patch, (height, width) = part.patch, part.native
    agree(
        part, Graph(path), [(2, height, width), (1, height, 3 * patch), (1, 5 * patch, 2 * patch)]
    )


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_eight_bits_that_give_no_numbers_are_not_written(shapes, dense_file, tmp_path, value):
    shapes.use('circle, square|box, star, heart, brick, grass')

    class Broken(Graph):
        def __call__(self, images, output=None):
            return super().__call__(images, output).fill_(value)

    with pytest.raises(ValueError, match='nothing was written'):
        module.compare_graph(
            graph_part(shapes.model), Broken(dense_file[0]), tmp_path / 'x.onnx', tight=False
        )


def test_a_size_that_the_windows_do_not_have(shapes):
    shapes.use('circle, square')
    part = graph_part(shapes.model)
    assert module.size_for(part, part.window) == part.window
    with pytest.raises(ValueError, match='the views of this model, found 16x24'):
        module.size_for(part, (16, 24))

import pytest
import torch
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.decode_heads.enlarged_cosine import enlarged_cosine


@pytest.mark.parametrize(
    ('grid', 'size'),
    [
        ((5, 7), (16, 24)),
        ((32, 32), (64, 64)),
        ((8, 8), (3, 5)),
        ((1, 4), (8, 9)),
        ((1, 1), (4, 4)),
    ],
)
def test_equals_the_cosine_of_the_enlarged_map(grid, size):
    torch.manual_seed(0)
    cells, vectors = torch.randn(3, 20, *grid), torch.randn(3, 20)
    large = interpolate(cells, size=size, mode='bilinear', align_corners=True)
    expected = torch.einsum('rchw,rc->rhw', normalize(large, dim=1), normalize(vectors, dim=1))
    found = enlarged_cosine(cells, vectors, size)
    torch.testing.assert_close(found[:, 0], expected, atol=2e-6, rtol=1e-5)


def test_gradients_equal_too():
    torch.manual_seed(0)
    cells, vectors = torch.randn(2, 6, 3, 4, requires_grad=True), torch.randn(2, 6)
    weights = torch.randn(2, 1, 9, 8)
    (enlarged_cosine(cells, vectors, (9, 8)) * weights).sum().backward()
    found, cells.grad = cells.grad, None
    large = normalize(interpolate(cells, size=(9, 8), mode='bilinear', align_corners=True), dim=1)
    plain = torch.einsum('rchw,rc->rhw', large, normalize(vectors, dim=1))[:, None]
    (plain * weights).sum().backward()
    torch.testing.assert_close(found, cells.grad, atol=1e-5, rtol=1e-4)


def test_no_map_of_the_result_s_size_has_all_channels():
    cells, size = torch.randn(1, 64, 4, 4), (32, 32)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        enlarged_cosine(cells, torch.randn(1, 64), size)
    assert largest <= 2 * 32 * 32

from mmseg_siglip.web.limits import Limits


def test_a_gpu_takes_four_times_the_pixels():
    assert Limits.on('cpu').pixels == 2048 * 2048
    assert Limits.on('cuda').pixels == 4096 * 4096
    assert Limits.on('cuda').file_bytes == Limits.on('cpu').file_bytes == 10_000_000

"""Systems that the package does not know."""

from __future__ import annotations

from torch import nn

from mmseg_siglip.api import DepthMap, System


class Brightness(System):
    """How bright each pixel is."""

    task, asks, kind = 'brightness', None, nn.Module

    def torch(self, images, prompt=None):
        return [image.float().mean(0) / 255 for image in images]

    def _result(self, rgb, output, prompt):
        return DepthMap(output.numpy(), 'metre', rgb)


class Echo(Brightness):
    """Likewise, of images with a riddle."""

    task, asks = 'echo', 'riddle'

"""A stand-in for tensors on a GPU, for tests on machines without one."""

import torch


class OnAnotherDevice(torch.Tensor):
    """A tensor whose values NumPy cannot reach before `cpu`."""

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self):
        return self.as_subclass(torch.Tensor)

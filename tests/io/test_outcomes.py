import errno

import pytest
import torch

from mmseg_siglip.ending import TRACEBACK_VARIABLE
from mmseg_siglip.io.outcomes import outcomes, raise_others


class System:
    """Refuses a whole batch for one image of it, as a system does."""

    def __init__(self, error):
        self.asked, self.error = [], error

    def __call__(self, items):
        self.asked.append(list(items))
        if 'bad' in items:
            raise self.error
        return [f'{item}!' for item in items]


@pytest.mark.parametrize(
    'error',
    [
        ValueError('is bad'),
        RuntimeError('shapes'),
        MemoryError(),
        torch.OutOfMemoryError('CUDA out of memory'),
        RuntimeError('cuDNN error: CUDNN_STATUS_NOT_SUPPORTED'),
        RecursionError(),
        OSError(errno.ENAMETOOLONG, 'File name too long'),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_fails_for_one_is_tried_alone(error):
    system = System(error)
    found = dict(outcomes(system, ['a', 'bad', 'c']))
    assert system.asked == [['a', 'bad', 'c'], ['a'], ['bad'], ['c']]
    assert found == dict(a='a!', bad=error, c='c!')
    assert error.__traceback__ is None  # which would keep the batch in memory
    system = System(error)
    assert len(dict(outcomes(system, ['a', 'c']))) == 2 and system.asked == [['a', 'c']]


@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.ENOSPC, 'No space left on device'),
        OSError(errno.EROFS, 'Read-only file system'),
        OSError(errno.EDQUOT, 'Disk quota exceeded'),
        PermissionError(errno.EACCES, 'Permission denied'),
        BrokenPipeError(errno.EPIPE, 'Broken pipe'),
        RuntimeError('CUDA error: an illegal memory access was encountered'),
        RuntimeError('CUDA driver error: unspecified launch failure'),
        RuntimeError('HIP error: an illegal memory access was encountered'),
        RuntimeError('cuDNN error: CUDNN_STATUS_EXECUTION_FAILED'),
        RuntimeError('Triton Error [CUDA]: an illegal memory access was encountered'),
    ],
    ids=str,
)
def test_what_all_others_would_meet_is_raised(error):
    with pytest.raises(type(error)):
        list(outcomes(System(error), ['a', 'bad']))
    with pytest.raises(type(error)):
        raise_others(error)


def test_nobody_is_interrupted_in_vain():
    with pytest.raises(KeyboardInterrupt):
        list(outcomes(System(KeyboardInterrupt()), ['bad']))


def test_whoever_wants_tracebacks_gets_them(monkeypatch):
    raise_others(ValueError())
    monkeypatch.setenv(TRACEBACK_VARIABLE, '1')
    with pytest.raises(ValueError):
        raise_others(ValueError())

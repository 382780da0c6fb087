import pytest
import torch

from mmseg_siglip.evaluation import ZeroShotAccuracy


def sample(prediction: int, label: list[list[int]]) -> dict:
    return dict(pred_label=prediction, gt_sem_seg=dict(data=torch.tensor([label])))


def metric(**kwargs) -> ZeroShotAccuracy:
    result = ZeroShotAccuracy(**kwargs)
    result.dataset_meta = dict(classes=('a', 'b', 'c', 'd'))
    return result


def test_a_hit_is_a_class_that_is_there():
    accuracy = metric()
    label = [[0, 0], [0, 1]]
    accuracy.process({}, [sample(0, label), sample(1, label), sample(2, label), sample(3, label)])
    assert accuracy.evaluate(4) == {'zero_shot/accuracy': 50.0, 'zero_shot/chance': 50.0}


def test_least_share_leaves_out_specks():
    strict = metric(least_share=0.3)
    strict.process({}, [sample(1, [[0, 0], [0, 1]])])
    assert strict.evaluate(1)['zero_shot/accuracy'] == pytest.approx(0)

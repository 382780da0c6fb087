import pytest
import torch

from mmseg_siglip.evaluation import GroupedIoUMetric


def run(groups: dict | None) -> dict[str, float]:
    metric = GroupedIoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=('a', 'b', 'c', 'absent'), class_groups=groups)
    label = torch.tensor([[[0, 0, 1, 1], [2, 2, 2, 2]]])
    prediction = torch.tensor([[[0, 1, 1, 1], [2, 2, 2, 0]]])
    metric.process({}, [dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=label))])
    return metric.evaluate(1)


def test_means_over_groups_counted_by_hand():
    """IoU: a 1/3, b 2/3, c 3/4; a class that occurs nowhere is left out."""
    metrics = run(dict(first=[0, 1], last=[2, 3]))
    assert metrics['mIoU_first'] == 50.0
    assert metrics['mIoU_last'] == 75.0
    assert metrics['mIoU'] == pytest.approx(100 * (1 / 3 + 2 / 3 + 3 / 4) / 3, abs=0.01)


def test_a_dataset_without_groups_is_refused():
    with pytest.raises(ValueError, match="expected 'class_groups'"):
        run(None)

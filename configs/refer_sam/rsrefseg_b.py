_base_ = [
    '../_base_/datasets/refer_rrsis_d.py',
    '../_base_/models/rsrefseg.py',
    '../_base_/schedules/rsrefseg_76k.py',
    '../_base_/default_runtime.py',
]

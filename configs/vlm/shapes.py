_base_ = [
    '../_base_/datasets/shapes_questions.py',
    '../_base_/models/llava_tiny.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/vlm_tiny.py',
]
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=500, max_keep_ckpts=1),
    visualization=dict(draw=False),
)

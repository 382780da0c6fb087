"""A checkpoint of the original LLaVA's code as a folder of transformers'.

A folder or Hub id with ``config.json``, weights and tokenizer as LLaVA, LLaVA-NeXT or a dense
MoE-LLaVA write them, such as ``liuhaotian/llava-v1.5-7b``. The vision tower's configuration and
image processor come from where it says, and its weights with them unless it holds some of its own.
"""

from __future__ import annotations

from pathlib import Path

from mmseg_siglip.vlm import load_pretrained_model
from mmseg_siglip.vlm.original_config import is_original

PRECISIONS = dict(float32='fp32', float16='fp16', bfloat16='bf16')


def convert(
    checkpoint: str, out: str | Path, *, vision: str | None = None, dtype: str = 'float32'
) -> str:
    """Write the folder.

    Args:
        checkpoint: Folder or Hub id.
        out: Folder to write.
        vision: Folder or Hub id in the place of the tower that the checkpoint names.
        dtype: Number format of the weights written.

    Raises:
        ValueError: `out` is a file; `checkpoint` is none of LLaVA's, or a part of it is missing or
            would be left out.
    """
    if Path(out).is_file():
        raise ValueError(f'{out}: expected a folder, found a file')
    if not is_original(checkpoint):
        raise ValueError(
            f"{checkpoint}: expected a checkpoint in the original LLaVA's layout (config.json of "
            'model_type llava, llava_llama, llava_qwen, ...), found another'
        )
    words = dict(model_name_or_path=checkpoint, mm_vision_tower=vision)
    vlm = load_pretrained_model(words, precision=PRECISIONS[dtype], device='cpu')
    vlm.save_pretrained(out)
    return f'{out}: a {vlm.model.config.architectures[0]}'

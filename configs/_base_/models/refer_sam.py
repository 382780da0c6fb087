"""Nine learned prompts for SAM, from any SigLIP; SAM's aspect kept."""

lora = dict(type='lora', rank=16, alpha=16)
model = dict(
    type='ReferringSegmentor',
    sam=dict(type='SAMAdapter', checkpoint='facebook/sam-vit-base', resize='pad'),
    decode_head=dict(type='SAMPrompterDecodeHead', prompt_mode='query', num_prompts=9),
    encoder=dict(finetune=dict(targets=['q_proj', 'k_proj', 'v_proj', 'out_proj'], **lora)),
    sam_finetune=lora,
    precision='auto',
)

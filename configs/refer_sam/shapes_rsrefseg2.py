_base_ = './shapes.py'
model = dict(decode_head=dict(_delete_=True, type='SAMPrompterDecodeHead', prompt_mode='rsrefseg2'))

"""SAM 3 asked for each word, https://arxiv.org/abs/2511.16719: no dense method, and supervised."""

type = 'SAM3Segmentor'
backbone = dict(type='SAM3Adapter', pretrained='facebook/sam3')
short_side = None
prob_thd = 0.5  # as SAM 3 cuts its masks; not tuned

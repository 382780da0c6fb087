"""The shipped SigLIP under an untrained Llama of 0.9 million parameters."""

model = dict(
    type='LlavaTrainer',
    vision='tiny_siglip_shapes',
    llm=dict(
        model_type='llama',
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=384,
        max_position_embeddings=1024,
        initializer_range=0.05,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    ),
    tokenizer='shapes_questions',
    train=('projector', 'llm'),
    max_new_tokens=4,
)

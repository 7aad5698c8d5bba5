"""The parts of ``tools/build_mini.py``: inputs, tokenizer, model, training, evaluation and card of `mini`."""

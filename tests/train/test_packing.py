"""Examples in one row are what they are alone, or packing is refused."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cellhermes.text import Prompt, QAPair
from cellhermes.train import TrainConfig, fit
from cellhermes.train._packing import check_packing

SHAPE = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 90, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": None,
}  # fmt: skip
ATTEND = {
    "llama": {},
    "gemma3_text": {"head_dim": 12, "sliding_window": 4},
    "mixtral": {"num_local_experts": 3},
    "gpt2": {},
}
GO_ON = {
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba": {"state_size": 8},
    "bamba": {"mamba_n_heads": 6, "mamba_d_head": 16, "mamba_d_state": 8, "attn_layer_indices": [1]},
    "recurrent_gemma": {"lru_width": 48},
    "rwkv": {"attention_hidden_size": 48},
}


def tiny(family, **changes):
    config = AutoConfig.for_model(family, **SHAPE | changes)
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        lm = AutoModelForCausalLM.from_config(config)
        for weight in lm.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=0.15)
    return lm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ATTEND)
def test_models_that_only_attend_are_packed(family, dtype):
    lm = tiny(family, **ATTEND[family]).to(dtype)
    lm.train()
    check_packing(lm)
    assert lm.training


@pytest.mark.filterwarnings("ignore")  # of models without their own kernels
@pytest.mark.parametrize("family", GO_ON)
def test_models_that_go_on_from_one_example_into_the_next_are_not(family):
    lm = tiny(family, **GO_ON[family])
    with pytest.raises(ValueError, match=f"packing=True would change the loss: {type(lm).__name__} .* packing=False"):
        check_packing(lm)


@pytest.mark.filterwarnings("ignore")
def test_training_refuses_to_pack_them_and_trains_without(tmp_path, tokenizer):
    lm = tiny("lfm2", **GO_ON["lfm2"], vocab_size=len(tokenizer))
    lm.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    pairs = [QAPair(Prompt(f"Gene {i} is"), "Yes", "demo") for i in range(4)]
    config = TrainConfig(max_steps=1, packing=True, max_tokens=60)
    with pytest.raises(ValueError, match="packing=True would change the loss"):
        fit(pairs, config, base=tmp_path / "base", out=tmp_path / "a", device="cpu")
    out = fit(pairs, config.replace(packing=False), base=tmp_path / "base", out=tmp_path / "b", device="cpu")
    assert (out / "adapter_model.safetensors").is_file()

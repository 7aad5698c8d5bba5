"""Compare every family of language models that transformers knows with its own forward pass, and write the table.

    python tools/model_families.py [FAMILY ...]   # writes docs/model_families.md, or prints the rows of some families

Each family becomes a tiny model with random weights, large enough that every part of it counts, with those switches of
its config on that change the computation. It is saved, loaded as users load models, and asked for vectors, answers,
text and attention, which have to be those of transformers with nothing shared, padded or cached. Ends with 1 where one
is not. Runs for about ten minutes on two cores, and every week in the continuous integration.
"""

import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import ModelOutput, logging

import cellhermes as ch

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "model_families.md"
MINI = Path(ch.__file__).parent / "model" / "mini"
VERBS = ("embed", "shared prefix", "score", "generate", "attend")
MOST = 3e7  # weights of a model that is tiny
LIMIT = 120  # seconds of computing for a family
TOLERANCE = 1e-4  # of the largest number, in float32

GENES = ["CD3E", "MS4A1", "NKG7", "LYZ", "MALAT1", "B2M", "CD8A", "GNLY", "CD14", "IL7R", "FCGR3A", "PPBP"]
ANSWERS = ["T cell", "B cell", "natural killer cell"]
WINDOW = 26  # tokens; longer than the shorter prompts with their answers, shorter than the longer ones
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "pad_token_id": None,
    "index_block_size": WINDOW, "sliding_window_size": WINDOW,
}  # fmt: skip
EXPERTS = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_topk": 2,
    "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1,
    "shared_expert_intermediate_size": 32,
}  # fmt: skip
DROP = object()  # a size that a family computes itself
LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}
RECURRENT = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_d_ssm": 128,
    "mamba_num_heads": 4, "mamba_head_dim": 32, "ssm_state_size": 16, "n_groups": 1, "mamba_chunk_size": 32,
    "full_attention_interval": 2, "attn_layer_indices": [1, 3], "attn_layer_period": 2, "attn_layer_offset": 1,
}  # fmt: skip
# What a family needs to be small, and what is switched on in it.
CHANGES = {
    "bloom": {"n_layer": 4, "n_head": 4},
    "cohere": {"logit_scale": 0.25, "use_qk_norm": True},
    "cohere2": {"logit_scale": 0.25, "sliding_window": WINDOW},
    "falcon": {"head_dim": DROP, "alibi": True, "new_decoder_architecture": False},
    "gemma2": {"sliding_window": WINDOW, "query_pre_attn_scalar": 16, "final_logit_softcapping": 3.0},
    "gemma3_text": {"sliding_window": WINDOW, "query_pre_attn_scalar": 16},
    "gpt2": {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 512},
    "gptj": {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 512, "rotary_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_layers": 4, "num_heads": 4, "window_size": 16},
    "gpt_oss": {"sliding_window": WINDOW},
    "granite": {"logits_scaling": 8.0, "residual_multiplier": 0.5, "embedding_multiplier": 4.0},
    "hyperclovax": {"logits_scaling": 0.25},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "mistral": {"sliding_window": WINDOW},
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": 4, "max_seq_len": 512},
    "phi3": {"sliding_window": WINDOW},
}
# Encoders, decoders of translation, and models of images or sound, whose text part is another row.
NOT_TEXT = {
    "bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus", "blenderbot", "blenderbot-small", "camembert",
    "data2vec-text", "electra", "ernie", "git", "got_ocr2", "emu3", "fuyu", "gemma3", "gemma3n", "gemma4",
    "gemma4_assistant", "gemma4_unified", "gemma4_unified_assistant", "llama4", "marian", "mbart", "megatron-bert",
    "mllama", "moshi", "moss_transcribe_diarize", "musicgen", "musicgen_melody", "mvp", "pegasus", "phi4_multimodal",
    "plbart", "prophetnet", "qwen3_5", "qwen3_5_moe", "qwen4_exp", "reformer", "rembert", "roberta",
    "roberta-prelayernorm", "roc_bert", "roformer", "trocr", "whisper", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet",
    "xmod", "dots3_note",
}  # fmt: skip
FAMILIES = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - NOT_TEXT)


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(MINI, trust_remote_code=False)


def ids_of(text: str) -> list[int]:
    """The start token, and those of a text."""
    return tokenizer()(tokenizer().bos_token + text, add_special_tokens=False).input_ids


def write_model(family: str, folder: Path) -> None:
    """Save a tiny random model with the tokenizer of mini."""
    ids = {
        "vocab_size": len(tokenizer()) + 8,
        "bos_token_id": tokenizer().bos_token_id,
        "eos_token_id": tokenizer().eos_token_id,
    }
    errors = []
    no_width = {"head_dim": DROP}
    for more in (EXPERTS | LATENT, EXPERTS, LATENT, {}, no_width, no_width | EXPERTS):
        try:
            wanted = ids | SIZES | RECURRENT | more | CHANGES.get(family, {})
            config = CONFIG_MAPPING[family](**{name: value for name, value in wanted.items() if value is not DROP})
            with torch.device("meta"):
                n_weights = AutoModelForCausalLM.from_config(config, trust_remote_code=False).num_parameters()
            if n_weights > MOST:
                raise ValueError(f"{n_weights / 1e6:.0f} million parameters")
            with torch.random.fork_rng():
                torch.manual_seed(0)
                lm = AutoModelForCausalLM.from_config(config, trust_remote_code=False).float().eval()
                for weight in lm.parameters():
                    if weight.ndim > 1:
                        torch.nn.init.normal_(weight, std=0.15)
                    else:  # zeros and ones at the start, with which sinks, biases and decays count for nothing
                        weight.data += torch.randn_like(weight) * 0.15
            lm(input_ids=torch.tensor([[5, 6, 7]]), use_cache=False)
            break
        except Exception as error:  # noqa: BLE001
            errors.append(f"{type(error).__name__}: {error}")
    else:
        raise ValueError(errors[0])
    lm.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def compare(family: str, folder: Path) -> dict[str, str]:
    """What each verb gives: right, right without sharing, refused or WRONG."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            model = ch.CellHermes.from_pretrained(folder, device="cpu", wrap="plain")
        except ValueError as error:
            return dict.fromkeys(VERBS, "refused") | {"why": str(error)}
    reference = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, trust_remote_code=False
    ).eval()
    checks = [checks_of(genes, model, reference) for genes in (GENES[:2], GENES)]  # within a window and beyond it
    verbs = {verb: outcome([one[verb] for one in checks]) for verb in VERBS}
    alone = any("what prompts share is computed" in str(warning.message) for warning in warned)
    if alone and verbs["shared prefix"] == "right":
        verbs["shared prefix"] = "right, not shared"
    return verbs


def checks_of(genes: list[str], model: ch.CellHermes, reference: PreTrainedModel) -> dict[str, Callable[[], float]]:
    """How far off each verb is, behind a sentence of these genes."""
    fill = ch.text.Template.load("gene_in_cell").fill
    prompts = [fill(genes=genes, gene=gene) for gene in ("CD3E", "LYZ", "SOX2")]
    ids = [ids_of(prompt.text) for prompt in prompts]
    tails = [ids_of(f" {answer}{tokenizer().eos_token}")[1:] for answer in ANSWERS]
    states = np.array([run(reference.get_decoder(), one).last_hidden_state[0, -1].numpy() for one in ids])
    logp = np.array([[log_p(reference, one, tail) for tail in tails] for one in ids])
    return {
        "embed": lambda: off(np.vstack([model.embed([prompt]) for prompt in prompts]), states),
        "shared prefix": lambda: off(model.embed(prompts), states),
        "score": lambda: off(model.score(prompts, ANSWERS), logp),
        "generate": lambda: float(model.generate(prompts, max_new_tokens=6) != written(reference, ids)),
        "attend": lambda: attention_off(genes, model, reference),
    }


def outcome(checks: list[Callable[[], float]]) -> str:
    try:
        if not all(check() <= TOLERANCE for check in checks):
            return "WRONG"
    except ValueError:
        return "refused"
    return "right"


def run(lm: PreTrainedModel, ids: list[int], **options: object) -> ModelOutput:
    with torch.inference_mode():
        return lm(input_ids=torch.tensor([ids]), use_cache=False, **options)


def log_p(reference: PreTrainedModel, ids: list[int], tail: list[int]) -> float:
    logp = run(reference, ids + tail).logits[0].float().log_softmax(-1)
    return sum(logp[len(ids) - 1 + k, token].item() for k, token in enumerate(tail))


def written(reference: PreTrainedModel, ids: list[list[int]]) -> list[str]:
    """The likeliest token each time, from the whole text anew."""
    texts = []
    for row in ids:
        new = []
        for _ in range(6):
            token = int(run(reference, row + new).logits[0, -1].argmax())
            if token == tokenizer().eos_token_id:
                break
            new.append(token)
        texts.append(tokenizer().decode(new, skip_special_tokens=True).strip())
    return texts


def attention_off(genes: list[str], model: ch.CellHermes, reference: PreTrainedModel) -> float:
    prompt = ch.text.Template.load("cell").fill(genes=genes)
    attention = model.attend([prompt])[0].weights
    weights = run(reference.get_decoder(), ids_of(prompt.text), output_attentions=True).attentions[-1][0, :, -1].numpy()
    offsets = tokenizer()(prompt.text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    tokens = [  # of each gene, behind the start token
        [i for i, (first, last) in enumerate(offsets, 1) if last > start and first < stop]
        for start, stop in prompt.spans.values()
    ]
    return off(attention, np.stack([weights[:, at].sum(1) for at in tokens], 1))


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def rows_of(families: list[str]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """A row for each family, and why some could not be made."""
    rows, not_made = [], {}
    signal.signal(signal.SIGPROF, _late)
    for family in families:
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
        with tempfile.TemporaryDirectory() as folder:
            try:
                write_model(family, Path(folder))
            except (Exception, Late) as error:  # noqa: BLE001
                not_made[family] = str(error).splitlines()[0][:100]
                continue
            try:
                rows.append({"family": family} | compare(family, Path(folder)))
            except Late as error:
                not_made[family] = str(error)
                continue
            except Exception as error:  # noqa: BLE001
                rows.append({"family": family} | dict.fromkeys(VERBS, "WRONG") | {"why": repr(error)})
        print(*rows[-1].values(), sep=" | ", flush=True)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return rows, not_made


class Late(BaseException):
    """A family took too long; no error that a check of a model might take for its own."""


def _late(*_: object) -> None:
    raise Late(f"not done within {LIMIT} seconds")


def page(rows: list[dict[str, str]], not_made: dict[str, str]) -> str:
    """The table as a page."""
    made_with = f"transformers {version('transformers')}, torch {version('torch').split('+')[0]}"
    lines = [
        "# Families of models",
        "",
        "Each family of decoder-only language models of transformers, as a tiny model with random weights, against its",
        f"own forward pass in float32 ({made_with}).",
        "Written by `tools/model_families.py`, which runs every week.",
        "",
        "*right*: the numbers of transformers within 1e-4 of the largest, and the same text. *right, not shared*:",
        "the same, and what prompts begin alike is computed for each of them, which is slower.",
        "*refused*: an error, when the model is loaded or the verb is called.",
        "[](models.md) says how a model is compared when it is loaded.",
        "",
        "| family | " + " | ".join(VERBS) + " |",
        "|---" * (len(VERBS) + 1) + "|",
        *(f"| `{row['family']}` | " + " | ".join(row[verb] for verb in VERBS) + " |" for row in rows),
        "",
    ]
    if not_made:
        lines += [
            "Not made as a tiny model by this script, and so compared when they are loaded only: "
            + ", ".join(f"`{family}`" for family in not_made) + ".",
            "",
        ]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    logging.set_verbosity(50)
    rows, not_made = rows_of(sys.argv[1:] or FAMILIES)
    print(*(f"not made: {family}: {why}" for family, why in not_made.items()), sep="\n")
    print(*(f"{row['family']}: {row['why']}" for row in rows if "why" in row), sep="\n")
    if not sys.argv[1:]:
        PAGE.write_text(page(rows, not_made), "utf-8")
    return int(any("WRONG" in row.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())

"""Answers per second, scored and generated: ``python benchmarks/answers.py``.

The bundled model on the CPU, both sides with the same weights, questions and threads. Prints a markdown table; times
are the best of ``--repeats`` rounds, taken in turn.

two answers     ``tl.answer`` on ``--questions`` questions about pairs of genes, from the frame to the table of
                probabilities, against the released way on ``--sampled`` of them: one question at a time,
                ``generate`` of transformers with temperature 0.1, top-p 0.7, top-k 50 and at most 100 new tokens. A
                model that was tuned on the task closes its answer at once; the second row allows it two tokens only
many answers    ``score`` of 300 answers behind a list of genes, against a full forward pass for each answer, in batches
                of 32 of the same length
"""

import argparse

import numpy as np
import pandas as pd
import torch
from shared import MINI, Tokens, in_turn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import cellhermes as ch

TASK = "genetic_interaction_synthetic"


def symbols() -> list[str]:
    """Genes of the generated cells: what a question costs does not depend on which genes it names."""
    return [*ch.datasets.toy(n_obs=10).var_names]


def sample(lm: PreTrainedModel, tokens: Tokens, ids: list[list[int]], max_new_tokens: int) -> list[str]:
    """One question at a time, as the release does it."""
    end = tokens.tokenizer.convert_tokens_to_ids(tokens.end)
    out = []
    for row in ids:
        written = lm.generate(
            torch.tensor([row]),
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            do_sample=True, temperature=0.1, top_p=0.7, top_k=50, max_new_tokens=max_new_tokens,
            eos_token_id=end, pad_token_id=0,
        )  # fmt: skip
        out.append(tokens.tokenizer.decode(written[0, len(row) :], skip_special_tokens=True))
    return out


def two_answers(
    model: ch.CellHermes, lm: PreTrainedModel, tokens: Tokens, n: int, n_sampled: int, repeats: int
) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.choice(symbols(), (n, 2)), columns=["gene_a", "gene_b"])
    prompts = ch.text.Task.load(TASK).prompts(frame[:n_sampled])
    ids = [*map(tokens.prompt, prompts)]
    with torch.inference_mode():
        taken = in_turn(
            repeats,
            ours=lambda: ch.tl.answer(frame, model, TASK),
            hundred=lambda: sample(lm, tokens, ids, 100),
            two=lambda: sample(lm, tokens, ids, 2),
        )
    ours = n / taken["ours"]
    rows = [(f"two answers, {n:,} questions of {np.mean([*map(len, ids)]):.0f} tokens", f"{ours:,.0f} questions/s", "")]
    for name, most in (("hundred", 100), ("two", 2)):
        theirs = n_sampled / taken[name]
        rows.append(
            (f"sampled one by one, at most {most} tokens", f"{theirs:,.1f} questions/s", f"{ours / theirs:.1f}")
        )
    return rows


def many_answers(
    model: ch.CellHermes, lm: PreTrainedModel, tokens: Tokens, n: int, n_prompts: int, repeats: int
) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(0)
    words = ["acute", "chronic", "early", "late", "familial", "cardiac", "renal", "syndrome", "disease", "deficiency"]
    answers = sorted({" ".join(rng.choice(words, rng.integers(2, 6))) for _ in range(4 * n)})[:n]
    lists = {"genes": [" ".join(rng.choice(symbols(), 20)) for _ in range(n_prompts)]}
    prompts = ch.text.Task.load("gene_set_disease").prompts(lists)
    ids, tails = [*map(tokens.prompt, prompts)], [*map(tokens.answer, answers)]
    n_all, n_distinct = sum(len(t) - 1 for t in tails), len({tuple(t[:k]) for t in tails for k in range(1, len(t))})
    taken = in_turn(repeats, ours=lambda: model.score(prompts, answers), full=lambda: full(lm, ids, tails))
    ours, theirs = (n_prompts / taken[name] for name in ("ours", "full"))
    return [
        (f"{n} answers ({n_all:,} tokens, {n_distinct:,} distinct beginnings)", f"{ours:,.1f} questions/s", ""),
        ("a full forward pass for each answer", f"{theirs:,.1f} questions/s", f"{ours / theirs:.1f}"),
    ]


def full(lm: PreTrainedModel, prompts: list[list[int]], tails: list[list[int]]) -> np.ndarray:
    """Log-probabilities from whole texts: right-padded batches of similar length, logits of the answers only."""
    out = np.empty((len(prompts), len(tails)))
    order = sorted(range(len(tails)), key=lambda j: len(tails[j]))
    with torch.inference_mode():
        for i, prompt in enumerate(prompts):
            for start in range(0, len(order), 32):
                batch = order[start : start + 32]
                width = max(len(tails[j]) for j in batch)
                ids = torch.tensor([prompt + tails[j] + [0] * (width - len(tails[j])) for j in batch])
                logp = lm(ids, logits_to_keep=width + 1).logits.log_softmax(-1)
                for row, j in zip(logp, batch, strict=True):
                    out[i, j] = sum(row[k, token].item() for k, token in enumerate(tails[j]))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--sampled", type=int, default=200)
    parser.add_argument("--answers", type=int, default=300)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = ch.CellHermes.from_pretrained("mini", device="cpu")
    lm = AutoModelForCausalLM.from_pretrained(MINI, dtype=torch.float32).eval()
    plain = lm, Tokens(AutoTokenizer.from_pretrained(MINI), model.around)
    rows = two_answers(model, *plain, options.questions, options.sampled, options.repeats)
    rows += many_answers(model, *plain, options.answers, options.prompts, options.repeats)
    print("| what | rate | ours / theirs |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()

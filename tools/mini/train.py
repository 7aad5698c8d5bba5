"""The training loop of ``mini`` and its losses."""

import json
import logging
import math
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch.nn import functional
from transformers import LlamaForCausalLM

import cellhermes as ch

from .stream import Documents, Stream

log = logging.getLogger("cellhermes.mini")
WRAP = ch.text.wrap("llama3-chat-blank")


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Parameters
    ----------
    steps
        Optimiser steps. Each sees gene prompts, cells, and either genes in cells or questions.
    lr, table_lr
        Peak learning rates of the layers and of the token table, which must not lose its factors.
    edges, singles, cells, contexts, questions
        Documents of a step.
    edge_weight, cell_weight, text_weight
        Weights of the contrastive edge loss, of the cell-geometry loss, and of the loss on all tokens.
    text_positions
        Tokens of a step that the loss on all tokens is taken at.
    seed
        Of everything.
    """

    steps: int = 700
    lr: float = 1.5e-3
    table_lr: float = 2.5e-4
    edges: int = 64
    singles: int = 64
    cells: int = 40
    contexts: int = 12
    questions: int = 16
    edge_weight: float = 0.5
    cell_weight: float = 1.0
    text_weight: float = 0.2
    text_positions: int = 384
    seed: int = 0


class Trainer:
    """Model, optimiser and stream of one run."""

    def __init__(
        self, model: LlamaForCausalLM, tokenizer: Tokenizer, answer_token: np.ndarray, stream: Stream, recipe: Recipe
    ) -> None:
        self.model, self.tokenizer, self.stream, self.recipe = model, tokenizer, stream, recipe
        model.set_attn_implementation("eager")  # on a CPU and at these lengths a quarter faster than the fused kernel
        self.answer_token = torch.from_numpy(answer_token)
        table = model.model.embed_tokens.weight
        layers = [p for p in model.parameters() if p is not table]
        groups = [
            {"params": [p for p in layers if p.ndim > 1], "lr": recipe.lr, "weight_decay": 0.05},
            {"params": [p for p in layers if p.ndim == 1], "lr": recipe.lr, "weight_decay": 0.0},
            {"params": [table], "lr": recipe.table_lr, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.step, self.tokens, self.seconds = 0, 0, 0.0

    def _rate(self, step: int) -> float:
        warm, end = 40, self.recipe.steps
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(step / max(end, 1), 1))) * 0.98 + 0.02)

    def run(self, work: Path, every: int = 50) -> None:
        """Train to the last step, saving now and then; a run that was killed goes on from its last save."""
        self.model.train()
        start, spent = time.monotonic(), self.seconds
        means: dict[str, float] = {}
        while self.step < self.recipe.steps:
            rng = np.random.default_rng([self.recipe.seed, self.step])
            parts = self.losses(rng)
            sum(parts.values()).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.step += 1
            self.seconds = spent + time.monotonic() - start
            means = {k: 0.95 * means.get(k, float(v)) + 0.05 * float(v) for k, v in parts.items()}
            if self.step % every == 0 or self.step == self.recipe.steps:
                shown = " ".join(f"{k} {v:.3f}" for k, v in means.items())
                log.info("step %d, %.0f s, %d tokens: %s", self.step, self.seconds, self.tokens, shown)
            if self.step % (4 * every) == 0 or self.step == self.recipe.steps:
                self.save(work)

    def losses(self, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Weighted losses of one step."""
        r = self.recipe
        genes = self.stream.genes(rng, r.edges, r.singles)
        cells = self.stream.cells(rng, r.cells)
        other = self.stream.questions(rng, r.questions) if self.step % 2 else self.stream.contexts(rng, r.contexts)
        gene_end, _, _ = self.forward(genes)
        cell_end, cell_all, cell_ids = self.forward(cells)
        other_end, other_all, other_ids = self.forward(other)
        hidden = torch.cat([x[:, :-1].flatten(0, 1) for x in (cell_all, other_all)])
        following = torch.cat([x[:, 1:].flatten() for x in (cell_ids, other_ids)])
        return {
            "gene": self.answer_loss(gene_end, genes.target),
            "edge": r.edge_weight * self.edge_loss(gene_end, genes.pairs),
            "cell": self.answer_loss(cell_end, cells.target),
            "shape": r.cell_weight * geometry_loss(cell_end, cells.teacher),
            "other": 0.5 * self.answer_loss(other_end, other.target),
            "text": r.text_weight * self.text_loss(hidden, following, rng),
        }

    def forward(self, documents: Documents) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Hidden states at the end of the prompts, all hidden states, and ids with -100 behind each document.

        Documents are padded on the right: under causal attention nothing before the padding sees it.
        """
        heads = [e.ids for e in self.encode([WRAP.render(p) for p in documents.prompts])]
        tails = [e.ids for e in self.encode([WRAP.lead + a + WRAP.end if a else "" for a in documents.answers])]
        length = max(len(h) + len(t) for h, t in zip(heads, tails, strict=True))
        ids = torch.full((len(heads), length), -100)
        for row, head, tail in zip(ids, heads, tails, strict=True):
            row[: len(head) + len(tail)] = torch.tensor(head + tail)
        self.tokens += int((ids >= 0).sum())
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.model.model(ids.clamp(min=0), use_cache=False).last_hidden_state
        end = torch.tensor([len(h) - 1 for h in heads])
        return hidden[torch.arange(len(heads)), end].float(), hidden, ids

    def encode(self, texts: list[str]) -> list[Encoding]:
        """Token ids; the markers of the chat turn stand in the texts."""
        return self.tokenizer.encode_batch(texts, add_special_tokens=False)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of every next token; the output table is the input table."""
        with torch.autocast("cpu", torch.bfloat16):
            return functional.linear(hidden, self.model.model.embed_tokens.weight).float()

    def answer_loss(self, end: torch.Tensor, target: np.ndarray) -> torch.Tensor:
        """Cross entropy of the next token against a distribution over answers, above that distribution's entropy."""
        rows = np.flatnonzero(target.sum(1) > 0)
        goal = torch.from_numpy(target[rows])
        log_p = functional.log_softmax(self.logits(end[rows]), dim=-1)[:, self.answer_token]
        return (torch.xlogy(goal, goal) - goal * log_p).sum() / max(len(rows), 1)

    def edge_loss(self, end: torch.Tensor, pairs: np.ndarray) -> torch.Tensor:
        """The other end of an edge among the other ends of all edges of the batch (true partners are left out)."""
        unit = functional.normalize(end[: 2 * len(pairs)], dim=-1).view(len(pairs), 2, -1)
        score = unit[:, 0] @ unit[:, 1].T / 0.1
        partner = self.stream.graph[pairs[:, 0]][:, pairs[:, 1]].toarray() > 0
        partner |= pairs[:, :1] == pairs[:, 1][None]
        np.fill_diagonal(partner, val=False)
        score = score.masked_fill(torch.from_numpy(partner), -1e4)
        goal = torch.arange(len(pairs))
        return 0.5 * (functional.cross_entropy(score, goal) + functional.cross_entropy(score.T, goal))

    def text_loss(self, hidden: torch.Tensor, following: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Ordinary next-token loss at a sample of positions."""
        known = np.flatnonzero((following >= 0).numpy())
        at = torch.from_numpy(rng.choice(known, min(self.recipe.text_positions, len(known)), replace=False))
        return functional.cross_entropy(self.logits(hidden[at]), following[at])

    def save(self, work: Path) -> None:
        """Write a checkpoint, in one step."""
        progress = {"step": self.step, "tokens": self.tokens, "seconds": self.seconds, "vocabulary": self.vocabulary()}
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "progress": progress,
        }
        torch.save(state, work / "checkpoint.part")
        (work / "checkpoint.part").replace(work / "checkpoint.pt")
        (work / "progress.json").write_text(json.dumps(progress))

    def vocabulary(self) -> str:
        """Hash of the tokenizer, as a checkpoint only fits the vocabulary that it was trained with."""
        return sha256(self.tokenizer.to_str().encode()).hexdigest()

    def resume(self, work: Path) -> None:
        """Go on from the last save in a folder, if there is one."""
        if not (work / "checkpoint.pt").exists():
            return
        state = torch.load(work / "checkpoint.pt", weights_only=True)
        if state["progress"]["vocabulary"] != self.vocabulary():
            msg = (
                f"The run in {work} was started with another vocabulary: prompts or inputs changed. Take a new --work."
            )
            raise ValueError(msg)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.step, self.tokens, self.seconds = (state["progress"][k] for k in ("step", "tokens", "seconds"))
        log.info("Going on from step %d in %s.", self.step, work)


def geometry_loss(end: torch.Tensor, teacher: np.ndarray, temperature: float = 0.1) -> torch.Tensor:
    """Cells must be as near to each other as their whole expression profiles are.

    Divergence between two softmaxes over the other cells of the batch, one of profile and one of vector cosines.
    """
    itself = torch.eye(len(end), dtype=torch.bool)
    unit = functional.normalize(end, dim=-1)
    ours = (unit @ unit.T / temperature).masked_fill(itself, -1e4)
    theirs = (torch.from_numpy(teacher).float() / temperature).masked_fill(itself, -1e4)
    return functional.kl_div(
        functional.log_softmax(ours, -1), functional.log_softmax(theirs, -1), log_target=True, reduction="batchmean"
    )

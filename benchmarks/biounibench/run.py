"""All test settings with one command: tunes adapters, asks every question, and measures what trivial methods reach.

    python benchmarks/biounibench/run.py ../shared/data --out build/biounibench --model mini
    python benchmarks/biounibench/run.py ../shared/data --out build/biounibench-8b --model cellhermes --steps 0

Questions come from the extracts of real data in a folder, and from generated stand-ins where there is none; these only
show that the code runs, are marked everywhere, and are never trained on together with real questions. Each model is
asked untuned ("zero-shot", and with what answers get behind an empty question taken off), tuned on one setting
("instruct") and tuned on all ("mtl"); where a task has a place for the genes of the cell, also with them ("w/ GE").

Adapters, answers and scores are kept in ``--out``: the same command goes on where it stopped, and with other options it
refuses the folder. ``table.csv`` has every measure with its interval, ``README.md`` the tables, and figures lie beside.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import ask
import data
import pandas as pd
import report
import tune

import cellhermes as ch

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[], tuple[pd.DataFrame, float]]

RATES = {"mini": 1e-3}  # a small model takes larger steps; others have that of the preset
METHODS = {"mini": "full"}  # it has hardly read the words of most answers, which an adapter cannot put into its table
BASES = {"cellhermes": "llama-3.1-8b-instruct", "cellhermes-multitask": "llama-3.1-8b-instruct"}
GE, PRIOR = " w/ GE", ", less prior"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What decides the result, besides the data.

    Parameters
    ----------
    model, base
        The model, and the language model that it was made of, which is asked too (none for ``mini``).
    steps, stand_in_steps
        Steps of an adapter for one setting; the joint one has as many for each. 0 takes the epochs of the presets.
    method
        Whether tuning is of an adapter (``"lora"``) or of all weights (``"full"``).
    rate
        Learning rate; None takes that of the presets.
    max_train, max_valid, max_test
        Questions of a setting, at most; 0 takes all.
    max_answers
        Categories of gene sets, at most: those with most genes; 0 takes all.
    bootstrap
        Draws behind an interval.
    calibrate, expression, tune
        Whether temperatures are fitted, questions are asked with the genes of the cell too, and adapters are tuned.
    seed
        Of splits, draws and adapters.
    """

    model: str = "mini"
    base: str = ""
    steps: int = 300
    stand_in_steps: int = 50
    method: str = "lora"
    rate: float | None = None
    max_train: int = 8000
    max_valid: int = 150
    max_test: int = 500
    max_answers: int = 0
    bootstrap: int = 1000
    calibrate: bool = True
    expression: bool = True
    tune: bool = True
    seed: int = 0


@dataclass
class Run:
    """Frames and what is known of them so far; scores are read from the folder where they are there."""

    frames: dict[str, pd.DataFrame]
    out: Path
    options: Options
    device: str | None = None
    scores: list[pd.DataFrame] = field(default_factory=list)
    scaling: list[pd.DataFrame] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def score(self, name: str, method: str, make: Make, frame: pd.DataFrame | None = None) -> pd.DataFrame:
        """Measures of a method on the test questions of a setting."""
        frame = self.frames[name] if frame is None else frame
        file = self.out / "scores" / slug(name) / f"{slug(method)}.csv"
        if not file.is_file():
            found, temperature = make()
            made = ask.measured(frame, found, temperature, n_bootstrap=self.options.bootstrap)
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            made.to_csv(part, index=False)
            part.replace(file)
        about = {"task": name, "method": method, "synthetic": frame.attrs["synthetic"]}
        table = pd.read_csv(file).assign(**about)
        main = table[(table["metric"] == report.METRIC) & (table["over"] == "rows")].iloc[0]
        minutes, shown = (time.monotonic() - self.start) / 60, "{value:.3f} [{low:.3f}, {high:.3f}]".format(**main)
        print(f"{minutes:6.1f} min  {name:42} {method:28} {shown}", flush=True)
        return table

    def add(self, name: str, method: str, model: Callable, *, expression: bool, prior: bool = False) -> None:
        """Score a model, which is made only if the score is not there."""
        folder = self.out / "answers" / slug(name) / slug(method.removesuffix(PRIOR))  # the same log-probabilities
        how = {"expression": expression, "prior": prior, "calibrate": self.options.calibrate}
        self.scores.append(self.score(name, method, lambda: ask.answered(model(), self.frames[name], folder, **how)))

    def tuned(self, sources: dict[str, ch.train.corpus.Pairs], name: str, *, is_synthetic: bool) -> Callable:
        """An adapter, which is trained when it is first asked for."""
        one = self.options
        n_steps = one.stand_in_steps if is_synthetic else one.steps
        how = {"model": one.model, "n_steps": n_steps, "method": one.method, "rate": one.rate, "seed": one.seed}

        @cache
        def make() -> ch.CellHermes:
            adapter = tune.fit(sources, self.out / "adapters" / slug(name), **how, device=self.device)
            return ch.CellHermes.from_pretrained(adapter, device=self.device)

        return make


def run(frames: dict[str, pd.DataFrame], out: Path, options: Options, device: str | None = None) -> pd.DataFrame:
    """Measure everything, and write the report."""
    out.mkdir(parents=True, exist_ok=True)
    limits = {part: getattr(options, f"max_{part}") for part in ("train", "valid", "test")}
    frames = {name: capped(frame, limits, options.seed) for name, frame in frames.items()}
    print(report.markdown(report.questions(frames)), flush=True)
    model = ch.CellHermes.from_pretrained(options.model, device=device)
    claim(out, frames, options, model)
    one = Run(frames, out, options, device)
    vectors = ask.vectors_of(model, frames, out / "vectors.npz")
    for name in frames:
        for title in ask.baselines_of(name, frames):
            make = lambda title=title, name=name: (ask.baseline(title, name, frames, vectors, options.seed), 1.0)
            one.scores.append(one.score(name, title, make))
    untuned(one, model)
    del model  # adapters need its room
    if options.tune:
        for is_synthetic in (False, True):
            for expression in (False, True)[: 1 + options.expression]:
                adapters(one, is_synthetic=is_synthetic, expression=expression)
        scaling(one, vectors)
    table = pd.concat(one.scores, ignore_index=True)
    curves = pd.concat(one.scaling, ignore_index=True) if one.scaling else pd.DataFrame()
    report.write(out, frames, table, curves, asdict(options))
    return table


def untuned(one: Run, model: ch.CellHermes) -> None:
    """The model as it is, and the language model below it."""
    base = cache(lambda: ch.CellHermes.from_pretrained(one.options.base, device=one.device))
    for name, frame in one.frames.items():
        if one.options.base:
            one.add(name, "base", base, expression=False)
        for expression in (False, True)[: 1 + (one.options.expression and tune.may_show(frame))]:
            for suffix, prior in (("", False), (PRIOR, True)):
                method = f"zero-shot{GE * expression}{suffix}"
                one.add(name, method, lambda: model, expression=expression, prior=prior)


def adapters(one: Run, *, is_synthetic: bool, expression: bool) -> None:
    """One adapter for each setting, and one for all, with or without the genes of the cell."""
    frames = {name: frame for name, frame in one.frames.items() if frame.attrs["synthetic"] == is_synthetic}
    asked = {name: frame for name, frame in frames.items() if tune.may_show(frame) or not expression}
    how = {"expression": expression, "seed": one.options.seed}
    suffix = GE * expression
    for name, frame in asked.items():
        model = one.tuned({name: tune.pairs(frame, **how)}, f"instruct {name}{suffix}", is_synthetic=is_synthetic)
        one.add(name, f"instruct{suffix}", model, expression=expression)
    sources = {name: tune.pairs(frame, **how) for name, frame in tune.without_leaks(frames).items()}
    if asked and len(sources) > 1:
        kind = "stand-ins" if is_synthetic else "real"
        model = one.tuned(sources, f"mtl {kind}{suffix}", is_synthetic=is_synthetic)
        for name in asked:
            one.add(name, f"mtl{suffix}", model, expression=expression)


def scaling(one: Run, vectors: pd.DataFrame) -> None:
    """Fewer training perturbations, with as many steps."""
    for name, columns in tune.SCALED.items():
        if name in one.frames:
            for share in tune.SHARES:
                frame, n = tune.share_of(one.frames[name], columns, share, one.options.seed)
                point(one, vectors, name, frame, n, "" if share == 1 else f" {share:g} of training")


def point(one: Run, vectors: pd.DataFrame, name: str, frame: pd.DataFrame, n: int, suffix: str) -> None:
    """Scores of a model and of a baseline that saw the training questions of ``n`` perturbations."""
    seed = one.options.seed
    sources = {name: tune.pairs(frame, expression=False, seed=seed)}
    model = one.tuned(sources, f"instruct {name}{suffix}", is_synthetic=frame.attrs["synthetic"])
    folder = one.out / "answers" / slug(name) / slug(f"instruct{suffix}")
    how = {"expression": False, "prior": False, "calibrate": one.options.calibrate}
    made = {
        "instruct": lambda: ask.answered(model(), frame, folder, **how),
        "logistic, vectors": lambda: (ask.baseline("logistic, vectors", name, {name: frame}, vectors, seed), 1.0),
    }
    for method, make in made.items():
        table = one.score(name, f"{method}{suffix}", make, frame)
        one.scaling.append(table.assign(method=method, n_perturbations=n))


def capped(frame: pd.DataFrame, limits: dict[str, int], seed: int) -> pd.DataFrame:
    """At most so many questions of each part."""
    parts = [frame[frame["split"] == part] for part in limits]
    kept = [
        part.sample(limit, random_state=seed) if 0 < limit < len(part) else part
        for part, limit in zip(parts, limits.values(), strict=True)
    ]
    found = pd.concat(kept).sort_index().reset_index(drop=True)
    found.attrs = dict(frame.attrs)
    return found


def claim(out: Path, frames: dict[str, pd.DataFrame], options: Options, model: ch.CellHermes) -> None:
    """Note what the folder is of, or refuse it if it is of something else."""
    card = asdict(model.card)
    about = {
        "options": asdict(options),
        "model": {key: card[key] for key in ("name", "base", "revision", "adapters", "sha256")},
        "dtype": model.dtype,
        "questions": {name: hashlib.sha256(f.to_csv(index=False).encode()).hexdigest() for name, f in frames.items()},
    }
    about = json.loads(json.dumps(about, default=dict))
    note = out / "run.json"
    if not note.is_file():
        note.write_text(json.dumps(about, indent=1))
        return
    found = json.loads(note.read_text("utf-8"))
    if other := [key for key in about if found.get(key) != about[key]]:
        msg = f"{out} holds a run with other {' and '.join(other)}; pass another --out, or delete it to start again."
        raise SystemExit(msg)


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Options()
    parser.add_argument("data", type=Path, help="folder with the extracts")
    parser.add_argument("--out", type=Path, default=Path("build/biounibench"))
    parser.add_argument("--model", default=default.model, help="name, folder or hub id")
    parser.add_argument("--base", help="untuned language model to ask too; default: that of the model")
    parser.add_argument("--steps", type=int, default=default.steps, help="of an adapter; 0: the epochs of the presets")
    parser.add_argument("--stand-in-steps", type=int, default=default.stand_in_steps)
    parser.add_argument("--method", choices=["lora", "full"], help="of tuning; default full for mini, else lora")
    parser.add_argument("--rate", type=float, help="learning rate; default 1e-3 for mini, else that of the presets")
    for part in ("train", "valid", "test"):
        size = getattr(default, f"max_{part}")
        parser.add_argument(f"--max-{part}", type=int, default=size, help="questions of a setting; 0: all")
    parser.add_argument("--max-answers", type=int, default=default.max_answers, help="categories of gene sets; 0: all")
    parser.add_argument("--bootstrap", type=int, default=default.bootstrap)
    parser.add_argument("--calibrate", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--expression", action=argparse.BooleanOptionalAction, default=True, help='rows "w/ GE"')
    parser.add_argument("--tune", action=argparse.BooleanOptionalAction, default=True, help="adapters")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--device", help="cpu, cuda, ...; default what is there")
    parser.add_argument("--only", action="append", help="a setting, such as cell_fitness/unseen_gene; repeat for more")
    parser.add_argument("--real-only", action="store_true", help="no stand-ins")
    given = vars(parser.parse_args(arguments))
    folder, out, device, only, real_only = (given.pop(key) for key in ("data", "out", "device", "only", "real_only"))
    if not folder.is_dir():
        parser.error(f"there is no folder {folder}; expected one with extracts (an empty one gives stand-ins only).")
    given["base"] = BASES.get(given["model"], "") if given["base"] is None else given["base"]
    given["rate"] = given["rate"] or RATES.get(given["model"])
    given["method"] = given["method"] or METHODS.get(given["model"], default.method)
    frames = data.settings(folder, max_answers=given["max_answers"], seed=given["seed"])
    if unknown := sorted(set(only or ()) - set(frames)):
        parser.error(f"unknown settings {unknown}; there are {sorted(frames)}.")
    frames = {
        name: frame
        for name, frame in frames.items()
        if (not only or name in only) and not (real_only and frame.attrs["synthetic"])
    }
    run(frames, out, Options(**given), device)
    print(f"{out / 'README.md'} has the tables.")


if __name__ == "__main__":
    sys.exit(main())

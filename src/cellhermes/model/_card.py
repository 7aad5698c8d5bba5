"""Names of models become cards: what to load, in which order, and how to read it. No tensors here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from .._disk import json_object, packaged, sha256_of
from ..text import Wrap
from ._read_at import ReadAt, check_read_at, read_at_of

ADAPTER = "adapter_config.json"  # what peft writes beside an adapter
NOTE = "cellhermes.json"  # beside weights: how to read them
UNSEEN = "unseen_genes.txt"  # beside a base's weights: symbols that it knows by name only
NOTED = ("wrap", "system", "read_at", "tasks", "base", "revision", "license", "description", "version")
RECORD = "training.json"  # beside weights: how they were trained


@dataclass(frozen=True, slots=True)
class ModelCard:
    """How to load a model and how to read it.

    Parameters
    ----------
    name
        What the user asked for.
    base
        Folder or hub repository of the base model.
    revision
        Commit of the hub repository, ``""`` for a folder.
    package
        Package and GGUF file in it (``"package/file.gguf"``) that hold the same base: read where the package is
        installed, in place of the hub's weights.
    adapters
        Folders of LoRA adapters, merged into the base in this order.
    wrap
        What stands around a prompt: a name of :meth:`cellhermes.text.Wrap.names`, ``"chat"`` (the tokenizer's own chat
        template), or a :class:`~cellhermes.text.Wrap`; ``""`` takes ``"chat"`` where there is a template, else
        ``"plain"``.
    system
        Text of a system turn for ``"chat"``; None gives none, where some templates write one of their own.
    read_at
        Which token is the vector: the last of the wrapped prompt (``"prompt_end"``, the released weights), the last of
        the entity's own name (``"entity_end"``, the paper's Methods), or the ``"mean"`` over the entity's tokens. One
        value, or one per kind of prompt with ``"default"``.
    tasks
        Names of the tasks that it was tuned on. Others are asked zero-shot (see :func:`cellhermes.tl.answer`).
    dtype
        Of the weights on an accelerator; a CPU always computes in float32.
    license
        Of the weights.
    description
        One line.
    sha256
        File name to hash, for what ships with the package.

    Examples
    --------
    >>> import cellhermes as ch
    >>> ch.CellHermes.from_pretrained("mini").card.wrap
    'llama3-chat-blank'
    """

    name: str
    base: str
    revision: str = ""
    package: str = ""
    adapters: tuple[str, ...] = ()
    wrap: str | Wrap = ""
    system: str | None = None
    read_at: ReadAt | Mapping[str, ReadAt] = "prompt_end"
    tasks: tuple[str, ...] = ()
    dtype: str = "bfloat16"
    license: str = "see the model's own card"
    description: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_read_at(self.read_at)

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Make the card of a model, without loading it.

        Parameters
        ----------
        name
            A name of :func:`cellhermes.cache.list`, a folder or a GGUF file, or a hub id, in this order.

        Returns
        -------
        How to load and how to read it.

        Raises
        ------
        ValueError
            If there is no such model.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.model.ModelCard.load("mini").license
        'CC-BY-4.0'
        """
        return resolve(name)

    def text(self) -> str:
        """Tell what is known of the model, as Markdown: training data, recipe, measured results and limits.

        Returns
        -------
        The ``README.md`` beside the weights of a bundled model or in a folder; else what its card says.

        Raises
        ------
        FileNotFoundError
            If a folder has no card.

        Examples
        --------
        >>> import cellhermes as ch
        >>> ch.model.ModelCard.load("mini").text().splitlines()[0]
        '# mini'
        """
        is_folder = self.name not in named() and Path(self.name).is_dir()
        if not is_folder and not self.base.startswith("bundled:"):
            lines = [f"# {self.name}", "", self.description, "", f"- base: {self.base}"]
            lines += [f"- commit: {self.revision or 'any'}", *(f"- adapter: {adapter}" for adapter in self.adapters)]
            return "\n".join([*lines, f"- licence: {self.license}", ""])
        path = (Path(self.name) if is_folder else bundled_folder(self)) / "README.md"
        if not path.is_file():
            msg = f"{path.parent} has no README.md, which would be its card."
            raise FileNotFoundError(msg)
        return path.read_text("utf-8")

    def read(self, kind: str) -> ReadAt:
        """Tell which token to read for a kind of prompt (the name of its template)."""
        return read_at_of(kind, self.read_at)


@cache
def named() -> dict[str, ModelCard]:
    """Read the cards of ``models.toml``, by name."""
    table = packaged("model/models.toml")
    return {
        name: ModelCard(name=name, **{key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()})
        for name, entry in table.items()
    }


def resolve(name: str | Path) -> ModelCard:
    """Make the card of a name of ``models.toml``, a folder (model or adapter) or a hub id, in this order."""
    if str(name) in named():
        return named()[str(name)]
    if Path(name).exists():
        return _of_path(Path(name), above=())
    if isinstance(name, str) and name.count("/") == 1 and not is_place(name):
        return _of_hub(name)
    msg = (
        f"No model {str(name)!r}. Known names: {', '.join(named())}. Otherwise pass a folder that exists, with a "
        "config.json or an adapter_config.json, a GGUF file, or a hub id such as 'Qwen/Qwen2.5-0.5B'."
    )
    raise ValueError(msg)


def _of_hub(name: str) -> ModelCard:
    """Take a hub repository, at the revision and with the reading of ``models.toml`` where it stands there."""
    for card in named().values():
        if name == (card.adapters[-1] if card.adapters else card.base):  # the repository on top of the chain
            return replace(card, name=name)
    return ModelCard(name=name, base=name)


def _of_path(path: Path, above: tuple[Path, ...]) -> ModelCard:
    if path.is_dir():
        return _of_folder(path, above)
    if not is_gguf(path):
        msg = f"{path} is a file, and no GGUF file; expected the folder of a model, or a GGUF file."
        raise ValueError(msg)
    return ModelCard(name=str(path), base=str(path))


def _of_folder(folder: Path, above: tuple[Path, ...]) -> ModelCard:
    """Take the folder of a model, or of an adapter, whose bases are followed down to a model."""
    if (folder / ADAPTER).is_file():
        if folder.resolve() in above:
            msg = f"Adapter {str(folder)!r} is its own base, by way of {above[-1] / ADAPTER}."
            raise ValueError(msg)
        return with_adapter(_base_of(folder, (*above, folder.resolve())), folder)
    if not (folder / "config.json").is_file():
        there = sorted(path.name for path in folder.iterdir())[:8]
        msg = f"{folder} holds neither config.json nor adapter_config.json; found {there}."
        raise ValueError(msg)
    return ModelCard(name=str(folder), base=str(folder), **_reading(folder))


def trained_on(folder: Path) -> str:
    """Name an adapter's base as :func:`reference` does; word for word, if that is not there."""
    named_base = _named_base(folder)
    try:
        return reference(_base_of(folder, (folder.resolve(),)))
    except ValueError:
        return named_base


def _base_of(folder: Path, above: tuple[Path, ...]) -> ModelCard:
    """Find the model that an adapter was trained on."""
    base = _named_base(folder)
    if base in named():
        return named()[base]
    for place in (folder / base, Path(base)):  # an absolute path is its own in both
        if place.exists():
            return _of_path(place, above)
    if base.count("/") > 1 or is_place(base):
        msg = (
            f"{folder / ADAPTER} names the base model {base!r}, a folder that is not there. Put it back, or write "
            "where it is now (or its name, or its hub id) as base_model_name_or_path."
        )
        raise ValueError(msg)
    return _of_hub(base)


def is_gguf(path: Path) -> bool:
    """Tell whether a path is a GGUF file, whatever it is called: Ollama's have no ending."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def is_place(name: str) -> bool:
    """Tell whether a name is written as a folder (of Windows, too), and so is no hub id."""
    return name.startswith((".", "/", "~")) or "\\" in name or ":" in name


def _named_base(folder: Path) -> str:
    base = read_json(folder / ADAPTER).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        msg = f"{folder / ADAPTER} names no base model (base_model_name_or_path)."
        raise ValueError(msg)
    return base


def with_adapter(card: ModelCard, folder: Path) -> ModelCard:
    """Put an adapter on top of a model; its note, where it has one, says how the two together are read."""
    # peft records the commit of a hub base; adapters further up stand on the sum
    commit = "" if card.adapters else str(read_json(folder / ADAPTER).get("revision") or "")
    unknown = f"{card.license}; adapter {folder.resolve().name}: see its own card"
    about = {"license": unknown, "description": "", "revision": commit or card.revision, **_reading(folder)}
    if "wrap" in about:  # the base's system turn stood in the base's wrap
        about = {"system": None} | about
    about["tasks"] = tuple(dict.fromkeys([*card.tasks, *about["tasks"]]))
    return replace(card, name=str(folder), adapters=(*card.adapters, str(folder)), **about)


def with_wrap(card: ModelCard, wrap: str | Wrap | None, system: str | None) -> ModelCard:
    """Read a model in another wrap, or with another system turn, where they are given."""
    if wrap is not None:
        card = replace(card, wrap=wrap, system=None)
    return card if system is None else replace(card, system=system)


def _reading(folder: Path) -> dict[str, object]:
    """Read the fields of a card that a folder's note gives, and the tasks that it or the record of a training names."""
    note = _note(folder)
    fields = {key: note[key] for key in ("wrap", "system", "read_at", "license", "description") if key in note}
    if isinstance(fields.get("wrap"), dict):
        fields["wrap"] = Wrap.of(fields["wrap"])
    tasks = trained_tasks(read_json(folder / RECORD)) if (folder / RECORD).is_file() else []
    return {**fields, "tasks": tuple(dict.fromkeys([*note.get("tasks", []), *tasks]))}


def trained_tasks(facts: Mapping[str, object]) -> list[str]:
    """List the tasks of the pairs that the record of a training tells of."""

    def named(value: object) -> Iterator[str]:
        if isinstance(value, Mapping):
            yield from (task for task in [value.get("task")] if isinstance(task, str))
            yield from value["tasks"] if isinstance(value.get("tasks"), Mapping) else ()
            yield from (task for part in value.values() for task in named(part))

    run, data = facts.get("run"), facts.get("data")
    parts = [run.get("pairs")] if isinstance(run, Mapping) else []
    parts += [data.get("train")] if isinstance(data, Mapping) else []
    return [task for task in dict.fromkeys(task for part in parts for task in named(part)) if task]


def reference(card: ModelCard) -> str:
    """Write what adapters trained on this model name as their base: a name, a hub id or an absolute path."""
    entry = named().get(card.name)
    if entry is not None:
        return card.name if entry.adapters or entry.base.startswith("bundled:") else entry.base
    return str(Path(card.name).resolve()) if Path(card.name).exists() else card.base


def _note(folder: Path) -> dict[str, Any]:
    """Read ``cellhermes.json`` of a folder, checked; nothing where there is none."""
    path = folder / NOTE
    if not path.is_file():
        return {}
    note = read_json(path)
    if unknown := sorted(set(note) - set(NOTED)):
        msg = f"{path} has unknown keys {unknown}; this version knows {list(NOTED)}. A newer cellhermes may read it."
        raise ValueError(msg)
    for key, value in note.items():
        is_list = key == "tasks"
        parts = (
            value.values() if key in ("read_at", "wrap") and isinstance(value, dict) else value if is_list else [value]
        )
        if isinstance(value, list) != is_list or not all(isinstance(part, str) for part in parts):
            msg = f"{path}: {key} is {value!r}; expected {'a list of texts' if is_list else 'text'}."
            raise ValueError(msg)
    _check_wrap(note.get("wrap", ""), f"{path}: ")
    check_read_at(note.get("read_at", "prompt_end"), f"{path}: ")
    return note


def _check_wrap(wrap: str | dict[str, str], where: str) -> None:
    if isinstance(wrap, dict):
        try:
            Wrap.of(wrap)
        except ValueError as error:
            msg = f"{where}{error}"
            raise ValueError(msg) from error
    elif wrap not in {"", "chat", *Wrap.names()}:
        msg = (
            f"{where}wrap is {wrap!r}; expected one of {['chat', *sorted(Wrap.names())]}, '' for the tokenizer's own, "
            "or a wrap of your own: an object with head, tail, lead and end."
        )
        raise ValueError(msg)


def read_json(path: Path) -> dict[str, object]:
    """Read the object in a JSON file."""
    try:
        return json_object(path.read_bytes(), path)
    except ValueError as error:
        msg = f"{error}. Fetch or write it again."
        raise ValueError(msg) from error


def location(card: ModelCard) -> str:
    """Find folder or hub id of the base, with the files of a bundled model checked against their hashes."""
    if not card.base.startswith("bundled:"):
        return card.base
    check_files(bundled_folder(card), card.sha256)
    return str(bundled_folder(card))


def bundled_folder(card: ModelCard) -> Path:
    return Path(str(files(__package__) / card.base.removeprefix("bundled:")))


def unseen_genes(card: ModelCard) -> frozenset[str]:
    """List the symbols that a base calls absent from all it was trained on; none where it has no such list."""
    path = Path(location(card)) / UNSEEN
    return frozenset(path.read_text("utf-8").split()) if path.is_file() else frozenset()


def check_files(folder: Path, sha256: Mapping[str, str]) -> None:
    """Compare files with their hashes."""
    for file, expected in sha256.items():
        path = folder / file
        actual = sha256_of(path) if path.is_file() else "no file"
        if actual != expected:
            msg = f"{path} is damaged: expected sha256 {expected}, found {actual}. Install the package again."
            raise ValueError(msg)

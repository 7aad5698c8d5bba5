"""The wordings of the corpus: complete, different from each other, and clear about the answer."""

import re
from difflib import SequenceMatcher
from itertools import combinations

import pytest

import cellhermes as ch
from cellhermes.text import Template
from cellhermes.text._template import entries, kinds

TASKS = {"masked_genes": 2, "next_genes": 2, "masked_node": 5, "masked_link": 10}
CORPUS = [name for name in ch.text.Template.names() if name.split("/")[0] in TASKS]
FIRST = {task: "rna" if task.endswith("genes") else "interaction" for task in TASKS}


def descriptions(task: str) -> list[str]:
    return [text.split("\n")[0] for text in next(iter(kinds(task, FIRST[task]).values())).variants]


@pytest.mark.parametrize(("task", "n"), TASKS.items())
def test_objectives_have_their_kinds_and_twenty_descriptions_each(task, n):
    found = kinds(task, FIRST[task])
    assert len(found) == n
    assert {len(template.variants) for template in found.values()} == {20}
    assert len({text.split("\n", 1)[1] for template in found.values() for text in template.variants}) == n
    shared = {tuple(text.split("\n")[0] for text in template.variants) for template in found.values()}
    assert len(shared) == 1


@pytest.mark.parametrize("task", TASKS)
def test_no_two_descriptions_are_alike(task):
    for a, b in combinations(descriptions(task), 2):
        assert a.split()[:3] != b.split()[:3]
        assert SequenceMatcher(None, a.split(), b.split(), autojunk=False).ratio() < 0.6, (a, b)


@pytest.mark.parametrize(
    ("task", "pattern"),
    [
        ("masked_genes", r"\[MASK\].*(separated by|between|in between|separators|separate them)"),
        ("next_genes", r"\{n\}.*(separated by|between|separators|separating them)"),
        ("masked_node", r"symbol"),
        ("masked_link", r"\bYes\b.*\bNo\b"),
    ],
)
def test_every_description_fixes_the_format_of_the_answer(task, pattern):
    assert [text for text in entries()[task]["descriptions"] if not re.search(pattern, text)] == []


@pytest.mark.parametrize("task", ["masked_genes", "next_genes"])
def test_answers_in_order_are_asked_for_in_order(task):
    ordered = r"\border\b|from left to right|one after another|higher to lower"
    assert [text for text in descriptions(task) if not re.search(ordered, text)] == []


@pytest.mark.parametrize("name", CORPUS)
def test_every_wording_is_a_line_and_a_block_with_clean_text(name):
    template = ch.text.Template.load(name)
    slots = {slot: "2" if slot == "n" else f"<{slot}>" for slot in template.slots}
    for variant in range(20):
        prompt = template.fill(variant=variant, **slots)
        description, block = prompt.text.split("\n", 1)
        assert re.fullmatch(r"[A-Z0-9].*[.?]", description)
        assert not re.search(r"  | \n|\n\n|[{}]|\ba [aeiou]", prompt.text.replace("a unit", ""))
        assert all(value in prompt.text for value in slots.values())
        assert block.split("\n")[0].count(": ") == 1
        assert (prompt.kind, prompt.variant, prompt.version) == (name, variant, template.version)


@pytest.mark.parametrize("name", CORPUS)
def test_answer_is_one_slot(name):
    assert re.fullmatch(r"\{\w+\}", ch.text.Template.load(name).answer)


def test_blocks_show_the_rings_of_their_name():
    for name, template in (kinds("masked_node", "interaction") | kinds("masked_link", "interaction")).items():
        rings = {slot for slot in template.slots if "hop" in slot}
        numbers = set(re.findall(r"[123]", name))
        assert {slot[-1] for slot in rings} == numbers
        ends = {slot[:2] for slot in rings} & {"a_", "b_"}
        assert ends == ({"a_", "b_"} if name.startswith("both") else {"a_"} if name.startswith("a_") else set())


def test_words_of_modalities_and_relations_replace_those_of_the_first():
    text = kinds("masked_genes", "protein")["plain"].fill(genes="CD3 CD19", variant=0).text
    assert "protein" in text
    assert "gene" not in text
    text = kinds("masked_link", "regulation")["none"].fill(gene_a="A", gene_b="B").text
    assert "regulatory" in text
    assert "interact" not in text
    with pytest.raises(KeyError, match="Known: rna, protein"):
        kinds("masked_genes", "proteins")


def test_the_version_of_a_template_is_in_its_prompts():
    assert Template("t", 7, ("One {x}", "Two {x}")).fill(x="a", variant=1).version == 7

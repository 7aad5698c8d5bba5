"""The released question files."""

import json
from pathlib import Path

import pytest

import cellhermes as ch

RECORDS = [
    {"instruction": "Do they interact?", "input": "BRCA1 PARP1", "output": "Yes"},
    {"instruction": "Is TP53 a gene?\n", "input": "", "output": " Yes "},
    {"instruction": "Is it?", "output": "No", "history": []},
]


@pytest.mark.parametrize("layout", ["list", "lines"])
def test_lists_and_lines_are_read_alike_and_as_pairs_are(tmp_path: Path, layout: str) -> None:
    path = tmp_path / ("GI_synthetic_test.json" if layout == "list" else "GI.jsonl")
    path.write_text(json.dumps(RECORDS) if layout == "list" else "\n".join(map(json.dumps, RECORDS)))
    found = ch.io.read_table(path)
    assert found["question"].tolist() == ["Do they interact?\nBRCA1 PARP1", "Is TP53 a gene?", "Is it?"]
    assert found["answer"].tolist() == ["Yes", "Yes", "No"]
    assert found["question"].tolist() == [pair.prompt.text for pair in ch.train.corpus.Pairs.read(path)]
    task = ch.text.Task.load("question").with_answers(["Yes", "No"])
    assert [prompt.text for prompt in task.prompts(found)] == found["question"].tolist()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"instruction": "x"}]', "record 1: expected instruction, input and output"),
        ('[{"instruction": "x", "output": "Yes"}, 3]', "record 2"),
        ('[{"instruction": "x", "output": ["Yes"]}]', "record 1"),
        ('[{"instruction": "x"', "is not JSON"),
        ("[]", "has no record"),
    ],
)
def test_wrong_files_say_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "questions.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        ch.io.read_table(path)

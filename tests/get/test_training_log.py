"""The log of a training run, also while it is being written."""

import pytest

import cellhermes as ch

TRAIN = (
    '{"step": 1, "epoch": 0.5, "tokens": 512, "seconds": 1.5, "loss": 2.5, "learning_rate": 5e-05, "grad_norm": 1.0}'
)
HELD = '{"step": 1, "epoch": 0.5, "tokens": 512, "seconds": 2.0, "eval_loss": 2.0, "eval_loss/masked_node": 2.0}'


def test_lines_become_rows_and_missing_values_nan(tmp_path):
    (tmp_path / "log.jsonl").write_text(f"{TRAIN}\n{HELD}\n", "utf-8")
    log = ch.get.training_log(tmp_path)
    assert list(log)[:4] == ["step", "epoch", "tokens", "seconds"]
    assert log["step"].tolist() == [1, 1]
    assert log["loss"].notna().tolist() == [True, False]
    assert log["eval_loss/masked_node"].tolist()[1] == 2.0


@pytest.mark.parametrize("end", ['{"step": 2, "epo', "7", '{"step"'])
def test_a_last_line_that_is_half_written_is_left_out(tmp_path, end):
    (tmp_path / "log.jsonl").write_text(f"{TRAIN}\n{end}", "utf-8")
    assert ch.get.training_log(tmp_path / "log.jsonl")["step"].tolist() == [1]


def test_a_run_that_has_just_begun_gives_an_empty_table_with_columns(tmp_path):
    (tmp_path / "log.jsonl").write_text("", "utf-8")
    assert ch.get.training_log(tmp_path).columns.tolist() == ["step", "epoch", "tokens", "seconds"]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "log.jsonl").write_text(f"{TRAIN}\nnonsense\n{HELD}\n", "utf-8")
    with pytest.raises(ValueError, match="line 2 is not a record of a run.*'nonsense'"):
        ch.get.training_log(tmp_path)


def test_no_log_says_what_was_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="no log of a training run at .*log.jsonl; expected the folder"):
        ch.get.training_log(tmp_path)

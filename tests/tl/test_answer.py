"""Questions of a frame: against the model's own verbs, row by row; abstaining, parsing, going on."""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

import cellhermes as ch
from cellhermes.tl import _ask

GENES = ["CD4", "CD40", "CD40LG", "B2M", "LYZ", "IL7R"]
TASK = "genetic_interaction_synthetic"


@pytest.fixture
def pairs():
    rows = [(a, b) for a in GENES for b in GENES if a < b]
    return pd.DataFrame(rows, columns=["gene_a", "gene_b"], index=[f"pair {i}" for i in range(len(rows))])


def columns(frame, start):
    return frame[[name for name in frame if name.startswith(start)]]


def test_scores_are_those_of_the_model_for_the_prompts_of_the_task(tiny, pairs):
    found = ch.tl.answer(pairs, tiny, TASK)
    expected = np.concatenate([tiny.score([p], ["Yes", "No"]) for p in ch.text.Task.load(TASK).prompts(pairs)])
    assert found.index.equals(pairs.index)
    assert list(columns(found, "log_probability:")) == ["log_probability:Yes", "log_probability:No"]
    np.testing.assert_allclose(columns(found, "log_probability:"), expected, rtol=1e-5)
    np.testing.assert_allclose(columns(found, "probability:"), softmax(expected, 1), rtol=1e-4)
    np.testing.assert_allclose(found["confidence"], softmax(expected, 1).max(1), rtol=1e-4)
    assert found["answer"].tolist() == np.array(["Yes", "No"])[expected.argmax(1)].tolist()
    assert set(found["status"]) == {"answered"}


def test_the_frame_is_left_as_it_was(tiny, pairs):
    before = pairs.copy()
    ch.tl.answer(pairs, tiny, TASK)
    pd.testing.assert_frame_equal(pairs, before)


def test_answers_may_be_the_callers_own_and_lengths_be_divided_out(tiny, pairs):
    answers = ["Yes", "No", "I do not know"]
    found = ch.tl.answer(pairs, tiny, ch.text.Question(TASK, answers=answers, normalize="mean"))
    prompts = ch.text.Task.load(TASK).prompts(pairs)
    lengths = [len(tiny._encoder.answer(answer)) for answer in answers]
    np.testing.assert_allclose(columns(found, "log_probability:"), tiny.score(prompts, answers) / lengths, rtol=1e-5)


def test_calibration_divides_log_probabilities_and_keeps_the_order(tiny, pairs):
    plain, cooled = (ch.tl.answer(pairs, tiny, ch.text.Question(TASK, calibration=t)) for t in (1.0, 4.0))
    pd.testing.assert_frame_equal(columns(cooled, "log_probability:"), columns(plain, "log_probability:"))
    np.testing.assert_allclose(
        columns(cooled, "probability:"), softmax(columns(plain, "log_probability:").to_numpy() / 4, 1)
    )
    assert cooled["answer"].equals(plain["answer"])
    assert (cooled["confidence"] <= plain["confidence"]).all()


def test_a_prior_is_what_answers_get_behind_a_question_that_says_nothing(tiny, pairs):
    plain, less = (
        ch.tl.answer(pairs, tiny, ch.text.Question(TASK, prior=prior, calibration=2.0)) for prior in ("", "N/A")
    )
    nothing = ch.text.Task.load(TASK).prompts({"gene_a": ["N/A"], "gene_b": ["N/A"]})
    scores = [tiny.score(prompts, ["Yes", "No"]) for prompts in (ch.text.Task.load(TASK).prompts(pairs), nothing)]
    expected = softmax((scores[0] - scores[1]) / 2, axis=1)
    np.testing.assert_allclose(columns(less, "probability:"), expected, rtol=1e-4)
    assert less["answer"].tolist() == np.array(["Yes", "No"])[expected.argmax(1)].tolist()
    pd.testing.assert_frame_equal(columns(less, "log_probability:"), columns(plain, "log_probability:"))


@pytest.mark.parametrize("normalize", ["sum", "mean"])
def test_with_a_prior_a_question_that_says_nothing_gets_all_answers_alike(tiny, normalize):
    answers = ["A", "an answer of many tokens", "B"]
    nothing = pd.DataFrame({"cell_line": ["N/A"], "gene": ["N/A"], "cell_sentence": ["N/A"]})
    for expression in (False, True):
        options = {"answers": answers, "normalize": normalize, "expression": expression, "variant": 3}
        found = ch.tl.answer(nothing, tiny, ch.text.Question("cell_fitness", prior="N/A", **options))
        np.testing.assert_allclose(columns(found, "probability:"), 1 / 3, rtol=1e-4)


def test_unsure_rows_have_no_answer_but_keep_their_probabilities(tiny, pairs):
    sure = ch.tl.answer(pairs, tiny, TASK)
    limit = float(sure["confidence"].median())
    found = ch.tl.answer(pairs, tiny, ch.text.Question(TASK, abstain_below=limit))
    is_unsure = sure["confidence"] < limit
    assert 0 < is_unsure.sum() < len(pairs)
    assert found["answer"].isna().equals(is_unsure)
    assert found["status"].equals(
        pd.Series(np.where(is_unsure, "abstained", "answered"), index=pairs.index, name="status")
    )
    assert found["confidence"].equals(sure["confidence"])


def test_generated_text_is_parsed_or_counted(tiny, pairs, monkeypatch, caplog):
    texts = ["Yes", "no.", "Yes or No", "blue", *["No"] * (len(pairs) - 4)]
    monkeypatch.setattr(type(tiny), "generate", lambda self, prompts, **_: [texts.pop(0) for _ in prompts])
    with caplog.at_level("INFO", logger="cellhermes"):
        found = ch.tl.answer(pairs, tiny, ch.text.Question(TASK, decode="generate"))
    assert found["answer"].tolist()[:4] == ["Yes", "No", None, None]
    assert found["status"].tolist()[:4] == ["answered", "answered", "unparsed", "unparsed"]
    assert found["text"].tolist()[2] == "Yes or No"
    assert "15 questions: 13 answered, 2 unparsed" in caplog.text


def test_open_questions_are_generated(tiny):
    found = ch.tl.answer(
        pd.DataFrame({"question": ["Is CD4 a gene?"]}), tiny, ch.text.Question("question", max_new_tokens=3)
    )
    prompt = ch.text.Task.load("question").prompts({"question": ["Is CD4 a gene?"]})
    assert found["text"].tolist() == tiny.generate(prompt, max_new_tokens=3)


def test_blocks_and_batches_do_not_change_answers(tiny, pairs, monkeypatch):
    whole = ch.tl.answer(pairs, tiny, TASK)
    monkeypatch.setattr(_ask, "BLOCK", 4)
    pd.testing.assert_frame_equal(ch.tl.answer(pairs, tiny, TASK, batch_size=2), whole, rtol=1e-4)


@pytest.mark.parametrize("decode", ["score", "generate"])
def test_an_interrupted_call_goes_on(tiny, pairs, monkeypatch, tmp_path, decode):
    question, parts = ch.text.Question(TASK, decode=decode, max_new_tokens=3), tmp_path / "parts"
    monkeypatch.setattr(_ask, "BLOCK", 4)
    whole = ch.tl.answer(pairs, tiny, question)
    calls, compute = [], _ask._compute

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(*args)

    monkeypatch.setattr(_ask, "_compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ch.tl.answer(pairs, tiny, question, checkpoint=parts)
    assert len(list(parts.glob("*.npy"))) == 2
    pd.testing.assert_frame_equal(ch.tl.answer(pairs, tiny, question, checkpoint=parts), whole)
    assert len(calls) == 3 + 2


def test_a_checkpoint_of_other_questions_is_refused_and_one_may_be_calibrated(tiny, pairs, tmp_path):
    ch.tl.answer(pairs, tiny, TASK, checkpoint=tmp_path)
    ch.tl.answer(
        pairs, tiny, ch.text.Question(TASK, prior="N/A", calibration=2.0, abstain_below=0.6), checkpoint=tmp_path
    )
    with pytest.raises(ValueError, match="sha256_of_texts differ"):
        ch.tl.answer(pairs[::-1], tiny, TASK, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"answers, .*task_sha256 differ"):
        ch.tl.answer(pairs, tiny, ch.text.Question(TASK, answers=["Yes", "No", "Maybe"]), checkpoint=tmp_path)


def test_no_rows_give_an_empty_frame_with_all_columns(tiny, pairs):
    found = ch.tl.answer(pairs[:0], tiny, TASK)
    assert list(found) == list(ch.tl.answer(pairs[:1], tiny, TASK))
    assert len(found) == 0
    assert list(ch.tl.answer(pairs[:0], tiny, ch.text.Question(TASK, decode="generate"))) == [
        "answer",
        "status",
        "text",
    ]


def test_a_question_that_is_too_long_is_named_before_anything_is_computed(tiny, pairs, monkeypatch):
    monkeypatch.setattr(_ask, "BLOCK", 4)
    monkeypatch.setattr(_ask, "_compute", lambda *_: pytest.fail("computed"))
    pairs.loc["pair 13", "gene_b"] = "XYZ" * 200
    for decode in ("score", "generate"):
        with pytest.raises(ch.model.PromptLengthError) as error:
            ch.tl.answer(pairs, tiny, ch.text.Question(TASK, decode=decode))
        assert error.value.__notes__ == ["It is the question of row 'pair 13'."]


def test_an_empty_field_is_named_by_its_row_in_the_frame(tiny, pairs, monkeypatch):
    monkeypatch.setattr(_ask, "BLOCK", 4)
    pairs.loc["pair 9", "gene_a"] = None
    with pytest.raises(ValueError, match=r"'gene_a' has no value in 1 of 15 rows \(counted from 0: 9\)"):
        ch.tl.answer(pairs, tiny, TASK)


@pytest.mark.parametrize(
    ("task", "options", "error", "message"),
    [
        ("genetics", {}, KeyError, "No task 'genetics'. Known: "),
        ("cell_fitness", {}, KeyError, "needs the column 'cell_line'"),
        (TASK, {"answers": ["Yes"]}, ValueError, "expected at least two"),
        (TASK, {"decode": "guess"}, ValueError, "decode='guess' is not known"),
        (TASK, {"normalize": "max"}, ValueError, "normalize='max' is not known"),
        (TASK, {"prior": " "}, ValueError, "prior=' ', decode='score'; expected a text such as 'N/A'"),
        (TASK, {"prior": "N/A", "decode": "generate"}, ValueError, "prior='N/A', decode='generate'; expected a text"),
        (TASK, {"calibration": 0.0}, ValueError, "calibration=0.0; expected a temperature above 0"),
        (TASK, {"max_new_tokens": 0}, ValueError, "max_new_tokens=0; expected at least 1"),
        (TASK, {"abstain_below": 2.0}, ValueError, "abstain_below=2.0, decode='score'; expected 0 to 1"),
        (TASK, {"abstain_below": 0.5, "decode": "generate"}, ValueError, "expected 0 to 1, and decode='score'"),
        (TASK, {"expression": True}, ValueError, "no place for the genes of a cell"),
        (TASK, {"variant": 99}, ValueError, "variant=99"),
        ("gene_set_disease", {"decode": "score"}, ValueError, "has no answers to score. Pass answers="),
    ],
)
def test_bad_calls_are_explained_before_a_model_is_loaded(pairs, task, options, error, message):
    with pytest.raises(error, match=message):
        ch.tl.answer(pairs.assign(genes="CD4 LYZ"), "no such model", ch.text.Question(task, **options))


def test_an_anndata_is_sent_to_predict(adata):
    with pytest.raises(TypeError, match="frame is a AnnData; expected a DataFrame .*ch.tl.predict"):
        ch.tl.answer(adata, "mini", TASK)


# ---- models that were not tuned on the task


@pytest.fixture
def untuned(tiny, monkeypatch):
    monkeypatch.setattr(tiny, "card", dataclasses.replace(tiny.card, tasks=("cell_type",)))
    return tiny


def test_a_model_that_was_not_tuned_on_the_task_is_asked_zero_shot(untuned, pairs):
    answers = ["Yes", "No", "I do not know"]
    with pytest.warns(UserWarning, match=f"not tuned on the task '{TASK}'.*name: cell_type.*zero-shot.*ch.metrics"):
        found = ch.tl.answer(pairs, untuned, ch.text.Question(TASK, answers=answers))
    task = ch.text.Task.load(TASK).with_answers(answers)
    lengths = [len(untuned._encoder.answer(answer)) for answer in answers]
    scores, nothing = (
        untuned.score(task.prompts(rows), answers) / lengths for rows in (pairs, {"gene_a": ["N/A"], "gene_b": ["N/A"]})
    )
    np.testing.assert_allclose(columns(found, "log_probability:"), scores, rtol=1e-5)
    np.testing.assert_allclose(columns(found, "probability:"), softmax(scores - nothing, axis=1), rtol=1e-4)


def test_what_is_given_beats_what_a_model_was_tuned_on(untuned, pairs):
    asked = ch.tl.answer(pairs, untuned, ch.text.Question(TASK, normalize="sum", prior=""))
    expected = softmax(untuned.score(ch.text.Task.load(TASK).prompts(pairs), ["Yes", "No"]), axis=1)
    np.testing.assert_allclose(columns(asked, "probability:"), expected, rtol=1e-4)


def test_a_tuned_model_is_not_warned_of(tiny, pairs, monkeypatch):
    monkeypatch.setattr(type(tiny), "score", lambda self, prompts, *_, **__: np.tile([[0.0, -9.0]], (len(prompts), 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (ch.tl.answer(pairs, tiny, TASK)["answer"] == "Yes").all()


@pytest.mark.parametrize(
    ("n_yes", "n", "n_answers", "told"),
    [
        (20, 20, 2, "'Yes' is the answer to 20 of them; never an answer: 'No'"),
        (19, 20, 2, "'Yes' is the answer to 19 of them."),
        (18, 20, 2, None),  # exactly 90%
        (10, 10, 2, "'Yes' is the answer to 10 of them."),  # too few rows to say that an answer never occurs
        (9, 9, 2, None),
        (20, 30, 3, "zero-shot, and never an answer: 'Maybe'"),
        (20, 29, 3, None),
    ],
)
def test_answers_that_hardly_depend_on_the_questions_are_told(untuned, monkeypatch, n_yes, n, n_answers, told):
    answers = ["Yes", "No", "Maybe"][:n_answers]

    def score(self, prompts, *_, **__):
        found = np.full((len(prompts), n_answers), -9.0)
        found[:n_yes, 0] = found[n_yes:, 1] = 0.0
        return found

    monkeypatch.setattr(type(untuned), "score", score)
    rows = pd.DataFrame({"gene_a": ["CD4"] * n, "gene_b": ["LYZ"] * n})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ch.tl.answer(rows, untuned, ch.text.Question(TASK, answers=answers, prior=""))
    found = [str(one.message) for one in seen if "were answered" in str(one.message)]
    assert len(found) == (told is not None)
    assert told is None or told in found[0]


def test_generated_texts_of_an_untuned_model_are_zero_shot_too(untuned, pairs):
    with pytest.warns(UserWarning, match="not tuned on the task"):
        ch.tl.answer(pairs[:2], untuned, ch.text.Question(TASK, decode="generate", max_new_tokens=2))

"""A tokenizer's chat template becomes fixed text around a prompt.

A template is a program that writes a conversation. It is run on made-up texts, once for each model, and what it writes
around them is the wrap; texts of users never pass through it. One that does anything else with a text is refused.
"""

from typing import TYPE_CHECKING

from jinja2 import TemplateError

from ..text import Wrap

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = "chat"
QUESTION, ANSWER = "Qz7Kx2", "Ym5Tf8"
# What a template might escape, fold or cut, as long as a cell's sentence may be.
OTHER = "Vj3 \"a\" <b> & 'c' {d} [e]\n\nWp9" + " GENE1" * 5_000
# What is read must not depend on the day: templates that ask for it get the one that Llama 3.1 writes without a clock.
TODAY = {"%d": "26", "%b": "Jul", "%B": "July", "%m": "07", "%Y": "2024", "%y": "24"}
DATED = "".join(f".replace({field!r}, {value!r})" for field, value in TODAY.items())
CLOCK = "{% macro strftime_now(form) %}{{ form" + DATED + " }}{% endmacro %}"


def chat_wrap(tokenizer: "PreTrainedTokenizerBase", system: str | None = None) -> Wrap:
    """Find what the template writes around one user turn, with the start of the answer and no tools.

    Parameters
    ----------
    tokenizer
        With a chat template.
    system
        Text of a system turn; None writes none, where some templates write one of their own.
    """
    before = [] if system is None else [{"role": "system", "content": system}]
    turn = _written(tokenizer, [*before, _user(QUESTION)])
    head, _, tail = turn.partition(QUESTION)
    if turn.count(QUESTION) != 1 or _written(tokenizer, [*before, _user(OTHER)]) != head + OTHER + tail:
        raise ValueError(_advice(tokenizer, "changes the text of a question, or writes it more than once"))
    answered = _written(tokenizer, [*before, _user(QUESTION), {"role": "assistant", "content": ANSWER}], is_whole=True)
    until, _, rest = answered.partition(ANSWER)
    if answered.count(ANSWER) != 1:
        raise ValueError(_advice(tokenizer, "changes the text of an answer, or writes it more than once"))
    # a template may write more where an answer is asked for than where one is given, such as an empty thought
    lead = until.removeprefix(turn) if until.startswith(turn) else ""
    return Wrap(CHAT, head, tail, lead, _closing(tokenizer, rest))


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _closing(tokenizer: "PreTrainedTokenizerBase", rest: str) -> str:
    """Take the text behind an answer, up to and with the first special token."""
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    ends = [rest[: rest.index(token) + len(token)] for token in special if token in rest]
    return min(ends, key=len, default="{eos}")


def _written(tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]], *, is_whole: bool = False) -> str:
    try:
        return tokenizer.apply_chat_template(
            messages,
            chat_template=CLOCK + tokenizer.get_chat_template(),
            tokenize=False,
            add_generation_prompt=not is_whole,
            enable_thinking=False,
        )
    except (TemplateError, TypeError, ValueError) as error:
        kinds = " and ".join(message["role"] for message in messages)
        raise ValueError(_advice(tokenizer, f"does not write turns of {kinds} ({error})")) from error


def _advice(tokenizer: "PreTrainedTokenizerBase", what: str) -> str:
    name = tokenizer.name_or_path or "the tokenizer"
    return (
        f"The chat template of {name} {what}, so a prompt cannot be put into it. Pass wrap='plain', or write the turn "
        'yourself as "wrap" (head, tail, lead, end) in cellhermes.json beside the weights.'
    )

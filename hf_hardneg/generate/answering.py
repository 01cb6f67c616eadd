"""Answers of a generator: each is asked for once, and stored as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from hf_hardneg.generate.generators import Answer, Ask, Generator
from hf_hardneg.generate.validation import LONGEST
from hf_hardneg.store.replies import Replies, keep, known


def answers_to(asks: Sequence[Ask], generator: Generator, replies: Replies | None) -> dict[str, Answer]:
    """Return the answer under the key of each ask: from the store where it is there, else from the generator.

    Raises:
        EndpointError: the endpoint does not answer; the replies it gave are stored.
    """
    wanted = {ask.key: ask for ask in asks}
    with replies.opened() if replies else nullcontext() as store_of_replies:
        stored = known(store_of_replies, list(wanted)) if store_of_replies else {}
        answers = {key: Answer(text) for key, text in stored.items()}
        new = [ask for key, ask in wanted.items() if key not in answers]
        for place, answer in generator.generate(new) if new else ():
            answer = Answer(answer.text[: LONGEST + 1], answer.failure)
            if store_of_replies and not answer.failure:
                keep(store_of_replies, new[place].key, answer.text)
            answers[new[place].key] = answer
    return answers

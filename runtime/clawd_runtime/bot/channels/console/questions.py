"""Questions as clients of the console send them."""

from __future__ import annotations

import json
import time
import uuid
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clawd_runtime.bot.text.unicode import whole_characters
from clawd_runtime.bot.values import ConversationKey, Inbound

LONGEST_QUESTION = 32_000
MOST_PROBLEMS = 5
LONGEST_FIELD = 60
DEFAULT_CONVERSATION = "default"


class Question(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[str, Field(min_length=1, max_length=LONGEST_QUESTION)]
    conversation: Annotated[str, Field(max_length=128)] = ""
    id: Annotated[str, Field(max_length=128)] | None = None


def inbound_of(user: str, question: Question, language: str | None = None) -> Inbound:
    """Return a question of a user as a message, with the language tag of the user if it is known."""
    # JSON separates the two unambiguously. Without escapes, they fit into an index.
    pair = [whole_characters(user), whole_characters(question.id or uuid.uuid4().hex)]
    event_id = json.dumps(pair, ensure_ascii=False)
    return Inbound(
        event_id=event_id,
        message_id=event_id,
        conversation=ConversationKey("console", user, question.conversation or DEFAULT_CONVERSATION),
        chat_kind="private",
        user=user,
        text=question.text,
        addressed=True,
        reply_to="",
        received_at=time.time(),
        language=language,
    )


def problems_of(error: ValidationError) -> str:
    """Return the invalid fields; names that the client chose are truncated."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))[:LONGEST_FIELD] or 'body'}: {problem['msg']}"
        for problem in problems[:MOST_PROBLEMS]
    )

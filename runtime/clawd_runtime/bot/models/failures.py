"""The ways in which a model can fail to answer.

ModelFailure
├── ModelUnavailable    a retry may succeed
│   ├── ConnectionLost  the server closed the connection instead of answering
│   ├── AnswerEmpty     the answer has no visible text
│   ├── ModelHung       the model timed out
│   └── AnswerBroken    the answer ended before it was complete
├── ModelRefused        a retry does not help
│   ├── RequestRejected something in this request is not accepted
│   └── ContentFiltered the provider's content filter refused the request
├── ContextTooLong      the prompt must be shorter
└── NoAnswerReached     the model reasoned and gave no answer
"""

from __future__ import annotations

from clawd_runtime.errors import RuntimeFault


class ModelFailure(RuntimeFault):
    """A model did not answer. The message names the model and never contains the question."""


class ModelUnavailable(ModelFailure):
    """The model may answer a retry, after `after` seconds if the server specified a delay."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class ConnectionLost(ModelUnavailable):
    """The server closed the connection: this request may have ended its process."""


class AnswerEmpty(ModelUnavailable):
    """The answer has no visible text."""


class ModelHung(ModelUnavailable):
    """The model sent nothing for too long. `partial` is the answer received until then."""

    def __init__(self, message: str, partial: str = "") -> None:
        super().__init__(message)
        self.partial = partial


class AnswerBroken(ModelUnavailable):
    """The answer ended before it was complete. `partial` is the text received until then."""

    def __init__(self, message: str, partial: str = "") -> None:
        super().__init__(message)
        self.partial = partial


class ModelRefused(ModelFailure):
    """The server refused the request, and a retry does not help (wrong key, unknown model)."""


class RequestRejected(ModelRefused):
    """Something in this request is not accepted; other requests may be."""


class ContentFiltered(ModelRefused):
    """The provider's content filter refused the request or the whole answer."""


class ContextTooLong(ModelFailure):
    """The prompt does not fit the model's context."""


class NoAnswerReached(ModelFailure):
    """The model reasoned until its end or its maximum length, and gave no answer."""

"""How a model can fail to answer.

ModelFailure
├── ModelUnavailable    it may answer when asked again
│   ├── AnswerEmpty     it answered nothing that anybody could see
│   ├── ModelHung       it gave nothing for too long
│   └── AnswerBroken    the answer ended before it was complete
├── ModelRefused        asking again does not help
│   ├── RequestRejected something in this request is not accepted
│   └── ContentFiltered the provider's content filter refused the request
├── ContextTooLong      the prompt must be shorter
└── NoAnswerReached     the model reasoned, and gave no answer
"""

from __future__ import annotations

from clawd_runtime.errors import RuntimeFault


class ModelFailure(RuntimeFault):
    """A model did not answer. The text names the model, never what was asked."""


class ModelUnavailable(ModelFailure):
    """It may answer when asked again, after `after` seconds when the server said so."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class AnswerEmpty(ModelUnavailable):
    """It answered nothing that anybody could see."""


class ModelHung(ModelUnavailable):
    """It gave nothing for too long. `partial` is what it had answered by then."""

    def __init__(self, message: str, partial: str = "") -> None:
        super().__init__(message)
        self.partial = partial


class AnswerBroken(ModelUnavailable):
    """The answer ended before it was complete. `partial` is what there is of it."""

    def __init__(self, message: str, partial: str = "") -> None:
        super().__init__(message)
        self.partial = partial


class ModelRefused(ModelFailure):
    """Asking again does not help (wrong key, unknown model)."""


class RequestRejected(ModelRefused):
    """Something in this request is not accepted; another request may be."""


class ContentFiltered(ModelRefused):
    """The provider's content filter refused the request, or all of the answer."""


class ContextTooLong(ModelFailure):
    """The prompt does not fit the model's context."""


class NoAnswerReached(ModelFailure):
    """The model reasoned until it ended, or had to end, and gave no answer."""

"""The one tree of errors of the runtime.

RuntimeFault                    an error whose message is for the operator or the client
├── SettingsError               a settings file or credential is missing or wrong
├── ModelError                  a model file cannot be read, loaded or used for chat
│   └── ChatTemplateError       its chat template cannot be compiled, or loses words
├── RequestError                a request cannot be served; carries an HTTP status
│   ├── BusyError               the queue is full; carries the seconds until a retry
│   └── NotReadyError           the model is still loading, or the process is stopping
├── EngineError                 the model failed while it was computing an answer
├── ChannelError                a messaging platform refused a call or cannot be reached
└── StoreError                  the database cannot be read or written
    └── StoreRefused            the database refuses the operation; a retry would fail the same way
"""

from __future__ import annotations


class RuntimeFault(Exception):
    """An error with a message for the operator or the client: `what failed: why`.

    `advice` is the hint, what to do next; empty when the message already says it.
    """

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}; hint: {self.advice}" if self.advice else self.message


class SettingsError(RuntimeFault):
    """A settings file or credential is missing, unreadable or wrong. Never contains the value of a secret."""


class ModelError(RuntimeFault):
    """A model file cannot be read, loaded, converted or used for chat."""


class ChatTemplateError(ModelError):
    """A model's chat template cannot be compiled, or not used: it loses words.

    `reason` is the part of the message that says why.
    """

    def __init__(self, reason: str, *, compiles: bool = True, advice: str = "") -> None:
        verb = "use" if compiles else "compile"
        super().__init__(f"cannot {verb} the model's chat template: {reason}", advice=advice)
        self.reason = reason
        self.compiles = compiles


class RequestError(RuntimeFault):
    """A request cannot be served.

    `status` is the HTTP status, `code` and `param` are those of the OpenAI error body
    (`param` names the field of the request), `retry_after` seconds or `None`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(message, advice=advice)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


class BusyError(RequestError):
    """The queue of waiting requests is full."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, status=429, code="queue_full", retry_after=retry_after)


class NotReadyError(RequestError):
    """The model is not loaded yet, or the process is stopping."""

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message, status=503, code="not_ready", retry_after=retry_after)


class EngineError(RuntimeFault):
    """The model failed while it was computing an answer."""


class ChannelError(RuntimeFault):
    """A messaging platform refused a call or cannot be reached."""


class StoreError(RuntimeFault):
    """The database cannot be read or written."""


class StoreRefused(StoreError):
    """The database refuses the operation, and a retry would fail the same way."""

"""The one tree of errors of the runtime.

RuntimeFault                    something the operator or the caller should read
├── SettingsError               a settings file or credential is missing or wrong
├── ModelError                  a model file cannot be read, loaded or used for chat
├── RequestError                what a caller asked for cannot be done; carries an HTTP status
│   ├── BusyError               too many requests at once; says when to come back
│   └── NotReadyError           the model is still loading, or the process is ending
├── EngineError                 the model failed while it was computing an answer
├── ChannelError                a messaging platform refused or cannot be reached
└── StoreError                  the database cannot be read or written
    └── StoreRefused            it would refuse the same again
"""

from __future__ import annotations


class RuntimeFault(Exception):
    """What is wrong, where, why, and what to do about it, in one readable message.

    `advice` is a sentence telling what to do next; empty when the message says it.
    """

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}; {self.advice}" if self.advice else self.message


class SettingsError(RuntimeFault):
    """A settings file or credential is missing, unreadable or wrong. Never carries a secret's value."""


class ModelError(RuntimeFault):
    """A model file cannot be read, loaded, converted or used for chat."""


class RequestError(RuntimeFault):
    """What a caller asked for cannot be done.

    `status` is the HTTP status, `code` and `param` those of the OpenAI error body
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
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


class BusyError(RequestError):
    """More requests are waiting than the queue holds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, status=429, code="queue_full", retry_after=retry_after)


class NotReadyError(RequestError):
    """The model is not loaded yet, or the process is ending."""

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message, status=503, code="not_ready", retry_after=retry_after)


class EngineError(RuntimeFault):
    """The model failed while it was computing an answer."""


class ChannelError(RuntimeFault):
    """A messaging platform refused a call or cannot be reached."""


class StoreError(RuntimeFault):
    """The database cannot be read or written."""


class StoreRefused(StoreError):
    """The database refuses this operation, and would refuse it again."""

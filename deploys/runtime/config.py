"""The files that engine and bot read, as pure functions of the settings."""

from __future__ import annotations

import json
from typing import Any, Literal

from deploys.ops.programs import program
from deploys.runtime.settings import (
    ENGINE_SOCKET,
    ENGINE_STATES,
    EndpointSettings,
    EngineSettings,
    RuntimeSettings,
)

ACCESS = "/etc/clawd/access.json"
POLICY = "/etc/clawd/policy.json"
ROUTES = "/etc/clawd/routes.json"
ASK_ROUTES = program("deploys/runtime/scripts/ask_routes.py")
"""A program for Python on a host, with the port of the bot as its argument."""
DATABASE = "sqlite:////var/lib/clawd-bot/bot.db"


def engine_config(
    engine: EngineSettings, model: str, *, has_gpu: bool = False, socket: str = ENGINE_SOCKET
) -> str:
    """Return `engine.json` for the GGUF file `model` of the host, which `has_gpu` or not."""
    return _json(
        {
            "socket": socket,
            "model": model,
            "model_name": engine.model_name,
            "context_size": engine.context_size,
            "parallel": engine.parallel,
            "threads": engine.threads,
            **({"embeddings": True} if engine.embeddings else {}),
            **_states(engine),
            **({"memory_needed": engine.memory_needed} if engine.memory_needed and not has_gpu else {}),
            **({"n_gpu_layers": layers} if (layers := gpu_layers(engine, has_gpu=has_gpu)) else {}),
        }
    )


def _states(engine: EngineSettings) -> dict[str, Any]:
    states = engine.states
    if states is None:
        return {}
    kept = {"memory": states.memory, "disk": states.disk, "folder": ENGINE_STATES, "days": states.days}
    return {"states": kept}


def gpu_layers(engine: EngineSettings, *, has_gpu: bool) -> int | Literal["all"]:
    """Return how many layers of the model the host's GPUs compute."""
    if engine.gpu is None or not has_gpu:
        return 0
    return "all" if engine.gpu.layers is None else engine.gpu.layers


def bot_config(settings: RuntimeSettings) -> str:
    """Return `bot.json`, which contains no secret: secrets are credentials."""
    return _json(
        {
            "listen": {"host": _everywhere(settings) or "127.0.0.1", "port": settings.port},
            **_internal(settings),
            **_former(settings),
            "database": settings.database or DATABASE,
            "system_prompt": settings.system_prompt,
            "language": settings.language,
            "max_reply_tokens": settings.max_reply_tokens,
            "rate_limit_per_minute": settings.rate_limit_per_minute,
            "models": {"routes": ROUTES},
            "public_url": settings.public_url,
            **({"policy": POLICY} if settings.policy else {}),
            "access": ACCESS,
            "channels": _channels(settings),
        }
    )


def access_table(settings: RuntimeSettings) -> str:
    """Return the table of access, which the bot reads again when it changes.

    The console is open to those who have a token of it.
    """
    access = settings.access
    return _json(
        {
            "channels": {"telegram": access.telegram, "feishu": access.feishu, "console": "open"},
            "users": access.users,
            "groups": sorted(access.groups),
            "commands": access.commands,
            "quotas": access.quotas.model_dump(),
            "time_zone": settings.time_zone,
        }
    )


def route_table(settings: RuntimeSettings) -> str:
    """Return the table of routes, which the bot reads again when it changes."""
    judge = settings.routes.judge
    return _json(
        {
            "version": settings.routes.version,
            "models": {name: _route(endpoint) for name, endpoint in settings.models.items()},
            "shares": settings.routes.shares,
            **({"judge": judge.model_dump()} if judge else {}),
        }
    )


def _route(endpoint: EndpointSettings) -> dict[str, Any]:
    return endpoint.model_dump(mode="json", exclude=set() if endpoint.needs_key else {"needs_key"})


def _internal(settings: RuntimeSettings) -> dict[str, Any]:
    internal = settings.internal
    return {"internal": {"host": internal.host, "port": internal.port}} if internal else {}


def _former(settings: RuntimeSettings) -> dict[str, Any]:
    places = [place for place in settings.former if place.tls or place.port != settings.port]
    further = [{"host": place.host, "port": place.port, "tls": place.tls} for place in places]
    return {"further": further} if further else {}


def _everywhere(settings: RuntimeSettings) -> str:
    """Return the address to bind instead of loopback while hosts still reach the same port without TLS."""
    same = (place.host for place in settings.former if not place.tls and place.port == settings.port)
    return next(same, "")


def _channels(settings: RuntimeSettings) -> dict[str, Any]:
    channels: dict[str, Any] = {}
    if settings.telegram:
        channels["telegram"] = settings.telegram.model_dump()
    if settings.feishu:
        channels["feishu"] = settings.feishu.model_dump()
    if settings.console:
        channels["console"] = {"page": True} if settings.page else {}
    if settings.alerts:
        channels["alerts"] = settings.alerts.model_dump(exclude_none=True)
    return channels


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

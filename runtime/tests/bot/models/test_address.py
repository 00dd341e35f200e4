from __future__ import annotations

import pytest

from clawd_runtime.bot.models.address import model_address


@pytest.mark.parametrize(
    ("endpoint", "completions", "health"),
    [
        (
            "https://m.example.com/v1",
            "https://m.example.com/v1/chat/completions",
            "https://m.example.com/v1/models",
        ),
        (
            "https://m.example.com/v1/",
            "https://m.example.com/v1/chat/completions",
            "https://m.example.com/v1/models",
        ),
        ("http://[::1]:8000", "http://[::1]:8000/chat/completions", "http://[::1]:8000/models"),
        (
            "https://m.example.com/v1?api-version=2024-10-21",
            "https://m.example.com/v1/chat/completions?api-version=2024-10-21",
            "https://m.example.com/v1/models?api-version=2024-10-21",
        ),
        (
            "https://m.example.com/a%2Fb/?x=1&y=%20z",
            "https://m.example.com/a%2Fb/chat/completions?x=1&y=%20z",
            "https://m.example.com/a%2Fb/models?x=1&y=%20z",
        ),
        (
            "https://m.example.com/v1/chat/completions?x=1",
            "https://m.example.com/v1/chat/completions?x=1",
            "https://m.example.com/v1/models?x=1",
        ),
        (
            "unix:/run/engine.sock",
            "http://model-default.socket/v1/chat/completions",
            "http://model-default.socket/health",
        ),
    ],
)
def test_query_of_endpoint_is_kept(endpoint: str, completions: str, health: str) -> None:
    address = model_address("default", endpoint)
    assert (address.completions, address.health) == (completions, health)
    assert address.local == endpoint.startswith("unix:")


@pytest.mark.parametrize(
    ("endpoint", "headers"),
    [
        ("https://m.example.com/v1", {"Authorization": "Bearer k"}),
        ("https://x.openai.azure.com/openai/deployments/d?api-version=2024-10-21", {"api-key": "k"}),
        ("https://x.openai.azure.com/openai/v1/", {"api-key": "k"}),
        ("https://gateway.example.com/v1?api-version=1", {"Authorization": "Bearer k", "api-key": "k"}),
        ("https://evil-openai.azure.com.example.com/v1", {"Authorization": "Bearer k"}),
    ],
)
def test_api_key_header_by_host(endpoint: str, headers: dict[str, str]) -> None:
    assert model_address("default", endpoint).headers("k") == headers
    assert model_address("default", endpoint).headers(None) == {}

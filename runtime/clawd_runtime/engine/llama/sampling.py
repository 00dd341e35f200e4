"""Samplers of llama.cpp: how the next token is drawn."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import llama_cpp
import numpy as np

from clawd_runtime.engine.values import SamplingParameters

# Penalties count the last tokens drawn; OpenAI's count all tokens of an answer.
_PENALISED_TOKENS = 4096
# Below this temperature the likeliest token is drawn anyway, and scores divided by it would overflow a float.
_COLDEST = 1e-4

# llama_token_data
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

_RANDOM_SEED = 0xFFFFFFFF  # llama.cpp's LLAMA_DEFAULT_SEED: it would choose a random seed


def sampled(chain: Any, tokens: Any, logits: Any) -> int:
    """Return the token that `chain` draws from `tokens` with these scores."""
    candidates = np.zeros(len(tokens), _CANDIDATE)
    candidates["id"], candidates["logit"] = tokens, logits
    data = candidates.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
    array = llama_cpp.llama_token_data_array(data=data, size=len(candidates), selected=-1, sorted=False)
    llama_cpp.llama_sampler_apply(chain, ctypes.byref(array))
    return int(array.data[array.selected].id)


def sampler_chain(sampling: SamplingParameters, vocabulary_size: int) -> Any:
    """Return the sampler chain for `sampling`, in llama.cpp's own order."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for link in _links(sampling, vocabulary_size):
        llama_cpp.llama_sampler_chain_add(chain, link)
    return chain


def _links(sampling: SamplingParameters, vocabulary_size: int) -> Iterator[Any]:
    if sampling.logit_bias:
        biases = [llama_cpp.llama_logit_bias(token, bias) for token, bias in sampling.logit_bias]
        array = (llama_cpp.llama_logit_bias * len(biases))(*biases)
        yield llama_cpp.llama_sampler_init_logit_bias(vocabulary_size, len(biases), array)
    penalties = (sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty)
    if penalties != (1, 0, 0):
        yield llama_cpp.llama_sampler_init_penalties(vocabulary_size, _PENALISED_TOKENS, *penalties)
    if sampling.temperature < _COLDEST:
        yield llama_cpp.llama_sampler_init_greedy()
        return
    if sampling.top_k:
        yield llama_cpp.llama_sampler_init_top_k(min(sampling.top_k, vocabulary_size))
    if sampling.typical_p < 1:
        yield llama_cpp.llama_sampler_init_typical(sampling.typical_p, 1)
    if sampling.top_p < 1:
        yield llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1)
    if sampling.min_p > 0:
        yield llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1)
    yield llama_cpp.llama_sampler_init_temp(sampling.temperature)
    yield llama_cpp.llama_sampler_init_dist(sampling.seed % _RANDOM_SEED)

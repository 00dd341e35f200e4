"""A real question to a bot, sent by the checks of a host: whether a person would get an answer.

It takes the path of every message: through the console channel into the inbox, to the model, and back. The
token is created on the laptop and reaches the host on standard input.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from pydantic import SecretStr

from deploys.ops.checks import CheckFailed, expect
from deploys.ops.programs import program
from deploys.runtime.console import token_for

QUESTION = "Please answer with the one word: ready"
SECONDS = 240
"""Timeout: a large model on few cores, with other requests ahead, may take minutes."""
APOLOGIES = (
    "Sorry, I cannot answer right now.",
    "Sorry, the model rejected this message.",
    "Sorry, I reached my limit while thinking about this",
    "A content filter of the model's provider blocked this message.",
    "I cannot answer this message: it is against the rules",
    "I cannot show the answer to this message: it is against the rules",
    "This message is too long for me.",
    "You are sending messages too quickly: I answer at most ",
    "抱歉，我暂时无法回答",
    "抱歉，模型拒绝了这条消息",
    "抱歉，我思考到了长度上限，仍未得出答案",
    "这条消息被模型服务商的内容过滤拦截",
    "这条消息不符合本助手的使用规定",
    "这条消息的回答不符合本助手的使用规定",
    "这条消息太长，我无法处理",
    "您发送消息过于频繁，我每分钟最多回答 ",
)
"""Beginnings of the bot's own messages when no model answered (`clawd_runtime/bot/text/messages.py`)."""
LOGS = "read `journalctl --namespace='*' -u clawd-bot -u clawd-engine` on the hosts of the bots"


def expect_answer(
    host: Any, where: str, port: int, secret: SecretStr, *, name: str = "", chain: str = ""
) -> None:
    """Raise `CheckFailed` unless a question is answered by a model.

    It is sent to `port` of the host itself, named `where` in messages; with `name` by HTTPS, to a server
    whose certificate must be for that name and verified by one in the file `chain` or of the system.
    """
    # A separate user has not used up the rate limit of a user, and disturbs no conversation.
    user = f"verify-{uuid.uuid4()}"
    # A token is for one request.
    tokens = [token_for(secret, user), token_for(secret, user)]
    given = {"port": port, "name": name, "chain": chain, "tokens": tokens, "text": QUESTION}
    given["seconds"] = SECONDS
    done = host.run("python3 -c %s", PROGRAM, stdin=json.dumps(given))
    if done.rc != 0:
        raise CheckFailed(f"{where} could not be asked: {done.stderr.strip().splitlines()[-1:]}")
    result = json.loads(done.stdout)
    problem, hint = result["problem"], "run `up`, then `verify` again"
    expect(
        not problem, f"{where} does not answer: {problem}", "are nginx and the bot running? see their checks"
    )
    status = result["status"]
    if status == 401:
        hint = "run `up`, which gives the bot the secret of this inventory; compare the clocks of both"
    expect(status == 200, f"{where} refused a question with {status}: {result['body']}", hint)
    expect(not result["error"], f"the bot behind {where} answered with an error: {result['error']}", LOGS)
    expect(result["ended"], f"the answer of {where} broke off or did not come within {SECONDS} s", LOGS)
    # Streaming is not required: an answer from another bot of the cluster arrives as a whole.
    answered = not result["text"].lstrip().startswith(APOLOGIES)
    expect(answered, f"no model answered {where}, the bot only said: {result['text'][:200]}", LOGS)
    ending = f"{where} did not end the conversation of this check: status"
    expect(result["ending"] == 200, f"{ending} {result['ending']} for `/new`: {result['body']}", LOGS)


PROGRAM = program("deploys/runtime/scripts/ask_bot.py")

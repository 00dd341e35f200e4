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
from deploys.runtime.console import token_for

QUESTION = "Please answer with the one word: ready"
SECONDS = 240
"""Timeout: a large model on few cores, with other requests ahead, may take minutes."""
APOLOGIES = (
    "Sorry, I cannot answer right now.",
    "Sorry, the model rejected this message.",
    "Sorry, I reached my limit while thinking about this",
    "A content filter of the model's provider blocked this message.",
    "This message is too long for me.",
    "You are sending messages too quickly: I answer at most ",
    "抱歉，我暂时无法回答",
    "抱歉，模型拒绝了这条消息",
    "抱歉，我思考到了长度上限，仍未得出答案",
    "这条消息被模型服务商的内容过滤拦截",
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


# Knows only the standard library. Prints one JSON object.
PROGRAM = r"""
import http.client, json, ssl, sys, time, uuid
given = json.load(sys.stdin)
result = {"problem": "", "status": 0, "ending": 0, "body": "", "error": "", "text": "", "ended": False}
deadline = time.monotonic() + given["seconds"]

class ByName(http.client.HTTPSConnection):
    def connect(self):
        http.client.HTTPConnection.connect(self)
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cafile=given["chain"])
        except (OSError, ssl.SSLError):
            pass
        # The chain on the disk may end below its root.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self.sock = context.wrap_socket(self.sock, server_hostname=given["name"])

def ask(text, token):
    kind = ByName if given["name"] else http.client.HTTPConnection
    connection = kind("127.0.0.1", given["port"], timeout=30)
    body = json.dumps({"text": text, "conversation": "verify", "id": uuid.uuid4().hex})
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
    name = given["name"] or "localhost"
    headers["Host"] = "[" + name + "]" if ":" in name else name
    connection.request("POST", "/console/v1/messages", body, headers)
    return connection.getresponse()

def listen(answer):
    event = ""
    for raw in answer:
        line = raw.decode("utf-8", "replace").rstrip("\n")
        if line.startswith("event:"):
            event = line[6:].strip()
        elif line.startswith("data:"):
            data = json.loads(line[5:])
            if event == "error":
                result["error"] = data["message"]
                return
            elif event == "done":
                result["text"], result["ended"] = data["text"], bool(data["text"].strip())
                return
        if time.monotonic() > deadline:
            return

try:
    answer = ask(given["text"], given["tokens"][0])
    result["status"] = answer.status
    if answer.status == 200:
        listen(answer)
        # Its words are not kept longer than those of a conversation that somebody ended.
        if result["ended"]:
            answer = ask("/new", given["tokens"][1])
            result["ending"] = answer.status
            body = answer.read()
            if answer.status != 200:
                result["body"] = body[:300].decode("utf-8", "replace").strip()
    else:
        result["body"] = answer.read(300).decode("utf-8", "replace").strip()
except (OSError, http.client.HTTPException, ValueError) as error:
    if not result["status"]:
        result["problem"] = str(error)
    elif result["ended"] and not result["ending"]:
        result["body"] = str(error)
print(json.dumps(result))
"""

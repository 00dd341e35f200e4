# Call an HTTP API of Elastic with the specification in the first argument (JSON); print the answers as JSON.

import base64
import http.client
import json
import os
import ssl
import sys

spec = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile=spec["ca"]) if os.path.exists(spec["ca"]) else None


def content(path):
    with open(path) as file:
        return file.read().strip()


def authorization(login):
    text = content(login)
    if ":" in text:
        return "Basic " + base64.b64encode(text.encode()).decode()
    return "Bearer " + text.partition("=")[2]


def filled(value):
    if isinstance(value, dict):
        if set(value) == {"$secret"}:
            return content(value["$secret"]).partition(":")[2]
        return {name: filled(item) for name, item in value.items()}
    return [filled(item) for item in value] if isinstance(value, list) else value


def answer(call):
    headers = {"kbn-xsrf": "clawd", "Authorization": authorization(call["login"])}
    body = call["raw"] or None
    if call["body"] is not None:
        body = json.dumps(filled(call["body"]))
    if body is not None:
        headers["Content-Type"] = call["content_type"]
    connection = http.client.HTTPSConnection(spec["address"], spec["port"], timeout=60, context=context)
    connection.request(call["method"], call["path"], body.encode() if body else None, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    try:
        return response.status, json.loads(text)
    except ValueError:
        return response.status, text


def kept(path, name, secret):
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(name + "=" + secret + "\n")
    os.replace(path + ".new", path)


answers = []
for call in spec["calls"]:
    try:
        if context is None:
            raise OSError("there is no " + spec["ca"])
        status, body = answer(call)
    except (OSError, http.client.HTTPException) as error:
        status, body = 0, str(error)
    if not spec["reading"]:
        if status not in call["accepted"]:
            why = body.get("error", body.get("message", body)) if isinstance(body, dict) else body
            sys.exit("%s %s: %s %s" % (call["method"], call["path"], status or "no answer:", str(why)[:500]))
        if call["keep"]:
            path, name, keys = call["keep"]
            for key in keys:
                body = body[key]
            kept(path, name, body)
    answers.append([status, body])
if spec["reading"]:
    print(json.dumps(answers))

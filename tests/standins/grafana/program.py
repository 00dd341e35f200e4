#!/usr/bin/python3
"""Stands in for the program `grafana`: `grafana server` and `grafana cli admin reset-admin-password`.

Strict where Grafana is: settings that are missing, provisioning files that Grafana would refuse, dashboards
without uid or with a source that is not provisioned end the start with exit status 1. The password of the
settings counts at the first start only. It shows nothing.
"""

import base64
import configparser
import json
import pathlib
import re
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import yaml

SOURCE_KEYS = {
    "name",
    "type",
    "uid",
    "access",
    "url",
    "isDefault",
    "editable",
    "jsonData",
    "orgId",
    "version",
}
PROVIDER_KEYS = {"name", "folder", "folderUid", "type", "options", "orgId"}
PROVIDER_KEYS |= {"disableDeletion", "allowUiUpdates", "updateIntervalSeconds"}


def refuse(why):
    sys.exit(f"stand-in for grafana: {why}")


def settings(path):
    # Grafana's ini has no interpolation; `;` begins a comment.
    read = configparser.ConfigParser(interpolation=None, comment_prefixes=(";", "#"))
    if not read.read(path):
        refuse(f"no settings at {path}")
    return read


def expanded(value):
    named = re.fullmatch(r"\$__file\{(.+)\}", value)
    return pathlib.Path(named[1]).read_text().strip() if named else value


def database(config):
    return pathlib.Path(config["paths"]["data"]) / "grafana.db"


def whole(path, key, allowed):
    read = yaml.safe_load(path.read_text())
    if read.get("apiVersion") != 1:
        refuse(f"{path}: apiVersion is not 1")
    for item in read[key]:
        if unknown := set(item) - allowed:
            refuse(f"{path}: unknown {sorted(unknown)}")
    return read[key]


def provisioned(config):
    folder = pathlib.Path(config["paths"]["provisioning"])
    sources = [
        s
        for file in sorted(folder.glob("datasources/*.yml"))
        for s in whole(file, "datasources", SOURCE_KEYS)
    ]
    if sum(bool(source.get("isDefault")) for source in sources) > 1:
        refuse("more than one default source")
    providers = [
        p for file in sorted(folder.glob("dashboards/*.yml")) for p in whole(file, "providers", PROVIDER_KEYS)
    ]
    return sources, providers


def dashboards(providers, sources):
    known, found = {source["uid"] for source in sources}, {}
    for provider in providers:
        for file in sorted(pathlib.Path(provider["options"]["path"]).glob("*.json")):
            board = json.loads(file.read_text())
            if not board.get("uid") or not board.get("title") or board["uid"] in found:
                refuse(f"{file}: uid or title is missing, or there twice")
            for panel in board.get("panels", []):
                used = [
                    panel.get("datasource"),
                    *(target.get("datasource") for target in panel.get("targets", [])),
                ]
                for source in filter(None, used):
                    if source["uid"] not in known:
                        refuse(f"{file}: {panel.get('title')}: source {source['uid']} is not provisioned")
                if panel["type"] != "row" and not all(target.get("expr") for target in panel["targets"]):
                    refuse(f"{file}: {panel.get('title')}: a query without an expression")
            found[board["uid"]] = {"uid": board["uid"], "title": board["title"], "type": "dash-db"}
    return found


def serve(config):
    sources, providers = provisioned(config)
    dashboards(providers, sources)
    store = database(config)
    if not store.exists():
        store.write_text(json.dumps({"admin": expanded(config["security"]["admin_password"])}))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *about):
            pass

        def do_GET(self):
            path = urlsplit(self.path).path
            if path == "/api/health":
                return self.reply(200, {"database": "ok", "version": "stand-in", "commit": ""})
            password = json.loads(store.read_text())["admin"]
            basic = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
            if self.headers.get("Authorization") != basic:
                return self.reply(401, {"message": "Invalid username or password"})
            if path == "/api/user":
                return self.reply(200, {"id": 1, "login": "admin", "isGrafanaAdmin": True})
            if path == "/api/datasources":
                return self.reply(200, sources)
            if path == "/api/search":
                return self.reply(200, list(dashboards(providers, sources).values()))
            return self.reply(404, {"message": "Not found"})

        def reply(self, status, value):
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    place = config["server"]
    server = ThreadingHTTPServer((place.get("http_addr", ""), place.getint("http_port", 3000)), Handler)
    if place.get("protocol") == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place["cert_file"], place["cert_key"])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


def option(words, name):
    for number, word in enumerate(words):
        if word == name:
            return words[number + 1]
        if word.startswith(name + "="):
            return word.split("=", 1)[1]
    return refuse(f"{name} is missing")


def main(words):
    if words[:1] == ["server"]:
        serve(settings(option(words, "--config")))
    elif words[:1] == ["cli"] and words[-3:] == ["admin", "reset-admin-password", "--password-from-stdin"]:
        option(words, "--homepath")
        store = database(settings(option(words, "--config")))
        store.write_text(json.dumps({"admin": sys.stdin.readline().rstrip("\n") or refuse("no password")}))
        print("Admin password changed successfully")
    else:
        refuse(f"unknown command {words}")


main(sys.argv[1:])

"""A Weights & Biases service on loopback: keeps what it is sent, or hangs, errors or resets when told to."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "f00d" * 10
TEAM = "optimizers"


class Service(ThreadingHTTPServer):
    """Keeps runs by name; ``mode`` is ``accept``, ``hang``, ``error`` or ``reset`` and may change at any time."""

    daemon_threads = True

    def __init__(self, mode: str = "accept") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode = mode
        self.released = threading.Event()
        self.num_requests = 0
        self.history: dict[str, list[dict[str, Any]]] = {}
        """By run: rows in the order in which they came."""
        self.upserts: list[dict[str, Any]] = []
        self.views: dict[str, dict[str, Any]] = {}
        """Saved reports."""
        self._answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "RunResumeStatus": self._resume,
            "upsertBucket": self._upsert_run,
            "createRunFiles": self._create_files,
            "upsertView": self._save_view,
            "allViews": self._all_views,
            "internalId": lambda _: {"project": {"id": "project", "internalId": "UHJvamVjdEludGVybmFsSWQ6MQ=="}},
            "models(": lambda _: {"models": _page([])},
            "CreateProject": lambda _: {"upsertModel": {"project": _project(None), "inserted": True}},
        }

    @property
    def address(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """Return what makes W&B use this service."""
        return {"WANDB_BASE_URL": self.address, "WANDB_API_KEY": API_KEY, "NO_PROXY": "127.0.0.1"}

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the data of a GraphQL answer."""
        for word, answer_to in self._answers.items():
            if word in query:
                return answer_to(variables)
        viewer = {"id": "user", "username": "someone", "entity": TEAM, "flags": "{}", "email": "", "admin": False}
        viewer |= {"name": "someone", "deletedAt": None, "apiKeys": {"edges": []}}
        viewer |= {"teams": {"edges": [{"node": {"id": "team", "name": TEAM}}]}}
        information: dict[str, Any] = {
            "cliVersionInfo": {"max_cli_version": "9.9.9"},
            "latestLocalVersionInfo": None,
            "features": [],
        }
        return {"viewer": viewer, "serverInfo": information}

    def _resume(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"model": _project(variables["project"]) | {"bucket": self._bucket(variables["name"])}}

    def _upsert_run(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.upserts.append(variables)
        is_new = variables["name"] not in self.history
        rows = self.history.setdefault(variables["name"], [])
        bucket = {"id": "run", "name": variables["name"], "displayName": "run", "description": None, "config": "{}"}
        bucket |= {"sweepName": None, "project": _project(variables["project"]), "historyLineCount": len(rows)}
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _create_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.address}/upload/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}

    def _save_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        identifier = variables.get("id") or f"view{len(self.views)}"
        spec = {name: variables[name] for name in ("name", "displayName", "description", "spec", "type")}
        project = {"id": "project", "name": variables["projectName"], "entityName": variables["entityName"]}
        times = {"createdAt": "2026-01-01T00:00:00", "updatedAt": "2026-01-01T00:00:00"}
        self.views[identifier] = {"id": identifier, "project": project, "user": None, **spec, **times}
        return {"upsertView": {"view": self.views[identifier], "inserted": True}}

    def _all_views(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"allViews": _page([*self.views.values()])}}

    def take_stream(self, run: str, body: dict[str, Any]) -> None:
        """Keep rows."""
        history = body.get("files", {}).get("wandb-history.jsonl")
        if history:
            rows = self.history.setdefault(run, [])
            assert history["offset"] == len(rows), "rows come in order, and none twice"
            rows += [json.loads(line) for line in history["content"]]

    def _bucket(self, name: str) -> dict[str, Any] | None:
        if name not in self.history:
            return None
        rows = self.history[name]
        tail = json.dumps([json.dumps(row) for row in rows[-1:]])
        counts = {"logLineCount": 0, "historyLineCount": len(rows), "eventsLineCount": 0}
        texts = {"summaryMetrics": json.dumps(rows[-1] if rows else {}), "historyTail": tail, "eventsTail": "[]"}
        return {"id": "run", "name": name, "displayName": "run", "config": "{}", **counts, **texts} | {
            "tags": [],
            "notes": None,
            "wandbConfig": '{"t": 1}',
        }


def _project(name: str | None) -> dict[str, Any]:
    return {"id": "project", "name": name, "entity": {"id": "entity", "name": TEAM}}


def _page(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    edges = [{"node": node, "cursor": node["id"]} for node in nodes]
    return {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep quiet."""

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._misbehaves():
            return
        if self.path == "/graphql":
            asked = json.loads(content)
            self._send({"data": self.server.answer(asked["query"], asked.get("variables") or {})})
        elif self.path.endswith("/file_stream"):
            self.server.take_stream(self.path.split("/")[-2], json.loads(content))
            self._send({})
        else:
            self._send({})

    def do_PUT(self) -> None:
        self.do_POST()

    def do_GET(self) -> None:
        self.do_POST()

    def _misbehaves(self) -> bool:
        self.server.num_requests += 1
        match self.server.mode:
            case "hang":
                self.server.released.wait()
            case "error":
                self._send({"errors": [{"message": "out of order"}]}, code=500)
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            case _:
                return False
        return True

    def _send(self, answer: dict[str, Any], *, code: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def handle(self) -> None:
        """Serve a connection; that it was reset is no news."""
        try:
            super().handle()
        except (OSError, ValueError):
            self.close_connection = True


@contextmanager
def serving(mode: str = "accept") -> Iterator[Service]:
    """Serve while the block runs."""
    service = Service(mode)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        service.released.set()
        service.shutdown()
        service.server_close()

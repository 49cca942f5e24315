"""A receiver of AuditEvents: what it takes is validated by the models of fhir.resources (R4B).

Usage: fhir_server.py FOLDER. Prints its port. Each event that it takes is a line of FOLDER/taken; one that the models
refuse ends it with a message. It obeys these files: `down` (503 to everything), `refuse` (422 to events whose JSON holds
the file's text), `half` (503 to every second entry of a batch).
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle

FOLDER = Path(sys.argv[1])


def flag(name):
    path = FOLDER / name
    return path.read_text() if path.exists() else None


def take(resource):
    """The status of one event."""
    text = json.dumps(resource, ensure_ascii=False)
    refused = flag("refuse")
    if refused and refused in text:
        return 422
    try:
        AuditEvent.model_validate_json(text)
    except Exception as error:  # noqa: BLE001: whatever it is, the event is not valid
        (FOLDER / "invalid").write_text(f"{error}\n{text}")
        os._exit(3)
    with open(FOLDER / "taken", "a", encoding="utf-8") as file:
        file.write(text + "\n")
    return 201


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if flag("down") is not None:
            return self.answer(503, {"resourceType": "OperationOutcome"})
        if self.path == "/fhir/AuditEvent":
            return self.answer(take(body), {})
        assert self.path == "/fhir", self.path
        Bundle.model_validate_json(json.dumps(body))
        assert body["type"] == "batch"
        half = flag("half") is not None
        statuses = [503 if half and at % 2 else take(entry["resource"]) for at, entry in enumerate(body["entry"])]
        entries = [{"response": {"status": str(status)}} for status in statuses]
        return self.answer(200, {"resourceType": "Bundle", "type": "batch-response", "entry": entries})


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()

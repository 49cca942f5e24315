"""Validates audit messages, one a line, against gateway/export/schema/audit-message.xsd.

Usage: atna_valid.py SCHEMA FILE. A line may be a syslog message (RFC 5424); the XML behind its header is judged.
Prints, for each message, one JSON line: the record's id and the names that others compare.
"""

import base64
import json
import sys

from lxml import etree


def main(schema, file):
    schema = etree.XMLSchema(etree.parse(schema))
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            message = etree.fromstring(line[line.index(b"<?xml"):].rstrip(b"\n"), parser)
            if not schema.validate(message):
                sys.exit(f"line {number}: {schema.error_log}")
            objects = message.findall("ParticipantObjectIdentification")
            record = next(o for o in objects if o.get("ParticipantObjectTypeCodeRole") == "13")
            event = message.find("EventIdentification")
            queries = [base64.b64decode(q.text or "").decode("latin-1") for q in message.iter("ParticipantObjectQuery")]
            details = [
                [d.get("type"), base64.b64decode(d.get("value")).decode()]
                for d in record.findall("ParticipantObjectDetail")
            ]
            print(json.dumps({
                "id": record.get("ParticipantObjectID"),
                "kind": record.find("ParticipantObjectName").text,
                "time": event.get("EventDateTime"),
                "event": event.find("EventID").get("csd-code"),
                "outcome": event.get("EventOutcomeIndicator"),
                "users": [p.get("UserID") for p in message.findall("ActiveParticipant")],
                "patients": [o.get("ParticipantObjectID") for o in objects if o.get("ParticipantObjectTypeCode") == "1"],
                "queries": queries,
                "details": details,
            }))


main(*sys.argv[1:])

#!/usr/bin/env python3
"""The little of S3 that tests need, with AWS signature version 4; shares no code with the gateway.

    s3.py URL ACCESS SECRET [--ca FILE] make BUCKET | get BUCKET FOLDER | put BUCKET NAME FILE | list BUCKET
"""

import argparse
import datetime
import hashlib
import hmac
import os
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

REGION = "us-east-1"


class S3:
    def __init__(self, arguments):
        self.url, self.access, self.secret = arguments.url.rstrip("/"), arguments.access, arguments.secret
        self.host = urllib.parse.urlsplit(self.url).netloc
        self.context = ssl.create_default_context(cafile=arguments.ca) if arguments.ca else None

    def call(self, method, path, query="", body=b""):
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        path = urllib.parse.quote(path, safe="/-_.~")
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": self.host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        names = ";".join(sorted(headers))
        lines = [method, path, query, *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names, digest]
        scope = f"{day}/{REGION}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
        key = ("AWS4" + self.secret).encode()
        for part in (day, REGION, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        request = urllib.request.Request(
            self.url + path + ("?" + query if query else ""), data=body or None, method=method, headers=headers
        )
        with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:
            return answer.read()

    def names(self, bucket):
        names, marker = [], ""
        while True:
            page = self.call("GET", f"/{bucket}", "marker=" + urllib.parse.quote(marker, safe="-_.~")).decode()
            found = re.findall(r"<Key>([^<]*)</Key>", page)
            names += found
            if "<IsTruncated>true</IsTruncated>" not in page:
                return names
            marker = found[-1]

    def find(self, bucket, name):
        """An object; none if it went since it was listed, as an unfinished tile does for the full one."""
        try:
            return self.call("GET", f"/{bucket}/{name}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def main():
    parser = argparse.ArgumentParser()
    for name in ("url", "access", "secret", "command", "bucket"):
        parser.add_argument(name)
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--ca")
    arguments = parser.parse_args()
    s3, bucket, rest = S3(arguments), arguments.bucket, arguments.rest
    if arguments.command == "make":
        s3.call("PUT", f"/{bucket}")
    elif arguments.command == "list":
        print("\n".join(s3.names(bucket)))
    elif arguments.command == "put":
        with open(rest[1], "rb") as file:
            s3.call("PUT", f"/{bucket}/{rest[0]}", body=file.read())
    elif arguments.command == "get":
        # What a checkpoint covers is there before the checkpoint: it is got first, and the rest listed after it.
        heads = {name: s3.find(bucket, name) for name in s3.names(bucket) if "/checkpoint" in name}
        for name in s3.names(bucket):
            content = heads.get(name) or s3.find(bucket, name)
            if content is None or (name not in heads and "/checkpoint" in name):
                continue
            path = os.path.join(rest[0], name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
    else:
        sys.exit("what?")


try:
    main()
except urllib.error.HTTPError as error:
    sys.exit(f"{error.code} {error.read()[:500]!r}")

"""Two more foreign clients of HTTP/3 with a client certificate. usage: http3_foreign.py CLIENT URL CA CERTIFICATE KEY"""

import json
import sys

client, url, ca, certificate, key = sys.argv[1:]

if client == "niquests":
    import niquests

    with niquests.Session(disable_ipv6=True) as session:
        session.quic_cache_layer.add_domain("localhost", int(url.split(":")[2].split("/")[0]))
        answers = [session.get(url, verify=ca, cert=(certificate, key), timeout=60) for _ in range(2)]
    versions = [answer.http_version for answer in answers]
    print(json.dumps({"versions": versions, "statuses": [answer.status_code for answer in answers], "text": answers[0].text}))
elif client == "curl_cffi":
    import curl_cffi
    from curl_cffi.const import CurlHttpVersion

    with curl_cffi.Session(http_version=CurlHttpVersion.V3ONLY, verify=ca, cert=(certificate, key)) as session:
        answers = [session.get(url, timeout=60) for _ in range(2)]
    versions = [int(answer.http_version) for answer in answers]
    print(json.dumps({"versions": versions, "statuses": [answer.status_code for answer in answers], "text": answers[0].text}))
else:
    sys.exit(f"no client {client}")

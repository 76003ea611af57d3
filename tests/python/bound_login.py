"""One request with requests-ntlm over TLS, whose login is bound to the channel, to none, or to a wrong one.

  bound_login.py URL ADDRESS:PORT CA USER PASSWORD bound|unbound|FILE  ->  200 or 401

FILE is a certificate that the server doesn't have: what a client sees whose balancer shows another one.
"""

import json
import sys
from urllib.parse import urlsplit

import requests
import requests_ntlm.requests_ntlm as library
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from urllib3.util import connection


def main(url: str, endpoint: str, ca: str, user: str, password: str, binding: str) -> None:
    # The name in the URL is looked up here, so that no resolver is needed.
    address, port = endpoint.split(":")
    connect, name = connection.create_connection, urlsplit(url).hostname
    connection.create_connection = lambda to, *rest, **more: connect(
        (address, int(port)) if to[0] == name else to, *rest, **more
    )
    if binding not in ("bound", "unbound"):
        with open(binding, "rb") as file:
            wrong = x509.load_pem_x509_certificate(file.read()).public_bytes(Encoding.DER)
        digest = library._get_certificate_hash
        library._get_certificate_hash = lambda _: digest(wrong)
    session = requests.Session()
    session.auth = library.HttpNtlmAuth(f"LAB\\{user}", password, send_cbt=binding != "unbound")
    print(json.dumps(session.get(url, verify=ca, timeout=30).status_code))


if __name__ == "__main__":
    main(*sys.argv[1:])

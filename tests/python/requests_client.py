"""requests with requests-ntlm: a client that sends its body on every leg of the handshake.

  requests_client.py URL USER PASSWORD  ->  [[200, "LAB\\\\alice", 5], [200, "LAB\\\\alice", 5]]   (status, user, body length)
"""

import json
import sys

import requests
from requests_ntlm import HttpNtlmAuth


def main(url: str, user: str, password: str) -> None:
    session = requests.Session()
    session.auth = HttpNtlmAuth(f"LAB\\{user}", password)
    seen = []
    for _ in range(2):
        answer = session.post(url, data=b"hello", timeout=30)
        page = answer.json() if answer.status_code == 200 else {}
        seen.append([answer.status_code, page.get("user"), page.get("body_bytes")])
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])

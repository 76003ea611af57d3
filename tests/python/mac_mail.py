"""A client that trusts NTLM persistence, as Mac Mail did in the article that started this project.

It logs its connection in once and then sends requests without credentials. When one of them is refused it doesn't
start a new login: it repeats the request, then repeats its last NTLM message, and gives up. That is our reading of
the status codes that the article shows; Mac Mail's source isn't public.

  mac_mail.py HOST PORT USER PASSWORD  ->  [[401, 200], [200], [200]] or [[401, 200], [401, 401, 400]]
"""

import json
import sys

import wire

REQUESTS = 3


def main(host: str, port: str, user: str, password: str) -> None:
    connection = wire.Connection(host, int(port))
    login = wire.Login(user, password)
    challenge = connection.request("/whoami", login.first())
    last = login.last(challenge.token())
    answer = connection.request("/whoami", last)
    seen = [[challenge.status, answer.status]]
    while answer.status == 200 and len(seen) < REQUESTS:
        statuses = []
        for authorization in (None, None, last):
            answer = connection.request("/whoami", authorization)
            statuses.append(answer.status)
            if answer.status != 401:
                break
        seen.append(statuses)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])

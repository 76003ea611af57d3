"""Users side by side: does anyone ever get an answer as someone else?

Every user keeps three connections, logged in by NTLM, by NTLM inside SPNEGO, and with one leg, and now and then
drops one for a new one. Between them come anonymous requests, which fill a proxy's pool of idle connections, and
strangers who ask for a protected page without credentials. The order is random with a fixed seed.

  identities.py HOST PORT REQUESTS USER:PASSWORD...
    ->  {"requests": 1000, "logins": 250, "strangers": 250, "wrong": [], "refused": [], "stranger_served": []}
"""

import json
import random
import sys

import wire

RECONNECT = 0.2
ONE_LEG = "one leg"
KINDS = ("NTLM", "Negotiate", ONE_LEG)


class User:
    """A user's connection of one kind, which the user believes to be logged in."""

    def __init__(self, endpoint: tuple, name: str, password: str, kind: str) -> None:
        self._endpoint, self._name, self._password, self._kind = endpoint, name, password, kind
        self._connection = None
        self.logins = 0

    def qualified(self) -> str:
        return f"LAB\\{self._name}"

    def describe(self) -> str:
        return f"{self.qualified()} by {self._kind}"

    def ask(self, reconnect: bool) -> wire.Answer:
        if self._connection and not reconnect:
            return self._connection.request("/whoami")
        if self._connection:
            self._connection.close()
        self._connection = wire.Connection(*self._endpoint)
        self.logins += 1
        if self._kind == ONE_LEG:
            return self._connection.request("/whoami", wire.one_leg(self._name, self._password))
        login = wire.Login(self._name, self._password, self._kind)
        challenge = self._connection.request("/whoami", login.first())
        if not challenge.token():
            return challenge
        return self._connection.request("/whoami", login.last(challenge.token()))


def main(host: str, port: str, requests: str, *credentials: str) -> None:
    endpoint = (host, int(port))
    pairs = [credential.split(":", 1) for credential in credentials]
    users = [User(endpoint, name, password, kind) for name, password in pairs for kind in KINDS]
    stranger, passer_by = wire.Connection(*endpoint), wire.Connection(*endpoint)
    dice = random.Random(2015)
    wrong, refused, stranger_served = [], [], []
    for number in range(int(requests)):
        user = dice.choice(users)
        answer = user.ask(dice.random() < RECONNECT)
        if answer.status != 200:
            refused.append(f"request {number} of {user.describe()}: {answer.status}")
        elif answer.user() != user.qualified():
            wrong.append(f"request {number} of {user.describe()}: served as {answer.user()}")
        if number % 4 == 0:
            passer_by.request("/bench/1")
            served = stranger.request("/whoami")
            if served.status != 401:
                stranger_served.append(f"before request {number + 1}: {served.status} as {served.user()}")
    result = {
        "requests": int(requests),
        "logins": sum(user.logins for user in users),
        "strangers": (int(requests) + 3) // 4,
        "wrong": wrong,
        "refused": refused,
        "stranger_served": stranger_served,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
